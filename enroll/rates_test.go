package enroll_test

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// limited is a house with one limit.
func limited(t testing.TB, limit enroll.LimitName, count int, per time.Duration, change ...func(*enroll.RateLimits)) *house {
	t.Helper()
	return newHouse(t, func(c *enroll.Config) {
		c.Rates = enroll.RateLimits{Rates: map[enroll.LimitName]enroll.Rate{limit: {Count: count, Per: per}}}
		for _, f := range change {
			f(&c.Rates)
		}
	})
}

func wantLimited(t testing.TB, err error, limit enroll.LimitName, retry time.Duration) {
	t.Helper()
	f := bulkhead.AsFault(err)
	if f == nil || f.Kind != bulkhead.KindRateLimited || !strings.Contains(f.Detail, string(limit)) {
		t.Fatalf("got %v, want %s used up", err, limit)
	}
	if f.RetryAfter > retry || f.RetryAfter < retry-2*time.Minute {
		t.Fatalf("try again in %s, want %s", f.RetryAfter, retry)
	}
}

func (h *house) order(acct bulkhead.Account, names ...string) (bulkhead.Order, error) {
	h.t.Helper()
	return h.svc.NewOrder(h.t.Context(), acct, enroll.OrderRequest{Identifiers: ids(h.t, names...)})
}

func TestLimitOrders(t *testing.T) {
	h := limited(t, enroll.OrdersPerAccount, 2, time.Hour)
	a, _ := h.account()
	b, _ := h.account()
	for range 2 {
		_, err := h.order(a, "x.test")
		ok(t, err)
	}
	_, err := h.order(a, "x.test")
	wantLimited(t, err, enroll.OrdersPerAccount, 30*time.Minute)
	_, err = h.order(b, "x.test")
	ok(t, err) // another account has its own
	h.shift.Add(int64(31 * time.Minute))
	_, err = h.order(a, "x.test")
	ok(t, err)
	_, err = h.order(a, "*.test") // a bad order costs nothing, and is told what is bad
	wantKind(t, err, bulkhead.KindRejectedIdentifier)
	_, err = h.order(a, "x.test")
	wantLimited(t, err, enroll.OrdersPerAccount, 30*time.Minute)
}

func TestLimitOverridesAndExemptions(t *testing.T) {
	var vip, free string
	h := limited(t, enroll.OrdersPerAccount, 1, time.Hour, func(l *enroll.RateLimits) {
		l.Exempt = func(acct bulkhead.Account, _ bulkhead.CertificateRef, _ []bulkhead.Identifier) bool {
			return acct.ID == free
		}
	})
	a, _ := h.account()
	v, _ := h.account()
	f, _ := h.account()
	vip, free = v.ID, f.ID
	h.cfg.Rates.Overrides = []enroll.RateOverride{{Limit: enroll.OrdersPerAccount, Account: vip, Rate: enroll.Rate{Count: 3, Per: time.Hour}}}
	h.svc = h.service()
	for acct, n := range map[*bulkhead.Account]int{&a: 1, &v: 3, &f: 9} {
		for range n {
			_, err := h.order(*acct, "x.test")
			ok(t, err)
		}
	}
	for _, acct := range []bulkhead.Account{a, v} {
		_, err := h.order(acct, "x.test")
		wantKind(t, err, bulkhead.KindRateLimited)
	}
	_, err := h.order(f, "x.test")
	ok(t, err)
}

// TestRaisedLimitHelpsAtOnce: a customer who used up a limit is let in by the override, and not when the old limit would have let him in.
func TestRaisedLimitHelpsAtOnce(t *testing.T) {
	h := limited(t, enroll.OrdersPerAccount, 2, 7*24*time.Hour)
	a, _ := h.account()
	for range 2 {
		_, err := h.order(a, "x.test")
		ok(t, err)
	}
	_, err := h.order(a, "x.test")
	wantLimited(t, err, enroll.OrdersPerAccount, 7*12*time.Hour)
	h.cfg.Rates.Overrides = []enroll.RateOverride{{Limit: enroll.OrdersPerAccount, Account: a.ID, Rate: enroll.Rate{Count: 3, Per: time.Hour}}}
	h.svc = h.service()
	for range 3 {
		_, err := h.order(a, "x.test")
		ok(t, err)
	}
	_, err = h.order(a, "x.test")
	wantLimited(t, err, enroll.OrdersPerAccount, 20*time.Minute)
	if detail := bulkhead.AsFault(err).Detail; !strings.Contains(detail, "(3 per 1h0m0s)") {
		t.Errorf("the refusal tells another limit than the one in force: %s", detail)
	}
}

func TestLimitAccounts(t *testing.T) {
	h := limited(t, enroll.AccountsPerPrefix, 1, time.Hour)
	ask := func(from string) error {
		req := accountRequest(t, newKey(t).Public())
		req.From = netip.MustParseAddr(from)
		_, _, err := h.svc.NewAccount(t.Context(), req)
		return err
	}
	ok(t, ask("192.0.2.1"))
	wantLimited(t, ask("192.0.2.200"), enroll.AccountsPerPrefix, time.Hour)
	wantLimited(t, ask("::ffff:192.0.2.7"), enroll.AccountsPerPrefix, time.Hour)
	ok(t, ask("192.0.3.1"))
	ok(t, ask("2001:db8:1:2::1"))
	wantLimited(t, ask("2001:db8:1:3::1"), enroll.AccountsPerPrefix, time.Hour)
	ok(t, ask("2001:db8:2::1"))
}

