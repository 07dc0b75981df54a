package run

import (
	"context"
	"testing"

	"bulkhead"
)

// asked counts what fsck asks of the record for single things.
type asked struct {
	Store
	leaves, certificates int
}

func (a *asked) EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error) {
	a.leaves++
	return a.Store.EvidenceAfter(ctx, seq, limit)
}

func (a *asked) Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error) {
	a.certificates++
	return a.Store.Certificate(ctx, ref)
}

// TestFsckReadsInBulk: certificates are held against their evidence by one scan of them and one reading of each block of leaves; none
// is asked for by itself. What is planted is found as before.
func TestFsckReadsInBulk(t *testing.T) {
	w := newWorld(t)
	look := func() (*asked, *fsck) {
		t.Helper()
		a := &asked{Store: w.h.store}
		f := &fsck{store: a}
		w.ok(f.certificates(t.Context(), "", Config{}))
		return a, f
	}
	head, _, err := w.h.store.EvidenceHead(t.Context())
	w.ok(err)
	a, f := look()
	if blocks := int(head/leafBlock) + 1; a.leaves > blocks || a.certificates != 0 {
		t.Errorf("%d readings of leaves for %d blocks, %d questions for certificates", a.leaves, blocks, a.certificates)
	}
	if len(f.out) != 1 || f.out[0].Level != levelOK {
		t.Errorf("%+v", f.out)
	}
	w.plant(`UPDATE certificates SET fingerprint = ? WHERE serial = ? AND issuer = ?`, make32(9), fixed(w.live.Serial), string(w.live.Issuer))
	if _, f := look(); len(f.out) != 1 || f.out[0].Level != levelFailure {
		t.Errorf("another fingerprint: %+v", f.out)
	}
}
