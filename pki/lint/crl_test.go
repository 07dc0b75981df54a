package lint

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
)

const shardURL = "http://127.0.0.1:14080/crl/issuing/3.crl"

// crlCase is a CRL that a plant may change.
type crlCase struct {
	list   *x509.RevocationList
	issuer *x509.Certificate
	want   Expect
	idp    *issuingDistributionPoint
	crit   bool
}

func (h hierarchy) crlCase(set Set) *crlCase {
	c := &crlCase{issuer: h.issuing, crit: true, idp: &issuingDistributionPoint{Point: distributionPointName{uris(shardURL)}}}
	c.list = &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(5 * day),
		RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: newSerial().Big(), RevocationTime: now.Add(-time.Hour), ReasonCode: 1},
			{SerialNumber: newSerial().Big(), RevocationTime: now.Add(-time.Hour), ReasonCode: 4},
		},
	}
	if set == SetRootCRL {
		c.issuer = h.root
		c.list.NextUpdate = now.AddDate(0, 12, 0).Add(-time.Second)
	}
	issuer := *c.issuer
	c.want = Expect{Issuer: &issuer, CRLURL: shardURL}
	return c
}

func uris(list ...string) (names []asn1.RawValue) {
	for _, u := range list {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	return names
}

func (c *crlCase) lint(t *testing.T, l *Linter, h hierarchy, set Set) []Finding {
	t.Helper()
	if c.idp != nil {
		e := ext(oidIssuingDistributionPoint, c.crit, *c.idp)
		if !c.crit {
			e.Critical = false
		}
		c.list.ExtraExtensions = append(c.list.ExtraExtensions, e)
	}
	key := h.issuingKey
	if c.issuer == h.root {
		key = h.rootKey
	}
	der, err := x509.CreateRevocationList(rand.Reader, c.list, c.issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.ExpectedCRL(der, set, now, c.want)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCRLPlants(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	for _, p := range []struct {
		name, rule string
		set        Set
		change     func(*crlCase)
	}{
		{"10 days and a second", "bulkhead_crl_window", SetCRL, func(c *crlCase) { c.list.NextUpdate = now.Add(10 * day) }},
		{"12 months and a second", "bulkhead_crl_window", SetRootCRL, func(c *crlCase) { c.list.NextUpdate = now.AddDate(0, 12, 0) }},
		{"future", "bulkhead_crl_window", SetCRL, func(c *crlCase) { c.list.ThisUpdate = now.Add(time.Second) }},
		{"hold", "bulkhead_crl_reason", SetCRL, func(c *crlCase) { c.list.RevokedCertificateEntries[1].ReasonCode = 6 }},
		{"cACompromise of a leaf", "bulkhead_crl_reason", SetCRL, func(c *crlCase) { c.list.RevokedCertificateEntries[0].ReasonCode = 2 }},
		{"no reason for an authority", "bulkhead_crl_reason", SetRootCRL, func(c *crlCase) { c.list.RevokedCertificateEntries[0].ReasonCode = 0 }},
		{"no scope", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp = nil }},
		{"not critical", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.crit = false }},
		{"other shard", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.want.CRLURL += "x" }},
		{"two names", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp.Point.FullName = uris(shardURL, "http://x.test/") }},
		{"no name", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp = &issuingDistributionPoint{OnlyUser: true}; c.want.CRLURL = "" }},
		{"indirect", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp.Indirect = true }},
		{"some reasons", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp.OnlySomeReasons = asn1.BitString{Bytes: []byte{0x40}, BitLength: 2} }},
		{"attributes", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp.OnlyAttribute = true }},
		{"nobody", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp.OnlyUser, c.idp.OnlyCA = true, true }},
		{"wrong half", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.idp.OnlyCA = true }},
		{"wrong half of a root", "bulkhead_crl_scope", SetRootCRL, func(c *crlCase) { c.idp.OnlyUser = true }},
		{"delta", "bulkhead_crl_scope", SetCRL, func(c *crlCase) { c.list.ExtraExtensions = []pkix.Extension{ext(oidDeltaCRL, true, 1)} }},
		{"other issuer", "bulkhead_crl_parent", SetCRL, func(c *crlCase) { c.want.Issuer = h.root }},
		{"other key id", "bulkhead_crl_parent", SetCRL, func(c *crlCase) { c.want.Issuer.SubjectKeyId = []byte{1} }},
		{"issuer may not", "bulkhead_crl_parent", SetCRL, func(c *crlCase) { c.want.Issuer.KeyUsage = x509.KeyUsageCertSign }},
		{"other hash", "bulkhead_signature_algorithm", SetCRL, func(c *crlCase) { c.list.SignatureAlgorithm = x509.ECDSAWithSHA384 }},
		{"revoked after thisUpdate", "e_crl_revocation_time_after_this_update", SetCRL, func(c *crlCase) {
			c.list.RevokedCertificateEntries[0].RevocationTime = now.Add(time.Hour)
		}},
	} {
		if found := h.crlCase(p.set).lint(t, l, h, p.set); Blocking(found) != nil {
			t.Errorf("%s: findings without the fault:\n%s", p.name, show(found))
		}
		c := h.crlCase(p.set)
		p.change(c)
		if found := c.lint(t, l, h, p.set); !has(found, p.rule) {
			t.Errorf("%s: %s is silent:\n%s", p.name, p.rule, show(found))
		}
	}
}

// houseCRL is made by the product's own writer.
func (h hierarchy) houseCRL(t testing.TB, n int) []byte {
	t.Helper()
	var serials []bulkhead.Serial
	for range n {
		serials = append(serials, newSerial())
	}
	slices.SortFunc(serials, bulkhead.Serial.Compare)
	var entries []crl.Entry
	for _, s := range serials {
		entries = append(entries, crl.Entry{Serial: s, RevokedAt: now.Add(-time.Hour), Reason: bulkhead.Superseded})
	}
	var out bytes.Buffer
	info := crl.Info{Issuer: h.issuing, Number: 8, ThisUpdate: now, NextUpdate: now.Add(7 * day), URL: shardURL, Scope: crl.ScopeUserCerts}
	_, err := crl.Write(&out, info, entries, func(t crl.ToSign) ([]byte, error) {
		return h.issuingKey.Sign(rand.Reader, t.Digest, t.Hash)
	})
	return must(t, out.Bytes(), err)
}

func TestHouseCRLPasses(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	for _, n := range []int{0, 3} {
		found, err := l.ExpectedCRL(h.houseCRL(t, n), SetCRL, now, Expect{Issuer: h.issuing, CRLURL: shardURL})
		if err != nil || len(found) > 0 {
			t.Errorf("%d entries: %v\n%s", n, err, show(found))
		}
	}
}

func FuzzCRL(f *testing.F) {
	h, l := ecHierarchy(f), newLinter(f, true)
	f.Add(h.houseCRL(f, 0))
	f.Add(h.houseCRL(f, 3))
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, set := range crlSets {
			_, err := l.ExpectedCRL(der, set, now, Expect{Issuer: h.issuing, CRLURL: shardURL})
			if err != nil && bulkhead.KindOf(err) != bulkhead.KindMalformed {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkCRL(b *testing.B) {
	h, l := ecHierarchy(b), newLinter(b, true)
	for _, n := range []int{10, 10_000} {
		der := h.houseCRL(b, n)
		b.Run(big.NewInt(int64(n)).String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(der)))
			for b.Loop() {
				if _, err := l.ExpectedCRL(der, SetCRL, now, Expect{Issuer: h.issuing, CRLURL: shardURL}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
