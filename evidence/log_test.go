package evidence_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/tlog"
)

// TestLogEqualsRows has several writers commit while the log runs: every leaf stands where its row's number says.
func TestLogEqualsRows(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	r := start(t, h.config())
	var wg sync.WaitGroup
	const writers, rounds = 4, 25
	total := int64(0)
	for w := range writers {
		for i := range rounds {
			total += int64(1 + (w*7+i*13)%60)
		}
		wg.Go(func() {
			for i := range rounds {
				batch := make([]bulkhead.Evidence, 1+(w*7+i*13)%60)
				for j := range batch {
					batch[j] = base(t, bulkhead.EvAccount, w*1e6+i*1e3+j)
				}
				h.append(t, batch...)
			}
		})
	}
	wg.Wait()
	r.covered(t, total)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	report := h.check(t, h.store)
	if len(report.Findings) > 0 || report.Checkpoint.Size != total {
		t.Fatalf("%d rows: %+v", total, report)
	}
	sameLeaves(t, h, report.Checkpoint)
}

// sameLeaves compares rows and leaves without the code of Check.
func sameLeaves(t *testing.T, h *house, cp tlog.Checkpoint) {
	t.Helper()
	rows, err := h.store.EvidenceAfter(context.Background(), 0, int(cp.Size))
	if err != nil || int64(len(rows)) != cp.Size {
		t.Fatalf("%d rows of %d: %v", len(rows), cp.Size, err)
	}
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(h.log(), path)) }
	if err := tlog.Walk(read, cp, 0, func(i int64, leaf []byte) error {
		if !bytes.Equal(leaf, rows[i].Leaf) {
			t.Fatalf("leaf %d is not row %d", i, i+1)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestBacklog starts over more rows than one look copies.
func TestBacklog(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	const n = 5 * 1024
	batch := make([]bulkhead.Evidence, n)
	for i := range batch {
		batch[i] = base(t, bulkhead.EvAccount, i)
	}
	h.append(t, batch...)
	r := start(t, h.config())
	r.covered(t, n)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	sameLeaves(t, h, r.Checkpoint())
}

// TestRowIsCovered: with the default interval a row is covered, in about a second where the machine has nothing else to do.
func TestRowIsCovered(t *testing.T) {
	h := newHouse(t, t.TempDir())
	cfg := h.config()
	cfg.Interval = 0 // the default
	r := start(t, cfg)
	for i := range 3 {
		began := time.Now()
		h.append(t, intent(t, i))
		r.covered(t, int64(i+1))
		t.Logf("row %d was covered after %s", i+1, time.Since(began))
	}
	if r.Lag() != 0 {
		t.Errorf("lag %s with everything covered", r.Lag())
	}
}

// TestGracefulStop leaves nothing uncovered, and identical leaves are leaves of their own.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	for round := range 3 {
		r := start(t, h.config())
		wait(t, func() bool { return r.Checkpoint().Origin != "" })
		same := base(t, bulkhead.EvStart, 0)
		h.append(t, same, same, same, same, same)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if report := h.check(t, h.store); report.Uncovered != 0 || len(report.Findings) > 0 || report.Rows != int64(5*(round+1)) {
			t.Fatalf("round %d: %+v", round, report)
		}
	}
}

// TestRunRefusesForks plants each difference before a start; the log must stop, alarm and sign nothing.
func TestRunRefusesForks(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(h *house) evidence.Rows
		seq   int64
		text  string
	}{
		"changed row": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, change: rewrite(t, 599, intent(t, 9))}
		}, 599, "chain hash"},
		"changed row with a new chain": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, change: rechain(t, 599, intent(t, 9))}
		}, 599, "differs from the leaf"},
		"changed new row": {func(h *house) evidence.Rows {
			h.append(t, intent(t, 500), outcome(t, 500))
			return altered{Rows: h.store, change: rewrite(t, 602, intent(t, 9))}
		}, 602, "chain hash"},
		"missing row": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, change: without(580)}
		}, 580, "missing from the store"},
		"gap in new rows": {func(h *house) evidence.Rows {
			h.append(t, intent(t, 500), outcome(t, 500), intent(t, 501))
			return altered{Rows: h.store, change: without(602)}
		}, 602, "missing from the store"},
		"older store": {func(h *house) evidence.Rows { return altered{Rows: h.store, head: 590} }, 591, "only 590 rows"},
		"flipped byte in a tile": {func(h *house) evidence.Rows {
			h.flip(t, "tile/0/002.p/88", 40)
			return h.store
		}, 0, "tiles do not extend"},
		"flipped byte in a bundle": {func(h *house) evidence.Rows {
			h.flip(t, "tile/entries/002.p/88", 40)
			return h.store
		}, 0, "tiles are damaged"},
		"missing tile": {func(h *house) evidence.Rows {
			if err := os.Remove(filepath.Join(h.log(), "tile/0/002.p/88")); err != nil {
				t.Fatal(err)
			}
			return h.store
		}, 0, "tiles are damaged"},
		"forked checkpoint": {func(h *house) evidence.Rows {
			h.sign(t, tlog.Checkpoint{Origin: origin, Size: 600, Root: digest("fork", 0)}, h.signer(t))
			return h.store
		}, 0, "two roots for 600 leaves"},
		"checkpoint ahead": {func(h *house) evidence.Rows {
			h.sign(t, tlog.Checkpoint{Origin: origin, Size: 700, Root: digest("fork", 0)}, h.signer(t))
			return h.store
		}, 0, "do not extend the published checkpoint of 700"},
		"foreign checkpoint": {func(h *house) evidence.Rows {
			h.flip(t, "checkpoint", 0)
			return h.store
		}, 0, "not ours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := copyOf(t)
			cfg := h.config()
			cfg.Rows = c.plant(h)
			before, err := os.ReadFile(filepath.Join(h.log(), "checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			var alarms atomic.Int64
			cfg.Alarm = func(_ context.Context, a bulkhead.Alarm) {
				if a.Detector == "evidence-fork" && a.Severity == bulkhead.Critical {
					alarms.Add(1)
				}
			}
			err = start(t, cfg).ended(t)
			var fork *evidence.ForkError
			if !errors.As(err, &fork) || fork.Seq != c.seq || !strings.Contains(fork.What, c.text) {
				t.Errorf("Run: %v, want row %d, %q", err, c.seq, c.text)
			}
			if bulkhead.KindOf(err) != bulkhead.KindConflict || alarms.Load() != 1 {
				t.Errorf("kind %s, %d alarms", bulkhead.KindOf(err), alarms.Load())
			}
			if after, err := os.ReadFile(filepath.Join(h.log(), "checkpoint")); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the checkpoint changed: %s (%v)", after, err)
			}
		})
	}
}

