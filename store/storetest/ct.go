package storetest

import (
	"testing"

	"bulkhead"
)

// testCT: progress in a log is kept with its leaf, and never goes back.
func testCT(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, len(value(s.CTMonitors(ctx))(t)), 0)
	m := bulkhead.CTMonitor{Log: "one", ID: bulkhead.Digest([]byte("one")), First: 10, Read: 20, Size: 30, Root: bulkhead.Digest([]byte("root")), At: start, Ours: 2, Unknown: 1}
	ok(t, s.PutCTMonitor(ctx, m, event("read")))
	other := m
	other.Log, other.ID = "another", bulkhead.Digest([]byte("another"))
	ok(t, s.PutCTMonitor(ctx, other, event("read")))
	equal(t, value(s.CTMonitors(ctx))(t), []bulkhead.CTMonitor{other, m})
	seq, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	back := m
	back.Read = 19
	wantKind(t, s.PutCTMonitor(ctx, back, event("back")), bulkhead.KindConflict)
	back = m
	back.Size = 29
	wantKind(t, s.PutCTMonitor(ctx, back, event("back")), bulkhead.KindConflict)
	m.First, m.Read, m.Log, m.Size, m.At, m.Ours = 99, 30, "renamed", 31, at(5), 3
	ok(t, s.PutCTMonitor(ctx, m, event("read")))
	m.First = 10 // the beginning stays
	equal(t, value(s.CTMonitors(ctx))(t), []bulkhead.CTMonitor{other, m})
	after, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	equal(t, after, seq+1)
}
