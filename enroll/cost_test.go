package enroll_test

import (
	"fmt"
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
	h.atAnEnd(t)
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

// TestMovesWithIntent: the move to processing waits for the signer's intent and is committed with it, so that finalize waits for two syncs.
// Whoever is slower than the store is patient pays a third; of several orders one is not.
func TestMovesWithIntent(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	least := int64(100)
	for i := range 10 {
		name := fmt.Sprintf("n%d.site.test", i)
		o := h.ready(acct, name)
		request := csr(t, newKey(t), name)
		h.atAnEnd(t)
		before, _ := h.store.Commits()
		o, err := h.svc.Finalize(t.Context(), acct, o.ID, request)
		ok(t, err)
		if o.State != bulkhead.OrderValid {
			t.Fatalf("the answer to finalize says %s", o.State)
		}
		h.atAnEnd(t)
		after, _ := h.store.Commits()
		least = min(least, after-before)
	}
	if least > 3 {
		t.Errorf("%d commits, not move and intent, outcome, and the end that nobody waits for", least)
	}
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

// TestStatements holds what the requests of an order ask of the record, the signer's questions among them: each is a round
// trip on PostgreSQL. Statements of the signer are its own affair, so that finalize is held from above.
func TestStatements(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	var asked, written int64
	begin := func() { asked, written = w.store.Statements() }
	for round, name := range []string{"localhost", "a.localhost", "b.localhost"} { // the first prepares the statements
		measured := func(what string, reads, writes int64) {
			t.Helper()
			a, _ := w.store.Statements()
			w.atAnEnd(t) // the row of an order may follow the answer
			_, b := w.store.Statements()
			if round > 0 && (a-asked > reads || b-written > writes) {
				t.Errorf("%s: %d statements outside transactions and %d in them, at most %d and %d", what, a-asked, b-written, reads, writes)
			}
			begin()
		}
		begin()
		resp, order := r.send("/acme/new-order", dnsOrder(name), nil)
		if resp.StatusCode != 201 {
			t.Fatalf("%v", order)
		}
		measured("order", 1, 3) // authorisations to reuse; who asks, what is stopped and the rows of the order are remembered by the store
		authz := r.path(order["authorizations"].([]any)[0])
		_, doc := r.send(authz, nil, nil)
		measured("authorization", 0, 0)
		var challenge string
		for _, c := range doc["challenges"].([]any) {
			if c := c.(map[string]any); c["type"] == "http-01" {
				token := c["token"].(string)
				challenge = r.path(c["url"])
				acct, err := w.svc.Account(t.Context(), r.id())
				ok(t, err)
				w.put("/.well-known/acme-challenge/"+token, enroll.KeyAuthorization(acct, token))
			}
		}
		begin()
		if _, doc = r.send(challenge, map[string]any{}, nil); doc["status"] != "valid" {
			t.Fatalf("%v", doc)
		}
		measured("challenge", 0, 6) // authorisation, validation, which orders, each order, leaf, head
		_, doc = r.send(r.path(order["finalize"]), map[string]any{"csr": b64(csr(t, newKey(t), name))}, nil)
		if doc["status"] != "valid" {
			t.Fatalf("%v", doc)
		}
		measured("finalize", 0, 17) // a savepoint and its end; order, looks at CAA, leaf, head; serial, leaf, certificate, name, counter, head; leaf, certificate, DER, counter, head; order
		if resp, _ := r.send(r.path(doc["certificate"]), nil, nil); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
		measured("certificate", 0, 0)
	}
}

// TestCostOperator: an order on an operator's word is four writes: the order in processing with its validations and looks at
// CAA, intent, outcome, the move to valid.
func TestCostOperator(t *testing.T) {
	h := newHouse(t)
	house, _, err := h.svc.NewTokenAccount(t.Context(), "operator:anna", true)
	ok(t, err)
	_, before := h.store.Commits()
	_, err = h.svc.OperatorOrder(t.Context(), "operator:anna", house, enroll.Upload{CSR: csr(t, newKey(t), "localhost", "db.internal")})
	ok(t, err)
	ok(t, h.svc.Close(t.Context())) // the last write may come after the answer
	if _, after := h.store.Commits(); after-before != 4 {
		t.Errorf("%d writes, want 4", after-before)
	}
}