// TestForkWhileRunning damages the right edge under a running log: the tree over it would be another one, and the
// guard refuses to sign it.
func TestForkWhileRunning(t *testing.T) {
	t.Parallel()
	h := copyOf(t)
	r := start(t, h.config())
	r.covered(t, 600)
	h.flip(t, "tile/0/002.p/88", 40)
	h.append(t, intent(t, 500))
	var fork *evidence.ForkError
	if err := r.ended(t); !errors.As(err, &fork) || !strings.Contains(fork.What, "not that of the rows") {
		t.Errorf("Run: %v", err)
	}
	if r.Checkpoint().Size != 600 {
		t.Errorf("checkpoint of %d leaves", r.Checkpoint().Size)
	}
}

func TestSomebodyElseSigns(t *testing.T) {
	t.Parallel()
	h := copyOf(t)
	r := start(t, h.config())
	r.covered(t, 600)
	h.sign(t, tlog.Checkpoint{Origin: origin, Size: 601, Root: digest("fork", 0)}, h.signer(t))
	var fork *evidence.ForkError
	if err := r.ended(t); !errors.As(err, &fork) || !strings.Contains(fork.What, "somebody else signed") {
		t.Errorf("Run: %v", err)
	}
}

// clock is a clock that a test moves.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// TestLagAlarm takes the store away: no alarm before 60 s, one after, none when it is back.
func TestLagAlarm(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	var away atomic.Bool
	var alarms atomic.Int64
	var c clock
	cfg := h.config()
	cfg.Now = c.now
	cfg.Rows = altered{Rows: h.store, fail: func() error {
		if away.Load() {
			return errors.New("the store is away")
		}
		return nil
	}}
	cfg.Alarm = func(_ context.Context, a bulkhead.Alarm) {
		if a.Detector != "evidence-lag" {
			t.Errorf("alarm %+v", a)
		}
		alarms.Add(1)
	}
	r := start(t, cfg)
	h.append(t, intent(t, 0))
	r.covered(t, 1)
	away.Store(true)
	wait(t, func() bool { return r.Lag() > 0 })
	c.offset.Store(int64(50 * time.Second))
	time.Sleep(3 * cfg.Interval)
	if n := alarms.Load(); n != 0 || r.Lag() < 50*time.Second {
		t.Errorf("after 50 s: %d alarms, lag %s", n, r.Lag())
	}
	c.offset.Store(int64(61 * time.Second))
	wait(t, func() bool { return alarms.Load() > 0 })
	away.Store(false)
	h.append(t, outcome(t, 0))
	r.covered(t, 2)
	wait(t, func() bool { return r.Lag() == 0 })
	n := alarms.Load()
	time.Sleep(2 * cfg.Interval)
	if alarms.Load() != n {
		t.Errorf("%d alarms after the store came back", alarms.Load()-n)
	}
}

