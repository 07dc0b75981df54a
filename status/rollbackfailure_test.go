package status_test

import (
	"fmt"
	"testing"

	"bulkhead"
	"bulkhead/status"
)

// rollbackWrites is every write of a rollback by people, in order; those around signatures are of the answers, the CRL and
// the head.
var rollbackWrites = []fault{
	{store: "CreateChange", nth: 1}, {store: "MoveChange", nth: 1}, {store: "MoveChange", nth: 2}, // previewed, approved
	{object: "put", nth: 1}, {store: "NextCRLNumber", nth: 1}, {object: "put", nth: 2}, // the pack, and the CRL
	{store: "MoveChange", nth: 3},                                // staged
	{store: "Activate", nth: 1},                                  // the commit point
	{object: "head", nth: 1},                                     // the switch
	{store: "MoveChange", nth: 4}, {store: "MoveChange", nth: 5}, // published, settled
	{store: "AppendEvidence", nth: 1}, {store: "AppendEvidence", nth: 2}, {store: "AppendEvidence", nth: 3},
	{store: "AppendEvidence", nth: 4}, {store: "AppendEvidence", nth: 5}, {store: "AppendEvidence", nth: 6},
}

// TestFailureTableOfRollback runs one rollback through both fates of each of its writes, in the same process and in the
// next: it ends wholly before (revoked everywhere) or wholly after (good everywhere), and the change says which.
func TestFailureTableOfRollback(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 4*len(rollbackWrites))
	for i, target := range refs {
		f := rollbackWrites[i/4]
		f.mute = i%2 == 1
		restart := i%4 >= 2
		t.Run(fmt.Sprintf("%s restart %v", f, restart), func(t *testing.T) {
			id := h.revoke(target)
			before := h.head()
			hit := h.plantFault(f)
			back, err := h.takenBackByPeople(t, id)
			if !hit() {
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
			h.endedBack(t, back, target)
			if err := h.head().Follows(before); h.head().Sequence > before.Sequence && err != nil {
				t.Error(err)
			}
			// What did not happen can be asked for again; what did says so.
			if h.state(target) == bulkhead.Revoked {
				_, err = h.takenBackByPeople(t, id)
				ok(t, err)
			} else {
				_, err = h.status.Rollback(t.Context(), "operator:anna", id, "again", "inc-1", "BR 4.9.13")
				wantKind(t, err, bulkhead.KindConflict, "taken back already")
			}
			if h.state(target) != bulkhead.Issued {
				t.Errorf("asked again, the certificate is %s", h.state(target))
			}
			h.agree()
		})
	}
}

// takenBackByPeople plans, approves and activates a rollback, up to the first error.
func (h *house) takenBackByPeople(t *testing.T, id string) (string, error) {
	back, err := h.status.Rollback(t.Context(), "operator:anna", id, "the wrong list was read", "inc-1", "BR 4.9.13")
	if err != nil {
		return back.ID, err
	}
	if err := h.status.Approve(t.Context(), back.ID, back.PreviewHash, "request:1"); err != nil {
		return back.ID, err
	}
	return back.ID, h.status.Activate(t.Context(), back.ID)
}

// endedBack wants a rollback at an end, and its state to say what everything else says.
func (h *house) endedBack(t *testing.T, id string, target bulkhead.CertificateRef) {
	t.Helper()
	h.agree()
	e, found := h.answer(target)
	_, listed := h.listed(target.Issuer)[target.Serial]
	revoked := h.state(target) == bulkhead.Revoked
	if !found || e.Revoked != revoked || listed != revoked {
		t.Errorf("in the record revoked %v, by the answer %v, on the CRL %v", revoked, e.Revoked, listed)
	}
	c, err := h.store.Change(t.Context(), id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		if !revoked {
			t.Error("taken back by a change that is not in the record")
		}
		return
	}
	ok(t, err)
	switch c.State {
	case bulkhead.ChangeSettled:
		if revoked {
			t.Error("the rollback is settled, the certificate revoked")
		}
	case bulkhead.ChangePlanned, bulkhead.ChangePreviewed, bulkhead.ChangeRefused:
		if !revoked {
			t.Errorf("the rollback is %s, the certificate good", c.State)
		}
	default:
		t.Errorf("the rollback is %s: not at an end", c.State)
	}
}

