package profile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"bulkhead"
)

var (
	day  = 24 * time.Hour
	now  = time.Date(2026, 11, 21, 12, 0, 0, 987, time.UTC)
	urls = URLs{Base: "http://127.0.0.1:14080"}
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func serial(n byte) bulkhead.Serial {
	s, err := bulkhead.SerialFromBytes([]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, n})
	if err != nil {
		panic(err)
	}
	return s
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, tmpl.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type house struct {
	root, issuing       *x509.Certificate
	rootKey, issuingKey *ecdsa.PrivateKey
}

func newHouse(t testing.TB) house {
	t.Helper()
	h := house{rootKey: newKey(t), issuingKey: newKey(t)}
	tmpl, err := Root(House{
		Subject: pkix.Name{CommonName: "Test Root", Organization: []string{"Test"}, Country: []string{"CH"}}, PublicKey: h.rootKey.Public(),
		Serial: serial(1), Now: now, Validity: 3650 * day, Backdate: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.root = sign(t, tmpl, nil, h.rootKey)
	tmpl, err = Issuing(House{
		Subject: pkix.Name{CommonName: "Test Issuing", Organization: []string{"Test"}, Country: []string{"CH"}}, PublicKey: h.issuingKey.Public(),
		Serial: serial(2), Now: now, Validity: 1825 * day, Parent: h.root, ParentID: "root", URLs: urls,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.issuing = sign(t, tmpl, h.root, h.rootKey)
	return h
}

func builtinProfile(t testing.TB, name string) *Profile {
	t.Helper()
	for _, p := range Builtin() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no built-in profile %s", name)
	return nil
}

func (h house) input(pub crypto.PublicKey, names ...string) Input {
	in := Input{Issuer: h.issuing, IssuerID: "issuing-p256", PublicKey: pub, Serial: serial(3), Now: now, Shard: 7, URLs: urls}
	for _, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		if err != nil {
			panic(err)
		}
		in.Names = append(in.Names, id)
	}
	return in
}

func TestTemplateVerifies(t *testing.T) {
	h := newHouse(t)
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(h.root)
	middle.AddCert(h.issuing)
	for name, usage := range map[string]x509.ExtKeyUsage{
		"tls-server": x509.ExtKeyUsageServerAuth, "tls-server-short": x509.ExtKeyUsageServerAuth, "tls-client": x509.ExtKeyUsageClientAuth,
	} {
		tmpl, err := builtinProfile(t, name).Template(h.input(newKey(t).Public(), "www.example.test", "10.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		c := sign(t, tmpl, h.issuing, h.issuingKey)
		_, err = c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, DNSName: "www.example.test", CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
