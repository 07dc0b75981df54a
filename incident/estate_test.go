package incident_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

// estateOf shows what the test says.
type estateOf struct {
	wrong []string
	looks int
}

func (e *estateOf) LookAtEstate(_ context.Context, own []bulkhead.CampaignItem) (bulkhead.EstateLook, error) {
	e.looks++
	return bulkhead.EstateLook{Endpoints: 1 + len(own), Wrong: e.wrong}, nil
}

// TestOwnEstateIsCleanFirst plants a fault at an own endpoint: customers are not told though every own certificate is replaced
// (S4-6). Without the fault they are, and both looks are evidence.
func TestOwnEstateIsCleanFirst(t *testing.T) {
	e := &estateOf{wrong: []string{"www.ca.test 192.0.2.1:443: vulnerable"}}
	h := newHouse(t, func(c *incident.Config) { c.Estate = e })
	own := h.issue(h.cert("house", "www.ca.test"))[0]
	refs := h.many(3, 4)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{})
	h.tick()
	h.issue(h.cert("house", "www.ca.test", func(c *bulkhead.Certificate) { c.Replaces = own }))
	h.pass(6 * time.Hour)
	h.tick()
	h.tick()
	if h.sums(c.ID).OwnReplaced != 1 || h.item(refs[0]).State != bulkhead.ItemPlanned {
		t.Fatalf("customers are told (%s) while the own estate has the fault", h.item(refs[0]).State)
	}
	why, err := h.desk.MayTellCustomers(t.Context(), c)
	ok(t, err)
	if !strings.Contains(why, "www.ca.test 192.0.2.1:443: vulnerable") || e.looks != 1 {
		t.Errorf("%q after %d looks: each chunk must not look again", why, e.looks)
	}
	e.wrong = nil
	h.pass(2 * time.Minute)
	h.tick()
	if h.item(refs[0]).State == bulkhead.ItemPlanned || e.looks != 2 {
		t.Fatalf("customers are not told (%s) after %d looks", h.item(refs[0]).State, e.looks)
	}
	kept, err := h.desk.Estate(t.Context(), c.ID)
	ok(t, err)
	if !kept.Clean() || kept.Endpoints != 2 {
		t.Errorf("%+v", kept)
	}
	rows, err := h.store.EvidenceOfKinds(t.Context(), 0, []bulkhead.EvidenceKind{bulkhead.EvEstateLook}, 10)
	ok(t, err)
	if len(rows) != 2 {
		t.Errorf("%d leaves tell of the looks", len(rows))
	}
}

// TestLaterPlanKnowsTheEstate: the own estate is done before its time, by a reissue that names nothing it replaces. A later
// plan revokes its old certificate at once and tells the customers from now on, not after the time set aside for the estate.
func TestLaterPlanKnowsTheEstate(t *testing.T) {
	h := newHouse(t)
	own := h.issue(h.cert("house", "www.ca.test"))[0]
	refs := h.many(3, 4)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	h.campaign(i, incident.PlanRequest{})
	h.tick()
	before, early := h.item(own), h.item(refs[0])
	h.pass(time.Minute)
	h.campaign(i, incident.PlanRequest{}) // nothing was replaced: the estate has its time again
	if it := h.item(refs[0]); it.NotifyAt.Before(early.NotifyAt) {
		t.Fatalf("customers would be told at %s, before the own estate is done", it.NotifyAt)
	}
	h.issue(h.cert("house", "www.ca.test"))
	h.tick()
	h.tick()
	if it := h.item(own); it.State != bulkhead.ItemReissued || h.state(own) != bulkhead.Issued {
		t.Fatalf("%#v", it)
	}
	h.campaign(i, incident.PlanRequest{})
	if it := h.item(own); it.RevokeAt.After(h.now()) || !it.RevokeAt.Before(before.RevokeAt) {
		t.Errorf("the old certificate of the own estate, replaced already, goes at %s", it.RevokeAt)
	}
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemNotified || h.state(own) != bulkhead.Revoked {
		t.Fatalf("customers are %s, the own estate's old certificate is %s", it.State, h.state(own))
	}
}
