package ceremony

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/profile"
)

// bench is an execution that has a root and can be asked to sign any template.
type bench struct {
	*execution
	root   *house
	signed *countingSigner
}

// countingSigner counts uses of the root key: a refusal must not have used it.
type countingSigner struct {
	crypto.Signer
	uses int
}

func (s *countingSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.uses++
	return s.Signer.Sign(r, digest, opts)
}

func newBench(t testing.TB) bench {
	t.Helper()
	e := &execution{Config: config(newRing(t)), ctx: context.Background(), urls: profile.URLs{Base: "http://127.0.0.1:14080"}, start: testNow}
	e.houses = make(map[bulkhead.AuthorityID]*house)
	if _, err := e.makeRoot(RootStep{ID: "root", Subject: name("Test Root"), Algorithm: keys.P256, Days: 3650}); err != nil {
		t.Fatal(err)
	}
	b := bench{execution: e, root: e.houses["root"]}
	b.signed = &countingSigner{Signer: b.root.signer}
	b.root.signer = b.signed
	return b
}

func newPublicKey(t testing.TB, curve elliptic.Curve) crypto.PublicKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

// template makes a correct template of the role below the root.
func (b bench) template(t testing.TB, role Role) *x509.Certificate {
	t.Helper()
	in, err := b.input(b.root, 1000)
	if err != nil {
		t.Fatal(err)
	}
	in.Subject, in.PublicKey = name("Child").PKIX(), newPublicKey(t, elliptic.P256())
	var tmpl *x509.Certificate
	switch role {
	case RoleIssuing:
		tmpl, err = profile.Issuing(in)
	case RoleCross:
		der, e := asn1.Marshal(in.Subject.ToRDNSequence())
		if e != nil {
			t.Fatal(e)
		}
		in.RawSubject, in.PathLen = der, 1
		tmpl, err = profile.Cross(in)
	case RoleDelegate:
		tmpl, err = profile.OCSPDelegate(in)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// mutation is one fault planted in a template.
type mutation struct {
	what  string
	plant func(*x509.Certificate)
}

// refusesAll plants each fault in a correct template and wants a refusal by the gates themselves, the root key unused.
func refusesAll(t *testing.T, b bench, role Role, mutations []mutation) {
	t.Helper()
	if _, err := b.sign(b.template(t, role), b.root.cert, b.root.signer, role); err != nil {
		t.Fatalf("%s without a fault: %v", role, err)
	}
	for _, m := range mutations {
		before := b.signed.uses
		tmpl := b.template(t, role)
		m.plant(tmpl)
		_, err := b.sign(tmpl, b.root.cert, b.root.signer, role)
		if k := bulkhead.KindOf(err); k != bulkhead.KindGate && k != bulkhead.KindBadPublicKey {
			t.Errorf("%s, %s: %v", role, m.what, err)
			continue
		}
		if f := bulkhead.AsFault(err); f.Hint == "" || strings.HasPrefix(f.Detail, "lint") {
			t.Errorf("%s, %s: not the gate's refusal: %+v", role, m.what, f)
		}
		if b.signed.uses != before {
			t.Errorf("%s, %s: refused after the key was used", role, m.what)
		}
	}
}

func otherKey(t *testing.T, c *x509.Certificate, pub crypto.PublicKey) {
	t.Helper()
	id, err := profile.KeyID(pub)
	if err != nil {
		t.Fatal(err)
	}
	c.PublicKey, c.SubjectKeyId = pub, id
}

func common(t *testing.T, b bench) []mutation {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return []mutation{
		{"outlives its issuer by a second", func(c *x509.Certificate) { c.NotAfter = b.root.cert.NotAfter.Add(time.Second) }},
		{"begins before its issuer", func(c *x509.Certificate) { c.NotBefore = b.root.cert.NotBefore.Add(-time.Second) }},
		{"begins two days ago", func(c *x509.Certificate) { c.NotBefore = testNow.Add(-48 * time.Hour) }},
		{"begins tomorrow", func(c *x509.Certificate) { c.NotBefore = testNow.Add(24 * time.Hour) }},
		{"ends before it begins", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(-time.Second) }},
		{"RSA 1024", func(c *x509.Certificate) { otherKey(t, c, weak.Public()) }},
		{"P-224", func(c *x509.Certificate) { otherKey(t, c, newPublicKey(t, elliptic.P224())) }},
		{"P-521", func(c *x509.Certificate) { otherKey(t, c, newPublicKey(t, elliptic.P521())) }},
		{"the issuer's own key", func(c *x509.Certificate) { otherKey(t, c, b.root.cert.PublicKey) }},
		{"key identifier of another key", func(c *x509.Certificate) { c.SubjectKeyId = []byte{1, 2, 3} }},
		{"short serial", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(4711) }},
		{"long serial", func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) }},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: asn1Null})
		}},
	}
}

