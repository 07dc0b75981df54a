package scan

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// killTargets is how many endpoints the run that is killed has.
const killTargets = 120

func killList(t *testing.T) []Target {
	t.Helper()
	var texts []string
	for i := range killTargets {
		texts = append(texts, netip.AddrPortFrom(a1, uint16(i+1)).String())
	}
	return targets(t, texts...)
}

// noted writes down each look before it is taken, in one write, so that a kill loses none.
type noted struct{ log *os.File }

func (n noted) Verdict(_ context.Context, ep bulkhead.Endpoint) bulkhead.Look {
	_, _ = n.log.WriteString(ep.AddrPort().String() + "\n") // the parent sees what is missing
	time.Sleep(time.Millisecond)
	return bulkhead.Look{Endpoint: ep, At: time.Unix(1, 0).UTC(), Verdict: bulkhead.Patched, Reason: bulkhead.ReasonDiscarded, Detail: "seen"}
}

func (n noted) Look(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look {
	return n.Verdict(ctx, ep)
}

const killDir = "BULKHEAD_TEST_SCAN_DIR"

// TestKilledRunChild is the run that is killed; it does its work only when TestKilledRun starts it.
func TestKilledRunChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		return
	}
	log, err := os.OpenFile(filepath.Join(dir, "looks"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenState(filepath.Join(dir, "state"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sweep(t.Context(), Config{Looker: noted{log}, Names: book{}, Now: time.Now, State: s, Concurrency: 4, PerHost: 4}, killList(t)); err != nil {
		t.Fatal(err)
	}
}

// lines are the whole lines of a file; none when there is no file.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// recorded are the targets that the state file has.
func recorded(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, l := range lines(t, filepath.Join(dir, "state")) {
		if _, rest, ok := strings.Cut(l, `"target":"`); ok {
			target, _, _ := strings.Cut(rest, `"`)
			out[target] = true
		}
	}
	return out
}

// TestKilledRun kills a run by SIGKILL again and again until one comes to its end: no endpoint is lost, and none is looked at
// again after it was recorded.
func TestKilledRun(t *testing.T) {
	dir := t.TempDir()
	looks := func() []string {
		return slices.DeleteFunc(lines(t, filepath.Join(dir, "looks")), func(l string) bool { return l == "" })
	}
	kills := 0
	for round := 0; ; round++ {
		if round > 40 {
			t.Fatal("the run comes to no end")
		}
		known, before := recorded(t, dir), len(looks())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledRunChild$")
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		done := false
		var err error
		for !done && (round >= 6 || len(looks()) < before+15+round) {
			select {
			case err = <-ended:
				done = true
			case <-time.After(time.Millisecond):
			}
		}
		if !done {
			_ = cmd.Process.Kill()
			err = <-ended
			kills++
		}
		cancel()
		for _, l := range looks()[before:] {
			if known[l] {
				t.Fatalf("round %d: %s was recorded and is looked at again", round, l)
			}
		}
		if done {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if got := recorded(t, dir); len(got) != killTargets || kills < 3 {
		t.Errorf("%d of %d endpoints after %d kills", len(got), killTargets, kills)
	}
	if n := len(looks()); n > killTargets+kills*8 { // at most those that were under way
		t.Errorf("%d looks for %d endpoints", n, killTargets)
	}
}

// FuzzState: whatever a state file holds, it is refused or goes on, and what it has is the same when it is opened again.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"bulkhead_scan":"1","whole":false}` + "\n" + `{"target":"a.test:443","host":"a.test","port":443,"verdict":"patched","reason":"malformed_discarded","endpoints":[]}` + "\n"))
	f.Add([]byte(`{"bulkhead_scan":"1","whole":false}` + "\n" + `{"target":"a.test:443","verd`))
	f.Add([]byte(`{"bulkhead_scan":"1"}` + "\n\n"))
	f.Add([]byte("hosts\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenState(path, false)
		if err != nil {
			if bulkhead.KindOf(err) != bulkhead.KindUsage {
				t.Fatal(err)
			}
			if kept, _ := os.ReadFile(path); !bytes.Equal(kept, text) {
				t.Error("a file that was refused was changed")
			}
			return
		}
		n := s.Done()
		if err := s.add(Result{Target: "\x00 one more"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenState(path, false)
		if err != nil {
			t.Fatalf("what was taken once is refused: %v", err)
		}
		defer again.Close()
		if again.Done() != n && again.Done() != n+1 {
			t.Errorf("%d results, then %d", n, again.Done())
		}
	})
}

// FuzzAuthorisations: what is read as a word of somebody names who, until when, and a block that is not too wide.
func FuzzAuthorisations(f *testing.F) {
	for _, s := range []string{"- {block: 192.0.2.0/24, by: \"A. Owner, ISP\", until: 2026-06-30}", "- {block: 2001:db8::/108, by: abc, until: 2026-06-30}\n- {block: ::/0, by: abc, until: 2026-06-30}",
		"[]", "", "x: y", "- &a {block: 10.0.0.0/12, by: me too, until: 9999-12-31}\n- *a", "- {block: 192.0.2.1/24, by: abc, until: 2026-02-30}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ReadAuthorisations(bytes.NewReader(text))
		if err != nil {
			if bulkhead.KindOf(err) != bulkhead.KindUsage {
				t.Fatal(err)
			}
			return
		}
		for _, a := range all {
			if !a.Block.IsValid() || a.Block != a.Block.Masked() || len(strings.TrimSpace(a.By)) < 3 || a.Until.IsZero() || a.Block.Addr().Is4() && a.Block.Bits() < widestIPv4 || a.Block.Addr().Is6() && a.Block.Bits() < widestIPv6 {
				t.Errorf("%+v", a)
			}
			if _, err := Authorise(a.Block, all, a.Until.Add(-time.Second)); err != nil {
				t.Errorf("%+v does not allow its own block: %v", a, err)
			}
			for _, x := range all {
				if _, err := Authorise(a.Block, []Authorisation{x}, x.Until); err == nil {
					t.Errorf("%+v holds when it has ended", x)
				}
			}
		}
	})
}
