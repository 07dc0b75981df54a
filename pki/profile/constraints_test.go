package profile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// forge signs a template; a nil parent makes a root.
func forge(t testing.TB, tmpl, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, parent, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func authorityTemplate(cn string, n NameConstraints, t testing.TB) *x509.Certificate {
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(3e9, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if err := n.apply(c); err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	dnsPool  = []string{"test", "a.test", "b.a.test", "c.b.a.test", "xa.test", "a.tes", "example.com", "www.example.com", "*.a.test", "*.test", "*.b.a.test", "*.example.com"}
	ipPool   = []string{"10.0.0.1", "10.128.0.1", "192.168.1.1", "::1", "fd00::1", "fd00:1::1"}
	mailPool = []string{"x@a.test", "y@a.test", "x@b.a.test", "x@A.Test", "X@a.test", "x@example.com", "x@sub.example.com"}
	dnsRules = []string{"test", "a.test", ".a.test", "b.a.test", "example.com", ".example.com"}
	ipRules  = []string{"10.0.0.0/8", "10.0.0.0/9", "192.168.1.1/32", "::1/128", "fd00::/8", "fd00::/32", "0.0.0.0/0"}
	mailRule = []string{"a.test", ".a.test", "x@a.test", "example.com", ".example.com", "X@a.test"}
)

func some(r *rand.Rand, pool []string, most int) (out []string) {
	for range r.IntN(most + 1) {
		out = append(out, pool[r.IntN(len(pool))])
	}
	return out
}

func randomConstraints(r *rand.Rand) NameConstraints {
	return NameConstraints{PermittedDNS: some(r, dnsRules, 2), ExcludedDNS: some(r, dnsRules, 1), PermittedIP: some(r, ipRules, 2),
		ExcludedIP: some(r, ipRules, 1), PermittedEmail: some(r, mailRule, 2), ExcludedEmail: some(r, mailRule, 1)}
}

// TestConstraintsAgainstVerifier: what CheckConstraints lets through, crypto/x509 verifies; what crypto/x509 refuses for
// its names, CheckConstraints refused. Being stricter is allowed where verifiers disagree, and counted: a wildcard that
// could stand for an excluded name, a host below a permitted mail host (RFC 5280 section 4.2.1.10 says no, crypto/x509
// yes), a mailbox in another case than an excluded one.
func TestConstraintsAgainstVerifier(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 11))
	var passed, refused, stricter int
	for range 1500 {
		root := forge(t, authorityTemplate("Root", randomConstraints(r), t), nil, key)
		issuing := authorityTemplate("Issuing", NameConstraints{}, t)
		if r.IntN(2) == 0 {
			issuing = authorityTemplate("Issuing", randomConstraints(r), t)
		}
		middle := forge(t, issuing, root, key)
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(3e9, 0)}
		var names []bulkhead.Identifier
		for _, n := range some(r, dnsPool, 1) {
			names, leaf.DNSNames = append(names, bulkhead.Identifier{Type: bulkhead.DNS, Value: n}), append(leaf.DNSNames, n)
		}
		for _, n := range some(r, ipPool, 1) {
			names, leaf.IPAddresses = append(names, bulkhead.Identifier{Type: bulkhead.IP, Value: n}), append(leaf.IPAddresses, net.ParseIP(n))
		}
		for _, n := range some(r, mailPool, 1) {
			names, leaf.EmailAddresses = append(names, bulkhead.Identifier{Type: bulkhead.Email, Value: n}), append(leaf.EmailAddresses, n)
		}
		if len(names) == 0 {
			continue
		}
		roots, middles := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root)
		middles.AddCert(middle)
		_, oracle := forge(t, leaf, middle, key).Verify(x509.VerifyOptions{Roots: roots, Intermediates: middles, CurrentTime: time.Unix(2e9, 0), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		ours := CheckConstraints(names, []*x509.Certificate{middle, root})
		switch {
		case ours == nil && oracle == nil:
			passed++
		case ours != nil && oracle != nil:
			refused++
			if f := bulkhead.AsFault(ours); f.Kind != bulkhead.KindRejectedIdentifier || len(f.Subs) == 0 || f.Hint == "" || !strings.Contains(f.Subs[0].Detail, "authority \"") {
				t.Fatalf("fault without kind, sub-fault, hint or authority: %+v", f)
			}
		case ours == nil:
			t.Fatalf("crypto/x509 refuses what we would issue: %v: %v (root %v %v, issuing %v %v)", names, oracle, root.PermittedDNSDomains, root.ExcludedDNSDomains, middle.PermittedDNSDomains, middle.ExcludedDNSDomains)
		default:
			stricter++
			for _, s := range bulkhead.AsFault(ours).Subs {
				if s.Identifier.Type == bulkhead.DNS && (s.Identifier.Wildcard() || strings.Contains(s.Detail, "\".")) || s.Identifier.Type == bulkhead.Email {
					continue
				}
				t.Errorf("we refuse what crypto/x509 verifies: %v", ours)
			}
		}
	}
	if passed < 50 || refused < 50 {
		t.Errorf("only %d passed and %d were refused: the generator is too narrow", passed, refused)
	}
	t.Logf("%d passed, %d refused by both, %d refused by us alone", passed, refused, stricter)
}

// TestConstraintsPlain says each rule once, in words.
func TestConstraintsPlain(t *testing.T) {
	for _, x := range []struct {
		name    string
		c       NameConstraints
		allowed bool
	}{
		{"a.test", NameConstraints{}, true},
		{"a.test", NameConstraints{PermittedDNS: []string{"test"}}, true},
		{"atest", NameConstraints{PermittedDNS: []string{"test"}}, false},
		{"a.test", NameConstraints{PermittedIP: []string{"10.0.0.0/8"}}, true}, // says nothing of DNS names
		{"a.test", NameConstraints{PermittedDNS: []string{"test"}, ExcludedDNS: []string{"a.test"}}, false},
		{"*.test", NameConstraints{ExcludedDNS: []string{"a.test"}}, false}, // could be a.test
		{"*.a.test", NameConstraints{PermittedDNS: []string{"a.test"}}, true},
		{"*.test", NameConstraints{PermittedDNS: []string{"a.test"}}, false},
		{"10.0.0.1", NameConstraints{PermittedIP: []string{"10.0.0.0/8"}}, true},
		{"11.0.0.1", NameConstraints{PermittedIP: []string{"10.0.0.0/8"}}, false},
		{"::1", NameConstraints{PermittedIP: []string{"0.0.0.0/0"}}, false},
		{"10.0.0.1", NameConstraints{ExcludedIP: []string{"10.0.0.0/8"}}, false},
		{"x@a.test", NameConstraints{PermittedEmail: []string{"a.test"}}, true},
		{"x@b.a.test", NameConstraints{PermittedEmail: []string{"a.test"}}, false},
		{"x@b.a.test", NameConstraints{PermittedEmail: []string{".a.test"}}, true},
		{"x@b.a.test", NameConstraints{ExcludedEmail: []string{"a.test"}}, false},
		{"y@a.test", NameConstraints{PermittedEmail: []string{"x@a.test"}}, false},
	} {
		ca := new(x509.Certificate)
		if err := x.c.apply(ca); err != nil {
			t.Fatal(err)
		}
		id, err := bulkhead.ParseIdentifier(x.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := CheckConstraints([]bulkhead.Identifier{id}, []*x509.Certificate{ca}) == nil; got != x.allowed {
			t.Errorf("%s under %+v: allowed is %v", x.name, x.c, got)
		}
	}
}
