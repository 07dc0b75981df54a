package storetest

import (
	"testing"

	"bulkhead"
)

// testConclude makes an authorisation valid and orders ready in one transaction, or neither.
func testConclude(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	by := account("a", "thumb-a")
	ok(t, s.CreateAccount(ctx, by))
	a, other := authorization("z", "a.test"), authorization("y", "b.test")
	ok(t, s.CreateOrder(ctx, order("o1", "z"), []bulkhead.Authorization{a, other}))
	ok(t, s.CreateOrder(ctx, order("o2", "z", "y"), nil))
	over := order("o3", "z")
	over.State = bulkhead.OrderInvalid
	ok(t, s.CreateOrder(ctx, over, nil))
	late := order("o4", "z") // it ended before the validation
	late.ExpiresAt = at(6)
	ok(t, s.CreateOrder(ctx, late, nil))
	aged := authorization("x", "c.test")
	aged.State, aged.ExpiresAt = bulkhead.AuthorizationValid, at(6)
	ok(t, s.CreateOrder(ctx, order("o5", "z", "x"), []bulkhead.Authorization{aged}))
	lasts := authorization("w", "d.test")
	lasts.State = bulkhead.AuthorizationValid
	ok(t, s.CreateOrder(ctx, order("o6", "w", "z"), []bulkhead.Authorization{lasts}))
	equal(t, value(s.Authorizations(ctx, "w", "z", "x"))(t), []bulkhead.Authorization{lasts, a, aged})
	equal(t, value(s.Authorizations(ctx, "z"))(t), []bulkhead.Authorization{a})
	equal(t, len(value(s.Authorizations(ctx))(t)), 0)
	for _, missing := range [][]string{{"none"}, {"z", "none"}} {
		_, err := s.Authorizations(ctx, missing...)
		wantKind(t, err, bulkhead.KindNotFound)
	}
	v := bulkhead.Validation{ID: "v", AuthorizationID: "z", AccountID: "a", Identifier: a.Identifier, Method: bulkhead.HTTP01, At: at(7), ReuseUntil: at(60)}
	a.State = bulkhead.AuthorizationValid

	// A validation whose id is taken undoes everything.
	other.State = bulkhead.AuthorizationValid
	w := v
	w.AuthorizationID = "y"
	ok(t, s.UpdateAuthorization(ctx, other, bulkhead.AuthorizationPending, &w, event("y")))
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, "thumb-a", event("twice")), bulkhead.KindConflict)
	equal(t, value(s.Authorization(ctx, "z"))(t).State, bulkhead.AuthorizationPending)
	equal(t, value(s.Order(ctx, "o1"))(t).State, bulkhead.OrderPending)

	// Nor may the account have left, or have another key: both hold from their commit on.
	v.ID = "v2"
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, "thumb-old", event("old key")), bulkhead.KindConflict)
	gone := by
	gone.State = bulkhead.AccountDeactivated
	ok(t, s.UpdateAccount(ctx, gone, bulkhead.AccountValid))
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, "thumb-a", event("deactivated")), bulkhead.KindConflict)
	equal(t, value(s.Authorization(ctx, "z"))(t).State, bulkhead.AuthorizationPending)
	ok(t, s.UpdateAccount(ctx, by, bulkhead.AccountDeactivated))
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, "thumb-a"), bulkhead.KindMalformed)
	wantKind(t, s.ConcludeAuthorization(ctx, authorization("none", "a.test"), v, "thumb-a", event("none")), bulkhead.KindNotFound)

	ok(t, s.ConcludeAuthorization(ctx, a, v, "thumb-a", event("z")))
	equal(t, value(s.Authorization(ctx, "z"))(t).State, bulkhead.AuthorizationValid)
	for id, want := range map[string]bulkhead.OrderState{"o1": bulkhead.OrderReady, "o2": bulkhead.OrderReady, "o3": bulkhead.OrderInvalid,
		"o4": bulkhead.OrderPending, "o5": bulkhead.OrderPending, "o6": bulkhead.OrderReady} {
		equal(t, value(s.Order(ctx, id))(t).State, want)
	}
	validations, _, err := s.OrderEvidence(ctx, "o1")
	ok(t, err)
	equal(t, validations, []bulkhead.Validation{v})
	var all []string
	for got, err := range s.ValidationRange(ctx) {
		ok(t, err)
		if all = append(all, got.ID); got.ID == v.ID {
			short := v
			short.Detail = ""
			equal(t, *got, short)
		}
	}
	equal(t, all, []string{"v", "v2"})

	// The way to processing keeps what was seen of CAA, or nothing.
	o := value(s.Order(ctx, "o1"))(t)
	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, []byte("csr"), at(8)
	check := bulkhead.CAACheck{OrderID: "o1", Identifier: a.Identifier, At: at(8), ValidUntil: at(9), Result: bulkhead.CAAPermitted, Detail: "no record"}
	hurry := make(chan struct{})
	close(hurry)
	ok(t, s.ProcessOrder(ctx, o, []bulkhead.CAACheck{check}, hurry, event("caa")))
	equal(t, value(s.Order(ctx, "o1"))(t), o)
	wantKind(t, s.ProcessOrder(ctx, o, []bulkhead.CAACheck{check}, nil, event("caa again")), bulkhead.KindConflict)
	_, checks, err := s.OrderEvidence(ctx, "o1")
	ok(t, err)
	equal(t, checks, []bulkhead.CAACheck{check})

	v.ID = "v3"
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, "thumb-a", event("late")), bulkhead.KindConflict)
	equal(t, value(s.Order(ctx, "o4"))(t).State, bulkhead.OrderPending)
	equal(t, len(checkEvidence(t, s)), 3)
}
