package storetest

import (
	"testing"
	"time"

	"bulkhead"
)

func account(id, thumbprint string) bulkhead.Account {
	return bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: thumbprint, JWK: []byte(`{"kty":"EC"}`),
		Contacts: []string{"mailto:a@example.com"}, TermsAt: at(1), CreatedAt: at(2)}
}

func testAccounts(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := account("a", "thumb-a")
	api := bulkhead.Account{ID: "api", State: bulkhead.AccountValid, TokenHash: digest("token", 1), Operator: true, CreatedAt: at(3)}
	ok(t, s.CreateAccount(ctx, a, event("a")))
	ok(t, s.CreateAccount(ctx, api, event("api")))
	equal(t, value(s.Account(ctx, "a"))(t), a)
	equal(t, value(s.AccountByThumbprint(ctx, "thumb-a"))(t), a)
	equal(t, value(s.AccountByToken(ctx, digest("token", 1)))(t), api)
	for _, f := range []func() error{
		func() error { _, err := s.Account(ctx, "x"); return err },
		func() error { _, err := s.AccountByThumbprint(ctx, "x"); return err },
		func() error { _, err := s.AccountByThumbprint(ctx, ""); return err }, // an API account has none
		func() error { _, err := s.AccountByToken(ctx, digest("token", 2)); return err },
		func() error { _, err := s.AccountByToken(ctx, bulkhead.Hash{}); return err },
	} {
		wantKind(t, f(), bulkhead.KindNotFound)
	}
	twin := api
	twin.ID = "api-2"
	for _, again := range []bulkhead.Account{a, account("b", "thumb-a"), twin} {
		wantKind(t, s.CreateAccount(ctx, again, event("again")), bulkhead.KindConflict)
	}
	b := account("b", "thumb-b")
	ok(t, s.CreateAccount(ctx, b))
	ok(t, s.CreateAccount(ctx, bulkhead.Account{ID: "plain", State: bulkhead.AccountValid, CreatedAt: at(1)}))

	a.Thumbprint, a.JWK, a.Contacts = "thumb-c", []byte(`{"kty":"RSA"}`), nil
	ok(t, s.UpdateAccount(ctx, a, bulkhead.AccountValid, event("key change")))
	equal(t, value(s.AccountByThumbprint(ctx, "thumb-c"))(t), a)
	b.Thumbprint = "thumb-c"
	wantKind(t, s.UpdateAccount(ctx, b, bulkhead.AccountValid, event("taken")), bulkhead.KindConflict)
	a.State = bulkhead.AccountDeactivated
	ok(t, s.UpdateAccount(ctx, a, bulkhead.AccountValid))
	wantKind(t, s.UpdateAccount(ctx, a, bulkhead.AccountValid, event("late")), bulkhead.KindConflict)
	a.ID = "x"
	wantKind(t, s.UpdateAccount(ctx, a, bulkhead.AccountValid, event("none")), bulkhead.KindNotFound)
	equal(t, len(checkEvidence(t, s)), 3)
}

func authorization(id, name string) bulkhead.Authorization {
	return bulkhead.Authorization{ID: id, AccountID: "a", Identifier: bulkhead.Identifier{Type: bulkhead.DNS, Value: name},
		State: bulkhead.AuthorizationPending, ExpiresAt: at(100), CreatedAt: at(1),
		Challenges: []bulkhead.Challenge{{ID: id + "-1", Method: bulkhead.HTTP01, Token: "t1", State: bulkhead.ChallengePending},
			{ID: id + "-2", Method: bulkhead.DNS01, Token: "t2", State: bulkhead.ChallengePending}}}
}

func order(id string, authorizations ...string) bulkhead.Order {
	return bulkhead.Order{ID: id, AccountID: "a", State: bulkhead.OrderPending, Profile: "tls-server", Authority: issuer,
		Identifiers: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "www.example.com"}}, Authorizations: authorizations,
		ExpiresAt: at(200), CreatedAt: at(1)}
}

