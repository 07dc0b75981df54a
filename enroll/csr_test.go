package enroll_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"testing"

	"bulkhead"
	"bulkhead/enroll"
)

func TestParseCSR(t *testing.T) {
	key := newKey(t)
	make := func(tmpl x509.CertificateRequest) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
		ok(t, err)
		return der
	}
	good := make(x509.CertificateRequest{Subject: pkix.Name{CommonName: "B.test"}, DNSNames: []string{"A.test", "b.test", "a.test"}})
	r, err := enroll.ParseCSR(good)
	ok(t, err)
	if want := ids(t, "a.test", "b.test"); !slices.Equal(r.Names, want) {
		t.Errorf("names %v, want %v", r.Names, want)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	ok(t, err)
	if !bytes.Equal(r.SPKI, spki) {
		t.Error("the key is not the request's")
	}
	if r, err := enroll.ParseCSR(make(x509.CertificateRequest{Subject: pkix.Name{CommonName: "10.0.0.1"}})); err != nil || r.Names[0].Type != bulkhead.IP {
		t.Errorf("an address as common name: %v, %v", r.Names, err)
	}
	for name, der := range map[string][]byte{
		"nothing":          nil,
		"nonsense":         []byte("nonsense"),
		"trailing bytes":   append(slices.Clone(good), 0),
		"too large":        bytes.Repeat([]byte{0x30}, enroll.MaxCSR+1),
		"broken signature": spoil(good),
		"no mail address":  make(x509.CertificateRequest{EmailAddresses: []string{"@a.test"}}),
		"name as mail":     make(x509.CertificateRequest{EmailAddresses: []string{"a.test"}}),
		"URI":              make(x509.CertificateRequest{DNSNames: []string{"a.test"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "a.test"}}}),
		"common name":      make(x509.CertificateRequest{Subject: pkix.Name{CommonName: "My Server"}, DNSNames: []string{"a.test"}}),
		"bad name":         make(x509.CertificateRequest{DNSNames: []string{"under_score.test"}}),
	} {
		_, err := enroll.ParseCSR(der)
		if bulkhead.KindOf(err) != bulkhead.KindBadCSR {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	f.Add(csr(f, newKey(f), "a.test", "10.0.0.1"))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ok(f, err)
	f.Add(csr(f, ed, "*.a.test"))
	f.Add(csr(f, newKey(f)))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := enroll.ParseCSR(der)
		if err != nil {
			if k := bulkhead.KindOf(err); k != bulkhead.KindBadCSR && k != bulkhead.KindBadPublicKey {
				t.Errorf("refused as %s", k)
			}
			return
		}
		for _, n := range r.Names {
			if n.Check() != nil {
				t.Errorf("accepted the name %q", n.Value)
			}
		}
	})
}

func TestNameSet(t *testing.T) {
	s, err := enroll.ParseNameSet("localhost", "*.Test", "10.0.0.0/8", "192.0.2.7", "::1")
	ok(t, err)
	for text, want := range map[string]bool{
		"localhost": true, "a.localhost": false, "a.test": true, "*.a.test": true, "a.b.test": true, "test": false, "atest": false,
		"10.255.0.1": true, "11.0.0.1": false, "192.0.2.7": true, "::1": true, "example.org": false, "a.test.example.org": false,
	} {
		if got := s.Contains(ids(t, text)[0]); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for text, want := range map[string]bool{"a@a.test": true, "a@A.Test": true, "a@a.test@example.org": false, "a.test@example.org": false, "a@localhost": true} {
		if got := s.Contains(bulkhead.Identifier{Type: bulkhead.Email, Value: text}); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if (enroll.NameSet{}).Contains(ids(t, "localhost")[0]) {
		t.Error("contains what it must not")
	}
	for _, bad := range []string{"", "*.", "a_b.test", "10.0.0.0/40", "a b"} {
		if _, err := enroll.ParseNameSet(bad); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%q: %v", bad, err)
		}
	}
	own := enroll.DefaultOwnNames()
	for text, want := range map[string]bool{"localhost": true, "x.localhost": true, "x.test": true, "x.internal": true, "127.0.0.1": true, "172.16.0.1": true,
		"fd00::1": true, "8.8.8.8": false, "example.org": false, "169.254.169.254": false} {
		if got := own.Contains(ids(t, text)[0]); got != want {
			t.Errorf("by default %s: %v", text, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	h := newHouse(t)
	for name, change := range map[string]func(*enroll.Config){
		"no store":         func(c *enroll.Config) { c.Store = nil },
		"no clock":         func(c *enroll.Config) { c.Now = nil },
		"no profile":       func(c *enroll.Config) { c.Profiles = nil },
		"default profile":  func(c *enroll.Config) { c.DefaultProfile = "classic" },
		"operator by ACME": func(c *enroll.Config) { c.Policy.Methods = []bulkhead.Method{bulkhead.OperatorApproval} },
	} {
		cfg := h.cfg
		change(&cfg)
		if _, err := enroll.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
