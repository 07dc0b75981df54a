package cosign_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/evidence/cosign"
	"bulkhead/pki/tlog"
	"bulkhead/test/foreign"
	"bulkhead/witness"
)

const origin = "ca.test/evidence"

// rows is a record in memory.
type rows struct {
	mu   sync.Mutex
	list []bulkhead.EvidenceRow
}

func (r *rows) add(t testing.TB, story string, n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		leaf, err := tlog.Marshal(bulkhead.Evidence{Kind: bulkhead.EvAccount, At: time.Unix(1e9, 0), Ref: fmt.Sprint(story, len(r.list))})
		if err != nil {
			t.Fatal(err)
		}
		row := bulkhead.EvidenceRow{Seq: int64(len(r.list)) + 1, Leaf: leaf}
		if row.Seq > 1 {
			row.Chain = tlog.Chain(r.list[len(r.list)-1].Chain, leaf)
		} else {
			row.Chain = tlog.Chain(bulkhead.Hash{}, leaf)
		}
		r.list = append(r.list, row)
	}
}

func (r *rows) EvidenceAfter(_ context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := min(int(seq), len(r.list))
	return slices.Clone(r.list[from:min(from+limit, len(r.list))]), nil
}

func (r *rows) EvidenceHead(context.Context) (int64, bulkhead.Hash, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return 0, bulkhead.Hash{}, nil
	}
	last := r.list[len(r.list)-1]
	return last.Seq, last.Chain, nil
}

// house is a log with its record.
type house struct {
	dir  string
	rows *rows
	key  string // verifier key
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), rows: &rows{}}
	var err error
	if h.key, err = evidence.NewKey(filepath.Join(h.dir, "evidence.key"), origin); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) log() string { return filepath.Join(h.dir, "log") }

