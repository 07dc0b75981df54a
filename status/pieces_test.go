package status_test

import (
	"testing"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/status"
)

// TestManyInPieces: what a foreign authority brings at once becomes public in bounded pieces, each under a head of its own with the new
// certificates of everybody else; one tick ends when all of it is public.
func TestManyInPieces(t *testing.T) {
	h := newHouse(t, func(p *status.Policy) { p.AnswersAtOnce = 50 })
	h.issue(caA, 1)
	h.issue(caB, 1)
	h.tick()
	h.tick() // for the delegates, which are certificates too
	const n = 2*50 + 17
	answered := func(id bulkhead.AuthorityID) (n int) {
		t.Helper()
		for _, p := range h.packs(id) {
			ok(t, p.Each(func(pack.Entry) error { n++; return nil }))
		}
		return n
	}
	before := h.head()
	hadA, hadB := answered(caA), answered(caB)
	h.issue(caB, 1)
	h.plantAll(caA, n)
	h.tick()
	after := h.head()
	if got := after.Sequence - before.Sequence; got < 3 {
		t.Errorf("%d heads for %d certificates", got, n)
	}
	if a, b := answered(caA)-hadA, answered(caB)-hadB; a != n || b != 1 {
		t.Errorf("%d and %d answers became public", a, b)
	}
	h.tick()
	if again := h.head(); again.Sequence != after.Sequence {
		t.Errorf("a tick with nothing to do made head %d", again.Sequence)
	}
}
