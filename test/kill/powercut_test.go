package kill

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/tlog"
	"bulkhead/store/sqlite"
)

// keeperVar makes the test binary a process that keeps a log: its value is the directory.
const keeperVar = "KILL_TEST_KEEPER"

// handedOut is what such a process says before a checkpoint that it hands out.
const handedOut = "handed out\n"

const logOrigin = "power.test/evidence"

func logConfig(dir string, rows evidence.Rows) evidence.Config {
	return evidence.Config{Rows: rows, Dir: filepath.Join(dir, "log"), Origin: logOrigin, KeyFile: filepath.Join(dir, "evidence.key"), Interval: evidence.MinInterval,
		Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// keeper commits rows without a pause, keeps the log over them, and hands out every checkpoint, until it is told to end.
func keeper(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "evidence.key")); err != nil {
		if _, err := evidence.NewKey(filepath.Join(dir, "evidence.key"), logOrigin); err != nil {
			return err
		}
	}
	l, err := evidence.New(logConfig(dir, store))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	said := ""
	for i := 0; ctx.Err() == nil; i++ {
		batch := make([]bulkhead.Evidence, 1+i%40)
		for j := range batch {
			batch[j] = bulkhead.Evidence{Kind: bulkhead.EvAccount, At: time.Now(), Ref: fmt.Sprintf("%d-%d-%d", os.Getpid(), i, j)}
		}
		if _, err := store.AppendEvidence(ctx, batch...); err != nil && ctx.Err() == nil {
			return err
		}
		if signed, err := os.ReadFile(filepath.Join(dir, "log", "checkpoint")); err == nil && string(signed) != said {
			said = string(signed)
			fmt.Print(handedOut + said) // one write
		}
	}
	if err := <-done; err != nil {
		return err
	}
	return store.Close()
}

// keep runs a keeper over dir, under a recorder when trace is a path, until it has handed out so many checkpoints. A recorded one is
// killed, another ends in an orderly way.
func keep(t *testing.T, dir, trace string, checkpoints int) {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	args := []string{self}
	if trace != "" {
		strace, err := exec.LookPath("strace")
		if err != nil {
			t.Fatal("this test needs strace (Debian: apt-get install strace)")
		}
		args = append(append([]string{strace}, recordArgs(trace)...), self)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), keeperVar+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	buf, seen := make([]byte, 4096), 0
	for seen < checkpoints {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the keeper ended after %d checkpoints: %v", seen, err)
		}
		seen += strings.Count(string(buf[:n]), strings.TrimSpace(handedOut))
	}
	if trace != "" {
		ok(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait() // killed, as asked
		return
	}
	ok(t, cmd.Process.Signal(syscall.SIGTERM))
	_, _ = io.Copy(io.Discard, out) // until it ends
	ok(t, cmd.Wait())
}

// recorded makes a keeper's recording, from a state at rest with some checkpoints on.
func recorded(t *testing.T) *recording {
	t.Helper()
	root := filepath.Join(t.TempDir(), "keeper")
	ok(t, os.Mkdir(root, 0o700))
	keep(t, root, "", 2)
	r, err := snapshot(root)
	ok(t, err)
	trace := filepath.Join(t.TempDir(), "trace")
	checkpoints := 4
	if torture() {
		checkpoints = 12
	}
	keep(t, root, trace, checkpoints)
	ok(t, r.read(trace))
	ok(t, os.RemoveAll(root))
	return r
}

// TestPowerCut records every write, sync and name of a process that keeps the record and the log, and rebuilds what a disk may hold when
// the power goes, at moments all over the recording: what was synced, and of the rest nothing, all, or any part, torn at sectors, with
// and without names that no sync of a directory made durable. In each the record and the log must be whole and agree, and hold
// everything that any checkpoint said which somebody could see before; and the log must go on.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	s := seed(t)
	rng := mrand.New(mrand.NewPCG(s, 2))
	states, resumed := 0, 0
	for _, at := range r.some(rng, 25) {
		for _, l := range []luck{worst, mixed} {
			dir := afterCut(t)
			ok(t, r.cut(dir, at, l, rng, nil))
			states++
			if err := r.judge(dir, at); err != nil {
				t.Errorf("seed %d: power cut at line %d of %d, luck %d: %v", s, at, r.end, l, err)
			} else if states%8 == 0 {
				resumed++
				if err := goesOn(dir); err != nil {
					t.Errorf("seed %d: power cut at line %d of %d, luck %d: the log does not go on: %v", s, at, r.end, l, err)
				}
			}
			ok(t, os.RemoveAll(filepath.Dir(dir)))
		}
	}
	t.Logf("seed %d: %d calls recorded, %d syncs, %d times a checkpoint was seen; %d states after a power cut, %d of them gone on with", s, len(r.moments), r.syncs, len(r.handouts), states, resumed)
	if len(r.handouts) < 4 || r.syncs < 20 {
		t.Error("too little was recorded: this tested nothing")
	}
}

