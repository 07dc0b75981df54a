package status_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish/publishtest"
)

var errLost = errors.New("write lost")

// fault is what becomes of the nth write of a kind.
type fault struct {
	store  string // method of the store, or
	object string // "put" or "head" of the object store
	nth    int    // from 1
	mute   bool   // persisted, and only reported lost
}

func (f fault) String() string {
	fate := "lost"
	if f.mute {
		fate = "reported lost"
	}
	return fmt.Sprintf("%s%s %d %s", f.store, f.object, f.nth, fate)
}

// plantFault makes one write fail; hit ends it and says whether it struck.
func (h *house) plantFault(f fault) (hit func() bool) {
	var mu sync.Mutex // what is public is looked at in the background
	n, struck := 0, false
	strike := func(is bool) (lose, report bool) {
		mu.Lock()
		defer mu.Unlock()
		if !is || struck {
			return false, false
		}
		if n++; n != f.nth {
			return false, false
		}
		struck = true
		return !f.mute, true
	}
	h.onCommit(func(op string, commit func() error) error {
		lose, report := strike(op == f.store)
		if !lose {
			if err := commit(); err != nil {
				return err
			}
		}
		if report {
			return errLost
		}
		return nil
	})
	h.objects.Plan(func(op, _ string) publishtest.Fault {
		switch lose, report := strike(op == f.object); {
		case lose:
			return publishtest.Lost
		case report:
			return publishtest.PersistedButReportedLost
		}
		return publishtest.None
	})
	return func() bool {
		h.onCommit(nil)
		h.objects.Plan(nil)
		mu.Lock()
		defer mu.Unlock()
		return struck
	}
}

// revocationWrites is every write of the path of a revocation, in order.
var revocationWrites = []fault{
	{store: "CreateChange", nth: 1}, {store: "MoveChange", nth: 1}, {store: "MoveChange", nth: 2}, // previewed, approved
	{object: "put", nth: 1},                                      // the pack
	{store: "NextCRLNumber", nth: 1},                             // of the first shard
	{object: "put", nth: 2},                                      // and its CRL
	{store: "MoveChange", nth: 3},                                // staged
	{store: "Activate", nth: 1},                                  // the commit point
	{object: "head", nth: 1},                                     // the switch
	{store: "MoveChange", nth: 4}, {store: "MoveChange", nth: 5}, // published, settled
	{store: "AppendEvidence", nth: 1}, {store: "AppendEvidence", nth: 2}, {store: "AppendEvidence", nth: 3}, // around signatures
	{store: "AppendEvidence", nth: 4}, {store: "AppendEvidence", nth: 5}, {store: "AppendEvidence", nth: 6},
}

// TestFailureTableOfRevocation runs one revocation through both fates of each of its writes. The next process, and the
// same one at its next look, bring it to an end: wholly before or wholly after, never in between and never back.
func TestFailureTableOfRevocation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	n := 2 * 2 * len(revocationWrites)
	refs := h.issue(caA, n)
	for i := range n {
		f := revocationWrites[i/4]
		f.mute = i%2 == 1
		restart := i%4 >= 2
		t.Run(fmt.Sprintf("%s restart %v", f, restart), func(t *testing.T) {
			before, target := h.head(), refs[i]
			hit := h.plantFault(f)
			id, err := h.status.RevokeCertificates(t.Context(), "test", f.String(), items(bulkhead.Superseded, target))
			struck := hit()
			if !struck {
				t.Fatal("there is no such write: the table is out of date")
			}
			if err == nil {
				t.Error("the fault was not reported")
			}
			if restart {
				h.status = h.restart()
				ok(t, h.status.Start(t.Context()))
			} else {
				h.move(retry)
				h.tick()
			}
			h.ended(t, id, target, before)
			// What did not happen can be asked for again; what did says so.
			_, err = h.status.RevokeCertificates(t.Context(), "test", "again", items(bulkhead.Superseded, target))
			if err != nil && bulkhead.KindOf(err) != bulkhead.KindAlreadyRevoked {
				t.Errorf("asked again: %v", err)
			}
			if h.state(target) != bulkhead.Revoked {
				t.Errorf("asked again, the certificate is %s", h.state(target))
			}
			h.agree()
		})
	}
}

// retry is longer than the service rests before it tries a change again.
const retry = 31e9

