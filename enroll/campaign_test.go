package enroll_test

import (
	"context"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/incident"
)

// late is the status service for a desk that revokes nothing in this test.
type late struct{ incident.Revoker }

// TestCampaignRenewsEarly: acmez asks for renewal information, gets its slice of the campaign, replaces its certificate in
// it by an order that no limit holds back, and cannot come back with the old key (S3-2).
func TestCampaignRenewsEarly(t *testing.T) {
	w := newWorld(t)
	w.cfg.Rates = enroll.RateLimits{Rates: map[enroll.LimitName]enroll.Rate{enroll.CertificatesPerSet: {Count: 1, Per: 168 * time.Hour}}}
	desk, err := incident.New(incident.Config{Store: w.store, Revoker: late{}, Now: w.now, Explanation: "https://ca.test/day"})
	ok(t, err)
	w.cfg.Campaigns = desk
	w.svc = w.service()
	w.serve()
	c := w.acmez("http-01", "/acme/directory")
	a := w.acmezAccount(c)
	key := newKey(t)
	old := w.obtain(c, a, key, nil, "localhost")
	quiet, err := c.GetRenewalInfo(t.Context(), old)
	ok(t, err)
	if !quiet.SuggestedWindow.Start.After(w.now().Add(24 * time.Hour)) {
		t.Fatalf("renewal on an ordinary day: %+v", quiet)
	}
	serial, err := bulkhead.SerialFromBig(old.SerialNumber)
	ok(t, err)
	i, err := desk.Open(t.Context(), "operator:a", incident.Intake{Title: "keys may have leaked", Playbook: "heartbleed-2014", Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuingCA}}})
	ok(t, err)
	k, _, err := desk.Plan(t.Context(), "operator:a", incident.PlanRequest{Incident: i.ID, Needs: &bulkhead.CampaignNeeds{NewKey: true}})
	ok(t, err)
	_, err = desk.Start(t.Context(), k.ID, k.PlanHash, "request:r")
	ok(t, err)
	info, err := c.GetRenewalInfo(t.Context(), old)
	ok(t, err)
	if info.SuggestedWindow.End.After(k.ForceAt) || info.ExplanationURL != "https://ca.test/day" || info.SelectedTime.After(k.ForceAt) {
		t.Fatalf("renewal in a campaign that ends at %s: %+v", k.ForceAt, info)
	}
	request, err := acmez.NewCSR(key, []string{"localhost"})
	ok(t, err)
	params, err := acmez.OrderParametersFromCSR(a, request)
	ok(t, err)
	if _, err := c.ObtainCertificate(t.Context(), params); err == nil {
		t.Fatal("the old key came back")
	}
	next := w.obtain(c, a, newKey(t), func(p *acmez.OrderParameters) { p.Replaces = old }, "localhost")
	ok(t, desk.Tick(context.WithoutCancel(t.Context())))
	_, item, err := w.store.MembershipOf(t.Context(), bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial})
	ok(t, err)
	if item.State != bulkhead.ItemReissued || item.Replacement.Serial.Big().Cmp(next.SerialNumber) != 0 {
		t.Fatalf("%#v", item)
	}
	_, tally, _, err := desk.Status(t.Context(), k.ID)
	ok(t, err)
	if tally.SameKeyAttempts == 0 {
		t.Fatal("the attempt with the old key was not counted")
	}
	if info, err = c.GetRenewalInfo(t.Context(), old); err != nil || info.ExplanationURL == "https://ca.test/day" {
		t.Fatalf("a replaced certificate is still told to renew: %+v %v", info, err)
	}
}
