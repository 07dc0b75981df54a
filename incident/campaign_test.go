package incident_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

func byIssuer() bulkhead.Scope {
	return bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuingCA}}
}

// sums fails unless the states of a campaign sum to its items.
func (h *house) sums(id string) bulkhead.CampaignTally {
	h.t.Helper()
	_, t, _, err := h.desk.Status(h.t.Context(), id)
	ok(h.t, err)
	var n int64
	for _, s := range bulkhead.ItemStates {
		n += t.ByState[s]
	}
	if n != t.Total {
		h.t.Fatalf("%d items, the states sum to %d", t.Total, n)
	}
	return t
}

// TestCampaign goes through a day on both engines: own estate first, replacements found, old ones revoked at their visible
// date, the rest by the deadline clock, and what is held by nobody.
func TestCampaign(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			h := newHouseOn(t, e)
			own := h.issue(h.cert("house", "www.ca.test"))[0]
			refs := h.many(8, 4)
			i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
			ok(t, h.desk.Hold(t.Context(), "operator:a", i.ID, refs[7], "court order 1, until Friday"))
			c := h.campaign(i, incident.PlanRequest{})
			h.tick()
			if h.item(own).State != bulkhead.ItemNotified || h.item(refs[0]).State != bulkhead.ItemPlanned {
				t.Fatalf("own estate %s, customers %s", h.item(own).State, h.item(refs[0]).State)
			}
			h.pass(6 * time.Hour)
			h.tick()
			if h.item(refs[0]).State != bulkhead.ItemPlanned {
				t.Fatal("customers are told before the own estate is replaced")
			}
			h.issue(h.cert("house", "www.ca.test", func(c *bulkhead.Certificate) { c.Replaces = own }))
			h.tick()
			if tally := h.sums(c.ID); tally.OwnReplaced != 1 || tally.ByState[bulkhead.ItemNotified] < 1 {
				h.pass(2 * time.Minute)
				h.tick()
			}
			// One by "replaces", one by the same account and names.
			h.issue(h.cert("a0", "w0.example.com", func(c *bulkhead.Certificate) { c.Replaces = refs[0] }), h.cert("a1", "w1.example.com"), h.cert("a9", "w2.example.com"))
			h.pass(10 * time.Hour)
			h.tick()
			h.tick()
			if h.item(refs[0]).State != bulkhead.ItemRevoked || h.item(refs[1]).State != bulkhead.ItemRevoked || h.item(refs[2]).State == bulkhead.ItemRevoked {
				t.Fatalf("%s %s %s", h.item(refs[0]).State, h.item(refs[1]).State, h.item(refs[2]).State)
			}
			if h.state(refs[0]) != bulkhead.Revoked || h.state(refs[2]) != bulkhead.Issued {
				t.Fatal("the record and the items differ")
			}
			h.sums(c.ID)
			h.pass(7 * time.Hour) // the deadline clock, and before the deadline itself
			h.tick()
			tally := h.sums(c.ID)
			if tally.ByState[bulkhead.ItemRevoked] != 8 || tally.ByState[bulkhead.ItemHeld] != 1 || h.state(refs[7]) != bulkhead.Issued || tally.Overdue != 0 {
				t.Fatalf("%+v", tally)
			}
			h.checkDelay(i)
			h.checkTimeline(i)
			if _, err := h.desk.End(t.Context(), "operator:a", c.ID, "done but for the hold"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// checkDelay wants the record of the delay of what is held, once.
func (h *house) checkDelay(i bulkhead.Incident) {
	h.t.Helper()
	h.tick()
	h.tick()
	all, err := h.desk.Incidents(h.t.Context(), 10)
	ok(h.t, err)
	n := 0
	for _, x := range all {
		if x.Kind == bulkhead.DelayedRevocation && x.Parent == i.ID {
			n++
		}
	}
	if n != 1 {
		h.t.Fatalf("%d records of the delay", n)
	}
}

func (h *house) checkTimeline(i bulkhead.Incident) {
	h.t.Helper()
	entries, err := h.desk.Timeline(h.t.Context(), i.ID)
	ok(h.t, err)
	var elements []string
	for n, e := range entries {
		if n > 0 && e.At.Before(entries[n-1].At) || !e.At.Equal(e.At.Truncate(time.Second)) || e.LogIndex < 0 {
			h.t.Fatalf("entry %+v", e)
		}
		elements = append(elements, e.Element)
	}
	for _, want := range []string{"aware", "scope-disclosed", "revocation-planned"} {
		if !slices.Contains(elements, want) {
			h.t.Fatalf("the timeline lacks %q: %v", want, elements)
		}
	}
}

// TestTypes: a campaign over an issuer holds every unexpired certificate below it, by type, as the record counts them.
func TestTypes(t *testing.T) {
	h := newHouse(t)
	want := map[string]int64{}
	var certs []bulkhead.Certificate
	for i := range 30 {
		p := []string{"tls-server", "smime", "code"}[i%3]
		certs = append(certs, h.cert("a", fmt.Sprintf("t%d.example.com", i), func(c *bulkhead.Certificate) {
			if c.Profile = p; i%5 == 0 {
				c.NotAfter = h.now().Add(-time.Hour)
			} else {
				want[map[string]string{"tls-server": "tls", "smime": "smime", "code": "code-signing"}[p]]++
			}
		}))
	}
	h.issue(certs...)
	i := h.incident(incident.Intake{Playbook: "ocsp-eku-2020", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{})
	tally := h.sums(c.ID)
	rows, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{Issuer: issuingCA, State: bulkhead.Issued, Kind: bulkhead.LeafCertificate, ExpiresFrom: h.now(), Limit: 1000})
	ok(t, err)
	if int64(len(rows)) != tally.Total || tally.Total != 24 {
		t.Fatalf("%d in the record, %d in the campaign", len(rows), tally.Total)
	}
	for p, n := range want {
		if tally.ByProduct[p] != n {
			t.Errorf("%d of %s, want %d", tally.ByProduct[p], p, n)
		}
	}
	d, err := h.desk.Tally(t.Context(), i.ID)
	ok(t, err)
	if d.Total != 30 || d.Live != 24 || d.Expired != 6 {
		t.Fatalf("%+v", d)
	}
}

// TestSameKey: replacements with the same key, those that exist and those that come, are found and their items reopened;
// the keys of the campaign are refused from its start on.
func TestSameKey(t *testing.T) {
	h := newHouse(t)
	refs := h.many(4, 4)
	old, _, err := h.store.Certificate(t.Context(), refs[0])
	ok(t, err)
	i := h.incident(incident.Intake{Playbook: "heartbleed-2014", Scope: byIssuer()})
	// The Netcraft failure, planted before the campaign starts: the key is refused only from then on.
	h.issue(h.cert("a0", "w0.example.com", func(c *bulkhead.Certificate) { c.Replaces, c.KeyHash = refs[0], old.KeyHash }))
	needs := bulkhead.CampaignNeeds{NewKey: true}
	c := h.campaign(i, incident.PlanRequest{Needs: &needs})
	h.tick()
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemReopened || !strings.Contains(it.Detail, "same key") || it.Replacement != (bulkhead.CertificateRef{}) {
		t.Fatalf("%#v", it)
	}
	if blocked, err := h.store.BlockedKeys(t.Context(), old.KeyHash); err != nil || len(blocked) != 1 {
		t.Fatal("a key of the campaign is not refused", err)
	}
	ok(t, h.desk.KeySeen(t.Context(), "a3", "o", old.KeyHash))
	if tally := h.sums(c.ID); tally.SameKeyAttempts != 1 || tally.ByState[bulkhead.ItemReopened] != 1 {
		t.Fatalf("%+v", tally)
	}
	if !slices.ContainsFunc(h.alarms, func(a bulkhead.Alarm) bool { return a.Detector == "D12" }) {
		t.Error("no D12")
	}
	h.issue(h.cert("a0", "w0.example.com", func(c *bulkhead.Certificate) { c.Replaces = bulkhead.CertificateRef{} }))
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemReissued {
		t.Fatalf("a new key does not do: %#v", it)
	}
	_, _, steps, err := h.desk.History(t.Context(), refs[0])
	ok(t, err)
	var states []string
	for _, s := range steps {
		states = append(states, string(s.State))
	}
	if got := strings.Join(states, " "); got != "notified reopened notified rekeyed reissued" {
		t.Fatal(got)
	}
}

// TestSameKeyUnderOtherNames: a certificate that came before the campaign with the key of an item, and has other names, names nothing
// that it replaces: only its key shows it. The item is reopened; that of a holder who has another certificate with a key of its own
// is not (S3-3).
func TestSameKeyUnderOtherNames(t *testing.T) {
	h := newHouse(t)
	refs := h.many(2, 2)
	old, _, err := h.store.Certificate(t.Context(), refs[0])
	ok(t, err)
	i := h.incident(incident.Intake{Playbook: "heartbleed-2014", Scope: byIssuer()})
	h.issue(h.cert("a0", "other.example.com", func(c *bulkhead.Certificate) { c.KeyHash = old.KeyHash }), h.cert("a1", "another.example.com"))
	needs := bulkhead.CampaignNeeds{NewKey: true}
	h.campaign(i, incident.PlanRequest{Needs: &needs})
	h.tick()
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemReopened || !strings.Contains(it.Detail, "same key: a later certificate has the key of this one") {
		t.Errorf("%s: %s", it.State, it.Detail)
	}
	if it := h.item(refs[1]); it.State != bulkhead.ItemNotified {
		t.Errorf("%s: %s", it.State, it.Detail)
	}
}

// TestOverdue: what is not done after its deadline is counted, and the numbers still sum up (S3-10); nothing is before.
func TestOverdue(t *testing.T) {
	h := newHouse(t)
	h.many(3, 3)
	c := h.campaign(h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()}), incident.PlanRequest{})
	h.tick()
	_, err := h.desk.Pause(t.Context(), "operator:a", c.ID, "nobody may revoke today")
	ok(t, err)
	h.pass(c.Deadline.Sub(h.now()) - time.Minute)
	if n := h.sums(c.ID).Overdue; n != 0 {
		t.Errorf("%d are overdue before the deadline", n)
	}
	h.pass(2 * time.Minute)
	if n := h.sums(c.ID).Overdue; n != 3 {
		t.Errorf("%d of 3 are overdue after the deadline", n)
	}
}

