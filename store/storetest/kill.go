package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// childEnv tells a test binary that it is the writer of testKill: "FROM WHERE".
const childEnv = "BULKHEAD_STORETEST_CHILD"

// childBatch is how many certificates the writer makes between two lines.
const childBatch = 3

// Main is TestMain's body: it runs the tests, or, in the child that Kill starts, writes to the database at where until
// it is killed. It returns the exit code.
func Main(m *testing.M, open func(ctx context.Context, where string) (Store, error)) int {
	first, where, child := strings.Cut(os.Getenv(childEnv), " ")
	if !child {
		return m.Run()
	}
	from, err := strconv.Atoi(first)
	if err == nil {
		var s Store
		if s, err = open(context.Background(), where); err == nil {
			err = write(context.Background(), s, from)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// write issues certificates and prints the first number of each batch once the batch is durable.
func write(ctx context.Context, s Store, from int) error {
	for n := from; ; n += childBatch {
		ns := numbers(n, n+childBatch)
		_, errs, err := s.Reserve(ctx, each(ns, reservation))
		if err = errors.Join(append(errs, err)...); err != nil {
			return err
		}
		_, errs, err = s.Complete(ctx, each(ns, completion))
		if err = errors.Join(append(errs, err)...); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// Kill kills a writing process at several moments: what it reported is there, the record of evidence is whole, and
// what it reserved without an end is found and can be completed or abandoned.
func Kill(t *testing.T, where string, open Open) {
	const rounds = 6
	for round := range rounds {
		from := 1_000_000 * (round + 1)
		reported := killed(t, where, from, 2+3*round, time.Duration(round)*700*time.Microsecond)
		s := open(t, nil)
		// A server may still be finishing a commit of the dead writer: evidence follows it.
		_ = value(s.AppendEvidence(t.Context(), event("after the kill")))(t)
		for _, n := range reported {
			for i := range childBatch {
				got, err := s.CertificateDER(t.Context(), ref(n+i))
				ok(t, err)
				equal(t, got, der(n+i))
			}
		}
		checkEvidence(t, s)
		left := value(s.OpenReservations(t.Context(), at(1000), 100))(t)
		if len(left) != 0 && len(left) != childBatch {
			t.Fatalf("%d reservations are left of a batch of %d", len(left), childBatch)
		}
		if next := reported[len(reported)-1] + childBatch; len(left) > 0 && left[0].CertificateRef == ref(next) {
			complete(t, s, numbers(next, next+childBatch)...) // the ordinary path, run again
		} else {
			for _, c := range left {
				ok(t, s.Abandon(t.Context(), []bulkhead.CertificateRef{c.CertificateRef}, []bulkhead.Evidence{event("abandoned")}))
			}
		}
		equal(t, len(value(s.OpenReservations(t.Context(), at(1000), 100))(t)), 0)
		checkEvidence(t, s)
		ok(t, s.Close())
	}
}

// killed starts a writer, kills it some time after its line number lines, and returns what it reported.
func killed(t *testing.T, where string, from, lines int, after time.Duration) (reported []int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", childEnv, from, where))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		n, err := strconv.Atoi(scan.Text())
		ok(t, err)
		reported = append(reported, n)
		if len(reported) == lines {
			time.Sleep(after)
			ok(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || len(reported) < lines {
		t.Fatalf("the writer ended by itself after %d lines", len(reported))
	}
	return reported
}
