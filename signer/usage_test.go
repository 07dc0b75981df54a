package signer_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/profile"
)

// authorityWith makes an issuing authority whose certificate change may shape, under a parent of the house.
func (h *house) authorityWith(id bulkhead.AuthorityID, usage profile.Usage, change func(*x509.Certificate)) bulkhead.Authority {
	uri, key, err := h.ring.Generate(context.Background(), string(id), keys.P256)
	ok(h.t, err)
	tmpl, err := profile.Issuing(profile.House{Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"Test"}, CommonName: "Test " + string(id)},
		PublicKey: key.Public(), Serial: h.serial(), Now: h.now(), Validity: 900 * dayTime, Parent: h.root, ParentID: rootCA, URLs: urls, Usage: usage})
	ok(h.t, err)
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, h.root, key.Public(), h.rootPK)
	ok(h.t, err)
	cert := parse(h.t, der)
	h.certs[id] = cert
	return h.put(bulkhead.Authority{ID: id, Kind: bulkhead.IssuingAuthority, Parent: rootCA, Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo, Certificate: der,
		Chain: [][]byte{h.root.Raw}, KeyURI: uri, Shards: 4})
}

// TestUsages: each profile issues under the authority of its usage, and under no other; one without extended key usages
// is for TLS alone.
func TestUsages(t *testing.T) {
	h := newHouse(t)
	for _, u := range profile.Usages() {
		h.authorityWith(bulkhead.AuthorityID("ca-"+u), u, func(*x509.Certificate) {})
	}
	h.authorityWith("ca-unlimited", profile.UsageTLS, func(c *x509.Certificate) { c.ExtKeyUsage = nil })
	h.authorityWith("ca-any", profile.UsageTLS, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })
	wants := map[string]struct {
		usage profile.Usage
		name  string
		eku   x509.ExtKeyUsage
	}{
		"tls-server":   {profile.UsageTLS, "www.example.test", x509.ExtKeyUsageServerAuth},
		"smime":        {profile.UsageSMIME, "alice@example.test", x509.ExtKeyUsageEmailProtection},
		"code-signing": {profile.UsageCodeSigning, "release@example.test", x509.ExtKeyUsageCodeSigning},
	}
	issued := 0
	for p, want := range wants {
		for _, ca := range []bulkhead.AuthorityID{"ca-tls", "ca-smime", "ca-code-signing", "ca-unlimited", "ca-any"} {
			req := h.request(want.name)
			req.Authority, req.Profile = ca, p
			before := h.rows()
			got, err := h.signer.Issue(t.Context(), req)
			own := ca == bulkhead.AuthorityID("ca-"+want.usage) || want.usage == profile.UsageTLS && (ca == "ca-unlimited" || ca == "ca-any")
			if !own {
				wantKind(t, err, bulkhead.KindForbidden, "may not certify")
				if after := h.rows(); after[bulkhead.Issued] != before[bulkhead.Issued] || after[bulkhead.Reserved]+after[bulkhead.Abandoned] != 0 {
					t.Errorf("%s under %s left %v", p, ca, after)
				}
				continue
			}
			ok(t, err)
			issued++
			openssl(t, got)
			h.verifies(got, want.eku)
		}
	}
	if issued != 5 {
		t.Errorf("%d certificates were issued, want 5", issued)
	}
	h.audit()
}

// verifies asks crypto/x509.
func (h *house) verifies(c bulkhead.IssuedCertificate, eku x509.ExtKeyUsage) {
	h.t.Helper()
	roots, middles := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(h.root)
	for _, der := range c.Chain[:len(c.Chain)-1] {
		middles.AddCert(parse(h.t, der))
	}
	if _, err := parse(h.t, c.DER).Verify(x509.VerifyOptions{Roots: roots, Intermediates: middles, CurrentTime: h.now(), KeyUsages: []x509.ExtKeyUsage{eku}}); err != nil {
		h.t.Errorf("crypto/x509 refuses %v: %v", c.Certificate.Names, err)
	}
}

// TestNameConstraints: what the authority above may not certify is refused by name before anything is reserved; what is
// issued verifies with crypto/x509 and openssl.
func TestNameConstraints(t *testing.T) {
	h := newHouse(t)
	h.authorityWith("ca-limited", profile.UsageTLS, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains, c.ExcludedDNSDomains = []string{"example.test"}, []string{"secret.example.test"}
		c.ExcludedIPRanges = []*net.IPNet{{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}
	})
	for name, allowed := range map[string]bool{
		"www.example.test": true, "example.test": true, "*.example.test": false, "*.www.example.test": true, "www.other.test": false, "a.secret.example.test": false,
		"10.1.2.3": false, "127.0.0.1": true,
	} {
		req := h.request(name)
		req.Authority = "ca-limited"
		before := h.count(bulkhead.EvCertificateIntent)
		got, err := h.signer.Issue(t.Context(), req)
		if !allowed {
			wantKind(t, err, bulkhead.KindRejectedIdentifier, `"Test ca-limited"`)
			if h.count(bulkhead.EvCertificateIntent) != before {
				t.Errorf("%s was reserved", name)
			}
			continue
		}
		ok(t, err)
		openssl(t, got)
		h.verifies(got, x509.ExtKeyUsageServerAuth)
	}
}
