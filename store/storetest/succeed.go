package storetest

import (
	"testing"

	"bulkhead"
)

// testSucceed activates one authority and retires another together: at no moment are there two that issue.
func testSucceed(t *testing.T, open Open) {
	lose := false
	s, ctx := open(t, func(op string, commit func() error) error {
		if lose && op == "Succeed" {
			return errLost
		}
		return commit()
	}), t.Context()
	old := bulkhead.Authority{ID: "old", Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, CreatedAt: at(1)}
	next := bulkhead.Authority{ID: "next", Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityPending, CreatedAt: at(2)}
	ok(t, s.PutAuthority(ctx, old, event("old")))
	ok(t, s.PutAuthority(ctx, next, event("next")))
	retired, active := old, next
	retired.State, retired.Successor, active.State = bulkhead.AuthorityRetired, "next", bulkhead.AuthorityActive
	states := func(wantOld, wantNext bulkhead.AuthorityState) {
		t.Helper()
		equal(t, value(s.Authority(ctx, "old"))(t).State, wantOld)
		equal(t, value(s.Authority(ctx, "next"))(t).State, wantNext)
	}
	lose = true
	if err := s.Succeed(ctx, active, retired, event("active"), event("retired")); err == nil {
		t.Fatal("a lost commit was not reported")
	}
	states(bulkhead.AuthorityActive, bulkhead.AuthorityPending)
	lose = false
	ok(t, s.Succeed(ctx, active, retired, event("active"), event("retired")))
	states(bulkhead.AuthorityRetired, bulkhead.AuthorityActive)
	equal(t, value(s.Authority(ctx, "old"))(t), retired)
	third := bulkhead.Authority{ID: "third", Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, CreatedAt: at(3)}
	wantKind(t, s.Succeed(ctx, third, retired, event("third")), bulkhead.KindConflict)
	gone := retired
	gone.ID = "nobody"
	wantKind(t, s.Succeed(ctx, third, gone, event("third")), bulkhead.KindNotFound)
	_, err := s.Authority(ctx, "third")
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, len(checkEvidence(t, s)), 4)
}
