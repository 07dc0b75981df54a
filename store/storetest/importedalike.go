package storetest

import (
	"fmt"
	"testing"

	"bulkhead"
)

// alike is a certificate as an import brings it; every tenth comes revoked.
func alike(n int) bulkhead.Imported {
	c := reservation(n).Certificate
	name := fmt.Sprintf("h%d.old.example", n)
	c.State, c.Profile, c.Shard, c.ReservedAt, c.Fingerprint = bulkhead.Issued, "imported", 0, c.NotBefore, bulkhead.Digest(der(n))
	c.Names, c.Subject = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}, {Type: bulkhead.DNS, Value: name}, {Type: bulkhead.Email, Value: `"a<b"@` + name}}, "CN="+name
	it := bulkhead.Imported{Certificate: c, DER: der(n), Leaf: event("imported")}
	it.Leaf.Kind, it.Leaf.Authority, it.Leaf.Serial, it.Leaf.Digest = bulkhead.EvImportedCertificate, c.Issuer, c.Serial, c.Fingerprint
	if n%10 == 0 {
		it.Certificate.State, it.Certificate.RevokedAt, it.Certificate.Reason = bulkhead.Revoked, at(2), bulkhead.Superseded
		it.Revocation = it.Leaf
		it.Revocation.Kind = bulkhead.EvImportedRevocation
	}
	return it
}

// testImportedAlike: many certificates that are alike, and some that are not, are kept as they were given, each with its leaf, and are
// found by their names; what is known already in the midst of what is new, or given twice, stays as it is.
func testImportedAlike(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const most = 600 // more than any statement inserts at once
	items := each(numbers(0, most), alike)
	ca, other, private, stranger := &items[77], &items[78], &items[79], &items[81]
	ca.Certificate.Kind = bulkhead.CACertificate
	other.Certificate.Issuer, other.Leaf.Authority = "another", "another"
	private.Certificate.AccountID, private.Certificate.Shard = "account", 3
	stranger.Leaf.Digest = digest("not the certificate", 1)
	keep := func(items []bulkhead.Imported, want map[bulkhead.ImportResult]int, leaves int64) {
		t.Helper()
		before, _, err := s.EvidenceHead(ctx)
		ok(t, err)
		results := value(imported(ctx, s, items))(t)
		equal(t, len(results), len(items))
		got := map[bulkhead.ImportResult]int{}
		for _, r := range results {
			got[r]++
		}
		equal(t, got, want)
		after, _, err := s.EvidenceHead(ctx)
		ok(t, err)
		equal(t, after-before, leaves)
	}
	keep(items[300:302], map[bulkhead.ImportResult]int{bulkhead.ImportedNew: 2}, 3) // in the midst; one is revoked
	keep(items, map[bulkhead.ImportResult]int{bulkhead.ImportedNew: most - 2, bulkhead.ImportedKnown: 2}, most-2+most/10-1)
	keep(items, map[bulkhead.ImportResult]int{bulkhead.ImportedKnown: most}, 0)
	twice := []bulkhead.Imported{alike(most + 1), alike(most + 2), alike(most + 2), alike(most + 3)}
	twice[2].DER = der(most + 9)
	keep(twice, map[bulkhead.ImportResult]int{bulkhead.ImportedNew: 3, bulkhead.ImportRefused: 1}, 3)
	for i, it := range items {
		row, body, err := s.Certificate(ctx, it.Certificate.CertificateRef)
		ok(t, err)
		equal(t, body, it.DER)
		want := it.Certificate
		want.IntentSeq, want.OutcomeSeq = row.IntentSeq, row.OutcomeSeq
		equal(t, row.OutcomeSeq, row.IntentSeq)
		equal(t, row, want)
		if i%50 != 0 {
			continue
		}
		found, _, err := s.Certificates(ctx, bulkhead.CertificateFilter{Name: it.Certificate.Names[0].Value})
		ok(t, err)
		equal(t, len(found), 1)
		equal(t, found[0].CertificateRef, it.Certificate.CertificateRef)
	}
}
