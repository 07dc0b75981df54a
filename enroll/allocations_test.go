package enroll_test

import (
	"fmt"
	"runtime"
	"testing"

	"bulkhead/enroll"
)

// wholeOrder goes from an order to the certificate, by HTTP.
func (w *world) wholeOrder(t *testing.T, r *raw, name string) {
	t.Helper()
	_, order := r.send("/acme/new-order", dnsOrder(name), nil)
	_, doc := r.send(r.path(order["authorizations"].([]any)[0]), nil, nil)
	for _, c := range doc["challenges"].([]any) {
		c := c.(map[string]any)
		if c["type"] != "http-01" {
			continue
		}
		token := c["token"].(string)
		acct, err := w.svc.Account(t.Context(), r.id())
		ok(t, err)
		w.put("/.well-known/acme-challenge/"+token, enroll.KeyAuthorization(acct, token))
		if _, doc := r.send(r.path(c["url"]), map[string]any{}, nil); doc["status"] != "valid" {
			t.Fatalf("%v", doc)
		}
	}
	_, doc = r.send(r.path(order["finalize"]), map[string]any{"csr": b64(csr(t, newKey(t), name))}, nil)
	if doc["status"] != "valid" {
		t.Fatalf("%v", doc)
	}
	if resp, _ := r.send(r.path(doc["certificate"]), nil, nil); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	w.atAnEnd(t)
}

// TestAllocations holds what an order allocates, from the front to the signer and the record, with the test's own client and name
// servers: a number that does not depend on the machine, and is within a tenth from run to run.
func TestAllocations(t *testing.T) {
	const most = 6900
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	for i := range 4 { // statements are prepared, tables made, connections opened
		w.wholeOrder(t, r, fmt.Sprintf("warm%d.localhost", i))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const orders = 10
	for i := range orders {
		w.wholeOrder(t, r, fmt.Sprintf("a%d.localhost", i))
	}
	runtime.ReadMemStats(&after)
	if each := (after.Mallocs - before.Mallocs) / orders; each > most {
		t.Errorf("%d allocations for an order, at most %d", each, most)
	} else {
		t.Logf("%d allocations for an order", each)
	}
}
