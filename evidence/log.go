package evidence

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/evidence/internal/tiles"
	"bulkhead/pki/tlog"
)

// AlarmAfter is the age of an uncovered row at which an alarm rises.
const AlarmAfter = 60 * time.Second

// DefaultInterval covers a row within about one second of its commit.
const DefaultInterval = time.Second

// MinInterval is the shortest that the log library takes (two checkpoints per interval, 100 ms apart).
const MinInterval = 200 * time.Millisecond

// Config is what a Log needs.
type Config struct {
	Rows     Rows             // required
	Dir      string           // directory of the log; required, made when absent
	Origin   string           // name of the log and of its key; required
	KeyFile  string           // from NewKey; required
	Interval time.Duration    // a row is covered about this long after its commit; 0 means DefaultInterval
	Now      func() time.Time // required; for ages only
	Log      *slog.Logger     // nil discards
	// Alarm is told of lag over AlarmAfter and of forks, at every tick while they last; the receiver deduplicates by
	// detector and key. Optional.
	Alarm func(ctx context.Context, a bulkhead.Alarm)
}

// Log copies committed rows into tiles and publishes checkpoints. Run does the work; the other methods may be called
// from any goroutine.
type Log struct {
	cfg      Config
	guard    *guard
	verifier note.Verifier
	lock     *os.File

	mu         sync.Mutex // guards below
	checkpoint tlog.Checkpoint
	pending    []mark    // batches not yet covered, oldest first
	lookedAt   time.Time // when the rows were last read, at first when Run began
	failing    bool      // the last look failed
}

// mark is the oldest row of a batch.
type mark struct {
	size int64     // of the tree with the whole batch
	at   time.Time // time of the batch's first row
}

// ForkError says that log and rows do not tell the same story. Nothing is signed after it; a person must look.
type ForkError struct {
	Seq  int64 // row concerned, 0 when it is the whole log
	What string
}

// Error implements error.
func (e *ForkError) Error() string {
	if e.Seq == 0 {
		return "evidence: " + e.What
	}
	return fmt.Sprintf("evidence row %d: %s", e.Seq, e.What)
}

// New checks the configuration, reads the key and takes the directory's lock. It fails with KindConflict when another
// process (or another Log) holds the log. The caller calls Close.
func New(cfg Config) (*Log, error) {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Rows == nil || cfg.Dir == "" || cfg.Origin == "" || cfg.KeyFile == "" || cfg.Now == nil:
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "evidence needs rows, a directory, an origin, a key file and a clock")
	case cfg.Interval < MinInterval:
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "evidence interval %s is below %s", cfg.Interval, MinInterval)
	}
	signer, verifier, err := readKey(cfg.KeyFile, cfg.Origin)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("evidence log: %w", err)
	}
	lock, err := takeLock(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := Begin(cfg.Dir, cfg.KeyFile, cfg.Origin); err != nil {
		lock.Close()
		return nil, err
	}
	return &Log{cfg: cfg, guard: newGuard(signer), verifier: verifier, lock: lock}, nil
}

// Close gives up the directory's lock. Run must have returned.
func (l *Log) Close() error {
	// Closing alone would leave the lock with a child process that is just being started and shares the open file.
	return errors.Join(unix.Flock(int(l.lock.Fd()), unix.LOCK_UN), l.lock.Close())
}

// Verifier checks this log's checkpoints.
func (l *Log) Verifier() note.Verifier { return l.verifier }

// Checkpoint is the newest checkpoint that Run has seen published and verified; the zero value before the first.
func (l *Log) Checkpoint() tlog.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkpoint
}

// Lag is the age of the oldest row that no checkpoint covers. While the rows cannot be read it is the time since they
// last could, for nobody knows what they hold. 0 when everything is covered.
func (l *Log) Lag() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, lag := l.cfg.Now(), time.Duration(0)
	if len(l.pending) > 0 {
		lag = now.Sub(l.pending[0].at)
	}
	if l.failing && now.Sub(l.lookedAt) > lag {
		lag = now.Sub(l.lookedAt)
	}
	return max(lag, 0)
}

// takeLock locks the directory for this open file; the kernel releases it with the process.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, ".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("evidence log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, bulkhead.Faultf(bulkhead.KindConflict, "the evidence log %s is written by process %s", dir, strings.TrimSpace(string(pid))).
				WithHint("stop that process first: a log has one writer")
		}
		return nil, fmt.Errorf("evidence log: lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil { // the pid is for people; the lock holds without it
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return f, nil
}

// reader is the tile reader over a log directory.
func reader(dir string) tlog.TileReader {
	return func(path string) ([]byte, error) { return tiles.Read(dir, path) }
}

// readCheckpoint opens the published checkpoint; ok is false when there is none yet.
func (l *Log) readCheckpoint() (cp tlog.Checkpoint, ok bool, err error) {
	signed, err := tiles.Read(l.cfg.Dir, tiles.CheckpointPath)
	if errors.Is(err, fs.ErrNotExist) {
		return cp, false, nil
	}
	if err != nil {
		return cp, false, err
	}
	cp, err = tlog.OpenCheckpoint(signed, l.cfg.Origin, l.verifier)
	if err != nil {
		return cp, false, &ForkError{What: "the published checkpoint is not ours: " + err.Error()}
	}
	return cp, true, nil
}