// endpoint is what a test lets be seen of one name.
type endpoint struct {
	verdict string
	nodes   []bulkhead.Hash
	key     bulkhead.Hash // of what they show
}

type looker map[string]*endpoint

func (l looker) Look(_ context.Context, it bulkhead.CampaignItem, _ bool) ([]incident.EndpointLook, error) {
	e := l[it.Name]
	if e == nil {
		return nil, errors.New("no such name")
	}
	var out []incident.EndpointLook
	for n, f := range e.nodes {
		out = append(out, incident.EndpointLook{Address: fmt.Sprintf("192.0.2.%d:443", n+1), Fingerprint: f, Key: e.key, Verdict: e.verdict})
	}
	return out, nil
}

// TestPatchGate: an item on a server with the fault cannot become installed, however often it is replaced; once the server
// is patched it can. Two nodes, one of them stale, are partly installed, and the stale one is named (S3-6, S4-2).
func TestPatchGate(t *testing.T) {
	name := "w0.example.com"
	look := looker{name: {verdict: "vulnerable", nodes: make([]bulkhead.Hash, 2)}}
	h := newHouse(t, func(c *incident.Config) { c.Looker = look })
	refs := h.many(1, 1)
	i := h.incident(incident.Intake{Playbook: "heartbleed-2014", Scope: byIssuer()})
	h.campaign(i, incident.PlanRequest{})
	h.tick()
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemNotified || it.Vulnerable.IsZero() {
		t.Fatalf("%#v", it)
	}
	h.pass(time.Minute)
	first := h.issue(h.cert("a0", name, func(c *bulkhead.Certificate) { c.Replaces = refs[0] }))[0]
	h.tick()
	_, err := h.desk.Import(t.Context(), "operator:a", refs[0], bulkhead.ItemInstalled, "they say so")
	wantKind(t, err, bulkhead.KindGate)
	h.tick() // the replacement was there while the fault was
	if it := h.item(refs[0]); it.State != bulkhead.ItemReopened || h.state(first) != bulkhead.Issued {
		t.Fatalf("%#v", it)
	}
	look[name].verdict = "patched"
	h.pass(time.Minute)
	second := h.issue(h.cert("a0", name))[0]
	for range 3 {
		h.tick()
	}
	if it := h.item(refs[0]); it.State != bulkhead.ItemReissued || it.Replacement != second || !strings.Contains(it.Detail, "partially installed: 0 of 2") {
		t.Fatalf("%#v", it)
	}
	cert, _, err := h.store.Certificate(t.Context(), second)
	ok(t, err)
	look[name].nodes[0] = cert.Fingerprint
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemReissued || !strings.HasSuffix(it.Detail, "1 of 2 nodes; not on 192.0.2.2:443") {
		t.Fatalf("%#v", it)
	}
	look[name].key = h.item(refs[0]).KeyHash // somebody else's certificate, with the key that leaked (S3-3)
	h.tick()
	if it := h.item(refs[0]); !strings.HasSuffix(it.Detail, "not on 192.0.2.2:443; still the OLD key on 192.0.2.2:443") {
		t.Fatalf("%#v", it)
	}
	h.pass(12 * time.Hour) // its date has come, and it waits all the same
	h.tick()
	if h.item(refs[0]).State != bulkhead.ItemReissued || h.state(refs[0]) != bulkhead.Issued {
		t.Fatal("revoked before the replacement is installed everywhere")
	}
	look[name].nodes[1] = cert.Fingerprint
	h.tick()
	h.pass(10 * time.Minute)
	h.tick()
	if it := h.item(refs[0]); it.State != bulkhead.ItemRevoked || h.state(refs[0]) != bulkhead.Revoked {
		t.Fatalf("%#v", it)
	}
}

