package storetest

import (
	"testing"

	"bulkhead"
)

func testAuthorities(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	_, err := s.Authority(ctx, "root")
	wantKind(t, err, bulkhead.KindNotFound)
	a := bulkhead.Authority{ID: "issuing-p256", Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityPending, Parent: "root",
		Subject: []byte("subject"), SPKI: []byte("spki"), CSR: []byte("csr"), KeyURI: "file:x", Shards: 8, CreatedAt: at(1)}
	root := bulkhead.Authority{ID: "root", Kind: bulkhead.RootAuthority, State: bulkhead.AuthorityActive, Subject: []byte("r"),
		SPKI: []byte("rs"), Certificate: []byte("rc"), CreatedAt: at(0)}
	ok(t, s.PutAuthority(ctx, root, event("root")))
	ok(t, s.PutAuthority(ctx, a, event("csr")))
	equal(t, value(s.IsEmpty(ctx))(t), false)
	equal(t, value(s.Authorities(ctx))(t), []bulkhead.Authority{a, root})
	a.State, a.Certificate, a.Chain, a.CSR, a.Successor = bulkhead.AuthorityActive, []byte("cert"), [][]byte{[]byte("x"), []byte("rc")}, nil, "issuing-2"
	ok(t, s.PutAuthority(ctx, a, event("certificate")))
	equal(t, value(s.Authority(ctx, a.ID))(t), a)
	equal(t, len(checkEvidence(t, s)), 3)

	k := bulkhead.BlockedKey{KeyHash: digest("key", 1), BlockedAt: at(1), Reason: "stolen", Actor: "operator:a"}
	equal(t, len(value(s.BlockedKeys(ctx, k.KeyHash))(t)), 0)
	ok(t, s.BlockKey(ctx, k, event("block")))
	again := k
	again.Reason = "another"
	ok(t, s.BlockKey(ctx, again, event("block again")))
	equal(t, value(s.BlockedKeys(ctx, digest("key", 2), k.KeyHash, k.KeyHash))(t), []bulkhead.BlockedKey{k})
	equal(t, len(value(s.BlockedKeys(ctx))(t)), 0)
	wantKind(t, s.BlockKey(ctx, bulkhead.BlockedKey{}), bulkhead.KindMalformed)
	equal(t, len(checkEvidence(t, s)), 4)

	d1 := bulkhead.Delegate{Authority: a.ID, Certificate: []byte("d1"), KeyURI: "file:1", NotBefore: at(1), NotAfter: at(9)}
	d2 := bulkhead.Delegate{Authority: a.ID, Certificate: []byte("d2"), KeyURI: "file:2", NotBefore: at(2), NotAfter: at(10)}
	ok(t, s.PutDelegate(ctx, d1, event("d1")))
	ok(t, s.PutDelegate(ctx, d2))
	equal(t, value(s.Delegates(ctx, a.ID))(t), []bulkhead.Delegate{d2, d1})
	d1.Certificate, d1.NotBefore = []byte("d1 renewed"), at(3)
	ok(t, s.PutDelegate(ctx, d1))
	equal(t, value(s.Delegates(ctx, a.ID))(t), []bulkhead.Delegate{d1, d2})
	ok(t, s.DropDelegate(ctx, a.ID, "file:1"))
	ok(t, s.DropDelegate(ctx, a.ID, "file:1"))
	equal(t, value(s.Delegates(ctx, a.ID))(t), []bulkhead.Delegate{d2})
	equal(t, len(value(s.Delegates(ctx, "root"))(t)), 0)

	p1 := bulkhead.Prepared{Authority: "root", Kind: bulkhead.PreparedCRL, NotBefore: at(1), NotAfter: at(20), DER: []byte("c1"), CRLNumber: 1, ImportedAt: at(0)}
	p2 := bulkhead.Prepared{Authority: "root", Kind: bulkhead.PreparedDelegate, NotBefore: at(0), NotAfter: at(30), DER: []byte("d"), KeyURI: "file:9", ImportedAt: at(0)}
	ok(t, s.PutPrepared(ctx, []bulkhead.Prepared{p1, p2}, event("import")))
	ok(t, s.PutPrepared(ctx, []bulkhead.Prepared{p1}, event("import again")))
	equal(t, value(s.Prepared(ctx, "root"))(t), []bulkhead.Prepared{p2, p1})
	equal(t, len(value(s.Prepared(ctx, a.ID))(t)), 0)
	equal(t, len(checkEvidence(t, s)), 7)
}

