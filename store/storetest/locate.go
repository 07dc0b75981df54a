package storetest

import (
	"fmt"
	"testing"

	"bulkhead"
)

// testLocate: what was found of a change's rows in advance moves the same rows as a commit that looks for them, whatever
// lies among them and whatever became of them meanwhile.
func testLocate(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, numbers(0, 8)...)
	reserve(t, s, 8)
	issue(t, s, 9, 10)
	states := func(want ...bulkhead.CertificateState) {
		t.Helper()
		for n, w := range want {
			equal(t, state(t, s, n), w)
		}
	}
	const i, r = bulkhead.Issued, bulkhead.Revoked

	// Runs of neighbours, certificates that are not of the change between them, and one that is only reserved.
	c := stage(t, s, "runs", items(bulkhead.Superseded, at(50), 1, 2, 4, 7, 9))
	ok(t, s.Locate(ctx, "runs"))
	states(i, i, i, i, i, i, i, i, bulkhead.Reserved, i, i)
	ok(t, s.Activate(ctx, c, nextHead(t, s), nil, event("activated")))
	states(i, r, r, i, r, i, i, r, bulkhead.Reserved, r, i)

	// A row that somebody revoked after it was located is upgraded, as without.
	late := stage(t, s, "late", items(bulkhead.KeyCompromise, at(60), 5, 6))
	ok(t, s.Locate(ctx, "late"))
	revoke(t, s, "first", bulkhead.Superseded, at(55), 6)
	ok(t, s.Locate(ctx, "late"))
	ok(t, s.Activate(ctx, late, nextHead(t, s), nil, event("activated")))
	states(i, r, r, i, r, r, r, r, bulkhead.Reserved, r, i)
	got, _, err := s.Certificate(ctx, ref(6))
	ok(t, err)
	equal(t, got.Reason, bulkhead.KeyCompromise)
	equal(t, got.RevokedAt, at(55))

	// What was located of one change is nothing to another, and does not outlive a refusal.
	other := stage(t, s, "other", items(bulkhead.Superseded, at(70), 10))
	open2 := stage(t, s, "reserved", items(bulkhead.Superseded, at(70), 0, 8))
	ok(t, s.Locate(ctx, "reserved"))
	wantKind(t, s.Activate(ctx, open2, nextHead(t, s), nil, event("activated")), bulkhead.KindConflict)
	states(i, r, r, i, r, r, r, r, bulkhead.Reserved, r, i)
	ok(t, s.Activate(ctx, other, nextHead(t, s), nil, event("activated")))
	states(i, r, r, i, r, r, r, r, bulkhead.Reserved, r, r)

	// What was read before it is not what is read after it, the second time as the first.
	for round := range 3 {
		issue(t, s, 11+round)
		equal(t, state(t, s, 11+round), i)
		again := stage(t, s, fmt.Sprint("again-", round), items(bulkhead.Superseded, at(80), 11+round))
		ok(t, s.Locate(ctx, again.ID))
		ok(t, s.Activate(ctx, again, nextHead(t, s), nil, event("activated")))
		equal(t, state(t, s, 11+round), r)
	}
	checkEvidence(t, s)
}
