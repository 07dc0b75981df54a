package storetest

import (
	"testing"

	"bulkhead"
)

// testProfiles: versions are kept in the order of their coming, each once, with evidence in the same transaction.
func testProfiles(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := bulkhead.ProfileVersion{Name: "tls", Number: 1, Request: "r-1", At: at(1)}
	b := bulkhead.ProfileVersion{Name: "tls", Number: 2, Request: "r-2", At: at(2)}
	ok(t, s.PutProfileVersion(ctx, a, event("one")))
	ok(t, s.PutProfileVersion(ctx, b, event("two")))
	wantKind(t, s.PutProfileVersion(ctx, a, event("one again")), bulkhead.KindConflict)
	squatter := b
	squatter.Request = "r-3" // a row of somebody who wants to be in the way is in nobody's
	ok(t, s.PutProfileVersion(ctx, squatter, event("squatter")))
	rows := value(s.ProfileVersions(ctx, 0))(t)
	equal(t, len(rows), 3)
	a.Seq, b.Seq, squatter.Seq = rows[0].Seq, rows[1].Seq, rows[2].Seq
	equal(t, rows, []bulkhead.ProfileVersion{a, b, squatter})
	equal(t, value(s.ProfileVersions(ctx, a.Seq))(t), []bulkhead.ProfileVersion{b, squatter})
	equal(t, len(checkEvidence(t, s)), 3)
}
