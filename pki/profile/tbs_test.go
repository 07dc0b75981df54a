package profile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"bulkhead"
)

// TestTBSIsTheLibrarys: for every built-in profile, key type and a spread of names and dates the bytes are those that
// x509.CreateCertificate signs.
func TestTBSIsTheLibrarys(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), crand.Reader)
	rsa3072, _ := rsa.GenerateKey(crand.Reader, 3072)
	names := map[bulkhead.IdentifierType][]string{bulkhead.DNS: {"a.test", "*.b.test", "xn--bcher-kva.example.com", "localhost"},
		bulkhead.IP: {"10.0.0.1", "::1", "fd00::7"}, bulkhead.Email: {"a@a.test", "B@c.test"}}
	for _, issuerKey := range []crypto.Signer{p256, p384, rsa3072} {
		for _, subjectKey := range []crypto.Signer{p256, p384, rsa3072} {
			for _, p := range Builtin() {
				for range 6 {
					usage, _ := ParseUsage(string(p.Usage()))
					now := time.Date(2026+r.IntN(30), 3, 4, 5, 6, 7, 0, time.UTC)
					issuer := issuerFor(t, issuerKey, usage, now)
					in := Input{Issuer: issuer, IssuerID: "issuing", PublicKey: subjectKey.Public(), Serial: randomSerial(t), Now: now, Shard: r.IntN(9), URLs: URLs{Base: "http://status.test"}}
					seen := map[string]bool{}
					for range 1 + r.IntN(min(4, p.MaxNames)) {
						kind := p.IdentifierTypes[r.IntN(len(p.IdentifierTypes))]
						n := names[kind][r.IntN(len(names[kind]))]
						if id := (bulkhead.Identifier{Type: kind, Value: n}); !seen[n] && (!id.Wildcard() || p.Wildcard) {
							in.Names, seen[n] = append(in.Names, id), true
						}
					}
					if len(in.Names) == 0 {
						continue
					}
					tmpl, err := p.Template(in)
					if err != nil {
						t.Fatal(err)
					}
					if r.IntN(3) == 0 {
						tmpl.ExtraExtensions = append(tmpl.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: []byte{5, 0}})
					}
					compareTBS(t, tmpl, issuer, issuerKey)
				}
			}
		}
	}
}

func compareTBS(t *testing.T, tmpl, issuer *x509.Certificate, issuerKey crypto.Signer) {
	t.Helper()
	der, err := x509.CreateCertificate(crand.Reader, tmpl, issuer, tmpl.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var outer struct{ TBS, Algorithm, Signature asn1.RawValue }
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		t.Fatal(err)
	}
	got, err := MarshalTBS(tmpl, issuer, want.RawSubjectPublicKeyInfo, outer.Algorithm.FullBytes)
	if err != nil || !bytes.Equal(got, want.RawTBSCertificate) {
		t.Fatalf("other bytes than the library's: %v\n%x\n%x", err, got, want.RawTBSCertificate)
	}
}

func issuerFor(t *testing.T, key crypto.Signer, usage Usage, now time.Time) *x509.Certificate {
	t.Helper()
	tmpl, err := Issuing(House{Subject: pkix.Name{CommonName: "Issuing", Organization: []string{"Example"}, Country: []string{"CH"}}, PublicKey: key.Public(),
		Serial: randomSerial(t), Now: now, Validity: 1000 * 24 * time.Hour, Parent: &x509.Certificate{IsCA: true, SubjectKeyId: []byte{1}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(9, 0, 0)},
		ParentID: "root", URLs: URLs{Base: "http://status.test"}, Usage: usage})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func randomSerial(t *testing.T) bulkhead.Serial {
	t.Helper()
	b := make([]byte, 16)
	crand.Read(b)
	b[0] |= 1
	s, err := bulkhead.SerialFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTBSOfHouse: listeners and OCSP delegates come out the same, too.
func TestTBSOfHouse(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	issuer := issuerFor(t, key, UsageTLS, now)
	subject, _ := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	delegate, err := OCSPDelegate(House{Subject: pkix.Name{CommonName: "OCSP", Organization: []string{"Ä"}}, PublicKey: subject.Public(), Serial: randomSerial(t), Now: now,
		Validity: 30 * 24 * time.Hour, Parent: issuer, ParentID: "issuing"})
	if err != nil {
		t.Fatal(err)
	}
	compareTBS(t, delegate, issuer, key)
	listener, err := Infrastructure(Input{Issuer: issuer, IssuerID: "issuing", Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "localhost"}}, PublicKey: subject.Public(),
		Serial: randomSerial(t), Now: now, URLs: URLs{Base: "http://status.test"}}, 30*24*time.Hour, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	compareTBS(t, listener, issuer, key)
	for what, plant := range map[string]func(*x509.Certificate){
		"cA": func(c *x509.Certificate) { c.IsCA = true }, "URI": func(c *x509.Certificate) { c.URIs = append(c.URIs, new(url.URL)) },
		"constraints": func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"a"} }, "no serial": func(c *x509.Certificate) { c.SerialNumber = nil },
		"unknown usage": func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2}} },
		"other usage":   func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"name":          func(c *x509.Certificate) { c.DNSNames = []string{"ä.test"} },
	} {
		c := *listener
		plant(&c)
		if _, err := MarshalTBS(&c, issuer, issuer.RawSubjectPublicKeyInfo, []byte{0x30, 0}); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}
