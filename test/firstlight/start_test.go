package firstlight

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// attempt runs `up` on a house's directory and expects it to end by itself.
func (h *house) attempt(code int, says string, flags ...string) {
	h.t.Helper()
	p, err := launch(h.bin, h.environment(), append([]string{"up", "--data", h.dir}, flags...)...)
	ok(h.t, err)
	select {
	case <-p.ended:
	case <-time.After(startTimeout):
		_, _ = p.stop(syscall.SIGKILL)
		h.t.Fatalf("up %v does not end", flags)
	}
	if p.code() != code || !strings.Contains(p.log.String(), says) || !strings.Contains(p.log.String(), "next: ") {
		h.t.Errorf("up %v ends with %d, want %d and %q:\n%s", flags, p.code(), code, says, p.log.String())
	}
}

// TestSecondStart: what the first start made is there again; a second process, a contradiction and an unknown key are
// refused; while the house is down nothing claims that it is up.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	h := start(t, options{})
	readyFile := filepath.Join(h.dir, "run", "ready.json")
	p := h.issue("kept.test").paper(t)
	p.awaitGood(t)

	h.attempt(1, "pid "+strconv.Itoa(h.process.pid()), h.flags...)
	if _, err := os.Stat(readyFile); err != nil {
		t.Errorf("the refused second process took ready.json away: %v", err)
	}
	h.stop()
	if _, err := os.Stat(readyFile); err == nil {
		t.Error("the house is down and ready.json says that it is up")
	}
	h.refused(5, "bulkhead up", "cert", "list")
	h.attempt(2, "status_url", append(h.flags, "--status-url", "http://pki.example.com")...)
	h.attempt(2, "store", append(h.flags, "--store", "sqlite:other.db")...)
	h.attempt(2, "validate_http_port", append(h.flags, "--validate-http-port", "8080")...)

	root := h.dir + "-root"
	ok(t, os.Rename(root, filepath.Join(t.TempDir(), "safe"))) // as the operator was told to
	h.up()
	if s := p.status(t); s != "good" {
		t.Errorf("after the second start the certificate is %s", s)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("the second start made a root folder")
	}
	coreOfFirstLight(t, h, "second.test")
	for _, f := range h.doctor() {
		if f.Check == "root-folder" && f.Level != "ok" {
			t.Errorf("doctor misses that the root folder is gone: %+v", f)
		}
	}
	h.kill()
	h.refused(5, "next: ", "cert", "list")
	h.up() // the stale ready.json of the killed process does not matter
	h.issue("third.test")
	h.stop()
	body, err := os.ReadFile(filepath.Join(h.dir, "bulkhead.yaml"))
	ok(t, err)
	h.edit("log:", "surprise: 1\nlog:")
	h.attempt(2, "surprise", h.flags...)
	h.refused(2, "surprise", "config", "check")
	ok(t, os.WriteFile(filepath.Join(h.dir, "bulkhead.yaml"), body, 0o600))
	h.must("config", "check")
}

// TestFirstStartRefusals: a wildcard or port 0 status listener needs a URL, an address that is taken is found in time, a
// folder of somebody else's is left alone, and nothing is made.
func TestFirstStartRefusals(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:14080", ":14080", "127.0.0.1:0"} {
		h := prepare(t, options{})
		h.attempt(2, "status_url", "--status-listen", listen)
		wantNothing(t, h.dir)
	}
	h := prepare(t, options{})
	h.attempt(2, "status_url", append(h.flags, "--status-url", "https://pki.example.com")...)
	wantNothing(t, h.dir)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer taken.Close()
	for _, flag := range []string{"listen", "status-listen", "metrics-listen"} {
		h := prepare(t, options{})
		h.attempt(1, "cannot listen on "+taken.Addr().String(), append(h.flags, "--"+flag, taken.Addr().String())...)
		wantNothing(t, h.dir)
	}
	foreign := prepare(t, options{dir: t.TempDir()})
	ok(t, os.WriteFile(filepath.Join(foreign.dir, "letter.txt"), []byte("mine"), 0o600))
	foreign.attempt(2, "not empty", foreign.flags...)
	if all, err := os.ReadDir(foreign.dir); err != nil || len(all) != 1 {
		t.Errorf("a folder of somebody else's has %v now", all)
	}
}

func wantNothing(t testing.TB, dir string) {
	t.Helper()
	for _, suffix := range []string{"", "-root", ".first-start"} {
		if _, err := os.Stat(dir + suffix); err == nil {
			t.Errorf("a refused start left %s", dir+suffix)
		}
	}
}

