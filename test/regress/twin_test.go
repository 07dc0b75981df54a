package regress

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
)

// TestTwinsAreKeptApart: peers find an issuer by name, or by key, and take the first that fits. Here two authorities
// share a name, two certificates a serial, and a cross-certificate has name and key of an authority (promise P1).
func TestTwinsAreKeptApart(t *testing.T) {
	h := newHouse(t)
	root := newEnterpriseRoot(t, truncated)
	h.adopt(root, "twin-a", "The Same Name", truncated)
	h.adopt(root, "twin-b", "The Same Name", truncated)
	a, b := h.issueFrom("twin-a", "a.twin.test"), h.issueFrom("twin-b", "b.twin.test")
	if !bytes.Equal(a.issuer.RawSubject, b.issuer.RawSubject) || bytes.Equal(a.issuer.RawSubjectPublicKeyInfo, b.issuer.RawSubjectPublicKeyInfo) {
		t.Fatalf("the case is not made: %s, %s", a.issuer.Subject, b.issuer.Subject)
	}
	// The same serial under both.
	same := randomSerial(t)
	for _, id := range []bulkhead.AuthorityID{"twin-a", "twin-b"} {
		h.plant(id, bulkhead.LeafCertificate, "CN=twin", bulkhead.Digest([]byte("twin "+id)), serialOf(t, same))
	}
	h.look()
	h.revoke(bulkhead.Superseded, bulkhead.CertificateRef{Issuer: "twin-a", Serial: serialOf(t, same)}, a.CertificateRef)
	for p, want := range map[*paper]string{{leaf: a.at(same).leaf, issuer: a.issuer}: "revoked", {leaf: b.at(same).leaf, issuer: b.issuer}: "good", &a: "revoked", &b: "good"} {
		if got := h.status(*p); got != want {
			t.Errorf("%s under %x is %s, want %s", p.leaf.SerialNumber, p.issuer.SubjectKeyId, got, want)
		}
	}
	if list, _ := h.crl(b); len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("the CRL of the one lists what the other revoked: %v", list.RevokedCertificateEntries)
	}
	// Where the names are equal the key decides: an answer of the one does not verify under the other.
	r, res, err := h.ask(a, http.MethodPost, crypto.SHA256)
	ok(t, err)
	if _, err := ocsp.ParseResponseForCert(res.body, a.leaf, b.issuer); err == nil || r.Status != ocsp.Revoked {
		t.Error("an answer of the one passes for the other's")
	}

	// A cross-certificate: issuing-p256 certifies the very name and key of issuing-rsa2048, and takes it back.
	child := h.issueFrom(other, "child.twin.test")
	witness := h.issue("witness.twin.test")
	cross := randomSerial(t)
	h.plant(issuing, bulkhead.CACertificate, child.issuer.Subject.String(), bulkhead.Digest(child.issuer.RawSubjectPublicKeyInfo), serialOf(t, cross))
	h.look()
	id, err := h.Status.RevokeCertificates(t.Context(), "operator:test", "the cross-certificate", []bulkhead.ChangeItem{
		{CertificateRef: bulkhead.CertificateRef{Issuer: issuing, Serial: serialOf(t, cross)}, Reason: bulkhead.CessationOfOperation}})
	if bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Fatalf("one person revoked the certificate of an authority: %v", err)
	}
	change, err := h.Status.Change(t.Context(), id)
	ok(t, err)
	request, err := h.Quorum.Propose(t.Context(), "change.activate", activation{id, change.PreviewHash}, "operator:operator-1", "the cross-certificate")
	ok(t, err)
	two := h.operators()
	if request, err = h.sign(request, two[:]...); err != nil || request.State != bulkhead.RequestExecuted {
		t.Fatalf("two people signed, the request is %s: %v", request.State, err)
	}
	ok(t, h.Edge.Refresh(t.Context()))
	if got := h.status(witness.at(cross)); got != "revoked" {
		t.Errorf("the cross-certificate is %s", got)
	}
	for what, p := range map[string]paper{"the authority itself": {leaf: child.issuer, issuer: h.root}, "its child": child, "a sibling of the cross-certificate": witness} {
		if got := h.status(p); got != "good" {
			t.Errorf("%s is %s after the cross-certificate was revoked", what, got)
		}
	}
	for what, p := range map[string]paper{"its child": child, "the authority itself": {leaf: child.issuer, issuer: h.root}} {
		if list, _ := h.crl(p); len(list.RevokedCertificateEntries) != 0 {
			t.Errorf("the CRL that %s names lists %v", what, list.RevokedCertificateEntries)
		}
	}
}

