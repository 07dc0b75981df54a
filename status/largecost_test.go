package status_test

import (
	"testing"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/status"
	"bulkhead/store/sqlite"
)

// largeCost is what carrying a change out took.
type largeCost struct {
	transactions int64 // of the record
	leaves       int64 // of evidence
	signatures   int64 // announced in evidence
	named        map[bulkhead.Serial]int
}

// activateLarge revokes n certificates by one change and counts.
func activateLarge(t *testing.T, n int) largeCost {
	t.Helper()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = n })
	refs := h.populate(caA, n)
	h.tick()
	c, err := h.status.Plan(t.Context(), "operator:anna", "a large one", items(bulkhead.Superseded, refs...))
	ok(t, err)
	_, hash, err := h.status.Preview(t.Context(), c.ID)
	ok(t, err)
	ok(t, h.status.Approve(t.Context(), c.ID, hash, "operator:anna"))
	record := h.store.(*sqlite.Store)
	before, _ := record.Commits()
	first, _, err := record.EvidenceHead(t.Context())
	ok(t, err)
	ok(t, h.status.Activate(t.Context(), c.ID))
	after, _ := record.Commits()
	last, _, err := record.EvidenceHead(t.Context())
	ok(t, err)
	cost := largeCost{transactions: after - before, leaves: last - first, named: map[bulkhead.Serial]int{}}
	for at := first; at < last; {
		rows, err := record.EvidenceAfter(t.Context(), at, 1000)
		ok(t, err)
		for _, row := range rows {
			at = row.Seq
			e, err := tlog.Parse(row.Leaf)
			ok(t, err)
			switch e.Kind {
			case bulkhead.EvBatchIntent:
				cost.signatures += e.Count
			case bulkhead.EvRevocation, bulkhead.EvRevocations:
				serials, err := tlog.RevokedIn(e)
				ok(t, err)
				for _, s := range serials {
					cost.named[s]++
				}
				if e.Ref != c.ID || e.Authority != caA {
					t.Errorf("a leaf is of change %q and authority %s", e.Ref, e.Authority)
				}
			}
		}
	}
	for _, r := range refs {
		if cost.named[r.Serial] != 1 {
			t.Fatalf("evidence names %s %d times", r.Serial, cost.named[r.Serial])
		}
	}
	h.agree()
	return cost
}

// TestLargeChangeCost: a large change takes two signatures for each certificate and one for each CRL, a leaf for a hundred
// certificates, and as many transactions as a change of half its size.
func TestLargeChangeCost(t *testing.T) {
	t.Parallel()
	const n = 1200
	half, whole := activateLarge(t, n), activateLarge(t, 2*n)
	if half.transactions != whole.transactions {
		t.Errorf("%d transactions for %d items, %d for %d", half.transactions, n, whole.transactions, 2*n)
	}
	if more := whole.leaves - half.leaves; more > n/90 {
		t.Errorf("%d more items took %d more leaves", n, more)
	}
	if more := whole.signatures - half.signatures; more != 2*n {
		t.Errorf("%d more items took %d more signatures", n, more)
	}
}