// TestKilledFirstStart: a first start that is killed at any moment starts over cleanly; there is never half a house.
func TestKilledFirstStart(t *testing.T) {
	t.Parallel()
	h := prepare(t, options{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // moments of a test
	begun := time.Now()
	h.up()
	whole := min(time.Since(begun), 3*time.Second)
	h.stop()
	for range 5 {
		h = prepare(t, options{})
		for range 2 { // the second kill may hit a first start that starts over
			p, err := launch(h.bin, h.environment(), append([]string{"up", "--data", h.dir}, h.flags...)...)
			ok(t, err)
			time.Sleep(time.Duration(dice.Int64N(int64(whole))))
			_, _ = p.stop(syscall.SIGKILL)
			entries, err := os.ReadDir(h.dir)
			if err == nil && len(entries) > 0 {
				h.must("config", "check")
				if _, err := os.Stat(filepath.Join(h.dir+"-root", "root.pem")); err != nil {
					t.Errorf("there is a house without its root folder: %v", err)
				}
			}
		}
	}
	h.up()
	h.issue("afterwards.test")
	if _, err := os.Stat(h.dir + ".first-start"); err == nil {
		t.Error("the staging folder is still there")
	}
	for _, f := range []string{"root.age", "root.identity", "root.pem", "operator-2.key"} {
		if _, err := os.Stat(filepath.Join(h.dir+"-root", f)); err != nil {
			t.Errorf("root folder: %v", err)
		}
	}
}

// TestDoctorLevels: findings while the defaults of the first hour stand, none once they are seen to, a failure when an
// online role could open the root's key.
func TestDoctorLevels(t *testing.T) {
	t.Parallel()
	h := start(t, options{})
	level := func(check string) string {
		t.Helper()
		for _, f := range h.doctor() {
			if f.Check == check {
				return f.Level
			}
		}
		return "absent"
	}
	if r, v := level("root-folder"), level("validation"); r != "finding" || v != "finding" {
		t.Errorf("root-folder %s, validation %s", r, v)
	}
	h.stop()
	safe := filepath.Join(t.TempDir(), "safe")
	ok(t, os.Rename(h.dir+"-root", safe))
	h.edit("private_targets: true", "private_targets: false")
	h.up()
	// Lists of known weak keys, receivers of alarms, stand-bys from another root and rehearsed ceremonies are the operator's to
	// bring: they stay findings, each with its next step, and nothing else does.
	operators := []string{"weak-keys", "alarm-delivery", "standby", "rehearsal", "witnesses"}
	for _, f := range h.doctor() {
		switch {
		case f.Level != "ok" && (f.Level != "finding" || f.Next == "" || !slices.Contains(operators, f.Check)):
			t.Errorf("nothing is left to do, and: %+v", f)
		case f.Level == "ok" && slices.Contains(operators, f.Check):
			t.Errorf("nobody saw to it, and: %+v", f)
		}
	}
	h.stop()
	for from, to := range map[string]string{"root.age": "keys/root.age", "root.identity": "keys.identity"} {
		body, err := os.ReadFile(filepath.Join(safe, from))
		ok(t, err)
		f, err := os.OpenFile(filepath.Join(h.dir, to), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		ok(t, err)
		_, err = f.Write(body)
		ok(t, err)
		ok(t, f.Close())
	}
	h.up()
	if l := level("root-key"); l != "failure" {
		t.Errorf("the root's key can be opened by the signer, doctor says %s: %+v", l, h.doctor())
	}
}

// TestTwoFirstStarts: of two processes that begin at once one makes the house, and the other is told so.
func TestTwoFirstStarts(t *testing.T) {
	t.Parallel()
	h, twin := prepare(t, options{}), prepare(t, options{})
	url := []string{"--status-url", "http://127.0.0.1:14080"}
	var both []*process
	for _, flags := range [][]string{h.flags, twin.flags} {
		p, err := launch(h.bin, h.environment(), append(append([]string{"up", "--data", h.dir}, flags...), url...)...)
		ok(t, err)
		both = append(both, p)
		t.Cleanup(func() { _, _ = p.stop(syscall.SIGKILL) })
	}
	lost, won := both[0], both[1]
	select {
	case <-both[0].ended:
	case <-both[1].ended:
		lost, won = both[1], both[0]
	case <-time.After(startTimeout):
		t.Fatal("two processes run on one directory")
	}
	if c := lost.code(); c != 1 && c != 2 || !strings.Contains(lost.log.String(), "next: ") { // 2: its addresses are not those of the house
		t.Errorf("the other ends with %d:\n%s", c, lost.log.String())
	}
	h.process = won
	ok(t, h.await(won))
	h.must("issue", "one.test", "--out", t.TempDir())
}
