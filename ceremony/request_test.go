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
	"math/big"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/profile"
)

func TestNewCSR(t *testing.T) {
	ctx := context.Background()
	ring := newRing(t)
	for _, alg := range []keys.Algorithm{keys.P256, keys.P384, keys.RSA2048} {
		r, err := NewCSR(ctx, ring, "key-"+string(alg), name("Issuing"), alg)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := checkCSR(r.CSR)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ring.Open(ctx, r.KeyURI)
		if err != nil || !sameKey(s.Public(), csr.PublicKey) {
			t.Errorf("%s: key of the request: %v", alg, err)
		}
	}
	before, err := ring.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewCSR(ctx, ring, "edwards", name("Issuing"), keys.Ed25519)
	wantKind(t, "ed25519", err, bulkhead.KindBadPublicKey)
	_, err = NewCSR(ctx, ring, "nameless", Name{}, keys.P256)
	wantKind(t, "no subject", err, bulkhead.KindGate)
	_, err = NewCSR(ctx, ring, "key-p256", name("Issuing"), keys.P256)
	wantKind(t, "key name taken", err, bulkhead.KindConflict)
	if after, err := ring.List(ctx); err != nil || len(after) != len(before) {
		t.Errorf("refused requests left keys: %v, %v", after, err)
	}
}

// foreign is an enterprise hierarchy: root, and an intermediate that signs issuing authorities.
type foreign struct {
	root, middle       *x509.Certificate
	rootKey, middleKey crypto.Signer
}

func template(cn string, pathLen int, notAfter time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: cn}, NotBefore: testNow.Add(-time.Hour), NotAfter: notAfter,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0, KeyUsage: authorityUsage,
	}
}

func create(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, der)
}

func newForeign(t testing.TB, rootPathLen, middlePathLen int) foreign {
	t.Helper()
	var f foreign
	for _, key := range []*crypto.Signer{&f.rootKey, &f.middleKey} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		*key = k
	}
	root := template("Enterprise Root", rootPathLen, testNow.Add(3650*day))
	f.root = create(t, root, root, f.rootKey.Public(), f.rootKey)
	f.middle = create(t, template("Enterprise Policy", middlePathLen, testNow.Add(2000*day)), f.root, f.middleKey.Public(), f.rootKey)
	return f
}

func (f foreign) chain() [][]byte { return [][]byte{f.middle.Raw, f.root.Raw} }

func TestAcceptCertificate(t *testing.T) {
	f := newForeign(t, -1, 1)
	r := request(t, newRing(t), "issuing", keys.P256)
	pending, err := Pending("issuing", r, 1, testNow)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := checkCSR(r.CSR)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newPublicKey(t, elliptic.P256())
	for _, x := range []struct {
		what  string
		plant func(*x509.Certificate)
		pub   crypto.PublicKey
		want  bulkhead.Kind
	}{
		{"silent without a fault", func(*x509.Certificate) {}, csr.PublicKey, ""},
		{"silent with EKUs", func(c *x509.Certificate) { c.ExtKeyUsage = profile.UsageTLS.EKUs() }, csr.PublicKey, ""},
		{"silent with digitalSignature", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }, csr.PublicKey, ""},
		{"another key", func(*x509.Certificate) {}, stranger, bulkhead.KindGate},
		{"a leaf", func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, -1, false }, csr.PublicKey, bulkhead.KindGate},
		{"no path length", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = -1, false }, csr.PublicKey, bulkhead.KindGate},
		{"path length 1", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false }, csr.PublicKey, bulkhead.KindGate},
		{"no keyCertSign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, csr.PublicKey, bulkhead.KindGate},
		{"no cRLSign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }, csr.PublicKey, bulkhead.KindGate},
		{"keyEncipherment", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, csr.PublicKey, bulkhead.KindGate},
		{"OCSPSigning", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning}
		}, csr.PublicKey, bulkhead.KindGate},
		{"anyExtendedKeyUsage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, csr.PublicKey, bulkhead.KindGate},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: asn1Null}}
		}, csr.PublicKey, bulkhead.KindGate},
		{"outlives its issuer", func(c *x509.Certificate) { c.NotAfter = testNow.Add(2001 * day) }, csr.PublicKey, bulkhead.KindGate},
		{"not valid yet", func(c *x509.Certificate) { c.NotBefore = testNow.Add(day) }, csr.PublicKey, bulkhead.KindGate},
		{"ended", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = testNow.Add(-2*day), testNow }, csr.PublicKey, bulkhead.KindGate},
	} {
		tmpl := template("Issuing", 0, testNow.Add(1000*day))
		x.plant(tmpl)
		cert := create(t, tmpl, f.middle, x.pub, f.middleKey)
		a, err := AcceptCertificate(pending, cert.Raw, f.chain(), testNow)
		if x.want == "" {
			wantKind(t, x.what, err, "")
			if err == nil && (a.State != bulkhead.AuthorityActive || len(a.Chain) != 2) {
				t.Errorf("%s: %+v", x.what, a)
			}
			continue
		}
		wantKind(t, x.what, err, x.want)
	}
}

