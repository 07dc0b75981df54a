package evidence_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/store/sqlite"
)

// killSeed makes the moments of death repeatable, as far as a scheduler lets them be.
const killSeed = 11

// child is a log process: it appends rows without end and runs the log over them. It says "ready" when it holds the
// lock, so that the parent kills a log and no start of a program.
func child(dir string) int {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	ctx := context.Background()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		return fail(err)
	}
	l, err := evidence.New((&house{dir: dir, store: store}).config())
	if err != nil {
		return fail(err)
	}
	fmt.Println("ready")
	go func() {
		for i := 0; ; i++ {
			n := 1 + i%40
			batch := make([]bulkhead.Evidence, n)
			for j := range batch {
				batch[j] = bulkhead.Evidence{Kind: bulkhead.EvAccount, At: time.Now(), Ref: fmt.Sprintf("%d-%d-%d", os.Getpid(), i, j)}
			}
			if _, err := store.AppendEvidence(ctx, batch...); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	if err := l.Run(ctx); err != nil {
		return fail(err)
	}
	return 0
}

// command starts the test binary as a log process over h and waits until it holds the lock.
func (h *house) command(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+h.dir)
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 16)) // "ready", or the end when it failed
	return cmd, &stderr
}

func TestKilledLogLosesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	random := rand.New(rand.NewPCG(killSeed, 0))
	for i := range 12 {
		cmd, stderr := h.command(t)
		time.Sleep(time.Duration(random.IntN(350)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // "signal: killed" is what we asked for
		if text := stderr.String(); text != "" {
			t.Fatalf("kill %d: the process said %s", i, text)
		}
		if r := h.check(t, h.store); len(r.Findings) > 0 {
			t.Fatalf("kill %d: %+v", i, r.Findings)
		}
	}
	head, _, err := h.store.EvidenceHead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, h.config())
	r.covered(t, head)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	report := h.check(t, h.store)
	if len(report.Findings) > 0 || report.Checkpoint.Size != head || head == 0 {
		t.Fatalf("%d rows: %+v", head, report)
	}
	t.Logf("12 kills, %d rows, all in the log", head)
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, t.TempDir())
	cmd, _ := h.command(t)
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	_, err := evidence.New(h.config())
	if bulkhead.KindOf(err) != bulkhead.KindConflict || !strings.Contains(bulkhead.AsFault(err).Detail, fmt.Sprint(cmd.Process.Pid)) {
		t.Fatalf("beside process %d: %v", cmd.Process.Pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	l, err := evidence.New(h.config())
	if err != nil {
		t.Fatalf("after its death: %v", err)
	}
	if _, err := evidence.New(h.config()); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("twice in one process: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
