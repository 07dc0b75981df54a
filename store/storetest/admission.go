package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
)

func testExternalKeys(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	k := bulkhead.ExternalKey{ID: "k-1", Note: "for site a", Actor: "operator:a", CreatedAt: at(1), ExpiresAt: at(100)}
	ok(t, s.CreateExternalKey(ctx, k, event("key")))
	wantKind(t, s.CreateExternalKey(ctx, k, event("again")), bulkhead.KindConflict)
	ok(t, s.CreateExternalKey(ctx, bulkhead.ExternalKey{ID: "k-2", CreatedAt: at(2)}))
	ok(t, s.CreateExternalKey(ctx, bulkhead.ExternalKey{ID: "k-3", CreatedAt: at(3)}))
	equal(t, value(s.ExternalKey(ctx, "k-1"))(t), k)
	_, err := s.ExternalKey(ctx, "none")
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, len(value(s.ExternalKeys(ctx, 2))(t)), 2)
	equal(t, value(s.ExternalKeys(ctx, 9))(t)[2].ID, "k-1")

	late := account("late", "thumb-late")
	late.CreatedAt = at(100)
	wantKind(t, s.CreateBoundAccount(ctx, late, "k-1", event("expired")), bulkhead.KindUnauthorized)
	wantKind(t, s.CreateBoundAccount(ctx, late, "none", event("none")), bulkhead.KindUnauthorized)
	a := account("a", "thumb-a")
	ok(t, s.CreateBoundAccount(ctx, a, "k-1", event("bound")))
	equal(t, value(s.Account(ctx, "a"))(t), a)
	k.AccountID, k.UsedAt = "a", a.CreatedAt
	equal(t, value(s.ExternalKey(ctx, "k-1"))(t), k)
	wantKind(t, s.CreateBoundAccount(ctx, account("b", "thumb-b"), "k-1", event("used")), bulkhead.KindUnauthorized)
	// An account that cannot be made leaves the key unused.
	wantKind(t, s.CreateBoundAccount(ctx, account("c", "thumb-a"), "k-2", event("same key")), bulkhead.KindConflict)
	equal(t, value(s.ExternalKey(ctx, "k-2"))(t).AccountID, "")

	ok(t, s.RevokeExternalKey(ctx, "k-2", at(9), event("revoked")))
	wantKind(t, s.RevokeExternalKey(ctx, "k-2", at(10), event("twice")), bulkhead.KindConflict)
	wantKind(t, s.RevokeExternalKey(ctx, "none", at(10), event("none")), bulkhead.KindNotFound)
	equal(t, value(s.ExternalKey(ctx, "k-2"))(t).RevokedAt, at(9))
	wantKind(t, s.CreateBoundAccount(ctx, account("d", "thumb-d"), "k-2"), bulkhead.KindUnauthorized)
	equal(t, len(checkEvidence(t, s)), 3)

	oneWins(t, race(8, func(i int) error {
		return s.CreateBoundAccount(ctx, account(fmt.Sprintf("r-%d", i), fmt.Sprintf("thumb-r-%d", i)), "k-3")
	}), bulkhead.KindUnauthorized)
}