func testInventory(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	var list []bulkhead.Reservation
	for n := range 12 {
		r := reservation(n)
		r.Certificate.NotAfter = at(1000 + n)
		if n%2 == 1 {
			r.Certificate.Kind, r.Certificate.AccountID, r.Certificate.OrderID = bulkhead.InfraCertificate, "a", "o"
		}
		if n >= 10 {
			r.Certificate.Issuer, r.Intent.Authority = "another", "another"
		}
		list = append(list, r)
	}
	seqs, errs, err := s.Reserve(ctx, list)
	settled(t, seqs, errs, err, 12)
	complete(t, s, 0, 1, 2, 3)
	revoke(t, s, "c", bulkhead.Superseded, at(5), 3)
	found := func(f bulkhead.CertificateFilter) (out []int) {
		t.Helper()
		rows, _, err := s.Certificates(ctx, f)
		ok(t, err)
		for _, c := range rows {
			out = append(out, int(c.IntentSeq)-1)
		}
		return out
	}
	equal(t, found(bulkhead.CertificateFilter{}), []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0})
	equal(t, found(bulkhead.CertificateFilter{Issuer: "another"}), []int{11, 10})
	equal(t, found(bulkhead.CertificateFilter{Serial: serial(5)}), []int{5})
	equal(t, found(bulkhead.CertificateFilter{Kind: bulkhead.InfraCertificate, Limit: 2}), []int{11, 9})
	equal(t, found(bulkhead.CertificateFilter{State: bulkhead.Issued}), []int{2, 1, 0})
	equal(t, found(bulkhead.CertificateFilter{KeyHash: digest("key", 4)}), []int{4})
	equal(t, found(bulkhead.CertificateFilter{AccountID: "a", State: bulkhead.Revoked}), []int{3})
	equal(t, found(bulkhead.CertificateFilter{OrderID: "o", ExpiresBy: at(1005)}), []int{5, 3, 1})

	var pages []int
	for f := (bulkhead.CertificateFilter{Limit: 5}); ; {
		rows, next, err := s.Certificates(ctx, f)
		ok(t, err)
		pages = append(pages, len(rows))
		if next == "" {
			break
		}
		f.After = next
	}
	equal(t, pages, []int{5, 5, 2})
	_, _, err = s.Certificates(ctx, bulkhead.CertificateFilter{After: "x'; --"})
	wantKind(t, err, bulkhead.KindMalformed)

	equal(t, value(s.Counts(ctx))(t), map[bulkhead.AuthorityID]map[bulkhead.CertificateState]int64{
		issuer: {bulkhead.Reserved: 6, bulkhead.Issued: 3, bulkhead.Revoked: 1}, "another": {bulkhead.Reserved: 2}})

	byKey := value(s.CertificatesByKey(ctx, digest("key", 3), at(1003)))(t)
	equal(t, len(byKey), 1)
	equal(t, byKey[0].CertificateRef, ref(3))
	equal(t, len(value(s.CertificatesByKey(ctx, digest("key", 3), at(1004)))(t)), 0)
	equal(t, len(value(s.CertificatesByKey(ctx, digest("key", 4), at(0)))(t)), 0) // only reserved
}

func testNames(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	var list []bulkhead.Reservation
	for n, names := range [][]string{{"example.com", "www.example.com"}, {"*.example.com"}, {"badexample.com"}, {"a.b.example.com", "x.test"}, {"example.com.evil.test"}} {
		r := reservation(n)
		r.Certificate.Names = nil
		for _, v := range names {
			r.Certificate.Names = append(r.Certificate.Names, bulkhead.Identifier{Type: bulkhead.DNS, Value: v})
		}
		list = append(list, r)
	}
	seqs, errs, err := s.Reserve(ctx, list)
	settled(t, seqs, errs, err, len(list))
	for _, c := range []struct {
		name string
		want []int64
	}{
		{"example.com", []int64{1}}, {"*.example.com", []int64{2}}, {".example.com", []int64{4, 2, 1}}, {".test", []int64{5, 4}},
		{".com", []int64{4, 3, 2, 1}}, {"xample.com", nil}, {".", nil},
	} {
		rows, _, err := s.Certificates(ctx, bulkhead.CertificateFilter{Name: c.name})
		ok(t, err)
		var got []int64
		for _, r := range rows {
			got = append(got, r.IntentSeq)
		}
		if len(got) != len(c.want) {
			t.Fatalf("%q finds %v, want %v", c.name, got, c.want)
		}
		equal(t, got, c.want)
	}
}
