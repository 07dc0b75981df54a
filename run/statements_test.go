package run

import (
	"testing"

	"bulkhead"
)

// What a lone certificate may cost. In transactions: the head, the order's rows and its leaves; the head, serials, keys, the leaf with the
// certificate's rows, and the counters with the head; the head, the row, the leaf with what moves, and the counters with the head; the
// head and the order that ends.
const maxReads, maxWrites = 10, 3 + 5 + 4 + 2

// TestStatementsOnPostgres holds what a certificate on an operator's word asks of the record on PostgreSQL, from the order to the
// answer, enrolment and signer together, while nobody else asks: each statement is a round trip. Those who ask at the same time share
// most of them (rel.TestKinStatements, rel.TestSignerStatements).
func TestStatementsOnPostgres(t *testing.T) {
	w := newWorldOnPostgres(t)
	w.again() // without work that was begun in the background
	d := &desks{TB: t, h: w.h, orders: &orders{Service: w.h.enroll}}
	const n = 4
	csrs := d.requests(n + 1)
	issue := func(csr []byte) {
		_, err := d.orders.IssueForOperator(t.Context(), "test", bulkhead.CertificateRequest{CSR: csr})
		w.ok(err)
	}
	store := w.h.store.(interface {
		Statements() (outside, inside int64)
	})
	issue(csrs[n]) // makes the account
	reads, writes := store.Statements()
	for _, csr := range csrs[:n] {
		issue(csr)
	}
	w.ok(w.h.enroll.Close(t.Context())) // the row of an order may follow the answer: the last one's here, the first one's too
	r, x := store.Statements()
	if r, x = r-reads, x-writes; r > n*maxReads || x > n*maxWrites+2 {
		t.Errorf("%d statements outside transactions and %d in them for %d certificates", r, x, n)
	}
	t.Logf("%d statements outside transactions and %d in them for %d certificates", r, x, n)
}
