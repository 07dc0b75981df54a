package kill

import (
	"context"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/run"
)

// TestPowerCutHouse does what TestPowerCut does to the whole program on SQLite while it issues and revokes: each disk that a power cut
// may leave is started by the program itself, and must come up, end in an orderly way, pass fsck, and hold everything that a
// checkpoint said which could be seen before.
func TestPowerCutHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.launch()
	h.ready()
	h.stop()
	r, err := snapshot(h.dir)
	ok(t, err)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace (Debian: apt-get install strace)")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	h.under = append([]string{strace}, recordArgs(trace)...)
	h.launch()
	c := h.ready()
	d := &driver{t: t}
	for _, name := range []string{"one.test", "two.test", "three.test"} {
		if x := d.issue(c, name, false); x != nil && name == "one.test" {
			d.revoke(c, x)
		}
	}
	for _, text := range d.odd {
		t.Error(text)
	}
	seen, last := 0, ""
	for end := time.Now().Add(time.Minute); seen < 3 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(h.dir, "evidence", "checkpoint")); err == nil && string(b) != last {
			last = string(b)
			seen++
		}
	}
	h.kill()
	ok(t, r.read(trace))
	ok(t, os.RemoveAll(h.dir))

	s := seed(t)
	rng := mrand.New(mrand.NewPCG(s, 4))
	states := 2
	if torture() {
		states = 60
	}
	for i := range states {
		at, l := r.moments[rng.IntN(len(r.moments))], mixed
		if i == 0 {
			at, l = r.handouts[len(r.handouts)-1].at, worst
		}
		dir := afterCut(t)
		ok(t, r.cut(dir, at, l, rng, nil))
		next := &house{t: t, bin: h.bin, dir: dir, flags: h.flags}
		next.launch()
		next.ready()
		next.stop()
		next.fsck()
		if err := r.toldHouse(dir, at); err != nil {
			t.Errorf("seed %d: power cut at line %d of %d, luck %d: %v", s, at, r.end, l, err)
		}
		if t.Failed() {
			t.Fatalf("seed %d: power cut at line %d of %d, luck %d\n%s", s, at, r.end, l, next.log)
		}
		ok(t, os.RemoveAll(filepath.Dir(dir)))
	}
	t.Logf("seed %d: %d calls recorded, %d syncs, %d times a checkpoint was seen; %d disks started and checked", s, len(r.moments), r.syncs, len(r.handouts), states)
	if len(r.handouts) == 0 || len(d.all) < 3 {
		t.Error("too little was recorded: this tested nothing")
	}
}

// toldHouse is told for a house's own record and log.
func (r *recording) toldHouse(dir string, at int) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	cfg, err := run.LoadConfig(dir)
	if err != nil {
		return err
	}
	store, err := run.OpenStore(ctx, dir, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	verifier, err := logKey(dir)
	if err != nil {
		return err
	}
	return r.told(ctx, store, verifier, at)
}