func testOrders(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	o := order("o-1", "z-1", "z-2")
	ok(t, s.CreateOrder(ctx, o, []bulkhead.Authorization{authorization("z-1", "a.test"), authorization("z-2", "b.test")}))
	equal(t, value(s.Order(ctx, "o-1"))(t), o)
	equal(t, value(s.Authorization(ctx, "z-2"))(t), authorization("z-2", "b.test"))
	_, err := s.Order(ctx, "x")
	wantKind(t, err, bulkhead.KindNotFound)
	_, err = s.Authorization(ctx, "x")
	wantKind(t, err, bulkhead.KindNotFound)

	wantKind(t, s.CreateOrder(ctx, o, []bulkhead.Authorization{authorization("z-9", "a.test")}), bulkhead.KindConflict)
	wantKind(t, s.CreateOrder(ctx, order("o-9", "z-1"), []bulkhead.Authorization{authorization("z-9", "a.test"), authorization("z-1", "a.test")}), bulkhead.KindConflict)
	wantKind(t, s.CreateOrder(ctx, order("o-9", "none"), []bulkhead.Authorization{authorization("z-9", "a.test")}), bulkhead.KindConflict)
	_, err = s.Authorization(ctx, "z-9") // nothing of a refused order stays
	wantKind(t, err, bulkhead.KindNotFound)
	_, err = s.Order(ctx, "o-9")
	wantKind(t, err, bulkhead.KindNotFound)

	for _, id := range []string{"o-2", "o-3", "o-4"} {
		ok(t, s.CreateOrder(ctx, order(id, "z-1"), nil))
	}
	equal(t, value(s.OrdersByAccount(ctx, "a", "", 3))(t), []string{"o-4", "o-3", "o-2"})
	equal(t, value(s.OrdersByAccount(ctx, "a", "o-2", 3))(t), []string{"o-1"})
	equal(t, len(value(s.OrdersByAccount(ctx, "b", "", 3))(t)), 0)
	_, err = s.OrdersByAccount(ctx, "b", "o-2", 3)
	wantKind(t, err, bulkhead.KindNotFound)

	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, []byte("csr"), at(5)
	ok(t, s.UpdateOrder(ctx, o, bulkhead.OrderPending, event("processing")))
	equal(t, value(s.Order(ctx, "o-1"))(t), o)
	wantKind(t, s.UpdateOrder(ctx, o, bulkhead.OrderPending, event("late")), bulkhead.KindConflict)
	o.State, o.Certificate = bulkhead.OrderValid, ref(1)
	ok(t, s.EndOrder(ctx, o))
	wantKind(t, s.EndOrder(ctx, o), bulkhead.KindConflict)
	equal(t, value(s.Order(ctx, "o-1"))(t), o)
	bad := order("o-2", "z-1")
	bad.State = bulkhead.OrderInvalid
	bad.Problem = &bulkhead.Fault{Kind: bulkhead.KindCompound, Detail: "two names", Hint: "ask again", RetryAfter: time.Minute,
		Subs: []bulkhead.SubFault{{Identifier: bulkhead.Identifier{Type: bulkhead.DNS, Value: "a.test"}, Kind: bulkhead.KindCAA, Detail: "no"}}}
	ok(t, s.UpdateOrder(ctx, bad, bulkhead.OrderPending))
	equal(t, value(s.Order(ctx, "o-2"))(t), bad)
	wantKind(t, s.UpdateOrder(ctx, order("x"), bulkhead.OrderPending), bulkhead.KindNotFound)

	ids := func(list []bulkhead.Order) (out []string) {
		for _, o := range list {
			out = append(out, o.ID)
		}
		return out
	}
	equal(t, ids(value(s.OrdersInState(ctx, bulkhead.OrderPending, 10))(t)), []string{"o-3", "o-4"})
	equal(t, ids(value(s.OrdersInState(ctx, bulkhead.OrderPending, 1))(t)), []string{"o-3"})
	equal(t, ids(value(s.OrdersByAuthorization(ctx, "z-1"))(t)), []string{"o-3", "o-4"})
	equal(t, len(value(s.OrdersByAuthorization(ctx, "z-2"))(t)), 0)
	equal(t, len(checkEvidence(t, s)), 1)
}

