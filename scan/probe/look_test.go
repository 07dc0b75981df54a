package probe_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
	"bulkhead/scan/probe"
	"bulkhead/scan/probe/probetest"
)

func summary(c *bulkhead.ServedChain) string {
	if c == nil {
		return "no chain"
	}
	return fmt.Sprintf("%d certificates, missing %q, superfluous %v, disorder %v, expired %v, malformed %q, key %+v",
		len(c.DER), c.Missing, c.Superfluous, c.Disorder, c.Expired, c.Malformed, c.Key)
}

// TestChain plants each fault of a served chain, and none.
func TestChain(t *testing.T) {
	f := relatives()
	other := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Other"}, IsCA: true, BasicConstraintsValid: true}, nil, f.rootKey, f.rootKey)
	namesake := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Intermediate"}, IsCA: true, BasicConstraintsValid: true}, f.root, f.rootKey, f.rootKey)
	selfSigned := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "alone"}}, nil, f.leafKey, f.leafKey)
	list := func(cs ...*x509.Certificate) (der [][]byte) {
		for _, c := range cs {
			der = append(der, c.Raw)
		}
		return der
	}
	for _, c := range []struct {
		name        string
		der         [][]byte
		known       []*x509.Certificate
		missing     string
		superfluous []string
		disorder    bool
		malformed   bool
	}{
		{"as it should be", list(f.leaf, f.middle), nil, "", nil, false, false},
		{"known root", list(f.leaf, f.middle), []*x509.Certificate{f.root, f.middle}, "", nil, false, false},
		{"leaf alone", list(f.leaf), nil, "CN=Intermediate", nil, false, false},
		{"leaf alone, known", list(f.leaf), []*x509.Certificate{f.middle}, "CN=Intermediate", nil, false, false},
		{"with the root", list(f.leaf, f.middle, f.root), nil, "", []string{"CN=Root"}, false, false},
		{"with a stranger", list(f.leaf, other, f.middle), nil, "", []string{"CN=Other"}, false, false},
		{"with a namesake of another key", list(f.leaf, namesake, f.middle), nil, "", []string{"CN=Intermediate"}, false, false},
		{"twice", list(f.leaf, f.middle, f.middle), nil, "", []string{"CN=Intermediate"}, false, false},
		{"only a stranger", list(f.leaf, other), nil, "CN=Intermediate", []string{"CN=Other"}, false, false},
		{"self-signed", list(selfSigned), nil, "", nil, false, false},
		{"rubbish behind", append(list(f.leaf, f.middle), []byte{1}), nil, "", nil, false, false},
		{"rubbish", [][]byte{{0x30, 0}}, nil, "", nil, false, true},
		{"empty", nil, nil, "", nil, false, true},
	} {
		got := probe.Chain(c.der, c.known, keycheck.DefaultRules(), time.Now())
		if c.name == "rubbish behind" {
			c.superfluous = got.Superfluous
			if len(got.Superfluous) != 1 {
				t.Errorf("%s: %s", c.name, summary(got))
			}
		}
		if got.Missing != c.missing || !slices.Equal(got.Superfluous, c.superfluous) || got.Disorder != c.disorder || (got.Malformed != "") != c.malformed {
			t.Errorf("%s: %s", c.name, summary(got))
		}
	}
	lower := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Lower"}, IsCA: true, BasicConstraintsValid: true}, f.middle, f.rootKey, f.middleKey)
	deep := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "deep"}}, lower, f.leafKey, f.rootKey)
	if got := probe.Chain(list(deep, f.middle, lower), nil, keycheck.DefaultRules(), time.Now()); !got.Disorder || got.Missing != "" || got.Superfluous != nil {
		t.Errorf("out of order: %s", summary(got))
	}
	if got := probe.Chain(list(deep, lower), []*x509.Certificate{f.middle}, keycheck.DefaultRules(), time.Now()); got.Missing != "CN=Intermediate" {
		t.Errorf("upper intermediate missing: %s", summary(got))
	}
}

// TestChainFacts: the end of validity, the name of the key and its weakness.
func TestChainFacts(t *testing.T) {
	f := relatives()
	got := probe.Chain([][]byte{f.leaf.Raw}, nil, keycheck.DefaultRules(), f.leaf.NotAfter.Add(time.Second))
	if !got.Expired || got.Key.SPKI != bulkhead.Digest(f.leaf.RawSubjectPublicKeyInfo) || got.Key.Bits != 2048 || got.Key.Weak != "" || got.Serial.Big().Cmp(f.leaf.SerialNumber) != 0 {
		t.Error(summary(got))
	}
	if probe.Chain([][]byte{f.leaf.Raw}, nil, keycheck.DefaultRules(), f.leaf.NotAfter).Expired {
		t.Error("expired at its last second")
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "weak"}}, f.middle, small, f.middleKey)
	if got := probe.Chain([][]byte{weak.Raw}, nil, keycheck.DefaultRules(), time.Now()); got.Key.Weak == "" || got.Key.Bits != 1024 {
		t.Error(summary(got))
	}
}

// TestWholeLookAtOldServers: what the standard library will not speak is read by our own reader: chain and staple over
// SSL 3.0, 90 kB of certificates, and the weak suites that are accepted.
func TestWholeLookAtOldServers(t *testing.T) {
	f := relatives()
	b := probetest.Vulnerable
	b.Versions, b.Heartbeat, b.Staple, b.ChainBytes = []uint16{probetest.SSL30}, []uint16{probetest.SSL30}, f.staple, 90_000
	b.Suites = []uint16{0x002f, 0x0005, 0x0003, 0xc018}
	look := prober(t, nil).Look(context.Background(), serve(t, b))
	if look.Verdict != bulkhead.Vulnerable || look.Chain == nil || len(look.Chain.DER) != 2 || string(look.Chain.DER[0]) != string(probetest.Leaf()) {
		t.Fatalf("%s (%s), %s", look.Verdict, look.Detail, summary(look.Chain))
	}
	if len(look.Chain.DER[1]) < 89_000 || string(look.Staple) != string(f.staple) {
		t.Errorf("%d bytes behind the leaf, %d of staple", len(look.Chain.DER[1]), len(look.Staple))
	}
	if !slices.Equal(look.Suites, []uint16{0x0005, 0x0003, 0xc018}) {
		t.Errorf("weak suites %#x", look.Suites)
	}
}

// TestWholeLookVersions: each version that a server speaks is seen, whatever the verdict needed.
func TestWholeLookVersions(t *testing.T) {
	f := relatives()
	ep := serveGo(t, &tls.Config{Certificates: []tls.Certificate{f.certificate(f.leaf, f.middle)}, MinVersion: tls.VersionTLS11})
	look := prober(t, nil).Look(context.Background(), ep)
	var spoken []uint16
	for _, v := range look.Versions {
		if v.Outcome == bulkhead.VersionSpoken {
			spoken = append(spoken, v.Version)
		}
	}
	b := probetest.Patched
	b.Versions = []uint16{probetest.SSL30, probetest.TLS10, probetest.TLS12}
	seen := prober(t, nil).Look(context.Background(), serve(t, b))
	var names []string
	for _, v := range seen.Versions {
		names = append(names, string(v.Outcome))
	}
	if fmt.Sprint(names) != "[refused spoken refused spoken spoken]" {
		t.Errorf("%v: %+v", names, seen.Versions)
	}
	if !slices.Equal(spoken, []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11}) || len(look.Suites) != 0 || look.Sent == 0 || look.Received == 0 || look.HelloTook <= 0 {
		t.Errorf("%#x, weak %#x, %+v", spoken, look.Suites, look.Versions)
	}
}
