package storetest

import (
	"context"
	"testing"

	"bulkhead"
)

// seenStore remembers what the watch saw of CRLs.
type seenStore interface {
	CRLsSeen(ctx context.Context) ([]bulkhead.CRLSeen, error)
	SeeCRLs(ctx context.Context, seen []bulkhead.CRLSeen) error
}

// testCRLsSeen: numbers go up only, of each shard by itself, and are there after the next start.
func testCRLsSeen(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, len(value(s.CRLsSeen(ctx))(t)), 0)
	see := func(a bulkhead.AuthorityID, shard int, number int64, minute int) bulkhead.CRLSeen {
		return bulkhead.CRLSeen{Authority: a, Shard: shard, Number: number, At: at(minute)}
	}
	ok(t, s.SeeCRLs(ctx, nil))
	ok(t, s.SeeCRLs(ctx, []bulkhead.CRLSeen{see("b", 0, 7, 1), see("a", 1, 5, 1), see("a", 0, 5, 1)}))
	ok(t, s.SeeCRLs(ctx, []bulkhead.CRLSeen{see("a", 0, 4, 2), see("a", 1, 6, 2), see("b", 0, 7, 2)}))
	want := []bulkhead.CRLSeen{see("a", 0, 5, 1), see("a", 1, 6, 2), see("b", 0, 7, 1)}
	equal(t, value(s.CRLsSeen(ctx))(t), want)
}
