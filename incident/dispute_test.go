package incident_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

// troubled is the ordinary change of status with trouble after, or before, it went public.
type troubled struct {
	incident.Revoker
	store record
	after error                   // of each activation that went public
	never bulkhead.CertificateRef // no change that has it may go public
	tries int
}

func (r *troubled) ActivateForCampaign(ctx context.Context, c bulkhead.Campaign, change bulkhead.Change) error {
	r.tries++
	items, err := r.store.ChangeItems(ctx, change.ID, bulkhead.CertificateRef{}, 100)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.CertificateRef == r.never {
			return bulkhead.NewFault(bulkhead.KindGate, "the preview of the change is blocked")
		}
	}
	if err := r.Revoker.ActivateForCampaign(ctx, c, change); err != nil {
		return err
	}
	return r.after
}

// TestDisputedChange: a foreign verifier disputes what it sees of a change that is public. Its certificates are revoked all the
// same, their items say so and why it is not settled, and the campaign does not wait for the dispute (which it did: the
// items stayed where they were for ever).
func TestDisputedChange(t *testing.T) {
	for _, kind := range []bulkhead.Kind{bulkhead.KindGate, bulkhead.KindUnavailable} {
		r := &troubled{after: bulkhead.NewFault(kind, "openssl says good for a certificate that is revoked")}
		h := newHouse(t, func(c *incident.Config) { r.Revoker, c.Revoker = c.Revoker, r })
		r.store = h.store
		refs := h.many(3, 3)
		i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
		c := h.campaign(i, incident.PlanRequest{})
		h.pass(c.ForceAt.Sub(h.now()) + time.Second)
		h.tick()
		for _, ref := range refs {
			if it := h.item(ref); it.State != bulkhead.ItemRevoked || !strings.Contains(it.Detail, "public and not settled: openssl says good") || h.state(ref) != bulkhead.Revoked {
				t.Fatalf("%s: %s is %s: %s", kind, ref, it.State, it.Detail)
			}
		}
		h.pass(time.Hour)
		h.tick()
		if r.tries != 1 {
			t.Errorf("%s: activated %d times", kind, r.tries)
		}
	}
}

// TestSettledChange: without a dispute nothing of the kind is said.
func TestSettledChange(t *testing.T) {
	h := newHouse(t)
	refs := h.many(1, 1)
	c := h.campaign(h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()}), incident.PlanRequest{})
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemRevoked || strings.Contains(it.Detail, "settled") {
		t.Fatalf("%s: %s", it.State, it.Detail)
	}
}

// TestOneBlockedCertificate: a certificate whose revocation a gate blocks for good holds up its own chunk and no other.
func TestOneBlockedCertificate(t *testing.T) {
	r := &troubled{}
	h := newHouse(t, func(c *incident.Config) { r.Revoker, c.Revoker, c.Chunk = c.Revoker, r, 2 })
	r.store = h.store
	refs := h.many(6, 6)
	r.never = refs[3]
	c := h.campaign(h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()}), incident.PlanRequest{})
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	for range 3 {
		h.tick()
		h.pass(time.Minute)
	}
	if tally := h.sums(c.ID); tally.ByState[bulkhead.ItemRevoked] != 4 || h.item(r.never).State == bulkhead.ItemRevoked {
		t.Fatalf("%+v", tally.ByState)
	}
	_, _, troubles, err := h.desk.Status(t.Context(), c.ID)
	ok(t, err)
	if len(troubles) != 1 || !strings.Contains(troubles[0].Problem, "blocked") {
		t.Errorf("%+v", troubles)
	}
	r.never = bulkhead.CertificateRef{}
	h.pass(10 * time.Minute)
	h.tick()
	if tally := h.sums(c.ID); tally.ByState[bulkhead.ItemRevoked] != 6 {
		t.Fatalf("after the block: %+v", tally.ByState)
	}
}

// TestWorkIsBatched: what a campaign commits does not grow with its certificates but with its chunks (S3: a million in hours).
func TestWorkIsBatched(t *testing.T) {
	commits := func(n int) int {
		h := newHouse(t, func(c *incident.Config) { c.Chunk = 400 })
		h.many(n, n)
		c := h.campaign(h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()}), incident.PlanRequest{})
		h.pass(c.ForceAt.Sub(h.now()) + time.Second)
		count := 0
		hook := func(_ string, commit func() error) error { count++; return commit() }
		h.hook.Store(&hook)
		h.tick()
		h.hook.Store(nil)
		if tally := h.sums(c.ID); tally.ByState[bulkhead.ItemRevoked] != int64(n) {
			t.Fatalf("%+v", tally.ByState)
		}
		return count
	}
	few, many := commits(40), commits(400)
	if few != many || many > 30 {
		t.Errorf("%d commits for 40 certificates, %d for 400", few, many)
	}
}

// TestReplacementsAreBatched: what a round sees of new certificates it keeps together, and one by one where two replace the
// same certificate; each item has its own story.
func TestReplacementsAreBatched(t *testing.T) {
	h := newHouse(t)
	const n = 60
	refs := h.many(n, n)
	c := h.campaign(h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()}), incident.PlanRequest{})
	h.pass(time.Hour)
	h.tick()
	var fresh []bulkhead.Certificate
	for i, ref := range refs {
		fresh = append(fresh, h.cert(fmt.Sprintf("a%d", i), fmt.Sprintf("w%d.example.com", i), func(x *bulkhead.Certificate) { x.Replaces = ref }))
	}
	count := func() int {
		commits := 0
		hook := func(_ string, commit func() error) error { commits++; return commit() }
		h.hook.Store(&hook)
		h.tick()
		h.hook.Store(nil)
		return commits
	}
	h.issue(fresh[:n/2]...)
	if k := count(); k > 12 || h.sums(c.ID).ByState[bulkhead.ItemReissued] != n/2 {
		t.Fatalf("%d commits, %+v", k, h.sums(c.ID).ByState)
	}
	twin := h.cert("a40", "w40.example.com")
	h.issue(append(fresh[n/2:], twin)...)
	h.tick()
	if by := h.sums(c.ID).ByState; by[bulkhead.ItemReissued] != n {
		t.Fatalf("%+v", by)
	}
	for _, ref := range []bulkhead.CertificateRef{refs[0], refs[40], refs[n-1]} {
		_, it, steps, err := h.desk.History(t.Context(), ref)
		ok(t, err)
		if len(steps) < 2 || steps[len(steps)-1].State != bulkhead.ItemReissued || it.Replacement == (bulkhead.CertificateRef{}) || steps[len(steps)-1].LogIndex == steps[len(steps)-2].LogIndex {
			t.Errorf("%s went through %+v", ref, steps)
		}
	}
}
