package storetest

import (
	"testing"

	"bulkhead"
)

// testPrecertificate: a precertificate is issued and answered for, but is no order's certificate until the certificate
// takes its place; once revoked it never does.
func testPrecertificate(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	items := each([]int{1, 2}, reservation)
	for i := range items {
		items[i].Certificate.Kind, items[i].Certificate.OrderID = bulkhead.Precertificate, []string{"order-1", "order-2"}[i]
	}
	_, _, err := s.Reserve(ctx, items)
	ok(t, err)
	wantKind(t, s.Finalize(ctx, ref(1), der(11), event("too early")), bulkhead.KindConflict)
	complete(t, s, 1, 2)
	_, _, err = s.CertificateByOrder(ctx, "order-1")
	wantKind(t, err, bulkhead.KindNotFound)
	_, err = s.Precertificate(ctx, ref(1))
	wantKind(t, err, bulkhead.KindNotFound)
	statuses := value(s.Statuses(ctx, issuer, []bulkhead.Serial{serial(1)}))(t)
	equal(t, len(statuses), 1)
	equal(t, statuses[0].State, bulkhead.Issued)

	ok(t, s.Finalize(ctx, ref(1), der(11), event("final")))
	n := len(checkEvidence(t, s))
	ok(t, s.Finalize(ctx, ref(1), der(11), event("final again")))
	equal(t, len(checkEvidence(t, s)), n)
	row, got, err := s.CertificateByOrder(ctx, "order-1")
	ok(t, err)
	equal(t, got, der(11))
	equal(t, row.Kind, bulkhead.LeafCertificate)
	equal(t, row.Fingerprint, bulkhead.Digest(der(11)))
	equal(t, value(s.Precertificate(ctx, ref(1)))(t), der(1))
	wantKind(t, s.Finalize(ctx, ref(1), der(12), event("other")), bulkhead.KindConflict)
	wantKind(t, s.Finalize(ctx, ref(9), der(12), event("nobody")), bulkhead.KindNotFound)
}
