package retention_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/retention"
	"bulkhead/store/sqlite"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPrune deletes in several transactions, each with its leaf, and leaves evidence as it was.
func TestPrune(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	ok(t, err)
	defer s.Close()
	n := 0
	for i, end := range []time.Time{now.Add(-retention.Least - 49*time.Hour), now.Add(-retention.Least + time.Hour), now.Add(time.Hour)} {
		for range 1 + 1200*(1-min(i, 1)) {
			n++
			id := strconv.Itoa(n)
			ok(t, s.CreateOrder(t.Context(), bulkhead.Order{ID: id, AccountID: "a", State: bulkhead.OrderInvalid, CreatedAt: end.Add(-time.Hour), ExpiresAt: end}, nil))
		}
	}
	_, err = s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvStart, At: now})
	ok(t, err)
	if _, err := retention.New(retention.Config{Store: s, Period: retention.Least - time.Second}); err == nil {
		t.Error("a retention below two years is taken")
	}
	r, err := retention.New(retention.Config{Store: s, Period: retention.Least, Now: func() time.Time { return now }})
	ok(t, err)
	last := now.Add(-retention.Least)
	for _, f := range []func(time.Time) error{
		func(d time.Time) error { _, err := r.Plan(t.Context(), d); return err },
		func(d time.Time) error { _, err := r.Prune(t.Context(), "operator:x", d); return err },
	} {
		if err := f(last.Add(24 * time.Hour)); bulkhead.KindOf(err) != bulkhead.KindForbidden || bulkhead.AsFault(err).Hint == "" {
			t.Errorf("a day within the retention: %v", err)
		}
	}
	plan, err := r.Plan(t.Context(), last)
	ok(t, err)
	done, err := r.Prune(t.Context(), "operator:x", last)
	ok(t, err)
	if want := (bulkhead.Pruned{Orders: 1201}); plan != want || done != want {
		t.Fatalf("planned %+v, did %+v", plan, done)
	}
	rows, err := s.EvidenceAfter(t.Context(), 1, 10)
	ok(t, err)
	if len(rows) != 2 {
		t.Fatalf("%d leaves for two transactions", len(rows))
	}
	again, err := r.Prune(t.Context(), "operator:x", last)
	ok(t, err)
	if again != (bulkhead.Pruned{}) {
		t.Errorf("a second time: %+v", again)
	}
}
