package storetest

import (
	"context"
	"testing"

	"bulkhead"
)

// imported commits items.
func imported(ctx context.Context, s Store, items []bulkhead.Imported) ([]bulkhead.ImportResult, error) {
	commit, err := s.PrepareImport(items)
	if err != nil {
		return nil, err
	}
	return commit(ctx)
}

// testImported: certificates of another house come in once, each with its leaf; given again they change nothing, but a
// revocation that is new; another certificate under a known serial is refused and the rest of the batch stands.
func testImported(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	item := func(n int, revoked bool) bulkhead.Imported {
		c := reservation(n).Certificate
		c.State, c.Profile, c.OrderID, c.Fingerprint = bulkhead.Issued, "imported", "", bulkhead.Digest(der(n))
		it := bulkhead.Imported{Certificate: c, DER: der(n), Leaf: event("imported")}
		it.Leaf.Kind, it.Leaf.Authority, it.Leaf.Serial, it.Leaf.Digest, it.Leaf.KeyHash = bulkhead.EvImportedCertificate, c.Issuer, c.Serial, c.Fingerprint, c.KeyHash
		if revoked {
			it.Certificate.State, it.Certificate.RevokedAt, it.Certificate.Reason = bulkhead.Revoked, at(2), bulkhead.Superseded
			it.Revocation = event("revoked")
			it.Revocation.Kind, it.Revocation.Authority, it.Revocation.Serial = bulkhead.EvImportedRevocation, c.Issuer, c.Serial
		}
		return it
	}
	results := value(imported(ctx, s, []bulkhead.Imported{item(1, false), item(2, true)}))(t)
	equal(t, results, []bulkhead.ImportResult{bulkhead.ImportedNew, bulkhead.ImportedNew})
	head, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	equal(t, head, int64(3)) // two certificates, one revocation
	one, body, err := s.Certificate(ctx, ref(1))
	ok(t, err)
	equal(t, one.State, bulkhead.Issued)
	equal(t, body, der(1))
	equal(t, one.IntentSeq, int64(1))
	two, _, err := s.Certificate(ctx, ref(2))
	ok(t, err)
	equal(t, two.State, bulkhead.Revoked)
	equal(t, two.Reason, bulkhead.Superseded)
	equal(t, two.RevokedAt, at(2))

	// Again, with a revocation that is new, one that is known, and a stranger under a known serial.
	other := item(2, false)
	other.DER = der(9)
	results = value(imported(ctx, s, []bulkhead.Imported{item(1, true), item(2, true), other, item(3, false)}))(t)
	equal(t, results, []bulkhead.ImportResult{bulkhead.ImportedRevoked, bulkhead.ImportedKnown, bulkhead.ImportRefused, bulkhead.ImportedNew})
	head, _, err = s.EvidenceHead(ctx)
	ok(t, err)
	equal(t, head, int64(5))
	one, _, err = s.Certificate(ctx, ref(1))
	ok(t, err)
	equal(t, one.State, bulkhead.Revoked)
	results = value(imported(ctx, s, []bulkhead.Imported{item(1, true), item(1, false), item(3, false)}))(t)
	equal(t, results, []bulkhead.ImportResult{bulkhead.ImportedKnown, bulkhead.ImportedKnown, bulkhead.ImportedKnown})
	head, _, err = s.EvidenceHead(ctx)
	ok(t, err)
	equal(t, head, int64(5))
	equal(t, len(value(imported(ctx, s, nil))(t)), 0)
	seen := 0
	for r, err := range s.SignedRange(ctx, []bulkhead.AuthorityID{issuer}, 0, 0) {
		ok(t, err)
		equal(t, r.Sum, r.Fingerprint)
		if r.Serial == ref(1).Serial {
			equal(t, r.OutcomeSeq, int64(5)) // the leaf of its revocation, which came later
		} else {
			equal(t, r.OutcomeSeq, r.IntentSeq)
		}
		seen++
	}
	equal(t, seen, 3)
}
