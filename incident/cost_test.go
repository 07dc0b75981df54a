package incident_test

import (
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

// cost is what a phase of a campaign took: statements that the store ran, rows of evidence.
type cost struct{ statements, leaves float64 }

// campaignCosts runs a campaign over n certificates without subscribers and says what each phase cost.
func campaignCosts(t *testing.T, n int) (phases map[string]cost) {
	h := newHouse(t, func(c *incident.Config) { c.Chunk = 500 })
	h.many(n, n/20)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	counted := h.store.(interface {
		Statements() (outside, inside int64)
	})
	phases = map[string]cost{}
	phase := func(name string, f func()) {
		outside, inside := counted.Statements()
		seq, _, err := h.store.EvidenceHead(t.Context())
		ok(t, err)
		f()
		o, in := counted.Statements()
		now, _, err := h.store.EvidenceHead(t.Context())
		ok(t, err)
		phases[name] = cost{float64(o - outside + in - inside), float64(now - seq)}
	}
	var c bulkhead.Campaign
	phase("plan", func() { c = h.campaign(i, incident.PlanRequest{}) })
	phase("first round", h.tick)
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	phase("revoke", h.tick)
	if got := h.sums(c.ID).ByState[bulkhead.ItemRevoked]; got != int64(n) {
		t.Fatalf("%d of %d are revoked", got, n)
	}
	return phases
}

// TestCampaignCost: what a campaign of a day without subscribers costs for each further certificate, in statements and in rows of
// evidence: planning writes one row for each and reads it by one statement in all, telling moves a chunk by one statement, and revoking
// is one change, whose own cost the tests of status hold. A step that goes back to items one by one fails here on any machine.
func TestCampaignCost(t *testing.T) {
	const small, large = 1500, 4500
	a, b := campaignCosts(t, small), campaignCosts(t, large)
	for name, most := range map[string]cost{
		"plan":        {0.010, 0.0001}, // one insert for 128
		"first round": {0.060, 0.0025}, // a chunk of 500: its claim, its reading, its move, and a leaf; what was issued is looked through 64 at a time
		"revoke":      {0.080, 0.0100}, // a leaf names about 120 certificates
	} {
		statements, leaves := (b[name].statements-a[name].statements)/(large-small), (b[name].leaves-a[name].leaves)/(large-small)
		t.Logf("%s: %.4f statements and %.4f leaves for each further certificate; %.0f and %.0f for %d", name, statements, leaves, a[name].statements, a[name].leaves, small)
		if statements > most.statements || leaves > most.leaves {
			t.Errorf("%s costs %.4f statements and %.4f leaves for each further certificate, want at most %.4f and %.4f", name, statements, leaves, most.statements, most.leaves)
		}
	}
}
