package kill

import (
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/run/client"
	"bulkhead/store/storetest/pgtest"
)

// point is a family of system calls that make something durable or visible, and how many of them a sweep covers.
type point struct {
	calls string
	most  int // the Nth call of one thread, from 1
}

// TestPointsSQLite kills the server as it enters chosen system calls of one issuance and one revocation: writes and
// syncs of the database, links and renames of published objects, writes to sockets and logs.
func TestPointsSQLite(t *testing.T) {
	sweep(t, []point{{"pwrite64", 40}, {"fsync,fdatasync", 12}, {"linkat,renameat,renameat2", 4}, {"write", 20}})
}

// TestPointsPostgreSQL does the same where the database is behind a socket.
func TestPointsPostgreSQL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(file, []byte(pgtest.New(t)+"\n"), 0o600))
	sweep(t, []point{{"write", 40}, {"fsync,fdatasync", 6}, {"linkat,renameat,renameat2", 4}}, "--store", "postgres:"+file)
}

func sweep(t *testing.T, points []point, flags ...string) {
	s := seed(t)
	r := mrand.New(mrand.NewPCG(s, 1))
	h := newHouse(t, flags...)
	d := &driver{t: t}
	h.launch()
	c := h.ready()
	tried, killed := 0, 0
	began := time.Now()
	for _, p := range points {
		for n := 1; n <= p.most; n++ {
			if !torture() && n != 1 && r.IntN(p.most) != 0 {
				continue // a sample: the first, and one or two more
			}
			tried++
			if h.killAt(c, d, p.calls, n) {
				killed++
				h.launch()
				c = h.ready()
			}
		}
	}
	for _, text := range d.odd {
		t.Error(text)
	}
	if x := d.issue(c, "after.test", false); x == nil {
		t.Error("the ordinary path does not go on")
	}
	d.judge(h)
	h.stop()
	h.fsck()
	t.Logf("seed %d: %d points tried, killed at %d of them, in %s: %s", s, tried, killed, time.Since(began).Round(time.Millisecond), d.summary())
	if killed == 0 {
		t.Error("the server was never killed: this tested nothing")
	}
}

// killAt lets the server issue and revoke once and kills it at the nth such call; false when there were not so many.
func (h *house) killAt(c *client.Client, d *driver, calls string, n int) bool {
	h.t.Helper()
	detach := h.trace(calls, n)
	defer detach()
	for i := range 2 {
		x := d.issue(c, fmt.Sprintf("p%d-%d.test", n, i), false)
		if x == nil {
			break
		}
		d.revoke(c, x)
		if !x.acked {
			break
		}
	}
	select {
	case <-h.ended:
		return true
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

// detachTimeout is how long strace may take to let go.
const detachTimeout = 5 * time.Second

// trace attaches strace to every thread of the server, to kill it as it enters the nth call.
func (h *house) trace(calls string, n int) (detach func()) {
	h.t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		h.t.Fatal("this test needs strace (Debian: apt-get install strace)")
	}
	pid := h.cmd.Process.Pid
	log := filepath.Join(h.t.TempDir(), "strace.txt")
	cmd := exec.Command(path, "-f", "-q", "-o", log, "-e", "trace="+calls, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", calls, n), "-p", fmt.Sprint(pid))
	out := &strings.Builder{}
	cmd.Stderr = out
	ok(h.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it ends with the server, or when it is told to
		close(ended)
	}()
	for end := time.Now().Add(time.Minute); !traced(pid); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil && out.Len() > 0 {
				h.t.Fatalf("strace cannot attach, which takes the right to trace (ptrace): %s", out)
			}
			return func() {} // killed in the background before the first request
		default:
		}
		if time.Now().After(end) {
			h.t.Fatalf("strace does not attach: %s", out)
		}
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		select {
		case <-ended:
		case <-time.After(detachTimeout):
			// A thread of the server that waits in vfork for a child which strace holds never stops for it: strace would wait
			// for ever. When strace dies the kernel lets go of all of them.
			_ = cmd.Process.Kill()
			<-ended
		}
	}
}

// traced reports whether every thread of a process has a tracer, or the process is gone.
func traced(pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true
	}
	for _, th := range threads {
		body, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, th.Name()))
		if err == nil && strings.Contains(string(body), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}
