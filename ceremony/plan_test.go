package ceremony

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/keys"
)

// emergencyPlan is a later ceremony of the same root: its CRLs with children revoked.
func emergencyPlan(first *Result, revoked ...RevokedChild) Plan {
	var last int64
	for _, p := range first.Prepared {
		last = max(last, p.CRLNumber)
	}
	return Plan{
		Title: "emergency", StatusURL: "http://127.0.0.1:14080", Root: "root",
		Existing: []Existing{{ID: "root", Kind: bulkhead.RootAuthority, Certificate: first.Authorities[0].Certificate, KeyURI: "file:root.age"}},
		Steps:    []Step{{CRL: &CRLStep{Authority: "root", AfterNumber: last, HorizonDays: 365, TurnoverDays: 91, OverlapDays: 60, Revoked: revoked}}},
	}
}

func wantKind(t *testing.T, what string, err error, want bulkhead.Kind) {
	t.Helper()
	if got := bulkhead.KindOf(err); got != want {
		t.Errorf("%s: kind %q (%v), want %q", what, got, err, want)
		return
	}
	if want != "" && want != bulkhead.KindInternal && bulkhead.AsFault(err).Hint == "" {
		t.Errorf("%s: no hint in %v", what, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	base := firstPlan(t, keys.P256)
	tests := []struct {
		what  string
		plant func(*Plan)
	}{
		{"no steps", func(p *Plan) { p.Steps = nil }},
		{"https status URL", func(p *Plan) { p.StatusURL = "https://status.example.com" }},
		{"no status URL", func(p *Plan) { p.StatusURL = "" }},
		{"no root", func(p *Plan) { p.Root = "" }},
		{"root that is none", func(p *Plan) { p.Root = "issuing-p256" }},
		{"an empty step", func(p *Plan) { p.Steps = append(p.Steps, Step{}) }},
		{"two kinds in a step", func(p *Plan) { p.Steps[0].CRL = p.Steps[5].CRL }},
		{"root twice", func(p *Plan) { p.Steps = append(p.Steps, p.Steps[0]) }},
		{"subject twice", func(p *Plan) { p.Steps[2].Issuing.Subject = p.Steps[1].Issuing.Subject }},
		{"issuing before its root", func(p *Plan) { p.Steps[0], p.Steps[1] = p.Steps[1], p.Steps[0] }},
		{"a root as child", func(p *Plan) { p.Steps[1].Issuing.Kind = bulkhead.RootAuthority }},
		{"endless root", func(p *Plan) { p.Steps[0].Root.Days = 10000 }},
		{"root of no days", func(p *Plan) { p.Steps[0].Root.Days = 0 }},
		{"ed25519 root", func(p *Plan) { p.Steps[0].Root.Algorithm = keys.Ed25519 }},
		{"subject without organisation", func(p *Plan) { p.Steps[0].Root.Subject.Organization = "" }},
		{"country in words", func(p *Plan) { p.Steps[0].Root.Subject.Country = "Switzerland" }},
		{"no shards", func(p *Plan) { p.Steps[1].Issuing.Shards = 0 }},
		{"no delegates", func(p *Plan) { p.Steps[4].Delegate.Requests = nil }},
		{"delegate without overlap", func(p *Plan) { p.Steps[4].Delegate.OverlapDays = 0 }},
		{"CRL of more than a year", func(p *Plan) { p.Steps[5].CRL.TurnoverDays, p.Steps[5].CRL.OverlapDays = 300, 66 }},
		{"CRL without overlap", func(p *Plan) { p.Steps[5].CRL.OverlapDays = 0 }},
		{"a thousand CRLs", func(p *Plan) { p.Steps[5].CRL.HorizonDays, p.Steps[5].CRL.TurnoverDays = 3650, 1 }},
		{"negative number", func(p *Plan) { p.Steps[5].CRL.AfterNumber = -1 }},
		{"existing of no kind", func(p *Plan) { p.Existing = []Existing{{ID: "old", Kind: "leaf"}} }},
		{"revoked at no date", func(p *Plan) {
			p.Steps[5].CRL.Revoked = []RevokedChild{{Serial: serialOf(t, 1), At: testNow.In(time.FixedZone("", 24*3600)), Reason: "superseded"}}
		}},
		{"cross to itself", func(p *Plan) {
			p.Steps = append(p.Steps, Step{Cross: &CrossStep{Subject: "root", Parent: "root", Days: 100}})
		}},
		{"cross of a stranger", func(p *Plan) {
			p.Steps = append(p.Steps, Step{Cross: &CrossStep{Subject: "stranger", Parent: "root", Days: 100}})
		}},
	}
	wantKind(t, "silent without a fault", base.Check(), "")
	for _, x := range tests {
		p := clone(t, base)
		x.plant(&p)
		wantKind(t, x.what, p.Check(), bulkhead.KindGate)
		ring := newRing(t)
		_, err := Execute(context.Background(), config(ring), p)
		wantKind(t, x.what, err, bulkhead.KindGate)
		if uris, err := ring.List(context.Background()); err != nil || len(uris) != 0 {
			t.Errorf("%s: a refused plan left keys %v, %v", x.what, uris, err)
		}
	}
}

// clone goes through JSON, which proves on the way that plans survive it.
func clone(t *testing.T, p Plan) Plan {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var out Plan
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if out.Digest() != p.Digest() {
		t.Fatal("a plan changes on its way through JSON")
	}
	return out
}

func TestParsePlan(t *testing.T) {
	ring := newRing(t)
	p := firstPlan(t, keys.P256)
	first := execute(t, config(ring), firstPlan(t, keys.P256))
	emergency := emergencyPlan(first, RevokedChild{Serial: first.Certificates[0].Certificate.Serial, At: testNow, Reason: "superseded"})
	for what, plan := range map[string]Plan{"first": p, "emergency": emergency} {
		text, err := yaml.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePlan(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, text)
		}
		if again.Digest() != plan.Digest() {
			t.Errorf("%s: a plan changes on its way through YAML", what)
		}
		if _, err := ParsePlan([]byte(strings.Replace(string(text), "title:", "titel:", 1))); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: unknown key: %v", what, err)
		}
		if _, err := ParsePlan(append(text, "---\ntitle: second\n"...)); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: second document: %v", what, err)
		}
	}
	_, err := ParsePlan(nil)
	wantKind(t, "empty", err, bulkhead.KindMalformed)
	_, err = ParsePlan(make([]byte, maxPlan+1))
	wantKind(t, "huge", err, bulkhead.KindMalformed)
	_, err = ParsePlan([]byte("existing: [{id: root, certificate: not PEM}]"))
	wantKind(t, "no PEM", err, bulkhead.KindMalformed)
}

