package storetest

import (
	"testing"

	"bulkhead"
)

// testConclude makes an authorisation valid and orders ready in one transaction, or neither.
func testConclude(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a, other := authorization("z", "a.test"), authorization("y", "b.test")
	ok(t, s.CreateOrder(ctx, order("o1", "z"), []bulkhead.Authorization{a, other}))
	ok(t, s.CreateOrder(ctx, order("o2", "z", "y"), nil))
	over := order("o3", "z")
	over.State = bulkhead.OrderInvalid
	ok(t, s.CreateOrder(ctx, over, nil))
	v := bulkhead.Validation{ID: "v", AuthorizationID: "z", AccountID: "a", Identifier: a.Identifier, Method: bulkhead.HTTP01, At: at(7), ReuseUntil: at(60)}
	a.State = bulkhead.AuthorizationValid

	// A validation whose id is taken undoes everything.
	other.State = bulkhead.AuthorizationValid
	w := v
	w.AuthorizationID = "y"
	ok(t, s.UpdateAuthorization(ctx, other, bulkhead.AuthorizationPending, &w, event("y")))
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, []string{"o1"}, event("twice")), bulkhead.KindConflict)
	equal(t, value(s.Authorization(ctx, "z"))(t).State, bulkhead.AuthorizationPending)
	equal(t, value(s.Order(ctx, "o1"))(t).State, bulkhead.OrderPending)

	v.ID = "v2"
	ok(t, s.ConcludeAuthorization(ctx, a, v, []string{"o3", "o1", "nobody"}, event("z")))
	equal(t, value(s.Authorization(ctx, "z"))(t).State, bulkhead.AuthorizationValid)
	for id, want := range map[string]bulkhead.OrderState{"o1": bulkhead.OrderReady, "o2": bulkhead.OrderPending, "o3": bulkhead.OrderInvalid} {
		equal(t, value(s.Order(ctx, id))(t).State, want)
	}
	validations, _, err := s.OrderEvidence(ctx, "o1")
	ok(t, err)
	equal(t, validations, []bulkhead.Validation{v})

	// The way to processing keeps what was seen of CAA, or nothing.
	o := value(s.Order(ctx, "o1"))(t)
	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, []byte("csr"), at(8)
	check := bulkhead.CAACheck{OrderID: "o1", Identifier: a.Identifier, At: at(8), ValidUntil: at(9), Result: bulkhead.CAAPermitted, Detail: "no record"}
	ok(t, s.ProcessOrder(ctx, o, []bulkhead.CAACheck{check}, event("caa")))
	equal(t, value(s.Order(ctx, "o1"))(t), o)
	wantKind(t, s.ProcessOrder(ctx, o, []bulkhead.CAACheck{check}, event("caa again")), bulkhead.KindConflict)
	_, checks, err := s.OrderEvidence(ctx, "o1")
	ok(t, err)
	equal(t, checks, []bulkhead.CAACheck{check})

	v.ID = "v3"
	wantKind(t, s.ConcludeAuthorization(ctx, a, v, []string{"o2"}, event("late")), bulkhead.KindConflict)
	equal(t, value(s.Order(ctx, "o2"))(t).State, bulkhead.OrderPending)
	equal(t, len(checkEvidence(t, s)), 3)
}
