// Package witness is a witness of tiled logs (C2SP tlog-witness): it keeps the newest checkpoint that it saw of each log
// that it was told of, and cosigns a checkpoint only when it extends that one.
//
// Purpose: a log's owner cannot show one history to one and another to somebody else, nor go back, without a witness that
// refuses. It runs on a machine of somebody else than the log's owner.
//
// Invariant: what is cosigned was made durable before, so that a witness that is killed at any moment never cosigns two
// checkpoints of which neither extends the other. One process keeps a folder.
//
// Refuses: logs that it was not told of, checkpoints not signed by their log's key, a step back, a proof that does not lead
// from what it knows, requests that are too long. It reads no leaf and keeps none.
package witness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// SizeType is the content type of an answer that says which size the witness knows.
const SizeType = "text/x.tlog.size"

// Config is what a Witness needs. All but Log is required.
type Config struct {
	Dir      string          // its folder, made when absent
	Cosigner *tlog.Cosigner  // its key
	Logs     []note.Verifier // of the logs; the name of a key is the log's origin
	Now      func() time.Time
	Log      *slog.Logger // nil discards
}

// Witness answers add-checkpoint. It is an http.Handler and safe for concurrent use.
type Witness struct {
	cfg  Config
	lock *os.File
	mux  *http.ServeMux
	logs map[string]*kept // by origin; fixed after New
}

// kept is what is known of one log.
type kept struct {
	verifier note.Verifier
	path     string

	mu sync.Mutex // guards below, and the file at path
	cp tlog.Checkpoint
}

// New reads what is kept and takes the folder's lock: KindConflict while another process has it. The caller calls Close.
func New(cfg Config) (*Witness, error) {
	if cfg.Dir == "" || cfg.Cosigner == nil || len(cfg.Logs) == 0 || cfg.Now == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "a witness needs a folder, a key, logs and a clock").WithHint("bulkhead-witness serve --help")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	lock, err := takeLock(cfg.Dir)
	if err != nil {
		return nil, err
	}
	w := &Witness{cfg: cfg, lock: lock, mux: http.NewServeMux(), logs: map[string]*kept{}}
	for _, v := range cfg.Logs {
		k := &kept{verifier: v, path: filepath.Join(cfg.Dir, "log-"+bulkhead.Digest([]byte(v.Name())).String()[:32])}
		if _, twice := w.logs[v.Name()]; twice {
			err = bulkhead.Faultf(bulkhead.KindUsage, "two keys are given for the log %s", v.Name()).WithHint("give each log once")
		} else {
			err = k.load()
		}
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		w.logs[v.Name()] = k
	}
	w.mux.HandleFunc("POST /add-checkpoint", w.add)
	return w, nil
}

func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "another process keeps %s", dir).WithHint("stop it first: a witness is one process").WithCause(err)
	}
	return f, nil
}

// load reads the newest checkpoint, which is of size 0 at first.
func (k *kept) load() error {
	signed, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		k.cp = tlog.Checkpoint{Origin: k.verifier.Name(), Root: bulkhead.Digest(nil)}
		return nil
	}
	if err == nil {
		k.cp, err = tlog.OpenCheckpoint(signed, k.verifier.Name(), k.verifier)
	}
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindConflict, "%s is no checkpoint of %s; a witness that forgets is none", k.path, k.verifier.Name()).
			WithHint("bring the file back from a backup, or give the key of the log that was witnessed before").WithCause(err)
	}
	return nil
}

// Close gives up the folder.
func (w *Witness) Close() error {
	return errors.Join(unix.Flock(int(w.lock.Fd()), unix.LOCK_UN), w.lock.Close())
}

// Known is the newest checkpoint that was seen of a log; ok is false for one that the witness was not told of.
func (w *Witness) Known(origin string) (cp tlog.Checkpoint, ok bool) {
	k, ok := w.logs[origin]
	if !ok {
		return cp, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cp, true
}

// ServeHTTP implements http.Handler.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.mux.ServeHTTP(rw, r) }

// refusal is an answer other than 200.
type refusal struct {
	status int
	size   int64 // for a conflict of sizes
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, size: -1, text: fmt.Sprintf(format, args...)}
}

func (w *Witness) add(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, tlog.MaxAddCheckpoint))
	if err != nil {
		http.Error(rw, "the request is too long", http.StatusRequestEntityTooLarge)
		return
	}
	line, err := w.Add(body)
	var no *refusal
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(rw, line)
		return
	case errors.As(err, &no) && no.size >= 0:
		rw.Header().Set("Content-Type", SizeType)
		rw.WriteHeader(no.status)
		fmt.Fprintf(rw, "%d\n", no.size)
	case errors.As(err, &no):
		http.Error(rw, no.text, no.status)
	default:
		http.Error(rw, "the witness cannot write", http.StatusInternalServerError)
	}
	w.cfg.Log.WarnContext(r.Context(), "not cosigned", slog.String("from", r.RemoteAddr), slog.String("reason", err.Error()))
}

// Add judges one request and returns the cosignature's line.
func (w *Witness) Add(body []byte) (string, error) {
	req, err := tlog.ParseAddCheckpoint(body)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "%s", err)
	}
	origin, _, _ := strings.Cut(string(req.Note), "\n")
	k, ok := w.logs[origin]
	if !ok {
		return "", refuse(http.StatusNotFound, "the log %.200q is not known here", origin)
	}
	cp, err := tlog.OpenCheckpoint(req.Note, origin, k.verifier)
	if err != nil {
		return "", refuse(http.StatusForbidden, "%s", err)
	}
	if req.Old > cp.Size {
		return "", refuse(http.StatusBadRequest, "the old size %d is above the checkpoint's %d", req.Old, cp.Size)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.judge(req, cp); err != nil {
		return "", err
	}
	if err := k.keep(req.Note, cp); err != nil {
		return "", err
	}
	return w.cfg.Cosigner.Cosign(cp.Body(), w.cfg.Now())
}

// judge holds a checkpoint against the newest one. The caller holds mu.
func (k *kept) judge(req tlog.AddCheckpoint, cp tlog.Checkpoint) error {
	if req.Old != k.cp.Size {
		return &refusal{status: http.StatusConflict, size: k.cp.Size, text: fmt.Sprintf("the newest checkpoint here has %d leaves, not %d", k.cp.Size, req.Old)}
	}
	if cp.Size == k.cp.Size && cp.Root != k.cp.Root {
		return refuse(http.StatusConflict, "another root of %d leaves was seen", cp.Size)
	}
	if err := tlog.CheckConsistency(req.Proof, k.cp, cp); err != nil {
		return refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	return nil
}

// keep makes the note durable as the newest. The caller holds mu.
func (k *kept) keep(signed []byte, cp tlog.Checkpoint) error {
	if cp == k.cp {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(k.path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(signed)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), k.path); err != nil {
		return err
	}
	// From here on the file may be the new one whatever happens, so memory follows it.
	k.cp = cp
	dir, err := os.Open(filepath.Dir(k.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