// TestPowerCutFindsSkippedSync: a process that did not sync what it ought to is found out.
func TestPowerCutFindsSkippedSync(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	for what, ignored := range map[string]func(string) bool{
		"the journal of the record": func(p string) bool { return strings.HasSuffix(p, "store.db-wal") },
		"tiles":                     func(p string) bool { return strings.Contains(p, "/tile/") && r.live[p] != nil },
		"names of tiles":            func(p string) bool { return strings.Contains(p, "/tile/") && r.live[p] == nil },
	} {
		rng := mrand.New(mrand.NewPCG(seed(t), 3))
		found := false
		for _, at := range r.some(rng, 40) {
			dir := afterCut(t)
			ok(t, r.cut(dir, at, worst, rng, ignored))
			found = r.judge(dir, at) != nil
			ok(t, os.RemoveAll(filepath.Dir(dir)))
			if found {
				break
			}
		}
		if !found {
			t.Errorf("nobody notices that %s were not synced", what)
		}
	}
}

// afterCut is a place for what a power cut left: in memory where there is some, for what is looked at there is on no disk any more.
func afterCut(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "powercut")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "state")
}

// some are moments: right after each checkpoint was seen, and others. With BULKHEAD_TORTURE they are all.
func (r *recording) some(rng *mrand.Rand, n int) []int {
	if torture() {
		return r.moments
	}
	var out []int
	for _, h := range r.handouts {
		out = append(out, h.at)
	}
	for len(out) < n {
		out = append(out, r.moments[rng.IntN(len(r.moments))])
	}
	return out[:n]
}

// logKey verifies the checkpoints of the log in a folder.
func logKey(dir string) (note.Verifier, error) {
	key, err := os.ReadFile(filepath.Join(dir, "evidence.key.pub"))
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(strings.TrimSpace(string(key)))
}

// judge opens what a power cut left, and holds it against what was seen before.
func (r *recording) judge(dir string, at int) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		return err
	}
	defer store.Close()
	verifier, err := logKey(dir)
	if err != nil {
		return err
	}
	report, err := evidence.Check(ctx, evidence.CheckConfig{Rows: store, Dir: filepath.Join(dir, "log"), Verifier: verifier})
	if err != nil {
		return err
	}
	if len(report.Findings) > 0 {
		return fmt.Errorf("%d findings, the first: %s: %s", len(report.Findings), report.Findings[0].Rule, report.Findings[0].Message)
	}
	return r.told(ctx, store, verifier, at)
}

// told wants every checkpoint that was seen by then to be true to the rows.
func (r *recording) told(ctx context.Context, rows evidence.Rows, verifier note.Verifier, at int) error {
	roots := map[int64]bulkhead.Hash{}
	tree := &tlog.Frontier{}
	for _, h := range r.handouts {
		if h.at > at {
			continue
		}
		cp, err := tlog.OpenCheckpoint([]byte(h.text), verifier.Name(), verifier)
		if err != nil {
			return fmt.Errorf("a checkpoint was handed out that is none of ours: %w", err)
		}
		for tree.Size() < cp.Size {
			page, err := rows.EvidenceAfter(ctx, tree.Size(), int(min(1000, cp.Size-tree.Size())))
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return fmt.Errorf("a checkpoint of %d leaves was handed out, and only %d rows are left", cp.Size, tree.Size())
			}
			for _, row := range page {
				tree.Append(row.Leaf)
			}
		}
		if tree.Size() == cp.Size {
			roots[cp.Size] = tree.Root()
		}
		if root, known := roots[cp.Size]; known && root != cp.Root {
			return fmt.Errorf("the checkpoint of %d leaves that was handed out has another root than the rows", cp.Size)
		}
	}
	return nil
}

// goesOn starts the log again over what a power cut left, and wants one more row covered.
func goesOn(dir string) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvAccount, At: time.Now(), Ref: "after the power came back"}); err != nil {
		return err
	}
	head, _, err := store.EvidenceHead(ctx)
	if err != nil {
		return err
	}
	l, err := evidence.New(logConfig(dir, store))
	if err != nil {
		return err
	}
	defer l.Close()
	running, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.Run(running) }()
	for ctx.Err() == nil && l.Checkpoint().Size < head {
		select {
		case err := <-done:
			end()
			return fmt.Errorf("the log ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	end()
	if err := <-done; err != nil {
		return err
	}
	return ctx.Err()
}
