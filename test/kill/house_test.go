package kill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/heldport"
	"bulkhead/run/client"
)

// startTimeout bounds a start on a machine that is busy with other tests.
const startTimeout = 90 * time.Second

var scratch string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if dir := os.Getenv(keeperVar); dir != "" {
		if err := keeper(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	var err error
	if scratch, err = os.MkdirTemp("", "kill"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// built compiles the program once.
var built = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(scratch, "bulkhead")
	cmd := exec.Command("go", "build", "-o", bin, "bulkhead/cmd/bulkhead")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return bin, nil
})

// house is one data directory and the processes on it, one after the other.
type house struct {
	t     testing.TB
	bin   string
	dir   string
	flags []string
	env   []string // nil: as ours
	under []string // a tracer and its arguments, before the program
	cmd   *exec.Cmd
	log   *bytes.Buffer
	ended chan struct{}
}

func newHouse(t testing.TB, flags ...string) *house {
	t.Helper()
	bin, err := built()
	ok(t, err)
	h := &house{t: t, bin: bin, dir: filepath.Join(t.TempDir(), "house"), flags: flags}
	for _, f := range []string{"--listen", "--status-listen", "--metrics-listen"} {
		h.flags = append(h.flags, f, heldport.For(t).String())
	}
	t.Cleanup(h.kill)
	return h
}

// launch starts the server in a process group of its own, which dies with the test.
func (h *house) launch() {
	h.t.Helper()
	h.log, h.ended = &bytes.Buffer{}, make(chan struct{})
	args := append(append(append([]string{}, h.under...), h.bin, "up", "--data", h.dir), h.flags...)
	h.cmd = exec.Command(args[0], args[1:]...)
	h.cmd.Env, h.cmd.Stdout, h.cmd.Stderr = h.env, h.log, h.log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	ok(h.t, h.cmd.Start())
	cmd, ended := h.cmd, h.ended
	go func() {
		_ = cmd.Wait() // the code is read from ProcessState
		close(ended)
	}()
}

// ready waits until exactly this process says that every role answers.
func (h *house) ready() *client.Client {
	h.t.Helper()
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		select {
		case <-h.ended:
			h.t.Fatalf("the server did not start: %s\n%s", h.cmd.ProcessState, h.log)
		default:
		}
		var r struct{ PID int }
		body, err := os.ReadFile(filepath.Join(h.dir, "run", "ready.json"))
		if err != nil || json.Unmarshal(body, &r) != nil || h.under == nil && r.PID != h.cmd.Process.Pid {
			continue
		}
		c, err := client.New(client.Options{Dir: h.dir})
		ok(h.t, err)
		return c
	}
	h.kill()
	h.t.Fatalf("not ready within %s\n%s", startTimeout, h.log)
	return nil
}

// kill ends the process group as the end of the machine would.
func (h *house) kill() {
	if h.cmd == nil {
		return
	}
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
	<-h.ended
}

// stop ends the process in an orderly way.
func (h *house) stop() {
	h.t.Helper()
	ok(h.t, h.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-h.ended:
	case <-time.After(2 * time.Minute):
		h.kill()
		h.t.Fatal("the server does not end on SIGTERM")
	}
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		h.t.Fatalf("the server ended with %d\n%s", code, h.log)
	}
}

// fsck wants a clean bill from the program's own check.
func (h *house) fsck() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, h.bin, "fsck", "--data", h.dir).CombinedOutput()
	if err != nil {
		h.t.Errorf("fsck: %v\n%s", err, out)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// torture says whether the full counts were asked for.
func torture() bool { return os.Getenv("BULKHEAD_TORTURE") == "1" }

// seed of the moments; printed, so that a run can be repeated.
func seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("BULKHEAD_SEED")
	if text == "" {
		return 20260101
	}
	n, err := strconv.ParseUint(text, 10, 64)
	ok(t, err)
	return n
}