// ended wants the change at an end and the world of one mind about it.
func (h *house) ended(t *testing.T, id string, target bulkhead.CertificateRef, before *pack.Head) {
	t.Helper()
	h.agree()
	after := h.head()
	if err := after.Follows(&pack.Head{Origin: before.Origin, Sequence: before.Sequence - 1, Issuers: before.Issuers}); err != nil {
		t.Error(err)
	}
	e, found := h.answer(target)
	_, listed := h.listed(target.Issuer)[target.Serial]
	revoked := h.state(target) == bulkhead.Revoked
	if !found || e.Revoked != revoked || listed != revoked {
		t.Errorf("in the record revoked %v, by the answer %v, on the CRL %v", revoked, e.Revoked, listed)
	}
	if id == "" {
		if revoked {
			t.Error("revoked by a change that has no id")
		}
		return
	}
	c, err := h.store.Change(t.Context(), id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		if revoked {
			t.Error("revoked by a change that is not in the record")
		}
		return
	}
	ok(t, err)
	switch c.State {
	case bulkhead.ChangeSettled:
		if !revoked {
			t.Error("the change is settled, the certificate not revoked")
		}
	case bulkhead.ChangePlanned, bulkhead.ChangePreviewed, bulkhead.ChangeRefused:
		if revoked {
			t.Errorf("the change is %s, the certificate revoked", c.State)
		}
	default:
		t.Errorf("the change is %s: not at an end", c.State)
	}
}

// TestFailureTableOfPublication does the same for the answers of new certificates and for a CRL at half-life.
func TestFailureTableOfPublication(t *testing.T) {
	t.Parallel()
	writes := []fault{{object: "put", nth: 1}, {object: "put", nth: 2}, {store: "NextCRLNumber", nth: 1}, {store: "PutHead", nth: 1}, {object: "head", nth: 1},
		{store: "AppendEvidence", nth: 1}, {store: "AppendEvidence", nth: 2}, {store: "AppendEvidence", nth: 3}}
	h := newHouse(t)
	known := h.issue(caA, 1, func(c *bulkhead.Certificate) { c.NotAfter = h.now().Add(1000 * day) })[0]
	h.revoke(known)
	for i := range 4 * len(writes) {
		f := writes[i/4]
		f.mute = i%2 == 1
		restart := i%4 >= 2
		t.Run(fmt.Sprintf("%s restart %v", f, restart), func(t *testing.T) {
			h.move(4 * day) // CRLs and answers are due
			before := h.head()
			c := h.row(caA)
			fresh := h.plant(c, []byte("certificate "+c.CertificateRef.String()))
			hit := h.plantFault(f)
			err := h.status.Start(t.Context())
			if !hit() {
				t.Fatal("there is no such write: the table is out of date")
			}
			if err == nil && f.store == "" && f.object == "head" {
				t.Error("a head that did not go out was not reported")
			}
			if restart {
				h.status = h.restart()
			}
			h.move(retry)
			h.settle()
			h.agree()
			if err := h.head().Follows(before); err != nil {
				t.Error(err)
			}
			for _, id := range []bulkhead.AuthorityID{caA, caB} {
				was, now := before.Issuer(id), h.head().Issuer(id)
				for s := range was.CRLs {
					if now.CRLs[s].Number <= was.CRLs[s].Number {
						t.Errorf("%s shard %d: CRL %d after %d", id, s, now.CRLs[s].Number, was.CRLs[s].Number)
					}
				}
			}
			if _, found := h.answer(fresh); !found {
				t.Error("the new certificate has no answer")
			}
			if e, _ := h.answer(known); !e.Revoked {
				t.Error("a revocation was taken back")
			}
		})
	}
}

// TestNeverBackInPublic watches every head that goes out while everything goes wrong at random.
func TestNeverBackInPublic(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 34)
	last := h.head()
	for i := range 34 {
		f := revocationWrites[i%len(revocationWrites)]
		f.mute = i%3 == 0
		hit := h.plantFault(f)
		_, _ = h.status.RevokeCertificates(t.Context(), "test", "storm", items(bulkhead.Superseded, refs[i])) // may fail or not
		_ = h.status.Tick(t.Context())                                                                        // may fail or not
		hit()
		now := h.head()
		if now.Sequence < last.Sequence {
			t.Fatalf("head %d after %d", now.Sequence, last.Sequence)
		}
		if now.Sequence > last.Sequence {
			if err := now.Follows(last); err != nil {
				t.Fatal(err)
			}
		}
		last = now
		if i%5 == 0 {
			h.status = h.restart()
		}
		h.move(retry)
	}
	h.settle()
	h.agree()
}
