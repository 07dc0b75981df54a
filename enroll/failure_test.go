package enroll_test

import (
	"fmt"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/pki/tlog"
)

// TestFailureTable runs an operator's order through both fates of each write of its path. The next process brings to an
// end whatever was under way; what was handed out is in record and evidence; no order has two certificates.
func TestFailureTable(t *testing.T) {
	h := newHouse(t, func(c *enroll.Config) { c.Limits.FinalizeWait = 5 * time.Second })
	acct, _, err := h.svc.NewTokenAccount(t.Context(), "operator:anna", true)
	ok(t, err)
	for i, w := range []struct {
		op   string
		skip int
		what string
	}{
		{"PlaceOrder", 0, "the order in processing, with validation and CAA"}, {"PutCAAChecks", 0, "CAA after a slow resolver"},
		{"Reserve", 0, "the intent"}, {"Complete", 0, "the outcome"}, {"EndOrder", 0, "to valid"},
	} {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %s, kept %v", w.op, w.what, kept), func(t *testing.T) {
				host := fmt.Sprintf("h%d-%v.test", i, kept)
				request := csr(t, newKey(t), host)
				h.script.caa = nil
				if w.op == "PutCAAChecks" {
					h.script.slowCAA(bulkhead.KindUnavailable)
				}
				fired := h.lose(w.op, w.skip, kept)
				got, ierr := h.svc.OperatorOrder(t.Context(), "operator:anna", acct, enroll.Upload{CSR: request})
				ok(t, h.svc.Close(t.Context()))
				if !fired() {
					t.Fatalf("%s was never asked for: the table is out of date", w.op)
				}
				h.hook.Store(nil)
				if (ierr == nil) != (got.DER != nil) {
					t.Errorf("a certificate of %d octets came with %v", len(got.DER), ierr)
				}
				h.svc = h.service()
				ok(t, h.svc.Resume(t.Context()))
				h.atAnEnd(t)
				if got.DER != nil {
					h.durable(t, got)
				}
				list, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{Name: host, State: bulkhead.Issued})
				ok(t, err)
				if len(list) > 1 {
					t.Errorf("%d certificates for one order", len(list))
				}
				again, err := h.svc.OperatorOrder(t.Context(), "operator:anna", acct, enroll.Upload{CSR: request})
				ok(t, err) // the ordinary path goes on
				h.durable(t, again)
				h.atAnEnd(t) // its last write is not the next row's
			})
		}
	}
}

// atAnEnd waits until no order is in processing.
func (h *house) atAnEnd(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		open, err := h.store.OrdersInState(t.Context(), bulkhead.OrderProcessing, 10)
		ok(t, err)
		if len(open) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("order %s stays in processing", open[0].ID)
		}
	}
}

// durable wants a certificate in the record and its outcome, once, in evidence.
func (h *house) durable(t *testing.T, c bulkhead.IssuedCertificate) {
	t.Helper()
	row, der, err := h.store.Certificate(t.Context(), c.Certificate.CertificateRef)
	ok(t, err)
	if row.State != bulkhead.Issued || string(der) != string(c.DER) {
		t.Errorf("%s is %s in the record", row.CertificateRef, row.State)
	}
	rows, err := h.store.EvidenceAfter(t.Context(), 0, 100_000)
	ok(t, err)
	intents, outcomes := 0, 0
	for _, r := range rows {
		e, err := tlog.Parse(r.Leaf)
		ok(t, err)
		if e.Authority != row.Issuer || e.Serial != row.Serial {
			continue
		}
		switch e.Kind {
		case bulkhead.EvCertificateIntent:
			intents++
		case bulkhead.EvCertificateOutcome:
			outcomes++
			if e.Digest != bulkhead.Digest(c.DER) {
				t.Errorf("evidence concludes another certificate for %s", row.CertificateRef)
			}
		}
	}
	if intents != 1 || outcomes != 1 {
		t.Errorf("%s has %d intents and %d outcomes in evidence", row.CertificateRef, intents, outcomes)
	}
}