func testReplaces(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	first, second := order("o-1"), order("o-2")
	first.Replaces, second.Replaces = ref(1), ref(1)
	ok(t, s.CreateOrder(ctx, first, nil))
	equal(t, value(s.Order(ctx, "o-1"))(t).Replaces, ref(1))
	wantKind(t, s.CreateOrder(ctx, second, nil), bulkhead.KindAlreadyReplaced)
	ok(t, s.CreateOrder(ctx, order("o-3"), nil))
	ok(t, s.CreateOrder(ctx, order("o-4"), nil))

	first.State = bulkhead.OrderInvalid
	ok(t, s.UpdateOrder(ctx, first, bulkhead.OrderPending))
	ok(t, s.CreateOrder(ctx, second, nil))
	third := order("o-5")
	third.Replaces = ref(1)
	wantKind(t, s.CreateOrder(ctx, third, nil), bulkhead.KindAlreadyReplaced)

	// An order that ran out of time claims nothing; one that is being signed keeps its claim.
	for i, state := range []bulkhead.OrderState{bulkhead.OrderPending, bulkhead.OrderReady, bulkhead.OrderProcessing} {
		late, next := order("late-"+string(state)), order("next-"+string(state))
		late.State, late.Replaces, next.Replaces = state, ref(10+i), ref(10+i)
		ok(t, s.CreateOrder(ctx, late, nil))
		next.CreatedAt = late.ExpiresAt.Add(-time.Second)
		wantKind(t, s.CreateOrder(ctx, next, nil), bulkhead.KindAlreadyReplaced)
		next.CreatedAt = late.ExpiresAt.Add(time.Second)
		if state == bulkhead.OrderProcessing {
			wantKind(t, s.CreateOrder(ctx, next, nil), bulkhead.KindAlreadyReplaced)
			continue
		}
		ok(t, s.CreateOrder(ctx, next, nil))
		equal(t, value(s.Order(ctx, late.ID))(t).State, bulkhead.OrderInvalid)
	}

	// Of many at once, one wins.
	third.Replaces = ref(2)
	errs := race(8, func(i int) error {
		o := third
		o.ID = []string{"r-0", "r-1", "r-2", "r-3", "r-4", "r-5", "r-6", "r-7"}[i]
		return s.CreateOrder(ctx, o, nil)
	})
	oneWins(t, errs, bulkhead.KindAlreadyReplaced)
}

func testAuthorizations(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	wild := authorization("wild", "a.test")
	wild.Wildcard = true
	short, long := authorization("short", "a.test"), authorization("long", "a.test")
	other := authorization("other", "b.test")
	other.AccountID = "b"
	fresh := []bulkhead.Authorization{wild, short, long, other, authorization("pending", "c.test")}
	ok(t, s.CreateOrder(ctx, order("o", "wild", "short", "long", "other", "pending"), fresh))

	dns := func(names ...string) (out []bulkhead.Identifier) {
		for _, n := range names {
			out = append(out, bulkhead.Identifier{Type: bulkhead.DNS, Value: n})
		}
		return out
	}
	equal(t, len(value(s.ReusableAuthorizations(ctx, "a", dns("a.test"), at(0)))(t)), 0)
	validate := func(a bulkhead.Authorization, expires time.Time) bulkhead.Authorization {
		t.Helper()
		a.State, a.ExpiresAt = bulkhead.AuthorizationValid, expires
		a.Challenges[0].State, a.Challenges[0].ValidatedAt = bulkhead.ChallengeValid, at(7)
		a.Challenges[1].Problem = bulkhead.NewFault(bulkhead.KindDNS, "no such name")
		v := &bulkhead.Validation{ID: "v-" + a.ID, AuthorizationID: a.ID, AccountID: a.AccountID, Identifier: a.Identifier,
			Wildcard: a.Wildcard, Method: bulkhead.HTTP01, At: at(7), ReuseUntil: expires, Detail: "192.0.2.1:80"}
		ok(t, s.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, v, event("validated "+a.ID)))
		equal(t, value(s.Authorization(ctx, a.ID))(t), a)
		return a
	}
	validate(short, at(50))
	long = validate(long, at(60))
	wild, other = validate(wild, at(70)), validate(other, at(70))
	wantKind(t, s.UpdateAuthorization(ctx, wild, bulkhead.AuthorizationPending, nil, event("late")), bulkhead.KindConflict)
	wantKind(t, s.UpdateAuthorization(ctx, authorization("x", "x"), bulkhead.AuthorizationPending, nil), bulkhead.KindNotFound)
	twice := &bulkhead.Validation{ID: "v-wild", AuthorizationID: "wild"}
	gone := wild
	gone.State = bulkhead.AuthorizationRevoked
	wantKind(t, s.UpdateAuthorization(ctx, gone, bulkhead.AuthorizationValid, twice, event("twice")), bulkhead.KindConflict)
	equal(t, value(s.Authorization(ctx, "wild"))(t).State, bulkhead.AuthorizationValid)

	equal(t, value(s.ReusableAuthorizations(ctx, "a", dns("a.test", "a.test", "b.test", "c.test"), at(50)))(t), []bulkhead.Authorization{long})
	equal(t, value(s.ReusableAuthorizations(ctx, "a", dns("*.a.test"), at(70)))(t), []bulkhead.Authorization{wild})
	equal(t, len(value(s.ReusableAuthorizations(ctx, "a", dns("a.test", "*.a.test"), at(50)))(t)), 2)
	equal(t, len(value(s.ReusableAuthorizations(ctx, "a", dns("a.test"), at(61)))(t)), 0)
	equal(t, len(value(s.ReusableAuthorizations(ctx, "a", nil, at(0)))(t)), 0)
	ip := []bulkhead.Identifier{{Type: bulkhead.IP, Value: "a.test"}}
	equal(t, len(value(s.ReusableAuthorizations(ctx, "a", ip, at(0)))(t)), 0)
	for _, c := range []struct {
		account string
		names   []string
		when    time.Time
		want    bool
	}{
		{"a", []string{"a.test", "*.a.test"}, at(60), true}, {"a", []string{"a.test"}, at(61), false},
		{"a", []string{"a.test", "b.test"}, at(10), false}, {"b", []string{"b.test", "b.test"}, at(70), true},
		{"b", []string{"*.b.test"}, at(10), false}, {"a", nil, at(10), false},
	} {
		equal(t, value(s.HoldsAuthorizations(ctx, c.account, dns(c.names...), c.when))(t), c.want)
	}
	equal(t, len(checkEvidence(t, s)), 4)
}

