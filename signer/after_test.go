package signer_test

import (
	"context"
	"errors"
	"testing"

	"bulkhead"
)

func unseen(_ *bulkhead.Validation, c *bulkhead.CAACheck) { c.Result = "" }

// TestIssueAfter: the intent is made beside the storing of the looks at CAA, and nothing is signed before they are in the record and permit it.
func TestIssueAfter(t *testing.T) {
	broken := errors.New("the order could not be stored")
	for what, x := range map[string]struct {
		result bulkhead.CAAResult
		stored error
		kind   bulkhead.Kind
	}{
		"permitted":  {result: bulkhead.CAAPermitted},
		"denied":     {result: bulkhead.CAADenied, kind: bulkhead.KindCAA},
		"not looked": {kind: bulkhead.KindCAA},
		"not stored": {result: bulkhead.CAAPermitted, stored: broken, kind: bulkhead.KindInternal},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t)
			r := h.request("www.example.test")
			r.OrderID = h.order(r.Names, unseen)
			_, err := h.signer.Issue(t.Context(), r)
			wantKind(t, err, bulkhead.KindCAA, "not checked") // without storing
			asked := 0
			got, err := h.signer.IssueAfter(t.Context(), r, func(ctx context.Context) error {
				asked++
				if n := h.rows(); n[bulkhead.Reserved] != 1 {
					t.Errorf("while the order is stored the certificates are %v, want a reserved one", n)
				}
				if x.result != "" {
					ok(t, h.store.PutCAAChecks(ctx, []bulkhead.CAACheck{{OrderID: r.OrderID, Identifier: r.Names[0], At: h.now(), ValidUntil: h.now().Add(3600e9), Result: x.result}}))
				}
				return x.stored
			})
			if bulkhead.KindOf(err) != x.kind || asked != 1 {
				t.Fatalf("asked %d times, %v", asked, err)
			}
			if x.stored != nil && !errors.Is(err, x.stored) {
				t.Errorf("%v is not what storing came to", err)
			}
			n, outcomes := h.rows(), h.count(bulkhead.EvCertificateOutcome)
			if x.kind == "" && (n[bulkhead.Issued] != 1 || outcomes != 1 || len(got.DER) == 0) || x.kind != "" && (n[bulkhead.Abandoned] != 1 || outcomes != 0 || len(got.DER) > 0) || len(n) != 1 {
				t.Errorf("%v, %d outcomes", n, outcomes)
			}
			h.audit()
		})
	}
}

// TestIssueAfterAlwaysAsks: who stores the order learns that somebody waits for it, and has the first word, when the signer refuses, too.
func TestIssueAfterAlwaysAsks(t *testing.T) {
	h := newHouse(t)
	r := h.request("www.example.test")
	r.OrderID = h.order(r.Names, noValidation)
	asked := 0
	_, err := h.signer.IssueAfter(t.Context(), r, func(context.Context) error { asked++; return nil })
	if wantKind(t, err, bulkhead.KindUnauthorized, "no validation"); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if n := h.rows(); len(n) > 0 {
		t.Errorf("%v", n)
	}
}