func (h *house) verifier(t testing.TB) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(h.key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// grow adds n leaves and publishes a checkpoint over them.
func (h *house) grow(t testing.TB, story string, n int) {
	t.Helper()
	h.rows.add(t, story, n)
	l, err := evidence.New(evidence.Config{Rows: h.rows, Dir: h.log(), Origin: origin, KeyFile: filepath.Join(h.dir, "evidence.key"), Interval: evidence.MinInterval, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for l.Checkpoint().Size < int64(len(h.rows.list)) && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil || l.Checkpoint().Size < int64(len(h.rows.list)) {
		t.Fatalf("the log stands at %d: %v", l.Checkpoint().Size, err)
	}
}

// fork is another house with the same key and, so far, the same history.
func (h *house) fork(t testing.TB) *house {
	t.Helper()
	o := &house{dir: t.TempDir(), key: h.key, rows: &rows{list: slices.Clone(h.rows.list)}}
	if err := os.CopyFS(o.dir, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(o.dir, "evidence.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// ours starts a witness of the house's own program over HTTP.
func ours(t testing.TB, name, logKey string) (url, key string, w *witness.Witness, stop func()) {
	t.Helper()
	dir := t.TempDir()
	key, err := witness.NewKey(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := witness.ReadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(logKey)
	if err != nil {
		t.Fatal(err)
	}
	if w, err = witness.New(witness.Config{Dir: dir, Cosigner: c, Logs: []note.Verifier{v}, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(w)
	stop = sync.OnceFunc(func() { s.Close(); w.Close() })
	t.Cleanup(stop)
	return s.URL, key, w, stop
}

// feed is a feeder with the alarms that it raised and a clock of its own.
type feed struct {
	*cosign.Feeder
	kept   string
	policy *tlog.Policy
	now    time.Time
	alarms []bulkhead.Alarm
}

func (h *house) feed(t testing.TB, kept, policy string) *feed {
	t.Helper()
	p, err := tlog.ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := cosign.CheckPolicy(p); err != nil {
		t.Fatal(err)
	}
	f := &feed{kept: kept, policy: p, now: time.Now()}
	f.Feeder, err = cosign.New(cosign.Config{Log: h.log(), Kept: kept, Verifier: h.verifier(t), Policy: p, Post: cosign.HTTP(true), Now: func() time.Time { return f.now },
		Alarm: func(_ context.Context, a bulkhead.Alarm) { f.alarms = append(f.alarms, a) }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// round makes one round and returns the keys of the alarms that it raised.
func (f *feed) round(t testing.TB) []string {
	t.Helper()
	f.alarms = nil
	if err := f.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, a := range f.alarms {
		if a.Detector != "D5" || a.Runbook == "" {
			t.Errorf("%+v", a)
		}
		keys = append(keys, a.Key)
	}
	return keys
}

// covers wants the kept checkpoint to be of size leaves, with the quorum, as a stranger verifies it.
func (f *feed) covers(t testing.TB, h *house, size int64) {
	t.Helper()
	signed, err := os.ReadFile(filepath.Join(f.kept, cosign.CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	cp, sigs, err := tlog.Cosignatures(signed, origin, h.verifier(t), f.policy.Keys())
	var names []string
	for _, s := range sigs {
		names = append(names, s.Witness)
	}
	if err != nil || cp.Size != size || !f.policy.Satisfied(names) {
		t.Fatalf("kept %d leaves with %v: %v, want %d", cp.Size, names, err, size)
	}
}

func policy(quorum string, witnesses ...[3]string) string {
	var b strings.Builder
	var labels []string
	for _, w := range witnesses {
		fmt.Fprintf(&b, "witness %s %s %s\n", w[0], w[1], w[2])
		labels = append(labels, w[0])
	}
	return b.String() + "group all-of-them " + quorum + " " + strings.Join(labels, " ") + "\nquorum all-of-them\n"
}

// TestTwoOfThree: checkpoints are cosigned by three witnesses, one of them litewitness; with one away the quorum holds, with
// two away nothing new is kept and after ten minutes D5 says so; when they are back all is well without a hand.
func TestTwoOfThree(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.grow(t, "a", 300)
	aURL, aKey, a, _ := ours(t, "a.test/w", h.key)
	bURL, bKey, _, stopB := ours(t, "b.test/w", h.key)
	lite := foreign.Litewitness(t, "lite.test/w", origin, h.key)
	f := h.feed(t, t.TempDir(), policy("2", [3]string{"a", aKey, aURL}, [3]string{"b", bKey, bURL}, [3]string{"lite", lite.Key, lite.URL}))
	if got := f.round(t); len(got) > 0 {
		t.Fatalf("%v: %+v", got, f.States())
	}
	f.covers(t, h, 300)
	for _, s := range f.States() {
		if s.Size != 300 || s.Problem != "" || s.At.IsZero() {
			t.Errorf("%+v", s)
		}
	}
	h.grow(t, "a", 700)
	stopB()
	if got := f.round(t); len(got) > 0 {
		t.Errorf("one away: %v", got)
	}
	f.covers(t, h, 1000)
	f.now = f.now.Add(cosign.DefaultLate)
	if got := f.round(t); !slices.Equal(got, []string{"missing,b"}) {
		t.Errorf("one away for long: %v", got)
	}

	// A feeder that starts anew with other addresses: two are away.
	away := strings.ReplaceAll(policy("2", [3]string{"a", aKey, aURL}, [3]string{"b", bKey, bURL}, [3]string{"lite", lite.Key, lite.URL}), lite.URL, bURL)
	h.grow(t, "a", 1)
	g := h.feed(t, f.kept, away)
	if got := g.round(t); len(got) > 0 || g.Quorum().Size != 1000 {
		t.Errorf("two away: %v, quorum of %d", got, g.Quorum().Size)
	}
	g.now = g.now.Add(cosign.DefaultLate)
	if got := g.round(t); !slices.Equal(got, []string{"missing,b", "missing,lite", "quorum"}) {
		t.Errorf("two away for long: %v", got)
	}
	g.covers(t, h, 1000)
	if got := f.round(t); len(got) > 0 && !slices.Equal(got, []string{"missing,b"}) || f.Quorum().Size != 1001 {
		t.Errorf("back: %v, quorum of %d", got, f.Quorum().Size)
	}
	if cp, ok := a.Known(origin); !ok || cp.Size != 1001 {
		t.Errorf("the witness knows %+v", cp)
	}
}

// TestFork: two houses with one key and one past go different ways; whoever comes second is refused by the witness, and D5
// says so. The same for a house that was restored from an older copy.
func TestFork(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.grow(t, "a", 10)
	older := h.fork(t)
	url, key, _, _ := ours(t, "w.test", h.key)
	lite := foreign.Litewitness(t, "lite.test/w", origin, h.key)
	text := policy("all", [3]string{"ours", key, url}, [3]string{"lite", lite.Key, lite.URL})
	h.grow(t, "a", 20)
	if got := h.feed(t, t.TempDir(), text).round(t); len(got) > 0 {
		t.Fatal(got)
	}
	f := older.feed(t, t.TempDir(), text)
	if got := f.round(t); !slices.Equal(got, []string{"fork,ours", "fork,lite"}) {
		t.Errorf("an older copy: %v %+v", got, f.States())
	}
	older.grow(t, "b", 20) // as many leaves, another root
	if got := f.round(t); !slices.Contains(got, "fork,ours") {
		t.Errorf("another root: %v %+v", got, f.States())
	}
	older.grow(t, "b", 20) // more leaves, which do not extend what was seen
	if got := f.round(t); !slices.Equal(got, []string{"fork,ours", "fork,lite"}) || f.alarms[0].Severity != bulkhead.Critical {
		t.Errorf("another history: %v %+v", got, f.States())
	}
	if f.Quorum().Size != 0 {
		t.Error("a fork has a quorum")
	}
	h.grow(t, "a", 5)
	if got := h.feed(t, t.TempDir(), text).round(t); len(got) > 0 {
		t.Errorf("the true one: %v", got)
	}
}

// TestTwoWritersOfOneRecord: two processes on two machines with one record and one key write the same log, for its leaves are
// the rows: what they publish is consistent, and no witness sees a fork.
func TestTwoWritersOfOneRecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.grow(t, "a", 10)
	other := h.fork(t)
	other.rows = h.rows
	url, key, _, _ := ours(t, "w.test", h.key)
	text, kept := policy("all", [3]string{"w", key, url}), t.TempDir()
	for range 3 {
		h.grow(t, "x", 30)
		if got := h.feed(t, kept, text).round(t); len(got) > 0 {
			t.Fatal(got)
		}
		other.grow(t, "x", 30)
		if got := other.feed(t, kept, text).round(t); len(got) > 0 {
			t.Fatal(got)
		}
	}
}

// TestOddWitnesses: what a witness says that is no cosignature is never kept.
func TestOddWitnesses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.grow(t, "a", 5)
	_, key, w, _ := ours(t, "w.test", h.key)
	p, err := tlog.ParsePolicy("witness w " + key + " https://w.test/\nquorum w\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reply  func(body []byte) (cosign.Reply, error)
		alarms []string // after ten minutes
	}{
		"unreachable": {func([]byte) (cosign.Reply, error) { return cosign.Reply{}, os.ErrDeadlineExceeded }, []string{"missing,w", "quorum"}},
		"unknown log": {func([]byte) (cosign.Reply, error) { return cosign.Reply{Status: 404}, nil }, []string{"missing,w", "quorum"}},
		"nothing":     {func([]byte) (cosign.Reply, error) { return cosign.Reply{Status: 200}, nil }, []string{"invalid,w", "quorum"}},
		"a stranger": {func([]byte) (cosign.Reply, error) {
			return cosign.Reply{Status: 200, Body: []byte("— w.test AAAA\n")}, nil
		}, []string{"invalid,w", "quorum"}},
		"the same size": {func([]byte) (cosign.Reply, error) {
			return cosign.Reply{Status: 409, Type: witness.SizeType, Body: []byte("0\n")}, nil
		}, []string{"missing,w", "quorum"}},
		"a larger size": {func([]byte) (cosign.Reply, error) {
			return cosign.Reply{Status: 409, Type: witness.SizeType, Body: []byte("99\n")}, nil
		}, []string{"fork,w", "quorum"}},
		"another root": {func([]byte) (cosign.Reply, error) { return cosign.Reply{Status: 409}, nil }, []string{"fork,w", "quorum"}},
		"no proof":     {func([]byte) (cosign.Reply, error) { return cosign.Reply{Status: 422}, nil }, []string{"fork,w", "quorum"}},
		"a cosignature": {func(body []byte) (cosign.Reply, error) {
			line, err := w.Add(body)
			return cosign.Reply{Status: 200, Body: []byte(line)}, err
		}, nil},
		"a changing size": {func(body []byte) (cosign.Reply, error) {
			return cosign.Reply{Status: 409, Type: witness.SizeType, Body: fmt.Appendf(nil, "%d\n", 1+len(body)%3)}, nil
		}, nil},
	} {
		now := time.Now()
		var keys []string
		kept := t.TempDir()
		f, err := cosign.New(cosign.Config{Log: h.log(), Kept: kept, Verifier: h.verifier(t), Policy: p, Now: func() time.Time { return now },
			Post:  func(_ context.Context, url string, body []byte) (cosign.Reply, error) { return c.reply(body) },
			Alarm: func(_ context.Context, a bulkhead.Alarm) { keys = append(keys, a.Key) }})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			keys = nil
			if err := f.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			now = now.Add(cosign.DefaultLate)
		}
		if c.alarms != nil && !slices.Equal(keys, c.alarms) {
			t.Errorf("%s: %v, want %v", name, keys, c.alarms)
		}
		_, err = os.Stat(filepath.Join(kept, cosign.CheckpointName))
		if (err == nil) != (name == "a cosignature") {
			t.Errorf("%s: kept: %v", name, err == nil)
		}
	}
}