// enterpriseRoot is a root from elsewhere whose key identifier is chosen by the test.
type enterpriseRoot struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newEnterpriseRoot(t testing.TB, id func(spki []byte) []byte) enterpriseRoot {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ok(t, err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	ok(t, err)
	template := &x509.Certificate{SerialNumber: randomSerial(t), Subject: pkix.Name{Country: []string{"JP"}, Organization: []string{"Enterprise"}, CommonName: "Enterprise Root"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id(spki)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	cert, err := x509.ParseCertificate(der)
	ok(t, err)
	return enterpriseRoot{key, cert}
}

// adopt makes an authority of the house under the root.
func (h *house) adopt(root enterpriseRoot, authority bulkhead.AuthorityID, commonName string, id func([]byte) []byte) {
	h.t.Helper()
	a, err := h.Hierarchy.AddAuthority(h.t.Context(), "operator:test", authority, "p256", commonName, "", "")
	ok(h.t, err)
	csr, err := x509.ParseCertificateRequest(a.CSR)
	ok(h.t, err)
	template := &x509.Certificate{SerialNumber: randomSerial(h.t), Subject: csr.Subject, RawSubject: csr.RawSubject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(3, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		SubjectKeyId: id(csr.RawSubjectPublicKeyInfo), PolicyIdentifiers: []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}},
		CRLDistributionPoints: []string{"http://pki.enterprise.example.com/root.crl"}, IssuingCertificateURL: []string{"http://pki.enterprise.example.com/root.cer"}}
	der, err := x509.CreateCertificate(rand.Reader, template, root.cert, csr.PublicKey, root.key)
	ok(h.t, err)
	_, err = h.Hierarchy.AcceptAuthority(h.t.Context(), "operator:test", authority, der, [][]byte{root.cert.Raw})
	ok(h.t, err)
	h.look()
}

func truncated(spki []byte) []byte { sum := sha256.Sum256(spki); return sum[:20] }

// TestKeyIdentifierIsOnlyAName: one peer compares OCSP's issuerKeyHash with the certificate's key identifier and answers
// "unauthorized" for everything when that is not SHA-1 of the key.
func TestKeyIdentifierIsOnlyAName(t *testing.T) {
	h := newHouse(t)
	for name, id := range map[string]func([]byte) []byte{
		"sha256": truncated,
		"odd":    func([]byte) []byte { return []byte("eight by") },
	} {
		authority := bulkhead.AuthorityID("ent-" + name)
		root := newEnterpriseRoot(t, id)
		h.adopt(root, authority, "", id)
		p := h.issueFrom(authority, name+".aki.test")
		var spki struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		_, err := asn1.Unmarshal(p.issuer.RawSubjectPublicKeyInfo, &spki)
		ok(t, err)
		if sum := sha1.Sum(spki.Key.Bytes); bytes.Equal(p.leaf.AuthorityKeyId, sum[:]) || !bytes.Equal(p.leaf.AuthorityKeyId, p.issuer.SubjectKeyId) {
			t.Fatalf("the case is not made: AKI %x, issuer %x", p.leaf.AuthorityKeyId, p.issuer.SubjectKeyId)
		}
		h.want(p, "good")
		h.revoke(bulkhead.Superseded, p.CertificateRef)
		h.want(p, "revoked")
		pool, inter := x509.NewCertPool(), x509.NewCertPool()
		pool.AddCert(root.cert)
		inter.AddCert(p.issuer)
		if _, err := p.leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: inter, DNSName: name + ".aki.test"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