func testOrderEvidence(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := authorization("z-1", "a.test")
	ok(t, s.CreateOrder(ctx, order("o-1", "z-1"), []bulkhead.Authorization{a, authorization("z-2", "b.test")}))
	ok(t, s.CreateOrder(ctx, order("o-2", "z-1"), nil))
	_, _, err := s.OrderEvidence(ctx, "none")
	wantKind(t, err, bulkhead.KindNotFound)
	v := bulkhead.Validation{ID: "v", AuthorizationID: "z-1", AccountID: "a", Identifier: a.Identifier, Wildcard: true,
		Method: bulkhead.DNS01, At: at(7), ReuseUntil: at(90), Detail: "TXT seen"}
	a.State = bulkhead.AuthorizationValid
	ok(t, s.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, &v))
	check := bulkhead.CAACheck{OrderID: "o-1", Identifier: a.Identifier, At: at(8), ValidUntil: at(9), Result: bulkhead.CAAPermitted, Detail: "none found"}
	denied := check
	denied.Identifier.Value, denied.Result = "b.test", bulkhead.CAADenied
	ok(t, s.PutCAAChecks(ctx, []bulkhead.CAACheck{check, denied}, event("caa")))
	ok(t, s.PutCAAChecks(ctx, nil))

	validations, checks, err := s.OrderEvidence(ctx, "o-1")
	ok(t, err)
	equal(t, validations, []bulkhead.Validation{v})
	equal(t, checks, []bulkhead.CAACheck{check, denied})
	validations, checks, err = s.OrderEvidence(ctx, "o-2") // reuses the validation, not the checks
	ok(t, err)
	equal(t, validations, []bulkhead.Validation{v})
	equal(t, len(checks), 0)

	both, err := s.OrdersEvidence(ctx, "o-2", "none", "o-1", "o-2")
	ok(t, err)
	equal(t, both, map[string]*bulkhead.OrderEvidence{"o-1": {Validations: []bulkhead.Validation{v}, Checks: []bulkhead.CAACheck{check, denied}},
		"o-2": {Validations: []bulkhead.Validation{v}}})
	ok(t, s.CreateOrder(ctx, order("o-3", "z-2"), nil))
	both, err = s.OrdersEvidence(ctx, "o-3")
	ok(t, err)
	equal(t, both, map[string]*bulkhead.OrderEvidence{"o-3": {}})
	equal(t, len(checkEvidence(t, s)), 1)
}
