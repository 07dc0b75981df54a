package evidence_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFaultsAtSystemCalls lets the log process die as it enters the Nth system call that makes something durable or visible,
// and lets such a call fail with an error of the disk while it goes on. After each, the published checkpoint covers nothing
// that the tiles and the rows do not have, and the next process goes on.
func TestFaultsAtSystemCalls(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace (Debian: apt-get install strace)")
	}
	h := newHouse(t, t.TempDir())
	most := 2
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		most = 60
	}
	died := 0
	for _, calls := range []string{"fsync,fdatasync", "linkat", "renameat,renameat2", "pwrite64,write"} {
		for i := range most {
			for _, fault := range []string{"signal=KILL", "error=EIO", "error=ENOSPC"} {
				if calls == "pwrite64,write" && fault != "signal=KILL" {
					continue // of the sockets and pipes of the runtime, too
				}
				n := 3 + 7*i
				if h.faulty(t, strace, calls, fmt.Sprintf("%s:when=%d", fault, n)) {
					died++
				}
				if r := h.check(t, h.store); len(r.Findings) > 0 {
					t.Fatalf("%s %s at %d: %+v", calls, fault, n, r.Findings)
				}
			}
		}
	}
	if died == 0 {
		t.Error("the process never died: this tested nothing")
	}
	head, _, err := h.store.EvidenceHead(t.Context())
	if err != nil || head == 0 {
		t.Fatalf("%d rows: %v", head, err)
	}
	r := start(t, h.config())
	r.covered(t, head)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if report := h.check(t, h.store); len(report.Findings) > 0 || report.Checkpoint.Size != head {
		t.Fatalf("%+v", report)
	}
	t.Logf("died %d times, %d rows", died, head)
}

// faulty runs the log process with one fault for a moment, and kills what is left of it; true when it died of the fault.
func (h *house) faulty(t *testing.T, strace, calls, fault string) bool {
	t.Helper()
	cmd := exec.Command(strace, "-f", "-q", "-o", filepath.Join(t.TempDir(), "trace"), "-e", "trace="+calls, "-e", "inject="+calls+":"+fault, os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+h.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		return true
	case <-time.After(400 * time.Millisecond):
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the process and its tracer
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not die")
	}
	return false
}
