package enroll_test

import (
	"errors"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// TestDeactivatedWhileLooking: an account that leaves, or changes its key, while its challenge is being looked at gets
// nothing from what was seen, in whichever process it left.
func TestDeactivatedWhileLooking(t *testing.T) {
	for what, change := range map[string]func(*bulkhead.Account){
		"deactivated": func(a *bulkhead.Account) { a.State = bulkhead.AccountDeactivated },
		"another key": func(a *bulkhead.Account) { a.Thumbprint = "another" },
	} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t)
			acct, _ := h.account()
			o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
			ok(t, err)
			h.script.validate = func(bulkhead.Identifier, bulkhead.Method) (string, error) {
				now := acct
				change(&now)
				return "seen", h.store.UpdateAccount(t.Context(), now, bulkhead.AccountValid)
			}
			h.respond(acct, o)
			a, err := h.store.Authorization(t.Context(), o.Authorizations[0])
			ok(t, err)
			if a.State != bulkhead.AuthorizationPending || a.Challenges[0].State != bulkhead.ChallengeProcessing {
				t.Fatalf("the authorization is %s, its challenge %s", a.State, a.Challenges[0].State)
			}
			o, err = h.store.Order(t.Context(), o.ID)
			ok(t, err)
			if o.State != bulkhead.OrderPending {
				t.Errorf("the order is %s", o.State)
			}
		})
	}
}

// TestValidBeforeItsRow: while the row of an order waits to be written, its certificate is there for its client, and every
// process calls the order valid; without the certificate none does.
func TestValidBeforeItsRow(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	o := h.ready(acct, "www.site.test")
	release := make(chan struct{})
	f := func(op string, commit func() error) error {
		if op == "EndOrder" {
			select {
			case <-release:
			case <-time.After(time.Minute):
				return errors.New("the test forgot to release the write")
			}
		}
		return commit()
	}
	h.hook.Store(&f)
	o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test"))
	ok(t, err)
	row, err := h.store.Order(t.Context(), o.ID)
	ok(t, err)
	if o.State != bulkhead.OrderValid || row.State != bulkhead.OrderProcessing {
		t.Fatalf("the order is %s, its row %s", o.State, row.State)
	}
	for _, svc := range []*enroll.Service{h.svc, h.service()} {
		seen, err := svc.Order(t.Context(), acct, o.ID)
		ok(t, err)
		if seen.State != bulkhead.OrderValid || seen.Certificate != o.Certificate {
			t.Errorf("another look says %s, %s", seen.State, seen.Certificate)
		}
		_, err = svc.Certificate(t.Context(), acct, seen.Certificate)
		ok(t, err)
		_, err = svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test"))
		wantKind(t, err, bulkhead.KindOrderNotReady)
	}
	close(release)
	h.atAnEnd(t)
	if row, err = h.store.Order(t.Context(), o.ID); err != nil || row.State != bulkhead.OrderValid || row.Certificate != o.Certificate {
		t.Errorf("the row says %s, %s, %v", row.State, row.Certificate, err)
	}
}

// TestStopBetweenLookAndSignature: a stop that is committed after Finalize read the record holds the order: the signer
// reads it again. Nothing is signed, the order waits, and ends by itself after the stop.
func TestStopBetweenLookAndSignature(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	o := h.ready(acct, "www.site.test")
	var stop bulkhead.Stop
	h.script.caa = func(id bulkhead.Identifier) (bulkhead.CAACheck, error) { // after the gate of Finalize, before the signature
		var err error
		if stop.ID == "" {
			stop, err = h.svc.Stop(t.Context(), "operator:anna", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "test"})
		}
		now := time.Now()
		return bulkhead.CAACheck{Identifier: id, At: now, ValidUntil: now.Add(time.Hour), Result: bulkhead.CAAPermitted, Detail: "no record"}, err
	}
	o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test"))
	ok(t, err)
	if o.State != bulkhead.OrderProcessing || stop.ID == "" {
		t.Fatalf("the order is %s under stop %q", o.State, stop.ID)
	}
	rows, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{OrderID: o.ID})
	ok(t, err)
	if len(rows) != 0 {
		t.Fatalf("%d certificates under a stop", len(rows))
	}
	ok(t, h.svc.EndStop(t.Context(), stop.ID, "r-1", bulkhead.Hash{}, "over"))
	h.until(acct, o.ID, bulkhead.OrderValid)
}