func TestGateAuthority(t *testing.T) {
	b := newBench(t)
	mutations := append(common(t, b), []mutation{
		{"a leaf: cA not set", func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, -1, false }},
		{"no basic constraints", func(c *x509.Certificate) {
			c.BasicConstraintsValid, c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, false, -1, false
		}},
		{"OCSPSigning", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) }},
		{"OCSPSigning alone", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }},
		{"OCSPSigning as raw extension", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{rawEKU(t, 9)} }},
		{"anyExtendedKeyUsage", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }},
		{"codeSigning", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }},
		{"unknown EKU", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }},
		{"no EKU", func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		{"no policies", func(c *x509.Certificate) { c.Policies = nil }},
		{"no CDP", func(c *x509.Certificate) { c.CRLDistributionPoints = nil }},
		{"no AIA", func(c *x509.Certificate) { c.IssuingCertificateURL, c.OCSPServer = nil, nil }},
		{"digitalSignature", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }},
		{"no cRLSign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }},
		{"names", func(c *x509.Certificate) { c.DNSNames = []string{"a.test"} }},
		{"no path length", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = -1, false }},
	}...)
	refusesAll(t, b, RoleIssuing, append(mutations, mutation{"path length 1", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false }}))
	refusesAll(t, b, RoleCross, mutations)
}

// rawEKU is an EKU extension smuggled past the template's own field.
func rawEKU(t *testing.T, purpose int) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}, {1, 3, 6, 1, 5, 5, 7, 3, purpose}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidEKU, Value: der}
}

// TestGateDelegate flips every field of the delegate's profile (BR 7.1.2.8).
func TestGateDelegate(t *testing.T) {
	b := newBench(t)
	refusesAll(t, b, RoleDelegate, append(common(t, b), []mutation{
		{"cA", func(c *x509.Certificate) { c.IsCA = true }},
		{"keyCertSign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
		{"cRLSign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }},
		{"keyEncipherment", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }},
		{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }},
		{"no EKU", func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		{"serverAuth instead", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		{"serverAuth as well", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }},
		{"anyExtendedKeyUsage as well", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }},
		{"unknown EKU as well", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }},
		{"no nocheck", func(c *x509.Certificate) { c.ExtraExtensions = nil }},
		{"nocheck that is not NULL", func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x04, 0x00} }},
		{"empty nocheck", func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{} }},
		{"critical nocheck", func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true }},
		{"CDP", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://127.0.0.1/0.crl"} }},
		{"AIA OCSP", func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1/ocsp/"} }},
		{"AIA caIssuers", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://127.0.0.1/ca/root.cer"} }},
		{"DNS name", func(c *x509.Certificate) { c.DNSNames = []string{"a.test"} }},
		{"address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }},
		{"mail address", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.test"} }},
		{"policy", func(c *x509.Certificate) {
			oid, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
			if err != nil {
				t.Fatal(err)
			}
			c.Policies = []x509.OID{oid}
		}},
		{"name constraints", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"test"} }},
		{"unknown extension", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: asn1Null})
		}},
		{"P-384 key", func(c *x509.Certificate) { otherKey(t, c, newPublicKey(t, elliptic.P384())) }},
	}...))
}

func TestGateRoot(t *testing.T) {
	b := newBench(t)
	signer := b.root.signer
	template := func() *x509.Certificate {
		serial, err := b.serial()
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := profile.Root(profile.House{Subject: name("Root").PKIX(), PublicKey: signer.Public(), Serial: serial, Now: testNow, Validity: 3650 * day, Backdate: backdate})
		if err != nil {
			t.Fatal(err)
		}
		return tmpl
	}
	if _, err := b.sign(template(), nil, signer, RoleRoot); err != nil {
		t.Fatal(err)
	}
	for _, m := range []mutation{
		{"leaf", func(c *x509.Certificate) { c.IsCA = false }},
		{"path length", func(c *x509.Certificate) { c.MaxPathLen = 2 }},
		{"EKU", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		{"OCSPSigning", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }},
		{"CDP", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://127.0.0.1/0.crl"} }},
		{"AIA", func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1/ocsp/"} }},
		{"short serial", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) }},
	} {
		before := b.signed.uses
		tmpl := template()
		m.plant(tmpl)
		if _, err := b.sign(tmpl, nil, signer, RoleRoot); bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: %v", m.what, err)
		}
		if b.signed.uses != before {
			t.Errorf("%s: refused after the key was used", m.what)
		}
	}
}

// TestGatePathLength: an issuing authority's certificate cannot sign an authority, though its key could.
func TestGatePathLength(t *testing.T) {
	b := newBench(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := b.template(t, RoleIssuing)
	otherKey(t, tmpl, key.Public())
	issuing, err := b.sign(tmpl, b.root.cert, b.root.signer, RoleIssuing)
	if err != nil {
		t.Fatal(err)
	}
	below := b.template(t, RoleIssuing)
	below.Subject, below.AuthorityKeyId = name("Below").PKIX(), issuing.SubjectKeyId
	if _, err := b.sign(below, issuing, key, RoleIssuing); bulkhead.KindOf(err) != bulkhead.KindGate || !strings.Contains(err.Error(), "path length") {
		t.Errorf("authority below path length 0: %v", err)
	}
	delegate := b.template(t, RoleDelegate)
	delegate.AuthorityKeyId = issuing.SubjectKeyId
	if _, err := b.sign(delegate, issuing, key, RoleDelegate); err != nil {
		t.Errorf("delegate below path length 0: %v", err)
	}
}

// TestIssuerMustBeValid: an ended issuer signs nothing.
func TestIssuerMustBeValid(t *testing.T) {
	b := newBench(t)
	tmpl := b.template(t, RoleDelegate)
	b.start = b.root.cert.NotAfter.Add(time.Hour)
	tmpl.NotBefore, tmpl.NotAfter = b.start, b.start.Add(time.Hour)
	if _, err := b.sign(tmpl, b.root.cert, b.root.signer, RoleDelegate); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Errorf("ended issuer: %v", err)
	}
}
