package storetest

import (
	"testing"
	"time"

	"bulkhead"
)

// testChecks: a result is found by its id until it expires, and goes with the next one.
func testChecks(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	id, other := bulkhead.Digest([]byte("id")), bulkhead.Digest([]byte("other"))
	ok(t, s.PutCheck(ctx, id, []byte(`{"a":1}`), start, start.Add(time.Hour)))
	wantKind(t, s.PutCheck(ctx, id, []byte(`{"a":2}`), start, start.Add(2*time.Hour)), bulkhead.KindConflict)
	if got, err := s.Check(ctx, id, start.Add(time.Hour-time.Second)); err != nil || string(got) != `{"a":1}` {
		t.Fatalf("%s, %v", got, err)
	}
	_, err := s.Check(ctx, id, start.Add(time.Hour))
	wantKind(t, err, bulkhead.KindNotFound)
	_, err = s.Check(ctx, other, start)
	wantKind(t, err, bulkhead.KindNotFound)
	ok(t, s.PutCheck(ctx, other, nil, start.Add(time.Hour), start.Add(2*time.Hour)))
	_, err = s.Check(ctx, id, start)
	wantKind(t, err, bulkhead.KindNotFound)
}
