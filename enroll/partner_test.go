package enroll_test

import (
	"context"
	"slices"
	"testing"

	"bulkhead"
	"bulkhead/enroll"
)

// partner makes a partner with one person and a customer of it.
func (h *house) partner(id string, scope bulkhead.PartnerScope) (bulkhead.PartnerPerson, bulkhead.Account) {
	h.t.Helper()
	ctx := context.Background()
	ok(h.t, h.svc.AddPartner(ctx, "r-"+id, bulkhead.Hash{}, bulkhead.Partner{ID: id, Scope: scope}))
	person, _, err := h.svc.AddPerson(ctx, "operator:a", id, "yuki")
	ok(h.t, err)
	acct, _, err := h.svc.NewCustomer(ctx, person)
	ok(h.t, err)
	return person, acct
}

func north() bulkhead.PartnerScope {
	return bulkhead.PartnerScope{Names: []string{"north.test"}, Profiles: []string{"tls-server"}, PerHour: 2, PerDay: 3}
}

// TestPartnerBounds: names, profiles, hours and volume of a partner hold for its customers, each refusal is in evidence
// and seen by the detectors, and other customers do not notice.
func TestPartnerBounds(t *testing.T) {
	var seen []enroll.PartnerSeen
	h := newHouse(t, func(c *enroll.Config) { c.Seen = func(x enroll.PartnerSeen) { seen = append(seen, x) } })
	_, acct := h.partner("north", north())
	order := func(profile string, names ...string) error {
		_, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, names...), Profile: profile})
		return err
	}
	wantKind(t, order("", "www.google.test"), bulkhead.KindRejectedIdentifier)
	wantKind(t, order("", "north.test.evil.test"), bulkhead.KindRejectedIdentifier)
	wantKind(t, order("", "a.north.test", "evilnorth.test"), bulkhead.KindRejectedIdentifier)
	wantKind(t, order("tls-server-short", "a.north.test"), bulkhead.KindForbidden)
	ok(t, order("", "a.north.test", "*.north.test"))
	if len(seen) != 5 || seen[4].Refused != nil || seen[0].Refused == nil || seen[0].Partner != "north" {
		t.Errorf("seen: %+v", seen)
	}
	// Volume is counted where the certificate is reserved: two in this hour, and no third.
	for i, n := range []string{"b.north.test", "c.north.test"} {
		if c := h.issued(acct, newKey(t), n); c.Certificate.Serial.IsZero() {
			t.Fatal(i)
		}
	}
	o := h.ready(acct, "d.north.test")
	o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "d.north.test"))
	ok(t, err)
	if o.State != bulkhead.OrderProcessing { // it waits for the next hour
		t.Fatalf("the third order is %s", o.State)
	}
	other, _ := h.account()
	h.issued(other, newKey(t), "free.site.test")
	// Hours: the scope that is open at another time of day only.
	s := north()
	m := h.now().UTC().Hour()*60 + h.now().UTC().Minute()
	s.From, s.To = (m+60)%1440, (m+120)%1440
	_, err = h.svc.LimitPartner(t.Context(), "operator:a", "north", s, false)
	ok(t, err)
	wantKind(t, order("", "e.north.test"), bulkhead.KindForbidden)
	wider := s
	wider.Names = append(wider.Names, "google.test")
	_, err = h.svc.LimitPartner(t.Context(), "operator:a", "north", wider, false)
	wantKind(t, err, bulkhead.KindGate)
}

