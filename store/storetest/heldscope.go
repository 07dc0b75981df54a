package storetest

import (
	"context"
	"testing"

	"bulkhead"
)

// heldStore remembers what the signer holds partners to.
type heldStore interface {
	HeldScopes(ctx context.Context) ([]bulkhead.HeldScope, error)
	HoldScope(ctx context.Context, h bulkhead.HeldScope, ev ...bulkhead.Evidence) error
}

// testHeldScopes: the newest of each partner is there after the next start, each with its leaf.
func testHeldScopes(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, len(value(s.HeldScopes(ctx))(t)), 0)
	held := func(partner, request string, minute int, names ...string) bulkhead.HeldScope {
		return bulkhead.HeldScope{Partner: partner, Signed: request, At: at(minute), Scope: bulkhead.PartnerScope{Names: names, Profiles: []string{"p"}, PerHour: minute, PerDay: 9, From: 60, To: 120}}
	}
	ok(t, s.HoldScope(ctx, held("south", "r1", 1, "*"), event("one")))
	ok(t, s.HoldScope(ctx, held("north", "r2", 2, "a.test", "b.test"), event("two")))
	ok(t, s.HoldScope(ctx, held("north", "r2", 3, "a.test"), event("three")))
	equal(t, value(s.HeldScopes(ctx))(t), []bulkhead.HeldScope{held("north", "r2", 3, "a.test"), held("south", "r1", 1, "*")})
	equal(t, len(checkEvidence(t, s)), 3)
}