func TestLimitFailedValidations(t *testing.T) {
	h := limited(t, enroll.FailedValidations, 2, time.Hour)
	a, _ := h.account()
	b, _ := h.account()
	h.script.validate = func(id bulkhead.Identifier, _ bulkhead.Method) (string, error) {
		if id.Value == "good.test" {
			return "seen", nil
		}
		return "", bulkhead.NewFault(bulkhead.KindConnection, "refused")
	}
	for range 2 {
		o, err := h.order(a, "bad.test")
		ok(t, err)
		h.respond(a, o)
		h.untilInvalid(a, o.ID)
	}
	_, err := h.order(a, "bad.test")
	wantLimited(t, err, enroll.FailedValidations, 30*time.Minute)
	_, err = h.order(b, "bad.test")
	ok(t, err)
	for range 3 { // what succeeds costs nothing
		h.ready(a, "good.test")
	}
}

func (h *house) untilInvalid(acct bulkhead.Account, id string) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		o, err := h.svc.Order(h.t.Context(), acct, id)
		ok(h.t, err)
		if o.State == bulkhead.OrderInvalid {
			return
		}
	}
	h.t.Fatal("the order does not become invalid")
}

// TestLimitCertificates: by exact set and by registered domain; a renewal that says what it replaces is free.
func TestLimitCertificates(t *testing.T) {
	for limit, sameAgain := range map[enroll.LimitName][]string{
		enroll.CertificatesPerSet:    {"www.example.com", "example.com"},
		enroll.CertificatesPerDomain: {"other.example.com"},
	} {
		t.Run(string(limit), func(t *testing.T) {
			h := limited(t, limit, 1, 24*time.Hour)
			a, _ := h.account()
			cert := h.issued(a, newKey(t), "example.com", "www.example.com")
			_, err := h.order(a, sameAgain...)
			wantLimited(t, err, limit, 24*time.Hour)
			h.issued(a, newKey(t), "example.org")
			o, err := h.svc.NewOrder(t.Context(), a, enroll.OrderRequest{Identifiers: ids(t, "example.com", "www.example.com"), Replaces: cert.Certificate.CertificateRef})
			ok(t, err)
			_, err = h.svc.Finalize(t.Context(), a, o.ID, csr(t, newKey(t), "example.com", "www.example.com"))
			ok(t, err)
			h.until(a, o.ID, bulkhead.OrderValid)
		})
	}
}

// TestLimitIsTakenAtFinalize: two orders placed before the limit was used up do not both end in a certificate.
func TestLimitIsTakenAtFinalize(t *testing.T) {
	h := limited(t, enroll.CertificatesPerSet, 1, time.Hour)
	a, _ := h.account()
	first, second := h.ready(a, "x.test"), h.ready(a, "x.test")
	_, err := h.svc.Finalize(t.Context(), a, first.ID, csr(t, newKey(t), "x.test"))
	ok(t, err)
	_, err = h.svc.Finalize(t.Context(), a, second.ID, csr(t, newKey(t), "x.test"))
	wantLimited(t, err, enroll.CertificatesPerSet, time.Hour)
	h.shift.Add(int64(61 * time.Minute))
	_, err = h.svc.Finalize(t.Context(), a, second.ID, csr(t, newKey(t), "x.test")) // the order stayed ready
	ok(t, err)
}

func TestLimitsAreChecked(t *testing.T) {
	for _, l := range []enroll.RateLimits{
		{Rates: map[enroll.LimitName]enroll.Rate{"nothing": {Count: 1, Per: time.Hour}}},
		{Rates: map[enroll.LimitName]enroll.Rate{enroll.OrdersPerAccount: {Count: 1}}},
		{Rates: map[enroll.LimitName]enroll.Rate{enroll.OrdersPerAccount: {Count: -1}}},
		{Overrides: []enroll.RateOverride{{Limit: enroll.OrdersPerAccount}}},
		{Overrides: []enroll.RateOverride{{Limit: "nothing", Account: "a"}}},
	} {
		wantKind(t, l.Check(), bulkhead.KindUsage)
	}
}

// TestRateLimitedAnswer: 429 with Retry-After and the way to the limits (RFC 8555 section 6.6).
func TestRateLimitedAnswer(t *testing.T) {
	w := newWorld(t)
	w.cfg.Rates = enroll.RateLimits{Rates: map[enroll.LimitName]enroll.Rate{enroll.OrdersPerAccount: {Count: 1, Per: time.Hour}}}
	w.svc = w.service()
	w.serve()
	r := newRaw(t, w.base, newKey(t)).register()
	if resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), nil); resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %v", resp.Status, doc)
	}
	resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), nil)
	if resp.StatusCode != http.StatusTooManyRequests || doc["type"] != "urn:ietf:params:acme:error:rateLimited" {
		t.Fatalf("%s %v", resp.Status, doc)
	}
	if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || after < 3500 || after > 3600 {
		t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
	}
	help := "<" + w.base + `/acme/limits>;rel="help"`
	if !strings.Contains(strings.Join(resp.Header.Values("Link"), ","), help) {
		t.Errorf("Link %q", resp.Header.Values("Link"))
	}
	got, err := http.Get(w.base + "/acme/limits")
	ok(t, err)
	defer func() { _ = got.Body.Close() }()
	if got.StatusCode != http.StatusOK {
		t.Errorf("the limits: %s", got.Status)
	}
}