// TestHighValueNames: an order for a name of the list waits for somebody who did not make the account; who made it does
// not count, nor anybody at another partner.
func TestHighValueNames(t *testing.T) {
	h := newHouse(t, func(c *enroll.Config) { c.Policy.HighValue = []string{"bank.north.test", "bank.site.test"} })
	yuki, acct := h.partner("north", north())
	south := north()
	south.Names = []string{"south.test"}
	stranger, _ := h.partner("south", south)
	o := h.ready(acct, "www.bank.north.test")
	request := csr(t, newKey(t), "www.bank.north.test")
	finalize := func() error { _, err := h.svc.Finalize(t.Context(), acct, o.ID, request); return err }
	wantKind(t, finalize(), bulkhead.KindUserActionRequired)
	_, err := h.svc.ApproveOrder(t.Context(), yuki, "", o.ID, nil)
	wantKind(t, err, bulkhead.KindGate)
	_, err = h.svc.ApproveOrder(t.Context(), stranger, "", o.ID, nil)
	wantKind(t, err, bulkhead.KindNotFound)
	wantKind(t, finalize(), bulkhead.KindUserActionRequired)
	ken, _, err := h.svc.AddPerson(t.Context(), "operator:a", "north", "ken")
	ok(t, err)
	_, err = h.svc.ApproveOrder(t.Context(), ken, "", o.ID, nil)
	ok(t, err)
	ok(t, finalize())
	h.until(acct, o.ID, bulkhead.OrderValid)
	rows, words, _, err := h.svc.PartnerLog(t.Context(), "north", 0, 10)
	ok(t, err)
	if len(rows) != 1 || len(words[o.ID]) != 1 || words[o.ID][0].Actor != "partner:north/ken" {
		t.Errorf("%+v %+v", rows, words)
	}
	// Nobody's customer: two operators, by a request.
	plain, _ := h.account()
	o, acct = h.ready(plain, "bank.site.test"), plain
	request = csr(t, newKey(t), "bank.site.test")
	wantKind(t, finalize(), bulkhead.KindUserActionRequired)
	_, err = h.svc.ApproveOrder(t.Context(), bulkhead.PartnerPerson{}, "r-9", o.ID, nil)
	ok(t, err)
	ok(t, finalize())
}

// TestRolledKeys: an account whose key must be changed orders nothing until it has changed it, and can still change it.
func TestRolledKeys(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	o := h.ready(acct, "www.site.test")
	n, err := h.svc.RollAccounts(t.Context(), "operator:a", "the shop was broken into")
	ok(t, err)
	if n != 1 {
		t.Errorf("%d accounts", n)
	}
	_, err = h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "b.site.test")})
	wantKind(t, err, bulkhead.KindUserActionRequired)
	_, err = h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test"))
	wantKind(t, err, bulkhead.KindUserActionRequired)
	acct, err = h.svc.Account(t.Context(), acct.ID)
	ok(t, err)
	acct, err = h.svc.ChangeKey(t.Context(), acct, accountRequest(t, newKey(t).Public()))
	ok(t, err)
	_, err = h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "b.site.test")})
	ok(t, err)
}

// TestPartnerScopeWithin: what is narrower, and what is not.
func TestPartnerScopeWithin(t *testing.T) {
	wide := bulkhead.PartnerScope{Names: []string{"a.test", "*"}, Profiles: []string{"x", "y"}, PerHour: 5, PerDay: 9, From: 60, To: 600}
	narrow := func(change func(*bulkhead.PartnerScope)) bulkhead.PartnerScope {
		s := bulkhead.PartnerScope{Names: []string{"b.a.test"}, Profiles: []string{"x"}, PerHour: 5, PerDay: 9, From: 100, To: 500}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		change func(*bulkhead.PartnerScope)
		within bool
	}{
		"narrow":        {func(*bulkhead.PartnerScope) {}, true},
		"more an hour":  {func(s *bulkhead.PartnerScope) { s.PerHour = 6 }, false},
		"more a day":    {func(s *bulkhead.PartnerScope) { s.PerDay = 10 }, false},
		"other profile": {func(s *bulkhead.PartnerScope) { s.Profiles = append(slices.Clone(s.Profiles), "z") }, false},
		"any time":      {func(s *bulkhead.PartnerScope) { s.From, s.To = 0, 0 }, false},
		"over midnight": {func(s *bulkhead.PartnerScope) { s.From, s.To = 500, 100 }, false},
	} {
		if got := narrow(c.change).Within(wide); got != c.within {
			t.Errorf("%s: within is %v", name, got)
		}
	}
	if wide.Within(bulkhead.PartnerScope{Names: []string{"a.test"}, Profiles: wide.Profiles, PerHour: 5, PerDay: 9}) {
		t.Error("every name is within one")
	}
}
