package main

import (
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/console"
)

// TestMineByToken is S0-15 as a customer meets it: who holds a token sees its own certificates in an open incident, with status,
// deadline, when the old one goes and what replaces it, and nobody else's; a stranger sees nothing, and a closed day is over.
func TestMineByToken(t *testing.T) {
	c := houseUp(t)
	type account struct{ ID, Token string }
	a, b := asJSON[account](t, c, "account", "add", "--own-names"), asJSON[account](t, c, "account", "add", "--own-names")
	as := func(token string) { t.Setenv("BULKHEAD_TOKEN", token) }
	mine := func(token string) []console.ExposureView {
		t.Helper()
		as(token)
		defer as("")
		return asJSON[console.ExposureList](t, c, "incident", "mine").Certificates
	}
	order := func(token, name, folder string) {
		t.Helper()
		as(token)
		defer as("")
		c.run(t, exitDone, "issue", name, "--out", filepath.Join(c.work, folder))
	}
	order(a.Token, "a.example.test", "a")
	order(b.Token, "b.example.test", "b")
	order(b.Token, "b.other.test", "b")
	if got := mine(a.Token); len(got) != 0 {
		t.Errorf("without an incident: %+v", got)
	}
	i := asJSON[console.IncidentView](t, c, "incident", "open", "--playbook", "mass-revocation", "--name", ".example.test", "--title", "names under example.test")
	for token, name := range map[string]string{a.Token: "a.example.test", b.Token: "b.example.test"} {
		got := mine(token)
		if len(got) != 1 || got[0].Names[0].Value != name || got[0].State != "issued" || got[0].Deadline.IsZero() || got[0].Incident != i.ID || got[0].Replacement != "" {
			t.Errorf("%s sees %+v", name, got)
		}
	}
	c.run(t, exitDone, "campaign", "plan", "--incident", i.ID, "--keep")
	c.run(t, exitDone, "campaign", "start", asJSON[map[string][]console.CampaignView](t, c, "campaign", "list")["campaigns"][0].ID)
	order(a.Token, "a.example.test", "again")
	until(t, "the replacement", func() (string, bool) {
		got := mine(a.Token)
		return "there is none", len(got) == 1 && strings.HasPrefix(got[0].Replacement, string(got[0].Issuer)+",") && !got[0].RevokedAt.IsZero() && got[0].Step != ""
	})
	if got := mine(b.Token); len(got) != 1 || got[0].Replacement != "" || got[0].RevokedAt.IsZero() {
		t.Errorf("the other sees %+v", got)
	}
	as(a.Token)
	if out, _ := c.run(t, exitDone, "incident", "mine"); strings.Contains(out, "b.example.test") || !strings.Contains(out, "a.example.test") {
		t.Errorf("as it is shown:\n%s", out)
	}
	if _, errOut := c.run(t, exitFailed, "incident", "show", i.ID); strings.Contains(errOut, "b.example.test") {
		t.Errorf("a customer sees the whole day: %s", errOut)
	}
	as("bh_" + strings.Repeat("x", 43))
	c.run(t, exitFailed, "incident", "mine")
	as("")
	c.run(t, exitFailed, "incident", "mine") // an operator has none
}