func FuzzParsePlan(f *testing.F) {
	f.Add([]byte("title: x\nstatus_url: http://a\nroot: root\nsteps:\n- root: {id: root, subject: {common_name: R, organization: O, country: CH}, algorithm: p256, days: 10}\n"))
	f.Add([]byte("steps: [{crl: {authority: root, turnover_days: 0, revoked: [{serial: 01ab, at: 2026-01-01T00:00:00Z}]}}]"))
	f.Add([]byte("title: x\nstatus_url: http://a\nroot: root\nexisting: [{id: root, kind: root}]\nsteps:\n- crl: {authority: root, horizon_days: 9, turnover_days: 3, overlap_days: 1, revoked: [{serial: 01ab, at: 2026-01-01T00:00:00+24:00}]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePlan(text)
		if err == nil {
			p.Digest()
			return
		}
		if k := bulkhead.KindOf(err); k != bulkhead.KindMalformed && k != bulkhead.KindGate {
			t.Fatalf("kind %s: %v", k, err)
		}
	})
}

// TestCRLSeries: successors cover the horizon without a gap, with growing numbers, none longer than 12 months.
func TestCRLSeries(t *testing.T) {
	r := execute(t, config(newRing(t)), firstPlan(t, keys.P256))
	var last bulkhead.Prepared
	for _, p := range r.Prepared {
		if p.Kind != bulkhead.PreparedCRL {
			continue
		}
		if p.CRLNumber != last.CRLNumber+1 {
			t.Errorf("number %d after %d", p.CRLNumber, last.CRLNumber)
		}
		if last.DER != nil && !p.NotBefore.Before(last.NotAfter) {
			t.Errorf("gap between %v and %v", last.NotAfter, p.NotBefore)
		}
		if p.NotAfter.Sub(p.NotBefore) > 365*day-time.Second {
			t.Errorf("number %d lives %v", p.CRLNumber, p.NotAfter.Sub(p.NotBefore))
		}
		last = p
	}
	if last.NotAfter.Before(testNow.Add(365 * day)) {
		t.Errorf("the last CRL ends at %v, before the horizon", last.NotAfter)
	}
	var end time.Time
	uris := map[string]bool{}
	for _, p := range r.Prepared {
		if p.Kind == bulkhead.PreparedDelegate {
			if !p.NotAfter.After(end) || p.NotBefore.After(testNow) || uris[p.KeyURI] || p.KeyURI == "" {
				t.Errorf("delegate %s from %v to %v", p.KeyURI, p.NotBefore, p.NotAfter)
			}
			end, uris[p.KeyURI] = p.NotAfter, true
		}
	}
	if end.Before(testNow.Add(365 * day)) {
		t.Errorf("the last delegate ends at %v, before the horizon", end)
	}
}

// TestSeriesEndsWithItsIssuer: no CRL or delegate outlives a root that ends before the horizon.
func TestSeriesEndsWithItsIssuer(t *testing.T) {
	p := firstPlan(t, keys.P256)
	p.Steps[0].Root.Days = 100
	r := execute(t, config(newRing(t)), p)
	root := parse(t, r.Authorities[0].Certificate)
	for _, x := range r.Prepared {
		if x.NotAfter.After(root.NotAfter) || !x.NotBefore.Before(x.NotAfter) {
			t.Errorf("%s from %v to %v, root ends %v", x.Kind, x.NotBefore, x.NotAfter, root.NotAfter)
		}
	}
	for _, c := range r.Certificates {
		if c.Certificate.NotAfter.After(root.NotAfter) {
			t.Errorf("%s outlives the root", c.Certificate.Subject)
		}
	}
}
