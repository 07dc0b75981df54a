package evidence_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/tlog"
	"bulkhead/store/sqlite"
)

const origin = "test.example/evidence"

// house is a store and a log beside it.
type house struct {
	dir   string
	store *sqlite.Store
}

func newHouse(t testing.TB, dir string) *house {
	t.Helper()
	store, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h := &house{dir: dir, store: store}
	if _, err := os.Stat(h.key()); err != nil {
		if _, err := evidence.NewKey(h.key(), origin); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *house) log() string { return filepath.Join(h.dir, "log") }
func (h *house) key() string { return filepath.Join(h.dir, "evidence.key") }

func (h *house) config() evidence.Config {
	return evidence.Config{Rows: h.store, Dir: h.log(), Origin: origin, KeyFile: h.key(), Interval: evidence.MinInterval,
		Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

func (h *house) verifier(t testing.TB) note.Verifier {
	t.Helper()
	text, err := os.ReadFile(h.key() + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(string(text[:len(text)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (h *house) signer(t testing.TB) note.Signer {
	t.Helper()
	text, err := os.ReadFile(h.key())
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(string(text[:len(text)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *house) append(t testing.TB, leaves ...bulkhead.Evidence) {
	t.Helper()
	if _, err := h.store.AppendEvidence(context.Background(), leaves...); err != nil {
		t.Fatal(err)
	}
}

func (h *house) check(t testing.TB, rows evidence.Rows) evidence.Report {
	t.Helper()
	r, err := evidence.Check(context.Background(), evidence.CheckConfig{Rows: rows, Dir: h.log(), Verifier: h.verifier(t)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ahead is check with the log proved first.
func (h *house) ahead(t testing.TB, rows evidence.Rows) (evidence.Report, error) {
	t.Helper()
	p, err := evidence.Prove(context.Background(), h.log(), h.verifier(t), func(int64, bulkhead.Evidence) {})
	if err != nil {
		return evidence.Report{}, err
	}
	return evidence.Check(context.Background(), evidence.CheckConfig{Rows: rows, Dir: h.log(), Verifier: h.verifier(t), Proved: p})
}

// rules are the distinct rules of a report, in order of appearance.
func rules(r evidence.Report) []string {
	var out []string
	for _, f := range r.Findings {
		if len(out) == 0 || out[len(out)-1] != f.Rule {
			out = append(out, f.Rule)
		}
	}
	return out
}

// running is a log whose Run was started.
type running struct {
	*evidence.Log
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
	err    error
}

func start(t testing.TB, cfg evidence.Config) *running {
	t.Helper()
	l, err := evidence.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Log: l, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- l.Run(ctx) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends Run gracefully and gives its error.
func (r *running) stop() error {
	r.once.Do(func() {
		r.cancel()
		r.err = <-r.done
		r.Log.Close()
	})
	return r.err
}

// ended waits for Run to end by itself.
func (r *running) ended(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
	case <-time.After(time.Minute):
		t.Error("Run goes on")
	}
	return r.stop()
}

func (r *running) covered(t testing.TB, size int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); r.Checkpoint().Size < size; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("checkpoint covers %d of %d", r.Checkpoint().Size, size)
		}
	}
}

// filled is a house whose log covers n pairs of intent and outcome.
func filled(t testing.TB, n int) *house {
	t.Helper()
	h := newHouse(t, t.TempDir())
	for i := range n {
		h.append(t, intent(t, i), outcome(t, i))
	}
	r := start(t, h.config())
	r.covered(t, int64(2*n))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	return h
}

func digest(text string, i int) bulkhead.Hash {
	return bulkhead.Digest(binary.BigEndian.AppendUint64([]byte(text), uint64(i)))
}

func base(t testing.TB, kind bulkhead.EvidenceKind, i int) bulkhead.Evidence {
	t.Helper()
	serial, err := bulkhead.SerialFromBytes(binary.BigEndian.AppendUint64(nil, uint64(i)+1))
	if err != nil {
		t.Fatal(err)
	}
	return bulkhead.Evidence{Kind: kind, At: time.Now(), Actor: "role:signer", Authority: "ecdsa-1", Serial: serial,
		Signer: digest("ca", 0)}
}

func intent(t testing.TB, i int) bulkhead.Evidence {
	e := base(t, bulkhead.EvCertificateIntent, i)
	e.Digest, e.KeyHash = digest("tbs", i), digest("key", i)
	return e
}

func outcome(t testing.TB, i int) bulkhead.Evidence {
	e := base(t, bulkhead.EvCertificateOutcome, i)
	e.Digest, e.Link = digest("der", i), digest("tbs", i)
	return e
}

// altered is a store whose answers were tampered with.
type altered struct {
	evidence.Rows
	change func(rows []bulkhead.EvidenceRow) []bulkhead.EvidenceRow // nil leaves them
	head   int64                                                    // 0 leaves it
	fail   func() error
}

func (a altered) EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error) {
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return nil, err
		}
	}
	rows, err := a.Rows.EvidenceAfter(ctx, seq, limit)
	if a.change != nil {
		rows = a.change(rows)
	}
	if a.head > 0 {
		for len(rows) > 0 && rows[len(rows)-1].Seq > a.head {
			rows = rows[:len(rows)-1]
		}
	}
	return rows, err
}

func (a altered) EvidenceHead(ctx context.Context) (int64, bulkhead.Hash, error) {
	seq, chain, err := a.Rows.EvidenceHead(ctx)
	if a.head > 0 {
		seq = a.head
	}
	return seq, chain, err
}

// rewrite changes the leaf of one row and leaves its chain hash.
func rewrite(t testing.TB, seq int64, e bulkhead.Evidence) func([]bulkhead.EvidenceRow) []bulkhead.EvidenceRow {
	return func(rows []bulkhead.EvidenceRow) []bulkhead.EvidenceRow {
		for i := range rows {
			if rows[i].Seq == seq {
				leaf, err := tlog.Marshal(e)
				if err != nil {
					t.Error(err)
				}
				rows[i].Leaf = leaf
			}
		}
		return rows
	}
}

// without drops one row.
func without(seq int64) func([]bulkhead.EvidenceRow) []bulkhead.EvidenceRow {
	return func(rows []bulkhead.EvidenceRow) []bulkhead.EvidenceRow {
		var out []bulkhead.EvidenceRow
		for _, r := range rows {
			if r.Seq != seq {
				out = append(out, r)
			}
		}
		return out
	}
}

// flip changes one byte of a file of the log.
func (h *house) flip(t testing.TB, path string, at int) {
	t.Helper()
	path = filepath.Join(h.log(), path)
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[at] ^= 1
	if err := os.WriteFile(path, p, 0o644); err != nil {
		t.Fatal(err)
	}
}

// sign replaces the published checkpoint.
func (h *house) sign(t testing.TB, cp tlog.Checkpoint, s note.Signer) {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: cp.Body()}, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.log(), "checkpoint"), signed, 0o644); err != nil {
		t.Fatal(err)
	}
}
