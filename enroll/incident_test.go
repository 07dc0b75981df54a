package enroll_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// TestRevokeAuthorizations: a faulty validation method is found out; what was validated by it counts no more.
func TestRevokeAuthorizations(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	acct, _ := h.account()
	cert := h.issued(acct, newKey(t), "done.test")
	ready := h.ready(acct, "a.test", "b.test")
	pending, err := h.svc.NewOrder(ctx, acct, enroll.OrderRequest{Identifiers: ids(t, "a.test", "new.test")})
	ok(t, err)
	f := bulkhead.AuthorizationFilter{Method: bulkhead.HTTP01, Since: h.now().Add(-time.Hour)}
	tally, err := h.svc.TallyAuthorizations(ctx, f)
	ok(t, err)
	if tally != (bulkhead.AuthorizationTally{Authorizations: 3, Accounts: 1, OpenOrders: 2, Certificates: 1}) {
		t.Fatalf("tally %+v", tally)
	}
	_, err = h.svc.RevokeAuthorizations(ctx, "operator:a", " ", f)
	wantKind(t, err, bulkhead.KindUsage)
	// Silent where it should be: another method, another time.
	for _, none := range []bulkhead.AuthorizationFilter{{Method: bulkhead.TLSALPN01}, {Since: h.now().Add(time.Hour)}, {AccountID: "nobody"}, {Name: "c.test"}} {
		n, err := h.svc.RevokeAuthorizations(ctx, "operator:a", "fault in http-01", none)
		ok(t, err)
		if n != 0 {
			t.Fatalf("%+v revoked %d", none, n)
		}
	}
	before := h.leaves()
	n, err := h.svc.RevokeAuthorizations(ctx, "operator:a", "fault in http-01", f)
	ok(t, err)
	if n != 3 || h.leaves() != before+3+2 { // one leaf each, and one for each order refused
		t.Fatalf("%d revoked, %d leaves", n, h.leaves()-before)
	}
	for _, id := range []string{ready.ID, pending.ID} {
		o, err := h.store.Order(ctx, id)
		ok(t, err)
		if o.State != bulkhead.OrderInvalid || o.Problem == nil || !strings.Contains(o.Problem.Detail, "revoked") {
			t.Errorf("an order on it is %s: %v", o.State, o.Problem)
		}
	}
	_, err = h.svc.Finalize(ctx, acct, ready.ID, csr(t, newKey(t), "a.test", "b.test"))
	wantKind(t, err, bulkhead.KindOrderNotReady)
	fresh, err := h.svc.NewOrder(ctx, acct, enroll.OrderRequest{Identifiers: ids(t, "done.test")})
	ok(t, err)
	if fresh.State != bulkhead.OrderPending {
		t.Errorf("a new order rests on what was revoked: %s", fresh.State)
	}
	if row, _, err := h.store.Certificate(ctx, cert.Certificate.CertificateRef); err != nil || row.State != bulkhead.Issued {
		t.Errorf("the certificate is %s, %v: its revocation is a change of its own", row.State, err)
	}
}

// TestSignerIgnoresRevokedAuthorization: an order that is in processing when the authorisation goes gets nothing, even
// from a signer that is asked directly.
func TestSignerIgnoresRevokedAuthorization(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	acct, _ := h.account()
	o := h.ready(acct, "a.test")
	request := csr(t, newKey(t), "a.test")
	ok(t, h.store.PutCAAChecks(ctx, []bulkhead.CAACheck{{OrderID: o.ID, Identifier: o.Identifiers[0], At: h.now(), ValidUntil: h.now().Add(time.Hour), Result: bulkhead.CAAPermitted}}))
	_, err := h.svc.RevokeAuthorizations(ctx, "operator:a", "incident", bulkhead.AuthorizationFilter{Name: "a.test"})
	ok(t, err)
	_, err = h.signer.Issue(ctx, bulkhead.CertificateRequest{Authority: issuingCA, Profile: "tls-server", CSR: request, Names: o.Identifiers, AccountID: acct.ID, OrderID: o.ID})
	wantKind(t, err, bulkhead.KindUnauthorized)
}

// TestDeactivationCancels: an account that leaves takes its open orders along.
func TestDeactivationCancels(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	_, pending := r.send("/acme/new-order", dnsOrder("localhost"), nil)
	path := r.path(pending["finalize"])
	finalize := w.readyByHand(r, "a.localhost")
	if resp, doc := r.send(r.path(r.kid), map[string]string{"status": "deactivated"}, nil); resp.StatusCode != http.StatusOK || doc["status"] != "deactivated" {
		t.Fatalf("%s %v", resp.Status, doc)
	}
	for _, p := range []string{path, finalize} {
		o, err := w.store.Order(t.Context(), strings.Split(p, "/")[3])
		ok(t, err)
		if o.State != bulkhead.OrderInvalid {
			t.Errorf("the order is %s", o.State)
		}
	}
	if resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), nil); resp.StatusCode != 401 || doc["type"] != "urn:ietf:params:acme:error:unauthorized" {
		t.Errorf("later use: %s %v", resp.Status, doc)
	}
}
