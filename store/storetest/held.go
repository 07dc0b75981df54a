package storetest

import (
	"testing"

	"bulkhead"
)

// testHeld: a planned change is ended by who read it as nobody's, and not when somebody took it up in between.
func testHeld(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, 0)
	c := bulkhead.Change{ID: "draft", State: bulkhead.ChangePlanned, Actor: "operator:a", Why: "test", CreatedAt: at(1), Held: at(10)}
	ok(t, s.CreateChange(ctx, c, nil, event("planned")))
	c = value(s.Change(ctx, "draft"))(t)
	equal(t, c.Held, at(10))
	ok(t, s.HoldChange(ctx, "draft", at(20)))
	before := len(checkEvidence(t, s))
	wantKind(t, s.EndPlanned(ctx, c, event("ended")), bulkhead.KindConflict)
	equal(t, len(checkEvidence(t, s)), before)
	if _, err := s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(5), 0), 9); err != nil {
		t.Fatal(err)
	}
	c = value(s.Change(ctx, "draft"))(t)
	equal(t, c.Held, at(20))
	ok(t, s.EndPlanned(ctx, c, event("ended")))
	equal(t, value(s.Change(ctx, "draft"))(t).State, bulkhead.ChangeRefused)
	wantKind(t, s.HoldChange(ctx, "draft", at(30)), bulkhead.KindConflict)
	wantKind(t, s.EndPlanned(ctx, c, event("again")), bulkhead.KindConflict)
	wantKind(t, s.HoldChange(ctx, "none", at(30)), bulkhead.KindNotFound)
	_, err := s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(5), 0), 9)
	wantKind(t, err, bulkhead.KindConflict)
	equal(t, len(checkEvidence(t, s)), before+1)
}
