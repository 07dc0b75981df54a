package enroll_test

import (
	"context"
	"crypto"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

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
	theirs := newKey(t) // of a neighbour whose certificate is concerned, too
	w.obtain(c, w.acmezAccount(c), theirs, nil, "neighbour.localhost")
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
	for what, k := range map[string]crypto.Signer{"the old key": key, "a neighbour's key": theirs} {
		request, err := acmez.NewCSR(k, []string{"localhost"})
		ok(t, err)
		params, err := acmez.OrderParametersFromCSR(a, request)
		ok(t, err)
		var problem acme.Problem
		if _, err := c.ObtainCertificate(t.Context(), params); !errors.As(err, &problem) || problem.Type != acme.ProblemTypeBadPublicKey {
			t.Fatalf("%s came back: %v", what, err)
		}
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
	if tally.SameKeyAttempts < 2 {
		t.Fatalf("%d attempts with keys of the campaign were counted", tally.SameKeyAttempts)
	}
	if info, err = c.GetRenewalInfo(t.Context(), old); err != nil || info.ExplanationURL == "https://ca.test/day" {
		t.Fatalf("a replaced certificate is still told to renew: %+v %v", info, err)
	}
}

// TestCampaignRenewsCertMagic: the library that is inside Caddy learns of the campaign when it looks at its renewal
// information again, replaces within its slice by an order that no limit holds back, and says what it replaces.
func TestCampaignRenewsCertMagic(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cfg.Rates = enroll.RateLimits{Rates: map[enroll.LimitName]enroll.Rate{enroll.CertificatesPerSet: {Count: 1, Per: 168 * time.Hour}}}
	desk, err := incident.New(incident.Config{Store: s.store, Revoker: late{}, Now: s.now, Explanation: "https://ca.test/day"})
	ok(t, err)
	s.cfg.Campaigns = desk
	s.svc = s.service()
	s.serve()
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	const name = "magic.site.example"
	cfg := s.certmagic(t, "http-01", s.base+"/acme/directory")
	ok(t, cfg.ObtainCertSync(ctx, name))
	old := magic(t, cfg, name)
	ok(t, cfg.ManageSync(ctx, []string{name}))
	if magic(t, cfg, name).SerialNumber.Cmp(old.SerialNumber) != 0 {
		t.Fatal("it renews on an ordinary day")
	}
	i, err := desk.Open(ctx, "operator:a", incident.Intake{Title: "a bad day", Playbook: "mass-revocation", Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuingCA}}})
	ok(t, err)
	k, _, err := desk.Plan(ctx, "operator:a", incident.PlanRequest{Incident: i.ID})
	ok(t, err)
	_, err = desk.Start(ctx, k.ID, k.PlanHash, "request:r")
	ok(t, err)

	// Some hours later, so to say: another process of the client over the same storage, whose advice is too old. It looks
	// once an hour, so that it acts now rather than miss a window that ends before its next look.
	again := s.certmagic(t, "http-01", s.base+"/acme/directory")
	again.Storage = cfg.Storage
	s.forgetAdvice(t, again, name)
	ok(t, again.ManageSync(ctx, []string{name}))
	next := magic(t, again, name)
	if next.SerialNumber.Cmp(old.SerialNumber) == 0 {
		t.Fatal("it did not replace its certificate")
	}
	ok(t, desk.Tick(ctx))
	serial, err := bulkhead.SerialFromBig(old.SerialNumber)
	ok(t, err)
	_, item, err := s.store.MembershipOf(ctx, bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial})
	ok(t, err)
	if item.State != bulkhead.ItemReissued || item.Replacement.Serial.Big().Cmp(next.SerialNumber) != 0 {
		t.Fatalf("%#v", item)
	}
	fresh, _, err := s.store.Certificate(ctx, item.Replacement)
	ok(t, err)
	if at := fresh.ReservedAt; at.Before(item.WindowStart.Add(-time.Minute)) || at.After(item.WindowEnd) || fresh.Replaces != item.CertificateRef {
		t.Errorf("replaced at %s, its window is %s to %s; it says that it replaces %s", at, item.WindowStart, item.WindowEnd, fresh.Replaces)
	}
}

// forgetAdvice has certmagic take the renewal information that it keeps for old.
func (s *site) forgetAdvice(t testing.TB, cfg *certmagic.Config, name string) {
	t.Helper()
	key := certmagic.StorageKeys.SiteMeta(cfg.Issuers[0].(*certmagic.ACMEIssuer).IssuerKey(), name)
	text, err := cfg.Storage.Load(t.Context(), key)
	ok(t, err)
	was := regexp.MustCompile(`"_retryAfter": ?"[^"]*"`)
	if !was.Match(text) {
		t.Fatalf("certmagic keeps no advice: %s", text)
	}
	ok(t, cfg.Storage.Store(t.Context(), key, was.ReplaceAll(text, []byte(`"_retryAfter":"2020-01-01T00:00:00Z"`))))
}