func wait(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

// TestDiskComesBack makes the directory unusable for a while: no fork, no alarm, and everything is covered afterwards.
func TestDiskComesBack(t *testing.T) {
	t.Parallel()
	h := copyOf(t)
	cfg := h.config()
	cfg.Alarm = func(_ context.Context, a bulkhead.Alarm) { t.Errorf("alarm %+v", a) }
	r := start(t, cfg)
	r.covered(t, 600)
	tile := filepath.Join(h.log(), "tile")
	if err := os.Rename(tile, tile+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tile, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.append(t, intent(t, 700), outcome(t, 700))
	wait(t, func() bool { return r.Lag() > 0 })
	if r.Checkpoint().Size != 600 {
		t.Errorf("lag %s, checkpoint of %d", r.Lag(), r.Checkpoint().Size)
	}
	if err := errors.Join(os.Remove(tile), os.Rename(tile+".away", tile)); err != nil {
		t.Fatal(err)
	}
	r.covered(t, 602)
	if report := h.check(t, h.store); len(report.Findings) > 0 {
		t.Errorf("%+v", report)
	}
}

// TestBegin starts a log that an auditor can read before any writer ran, and never starts one over another. A log that
// was deleted is written again, leaf by leaf the same.
func TestBegin(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	if got := rules(h.check(t, h.store)); len(got) != 1 || got[0] != evidence.RuleCheckpoint {
		t.Errorf("before: %v", got)
	}
	h.append(t, intent(t, 0))
	for range 2 {
		if err := evidence.Begin(h.log(), h.key(), origin); err != nil {
			t.Fatal(err)
		}
		if r := h.check(t, h.store); len(r.Findings) != 0 || r.Uncovered != 1 {
			t.Errorf("after: %+v", r)
		}
	}
	r := start(t, h.config())
	r.covered(t, 1)
	was := r.Checkpoint()
	if err := errors.Join(r.stop(), evidence.Begin(h.log(), h.key(), origin)); err != nil {
		t.Fatal(err)
	}
	if r := h.check(t, h.store); r.Checkpoint != was {
		t.Errorf("begun again: %+v", r.Checkpoint)
	}
	if err := os.RemoveAll(h.log()); err != nil {
		t.Fatal(err)
	}
	r = start(t, h.config())
	r.covered(t, 1)
	if r.Checkpoint() != was {
		t.Errorf("written again: %+v, was %+v", r.Checkpoint(), was)
	}
}

func TestNewRefuses(t *testing.T) {
	h := newHouse(t, t.TempDir())
	for name, c := range map[string]struct {
		change func(*evidence.Config)
		want   bulkhead.Kind
	}{
		"no rows":       {func(c *evidence.Config) { c.Rows = nil }, bulkhead.KindUsage},
		"no clock":      {func(c *evidence.Config) { c.Now = nil }, bulkhead.KindUsage},
		"no directory":  {func(c *evidence.Config) { c.Dir = "" }, bulkhead.KindUsage},
		"short":         {func(c *evidence.Config) { c.Interval = time.Millisecond }, bulkhead.KindUsage},
		"no key":        {func(c *evidence.Config) { c.KeyFile += ".gone" }, bulkhead.KindNotFound},
		"other origin":  {func(c *evidence.Config) { c.Origin = "other" }, bulkhead.KindConflict},
		"public as key": {func(c *evidence.Config) { c.KeyFile = pubAsKey(t, h) }, bulkhead.KindMalformed},
	} {
		cfg := h.config()
		c.change(&cfg)
		if _, err := evidence.New(cfg); bulkhead.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if err := os.Chmod(h.key(), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.New(h.config()); bulkhead.KindOf(err) != bulkhead.KindForbidden {
		t.Errorf("a key that others may read: %v", err)
	}
}

// pubAsKey is a file of mode 0600 with the verifier key.
func pubAsKey(t *testing.T, h *house) string {
	text, err := os.ReadFile(h.key() + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNewKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "evidence.key")
	verifier, err := evidence.NewKey(path, origin)
	if err != nil || !strings.HasPrefix(verifier, origin+"+") {
		t.Fatalf("%q, %v", verifier, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(path + ".pub"); err != nil || string(text) != verifier+"\n" {
		t.Errorf("%q, %v", text, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.NewKey(path, origin); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a second time: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the key was replaced")
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb"} {
		if _, err := evidence.NewKey(path+"2", bad); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("origin %q: %v", bad, err)
		}
	}
}
