package storetest

import (
	"testing"

	"bulkhead"
)

// testPlace stores an order with authorisations that are valid already, their validations and looks at CAA in one
// transaction, or nothing of it.
func testPlace(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	by := account("a", "thumb-a")
	ok(t, s.CreateAccount(ctx, by))
	a, b := authorization("z", "a.test"), authorization("y", "b.test")
	a.State, b.State = bulkhead.AuthorizationValid, bulkhead.AuthorizationValid
	v := bulkhead.Validation{ID: "v", AuthorizationID: "z", AccountID: "a", Identifier: a.Identifier, Method: bulkhead.OperatorApproval, At: at(7), ReuseUntil: at(60), Detail: "said so"}
	w := bulkhead.Validation{ID: "w", AuthorizationID: "y", AccountID: "a", Identifier: b.Identifier, Wildcard: true, Method: bulkhead.OperatorApproval, At: at(7), ReuseUntil: at(60)}
	o := order("o1", "z", "y")
	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, []byte("csr"), at(8)
	check := bulkhead.CAACheck{OrderID: "o1", Identifier: a.Identifier, At: at(8), ValidUntil: at(9), Result: bulkhead.CAAPermitted, Detail: "no record"}

	ok(t, s.PlaceOrder(ctx, o, []bulkhead.Authorization{a, b}, []bulkhead.Validation{v, w}, []bulkhead.CAACheck{check}, event("z"), event("y"), event("caa")))
	equal(t, value(s.Order(ctx, "o1"))(t), o)
	equal(t, value(s.Authorization(ctx, "z"))(t), a)
	equal(t, value(s.Authorization(ctx, "y"))(t), b)
	validations, checks, err := s.OrderEvidence(ctx, "o1")
	ok(t, err)
	equal(t, validations, []bulkhead.Validation{v, w})
	equal(t, checks, []bulkhead.CAACheck{check})
	equal(t, len(checkEvidence(t, s)), 3)

	// A validation whose id is taken, an authorisation that exists, and an order that exists: each undoes everything.
	c := authorization("x", "c.test")
	again := order("o2", "x")
	wantKind(t, s.PlaceOrder(ctx, again, []bulkhead.Authorization{c}, []bulkhead.Validation{{ID: "v", AuthorizationID: "x", AccountID: "a", Identifier: c.Identifier, Method: bulkhead.OperatorApproval}}, nil, event("twice")), bulkhead.KindConflict)
	wantKind(t, s.PlaceOrder(ctx, order("o2", "z"), []bulkhead.Authorization{a}, nil, nil, event("there")), bulkhead.KindConflict)
	wantKind(t, s.PlaceOrder(ctx, order("o1", "x"), []bulkhead.Authorization{c}, nil, nil, event("there")), bulkhead.KindConflict)
	for _, id := range []string{"o2", "x"} {
		_, err := s.Order(ctx, id)
		wantKind(t, err, bulkhead.KindNotFound)
	}
	_, err = s.Authorization(ctx, "x")
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, len(checkEvidence(t, s)), 3)

	// One who has left orders nothing.
	by.State = bulkhead.AccountDeactivated
	ok(t, s.UpdateAccount(ctx, by, bulkhead.AccountValid))
	wantKind(t, s.PlaceOrder(ctx, order("o2", "x"), []bulkhead.Authorization{c}, nil, nil, event("left")), bulkhead.KindConflict)
	wantKind(t, s.PlaceOrder(ctx, order("o2", "x"), []bulkhead.Authorization{c}, nil, nil), bulkhead.KindMalformed)
	equal(t, len(checkEvidence(t, s)), 3)
}
