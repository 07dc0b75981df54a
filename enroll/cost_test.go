package enroll_test

import (
	"testing"

	"bulkhead"
	"bulkhead/enroll"
)

// TestCost holds what an order costs that does not depend on the machine: writes to the record, one after the other, from
// the order to the certificate. Each stands for one sync of the disk that a lone client waits for.
func TestCost(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	h.issued(acct, newKey(t), "warm.site.test")
	name := "www.site.test"
	request := csr(t, newKey(t), name)
	_, before := h.store.Commits()
	step := func(what string, want int64) {
		t.Helper()
		_, now := h.store.Commits()
		if got := now - before; got != want {
			t.Errorf("%s: %d writes, want %d", what, got, want)
		}
		before = now
	}
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, name)})
	ok(t, err)
	step("order", 1)
	h.respond(acct, o)
	o = h.until(acct, o.ID, bulkhead.OrderReady)
	step("challenge", 1) // the validation makes the order ready
	o, err = h.svc.Finalize(t.Context(), acct, o.ID, request)
	ok(t, err)
	if o.State != bulkhead.OrderValid {
		t.Errorf("the answer to finalize says %s", o.State)
	}
	h.atAnEnd(t)
	step("finalize", 4) // to processing with CAA, intent, outcome, and to valid, for which the client does not wait
}

// TestSlowCAA: a first look that ran out of its short time is no denial, whatever it looks like; the issuance looks again.
func TestSlowCAA(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	for _, kind := range []bulkhead.Kind{bulkhead.KindCAA, bulkhead.KindUnavailable} {
		h.script.slowCAA(kind)
		h.issued(acct, newKey(t), "slow-"+string(kind)+".site.test")
	}
}