func TestAcceptChain(t *testing.T) {
	f := newForeign(t, -1, 1)
	r := request(t, newRing(t), "issuing", keys.P256)
	pending, err := Pending("issuing", r, 1, testNow)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := checkCSR(r.CSR)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(f foreign) []byte {
		return create(t, template("Issuing", 0, testNow.Add(1000*day)), f.middle, csr.PublicKey, f.middleKey).Raw
	}
	cert := issue(f)
	impostor := newForeign(t, -1, 1)
	tightMiddle, tightRoot, exact := newForeign(t, -1, 0), newForeign(t, 1, 1), newForeign(t, 2, 1)
	for _, x := range []struct {
		what  string
		cert  []byte
		chain [][]byte
		at    time.Time
		want  bulkhead.Kind
	}{
		{"silent without a fault", cert, f.chain(), testNow, ""},
		{"silent at the edge of path lengths", issue(exact), exact.chain(), testNow, ""},
		{"no chain", cert, nil, testNow, bulkhead.KindGate},
		{"no root", cert, [][]byte{f.middle.Raw}, testNow, bulkhead.KindGate},
		{"wrong order", cert, [][]byte{f.root.Raw, f.middle.Raw}, testNow, bulkhead.KindGate},
		{"same names, other keys", cert, impostor.chain(), testNow, bulkhead.KindGate},
		{"other root of the same name", cert, [][]byte{f.middle.Raw, impostor.root.Raw}, testNow, bulkhead.KindGate},
		{"intermediate with path length 0", issue(tightMiddle), tightMiddle.chain(), testNow, bulkhead.KindGate},
		{"root with path length 1", issue(tightRoot), tightRoot.chain(), testNow, bulkhead.KindGate},
		{"garbage in the chain", cert, [][]byte{[]byte("x")}, testNow, bulkhead.KindMalformed},
		{"garbage", []byte("x"), f.chain(), testNow, bulkhead.KindMalformed},
		{"later than everything", cert, f.chain(), testNow.Add(5000 * day), bulkhead.KindGate},
	} {
		_, err := AcceptCertificate(pending, x.cert, x.chain, x.at)
		wantKind(t, x.what, err, x.want)
	}
	active := pending
	active.State = bulkhead.AuthorityActive
	_, err = AcceptCertificate(active, cert, f.chain(), testNow)
	wantKind(t, "authority that is not pending", err, bulkhead.KindConflict)
	_, err = Pending("Not A Slug", r, 1, testNow)
	wantKind(t, "authority name", err, bulkhead.KindMalformed)
	_, err = Pending("issuing", Request{CSR: []byte("x")}, 1, testNow)
	wantKind(t, "no CSR", err, bulkhead.KindBadCSR)
}

// TestAcceptWeakChain: a root with a 1024-bit key is refused, whoever's it is.
func TestAcceptWeakChain(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	root := template("Weak Root", -1, testNow.Add(3650*day))
	parent := create(t, root, root, weak.Public(), weak)
	r := request(t, newRing(t), "issuing", keys.P256)
	pending, err := Pending("issuing", r, 1, testNow)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := checkCSR(r.CSR)
	if err != nil {
		t.Fatal(err)
	}
	cert := create(t, template("Issuing", 0, testNow.Add(1000*day)), parent, csr.PublicKey, weak)
	_, err = AcceptCertificate(pending, cert.Raw, [][]byte{parent.Raw}, testNow)
	wantKind(t, "RSA 1024 root", err, bulkhead.KindGate)
}

// TestWeakSignatures: SHA-1 is refused on requests and certificates. Nothing here makes such signatures any more, so
// the algorithm of a parsed object is what is planted.
func TestWeakSignatures(t *testing.T) {
	f := newForeign(t, -1, 1)
	cert := create(t, template("Issuing", 0, testNow.Add(day)), f.middle, newPublicKey(t, elliptic.P256()), f.middleKey)
	wantKind(t, "silent without a fault", gateKey(cert), "")
	for _, alg := range []x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.MD5WithRSA, x509.UnknownSignatureAlgorithm, x509.PureEd25519} {
		weak := *cert
		weak.SignatureAlgorithm = alg
		wantKind(t, alg.String(), gateKey(&weak), bulkhead.KindGate)
		wantKind(t, alg.String(), acceptLink(&weak, f.middle, 1, testNow), bulkhead.KindGate)
	}
}
