package status_test

import (
	"context"
	"iter"
	"testing"

	"bulkhead"
	"bulkhead/status"
	"bulkhead/store/sqlite"
)

// looked counts how many certificates the record was asked for by their serials.
type looked struct {
	*sqlite.Store
	rows int
}

func (l *looked) CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error) {
	l.rows += len(serials)
	return l.Store.CertificatesBySerial(ctx, issuer, serials)
}

// TestPlanRead: a change of items whose rows its maker has just read says the same as one whose items were looked up, and looks each
// up once less. What was read wrongly, or is not true any more, blocks it: nothing of it can be approved.
func TestPlanRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	l := &looked{Store: h.store.(*sqlite.Store)}
	s, err := status.New(status.Config{Store: l, Signer: h.door, Objects: h.objects, HeadVerifier: h.verifier, Now: h.now})
	ok(t, err)
	refs := h.issue(caA, 4)
	rows := func(change func(*bulkhead.Certificate), of ...bulkhead.CertificateRef) iter.Seq2[bulkhead.ChangeItem, bulkhead.Certificate] {
		return func(yield func(bulkhead.ChangeItem, bulkhead.Certificate) bool) {
			for _, ref := range of {
				row := bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued, NotBefore: h.now()}
				change(&row)
				if !yield(bulkhead.ChangeItem{CertificateRef: ref, Reason: bulkhead.Superseded}, row) {
					return
				}
			}
		}
	}
	asRead := func(*bulkhead.Certificate) {}
	cost := func(f func() (bulkhead.Change, error)) (bulkhead.Change, int) {
		l.rows = 0
		c, err := f()
		ok(t, err)
		return c, l.rows
	}
	one, twice := cost(func() (bulkhead.Change, error) {
		return s.PlanRevocation(t.Context(), "operator:anna", "why", items(bulkhead.Superseded, refs[3], refs[1]))
	})
	other, once := cost(func() (bulkhead.Change, error) {
		return s.PlanRead(t.Context(), "operator:anna", "why", rows(asRead, refs[3], refs[1]))
	})
	if a, b := h.previewOf(one.ID), h.previewOf(other.ID); a.Items != b.Items || b.Count != 2 || len(b.Blocked) != 0 || other.State != bulkhead.ChangePreviewed {
		t.Errorf("%+v and %+v", a, b)
	}
	if twice-once != 2 {
		t.Errorf("two certificates were looked up %d times, and %d times when they had been read", twice, once)
	}

	h.revoke(refs[2])
	never := h.row(caA).CertificateRef
	for what, of := range map[string]bulkhead.CertificateRef{"revoked since": refs[2], "never issued": never} {
		c, err := s.PlanRead(t.Context(), "operator:anna", what, rows(asRead, refs[0], of))
		ok(t, err)
		if p := h.previewOf(c.ID); len(p.Blocked) != 1 {
			t.Errorf("%s: blocked by %q", what, p.Blocked)
		}
		wantKind(t, s.Approve(t.Context(), c.ID, c.PreviewHash, "operator:bert"), bulkhead.KindGate, "blocked")
	}
	for kind, read := range map[bulkhead.Kind]iter.Seq2[bulkhead.ChangeItem, bulkhead.Certificate]{
		bulkhead.KindAlreadyRevoked: rows(func(c *bulkhead.Certificate) { c.State = bulkhead.Revoked }, refs[2]),
		bulkhead.KindNotFound:       rows(func(c *bulkhead.Certificate) { c.State = bulkhead.Reserved }, refs[0]),
		bulkhead.KindMalformed:      rows(asRead, refs[0], refs[1], refs[0]),
	} {
		_, err := s.PlanRead(t.Context(), "operator:anna", "why", read)
		wantKind(t, err, kind, "")
	}
	_, err = s.PlanRead(t.Context(), "operator:anna", "why", rows(asRead))
	wantKind(t, err, bulkhead.KindMalformed, "at least one")
}
