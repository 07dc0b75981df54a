package incident_test

import (
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/incident/plan"
)

// TestForeignAuthority: a day that touches certificates of an imported authority, whose key is somebody else's, counts and plans them
// apart, as what only that authority can revoke; the clock revokes our own of that day and leaves those, and the campaign stays open
// over them (S1-8).
func TestForeignAuthority(t *testing.T) {
	h := newHouse(t)
	own, err := h.store.Authority(t.Context(), issuingCA)
	ok(t, err)
	foreign := own
	foreign.ID, foreign.State, foreign.KeyURI, foreign.CreatedAt = "foreign", bulkhead.AuthorityForeign, "", h.now()
	ok(t, h.store.PutAuthority(t.Context(), foreign))
	ours := h.issue(h.cert("a1", "ours.test"))[0]
	theirs := h.issue(h.cert("a1", "theirs.test", func(c *bulkhead.Certificate) { c.Issuer = "foreign" }))[0]
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuingCA, "foreign"}}})
	c := h.campaign(i, incident.PlanRequest{})
	if it := h.item(theirs); c.Items != 2 || it.Wave != int(plan.Ceremony) || !it.RevokeAt.IsZero() || h.item(ours).Wave != int(plan.Subscribers) {
		t.Fatalf("%d items, theirs in wave %d", c.Items, it.Wave)
	}
	h.tick()
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	h.tick()
	if s := h.state(ours); s != bulkhead.Revoked {
		t.Errorf("ours is %s", s)
	}
	if s, it := h.state(theirs), h.item(theirs); s != bulkhead.Issued || it.State == bulkhead.ItemRevoked {
		t.Errorf("theirs is %s, and %s in the campaign", s, it.State)
	}
	_, err = h.desk.End(t.Context(), "operator:a", c.ID, "done")
	wantKind(t, err, bulkhead.KindGate)
}