// TestForced: what has not come far enough is revoked by the deadline clock, before the deadline, and by nothing earlier.
func TestForced(t *testing.T) {
	h := newHouse(t)
	refs := h.many(3, 3)
	i := h.incident(incident.Intake{Playbook: "heartbleed-2014", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{})
	h.pass(c.ForceAt.Sub(h.now()) - time.Minute)
	h.tick()
	if h.state(refs[0]) != bulkhead.Issued {
		t.Fatal("revoked before anything was replaced")
	}
	h.pass(2 * time.Minute)
	h.tick()
	tally := h.sums(c.ID)
	if tally.ByState[bulkhead.ItemRevoked] != 3 || !h.now().Before(c.Deadline) {
		t.Fatalf("%+v at %s", tally, h.now())
	}
	if it := h.item(refs[0]); !strings.Contains(it.Detail, "deadline clock") || it.Change == "" {
		t.Fatalf("%#v", it)
	}
}

// TestFence: a plan that is overtaken, and a campaign that is paused, do no work.
func TestFence(t *testing.T) {
	h := newHouse(t)
	refs := h.many(3, 3)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{})
	_, err := h.desk.Pause(t.Context(), "operator:a", c.ID, "let us look first")
	ok(t, err)
	h.pass(23 * time.Hour)
	h.tick()
	if h.item(refs[0]).State != bulkhead.ItemPlanned {
		t.Fatal("a paused campaign works")
	}
	again, _, err := h.desk.Plan(t.Context(), "operator:a", incident.PlanRequest{Incident: i.ID})
	ok(t, err)
	if again.Generation != 2 || again.ParentHash != c.PlanHash || again.PlanHash == c.PlanHash {
		t.Fatalf("%+v", again)
	}
	_, err = h.desk.Start(t.Context(), c.ID, c.PlanHash, "request:r1")
	wantKind(t, err, bulkhead.KindGate)
	_, err = h.desk.Start(t.Context(), c.ID, again.PlanHash, "request:r2")
	ok(t, err)
	_, err = h.desk.Start(t.Context(), c.ID, again.PlanHash, "request:r2") // run again after a crash
	ok(t, err)
	if _, err := h.desk.End(t.Context(), "operator:a", c.ID, "enough"); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Fatal(err)
	}
}

// TestRiskAlarm plants replacements that do not come (D13); a campaign on its way is silent.
func TestRiskAlarm(t *testing.T) {
	for _, replace := range []bool{true, false} {
		h := newHouse(t)
		refs := h.many(40, 10)
		i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
		h.campaign(i, incident.PlanRequest{})
		h.tick()
		for n := range 12 {
			h.pass(90 * time.Minute)
			if replace {
				for k := n * 4; k < min(n*4+4, 40); k++ {
					h.issue(h.cert(fmt.Sprintf("a%d", k%10), fmt.Sprintf("w%d.example.com", k), func(c *bulkhead.Certificate) { c.Replaces = refs[k] }))
				}
			}
			h.tick()
		}
		if got := slices.ContainsFunc(h.alarms, func(a bulkhead.Alarm) bool { return a.Detector == "D13" }); got == replace {
			t.Errorf("replacements come: %v, alarm: %v %+v", replace, got, h.alarms)
		}
	}
}