func testRevokedAuthorizations(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	var fresh []bulkhead.Authorization
	names := []string{"a.test", "b.a.test", "xa.test", "c.test"}
	for i, n := range names {
		fresh = append(fresh, authorization(fmt.Sprintf("z-%d", i), n))
	}
	fresh[3].AccountID = "b"
	ok(t, s.CreateOrder(ctx, order("o-1", "z-0", "z-1"), fresh))
	for id, state := range map[string]bulkhead.OrderState{"o-2": bulkhead.OrderReady, "o-3": bulkhead.OrderProcessing, "o-4": bulkhead.OrderValid, "o-5": bulkhead.OrderInvalid} {
		o := order(id, "z-0")
		o.State = state
		ok(t, s.CreateOrder(ctx, o, nil))
	}
	for i, a := range fresh {
		a.State = bulkhead.AuthorizationValid
		v := bulkhead.Validation{ID: "v-" + a.ID, AuthorizationID: a.ID, AccountID: a.AccountID, Identifier: a.Identifier, Method: bulkhead.HTTP01, At: at(10 + i), ReuseUntil: at(90)}
		if i == 1 {
			v.Method = bulkhead.TLSALPN01
		}
		ok(t, s.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, &v))
	}
	ids := func(f bulkhead.AuthorizationFilter) (out []string) {
		for _, a := range value(s.SelectAuthorizations(ctx, f, 10))(t) {
			out = append(out, a.ID)
		}
		equal(t, value(s.TallyAuthorizations(ctx, f))(t).Authorizations, int64(len(out)))
		return out
	}
	for i, c := range []struct {
		f    bulkhead.AuthorizationFilter
		want []string
	}{
		{bulkhead.AuthorizationFilter{}, []string{"z-0", "z-1", "z-2", "z-3"}},
		{bulkhead.AuthorizationFilter{Method: bulkhead.TLSALPN01}, []string{"z-1"}},
		{bulkhead.AuthorizationFilter{Method: bulkhead.DNS01}, nil},
		{bulkhead.AuthorizationFilter{Name: "a.test"}, []string{"z-0"}},
		{bulkhead.AuthorizationFilter{Name: ".a.test"}, []string{"z-1"}},
		{bulkhead.AuthorizationFilter{Name: "._.test"}, nil},
		{bulkhead.AuthorizationFilter{AccountID: "b"}, []string{"z-3"}},
		{bulkhead.AuthorizationFilter{Since: at(11), Until: at(13)}, []string{"z-1", "z-2"}},
		{bulkhead.AuthorizationFilter{AliveAt: at(100)}, []string{"z-0", "z-1", "z-2", "z-3"}},
		{bulkhead.AuthorizationFilter{AliveAt: at(101)}, nil},
	} {
		t.Log(i)
		equal(t, ids(c.f), c.want)
	}
	equal(t, len(value(s.SelectAuthorizations(ctx, bulkhead.AuthorizationFilter{}, 1))(t)), 1)
	equal(t, value(s.TallyAuthorizations(ctx, bulkhead.AuthorizationFilter{}))(t), bulkhead.AuthorizationTally{Authorizations: 4, Accounts: 2, OpenOrders: 3, Certificates: 1})
	r := reservation(3)
	r.Certificate.OrderID = "o-3" // whose row will follow its certificate
	_, errs, err := s.Reserve(ctx, []bulkhead.Reservation{r})
	ok(t, errors.Join(append(errs, err)...))
	equal(t, value(s.TallyAuthorizations(ctx, bulkhead.AuthorizationFilter{}))(t).OpenOrders, int64(3))
	complete(t, s, 3)
	equal(t, value(s.TallyAuthorizations(ctx, bulkhead.AuthorizationFilter{}))(t), bulkhead.AuthorizationTally{Authorizations: 4, Accounts: 2, OpenOrders: 2, Certificates: 2})

	// What is revoked vouches for nothing any more: not for the signer, not for a new order, not for another's revocation.
	validations, _, err := s.OrderEvidence(ctx, "o-1")
	ok(t, err)
	equal(t, len(validations), 2)
	equal(t, value(s.RevokeAuthorizations(ctx, []string{"z-0", "none", "z-0"}, []bulkhead.Evidence{event("z-0"), event("none"), event("twice")}))(t), 1)
	validations, _, err = s.OrderEvidence(ctx, "o-1")
	ok(t, err)
	equal(t, len(validations), 1)
	equal(t, validations[0].AuthorizationID, "z-1")
	equal(t, value(s.Authorization(ctx, "z-0"))(t).State, bulkhead.AuthorizationRevoked)
	equal(t, value(s.HoldsAuthorizations(ctx, "a", []bulkhead.Identifier{fresh[0].Identifier}, at(20)))(t), false)
	equal(t, len(value(s.ReusableAuthorizations(ctx, "a", []bulkhead.Identifier{fresh[0].Identifier}, at(20)))(t)), 0)
	equal(t, ids(bulkhead.AuthorizationFilter{Method: bulkhead.HTTP01}), []string{"z-2", "z-3"})
	_, err = s.RevokeAuthorizations(ctx, []string{"z-2"}, nil)
	wantKind(t, err, bulkhead.KindInternal)
	leaves := checkEvidence(t, s)
	equal(t, len(leaves), 3) // of the certificate and
	equal(t, leaves[2].Detail, "z-0")

	var open2 []string
	for _, o := range value(s.OrdersByAuthorization(ctx, "z-0"))(t) {
		open2 = append(open2, o.ID)
	}
	equal(t, len(open2), 2) // pending and ready
	equal(t, len(value(s.OpenOrdersByAccount(ctx, "a", 10))(t)), 2)
	equal(t, len(value(s.OpenOrdersByAccount(ctx, "b", 10))(t)), 0)

	// Given up by its account is no better than revoked by us.
	gone := value(s.Authorization(ctx, "z-1"))(t)
	gone.State = bulkhead.AuthorizationDeactivated
	ok(t, s.UpdateAuthorization(ctx, gone, bulkhead.AuthorizationValid, nil))
	validations, _, err = s.OrderEvidence(ctx, "o-1")
	ok(t, err)
	equal(t, len(validations), 0)
}

func testRates(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const interval = 20 * time.Minute
	three := bulkhead.RateCharge{Key: "orders/a", Interval: interval, Burst: 3 * interval}
	take := func(now time.Time, charges ...bulkhead.RateCharge) *bulkhead.RateRefusal {
		t.Helper()
		peek := value(s.PeekRate(ctx, now, charges))(t)
		got := value(s.TakeRate(ctx, now, charges))(t)
		equal(t, got, peek)
		return got
	}
	for range 3 {
		equal(t, take(at(0), three), nil)
	}
	equal(t, take(at(0), three), &bulkhead.RateRefusal{Key: "orders/a", Retry: interval})
	equal(t, take(at(19), three), &bulkhead.RateRefusal{Key: "orders/a", Retry: time.Minute})
	equal(t, take(at(20), three), nil)
	equal(t, take(at(20), three) == nil, false)

	// All or nothing: what one limit refuses is not taken from the others.
	other := bulkhead.RateCharge{Key: "names/x", Interval: interval, Burst: interval}
	equal(t, take(at(20), other, three).Key, "orders/a")
	equal(t, take(at(20), other), nil)
	equal(t, take(at(20), other) == nil, false)
	equal(t, take(at(20)), nil)

	ok(t, s.ForgetRates(ctx, at(39)))
	equal(t, take(at(39), other) == nil, false)
	ok(t, s.ForgetRates(ctx, at(200)))
	equal(t, take(at(40), other), nil) // the row went: nothing is remembered

	// Of many at once, exactly as many as the limit has.
	var taken atomic.Int32
	race(12, func(i int) error {
		r, err := s.TakeRate(ctx, at(0), []bulkhead.RateCharge{{Key: "race", Interval: interval, Burst: 5 * interval}, {Key: fmt.Sprint("own-", i%2), Interval: interval, Burst: 90 * interval}})
		if err == nil && r == nil {
			taken.Add(1)
		}
		return err
	})
	equal(t, taken.Load(), 5)
}