// automaticWrites is every write of an automatic rollback, in order, from the moment at which a verifier finds something.
var automaticWrites = []fault{
	{store: "CreateChange", nth: 1}, {store: "MoveChange", nth: 1}, {store: "MoveChange", nth: 2}, // previewed, approved
	{object: "put", nth: 1}, {store: "NextCRLNumber", nth: 1}, {object: "put", nth: 2},
	{store: "MoveChange", nth: 3}, // staged
	{store: "Activate", nth: 1}, {object: "head", nth: 1},
	{store: "MoveChange", nth: 4}, // published
	{store: "AppendEvidence", nth: 1}, {store: "AppendEvidence", nth: 2}, {store: "AppendEvidence", nth: 3}, {store: "AppendEvidence", nth: 4},
	{store: "AppendEvidence", nth: 5}, {store: "AppendEvidence", nth: 6}, {store: "AppendEvidence", nth: 7}, // its canary among them
}

// TestFailureTableOfAutomaticRollback does the same to the rollback that nobody asked for. Nothing of it may be left half
// done, and in the end the bystander is good again, what people approved stands, and both changes are settled.
func TestFailureTableOfAutomaticRollback(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.MaxDeltas = 1000 }) // a merge would write at a time of its own
	look := func(c *status.Config) { c.Verifiers = []status.Verifier{newEyes()} }
	h.rewire(look)
	bystander := h.realCertificate(caA)
	h.tick()
	for i := range 4 * len(automaticWrites) {
		f := automaticWrites[i/4]
		f.mute = i%2 == 1
		restart := i%4 >= 2
		t.Run(fmt.Sprintf("%s restart %v", f, restart), func(t *testing.T) {
			target := h.realCertificate(caA)
			h.tick()
			id := h.revoke(target)
			h.wrongPack(bystander)
			before := h.head()
			hit := h.plantFault(f)
			h.tick()
			h.status.Wait()
			if !hit() {
				t.Fatal("there is no such write: the table is out of date")
			}
			if restart {
				h.rewire(look)
				ok(t, h.status.Start(t.Context()))
				h.agreeBut(t, bystander)
			}
			for range 5 { // each rests after trouble, longer each time
				h.move(8 * retry)
				h.tick()
				h.status.Wait()
			}
			if e, _ := h.answer(bystander); e.Revoked || h.state(bystander) != bulkhead.Issued {
				t.Error("the bystander is still called revoked")
			}
			if e, _ := h.answer(target); !e.Revoked || h.state(target) != bulkhead.Revoked {
				t.Error("what was approved was taken back")
			}
			if c := h.change(id); c.State != bulkhead.ChangeSettled || c.Problem != "" {
				t.Errorf("the change is %s: %s", c.State, c.Problem)
			}
			h.tookBackOnce(t, id)
			if err := h.head().Follows(before); err != nil {
				t.Error(err)
			}
			h.agree()
		})
	}
}

// agreeBut is agree for everything but one certificate, whose wrong answer may still be public.
func (h *house) agreeBut(t *testing.T, ref bulkhead.CertificateRef) {
	t.Helper()
	for _, d := range h.check() {
		if d.Ref != ref {
			t.Errorf("%s: %s: %s", d.Rule, d.Ref, d.Message)
		}
	}
}

// tookBackOnce wants exactly one automatic rollback of a change to have become public, and none to be on its way.
func (h *house) tookBackOnce(t *testing.T, id string) {
	t.Helper()
	all, err := h.status.Changes(t.Context(), 1000)
	ok(t, err)
	public := 0
	for _, c := range all {
		if c.Undoes != id {
			continue
		}
		switch c.State {
		case bulkhead.ChangeSettled:
			public++
		case bulkhead.ChangePlanned, bulkhead.ChangePreviewed, bulkhead.ChangeRefused:
		default:
			t.Errorf("rollback %s is %s: not at an end", c.ID, c.State)
		}
	}
	if public != 1 {
		t.Errorf("%d automatic rollbacks became public", public)
	}
}
