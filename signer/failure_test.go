package signer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/signer"
)

var errLost = errors.New("commit lost")

// fate is what becomes of one commit.
type fate int

const (
	good fate = iota
	lost      // not persisted, error reported
	mute      // persisted, and reported lost
)

// TestFailureTable runs one issuance through every fate of the two critical writes, restarts, and checks that store
// and evidence agree, that nothing is left open, and that whatever was handed out is durable.
func TestFailureTable(t *testing.T) {
	for _, c := range []struct {
		name    string
		op      string
		fates   []fate // of the first commits of op; good from then on
		handed  bool
		before  bulkhead.CertificateState // after the call, "" for no row
		after   bulkhead.CertificateState // after restart and Recover
		commits int                       // of op
	}{
		{"nothing fails", "Reserve", nil, true, bulkhead.Issued, bulkhead.Issued, 1},
		{"intent lost", "Reserve", []fate{lost}, false, "", "", 1},
		{"intent reported lost", "Reserve", []fate{mute}, false, bulkhead.Reserved, bulkhead.Abandoned, 1},
		{"outcome lost once", "Complete", []fate{lost}, true, bulkhead.Issued, bulkhead.Issued, 2},
		{"outcome reported lost once", "Complete", []fate{mute}, true, bulkhead.Issued, bulkhead.Issued, 2},
		{"outcome lost thrice", "Complete", []fate{lost, lost, lost}, true, bulkhead.Issued, bulkhead.Issued, 4},
		{"outcome lost, then reported lost", "Complete", []fate{lost, mute}, true, bulkhead.Issued, bulkhead.Issued, 3},
		{"outcome lost for good", "Complete", []fate{lost, lost, lost, lost}, false, bulkhead.Reserved, bulkhead.Abandoned, 4},
		{"outcome reported lost for good", "Complete", []fate{mute, lost, lost, lost}, false, bulkhead.Issued, bulkhead.Issued, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			req := h.request("a.example.test")
			var commits atomic.Int32
			h.onCommit(func(op string, commit func() error) error {
				if op != c.op {
					return commit()
				}
				n := int(commits.Add(1))
				if n > len(c.fates) || c.fates[n-1] == good {
					return commit()
				}
				if c.fates[n-1] == mute {
					if err := commit(); err != nil {
						return err
					}
				}
				return errLost
			})
			got, err := h.signer.Issue(t.Context(), req)
			if c.handed {
				ok(t, err)
			} else {
				wantKind(t, err, bulkhead.KindUnavailable, "")
				if got.DER != nil {
					t.Error("a certificate left with an error")
				}
			}
			if int(commits.Load()) != c.commits {
				t.Errorf("%d commits of %s, want %d", commits.Load(), c.op, c.commits)
			}
			h.wantOneRow(c.before)
			h.audit()
			h.onCommit(nil)
			ok(t, h.signer.Close())
			restarted := h.newSigner()
			_, err = restarted.Recover(t.Context())
			ok(t, err)
			h.wantOneRow(c.after)
			h.audit()
			if _, err := restarted.Issue(t.Context(), h.request("a.example.test")); err != nil {
				t.Errorf("the ordinary path does not go on: %v", err)
			}
			h.audit()
		})
	}
}

func (h *house) wantOneRow(state bulkhead.CertificateState) {
	h.t.Helper()
	rows := h.rows()
	if state == "" && len(rows) == 0 || state != "" && len(rows) == 1 && rows[state] == 1 {
		return
	}
	h.t.Errorf("rows %v, want one %q", rows, state)
}

func TestRecoverLeavesTheLivingAlone(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	n, err := h.signer.Recover(t.Context())
	ok(t, err)
	if n != 0 {
		t.Fatalf("%d reservations of this process were abandoned", n)
	}
	_, err = h.signer.Sign(t.Context(), token)
	ok(t, err)
	// A token that nobody ever signs is abandoned once it can be nobody's.
	_, err = h.signer.Prepare(t.Context(), h.request("b.example.test"))
	ok(t, err)
	h.move(15 * time.Minute)
	n, err = h.signer.Recover(t.Context())
	ok(t, err)
	if rows := h.rows(); n != 1 || rows[bulkhead.Abandoned] != 1 {
		t.Errorf("recovered %d, rows %v", n, rows)
	}
	h.audit()
}

// TestAbandonedElsewhere: what another process has abandoned is not handed out, even though it was signed.
func TestAbandonedElsewhere(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	row := token.Certificate()
	ok(t, h.store.Abandon(t.Context(), []bulkhead.CertificateRef{row.CertificateRef}, []bulkhead.Evidence{{Kind: bulkhead.EvCertificateAbandon, At: h.now(),
		Authority: row.Issuer, Serial: row.Serial, Link: bulkhead.Digest(signer.LintedTBS(token))}}))
	_, err = h.signer.Sign(t.Context(), token)
	if bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Fatalf("got %v, want a conflict", err)
	}
	h.audit()
}

// TestGroupCommit holds the first transaction of each kind until every caller waits behind it: 32 certificates then
// take two commits for intents and two for outcomes.
func TestGroupCommit(t *testing.T) {
	const callers = 32
	h := newHouse(t)
	reqs := make([]bulkhead.CertificateRequest, callers)
	for i := range reqs {
		reqs[i] = h.request(fmt.Sprintf("n%d.example.test", i))
	}
	var commits atomic.Int32
	h.onCommit(func(_ string, commit func() error) error {
		commits.Add(1)
		return commit()
	})
	slow := &slowStart{Store: h.store, callers: callers}
	slow.signer = h.newSigner(func(c *signer.Config) { c.Store = slow })
	together(callers, func(i int) {
		if _, err := slow.signer.Issue(context.Background(), reqs[i]); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d certificates in %d commits: %.3f per certificate", callers, commits.Load(), float64(commits.Load())/callers)
	if commits.Load() > 6 { // of each kind the first, which is alone, those that came while few were under way, and all others
		t.Errorf("%d commits for %d certificates, want 6 at most", commits.Load(), callers)
	}
	h.audit()
}

// slowStart is the real store, with the first transaction of each kind held until all callers wait.
type slowStart struct {
	signer.Store
	signer              *signer.Signer
	callers             int64
	reserves, completes sync.Once
}

func (s *slowStart) Reserve(ctx context.Context, items []bulkhead.Reservation) ([]int64, []error, error) {
	s.reserves.Do(func() { s.wait("Reserve") })
	return s.Store.Reserve(ctx, items)
}

func (s *slowStart) Complete(ctx context.Context, items []bulkhead.Completion) ([]int64, []error, error) {
	s.completes.Do(func() { s.wait("Complete") })
	return s.Store.Complete(ctx, items)
}

func (s *slowStart) wait(op string) {
	for signer.Waiting(s.signer, op) < s.callers {
		time.Sleep(time.Millisecond)
	}
}
