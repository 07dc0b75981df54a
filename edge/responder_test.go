package edge

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// deputy gives the authority another responder, made from a template that change has altered.
func (a *authority) deputy(t testing.TB, key *ecdsa.PrivateKey, parent *authority, change func(*x509.Certificate)) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "other OCSP"}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}
	if change != nil {
		change(tmpl)
	}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, parent.cert, key.Public(), parent.key))(t)
	a.respCert, a.delegate = must(x509.ParseCertificate(der))(t), key
	a.respHash = must(ocsp.KeyHash(a.respCert.RawSubjectPublicKeyInfo))(t)
}

// TestResponderProfile plants each violation of BR 7.1.2.8 in the delegate of an otherwise sound pack: an edge that starts
// refuses the head and serves nothing, an edge that runs keeps the head it has. The proper delegate passes.
func TestResponderProfile(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"":                   nil,
		"cA=true":            func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"keyCertSign":        func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"more purposes":      func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) },
		"an unknown purpose": func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} },
		"no purpose":         func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"no nocheck":         func(c *x509.Certificate) { c.ExtraExtensions = nil },
		"critical nocheck":   func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true },
		"nocheck not 0500":   func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{4, 0} },
		"SAN":                func(c *x509.Certificate) { c.DNSNames = []string{"ocsp.test"} },
		"CDP":                func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.test/1.crl"} },
		"keyEncipherment":    func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
		"no keyUsage":        func(c *x509.Certificate) { c.KeyUsage = 0 },
		"outlives":           func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) },
	} {
		w := newWorld(t)
		a := newAuthority(t, "ca", "CA", newKey(t))
		w.add(a, w.good(1))
		w.publish()
		running := w.refreshed()
		a.deputy(t, newKey(t), a, change)
		w.add(a, w.good(2))
		w.publish()
		starts := w.edge()
		err := starts.Refresh(t.Context())
		if name == "" {
			if err != nil || running.Refresh(t.Context()) != nil || running.Sequence() != 2 {
				t.Fatalf("the proper delegate is refused: %v", err)
			}
			continue
		}
		if bulkhead.KindOf(err) != bulkhead.KindConflict || !strings.Contains(describe(err), "may not speak") {
			t.Errorf("%s: an edge that starts: %v", name, err)
		}
		if starts.Sequence() != 0 || starts.Health().Ready {
			t.Errorf("%s: an edge that starts serves head %d", name, starts.Sequence())
		}
		if err := running.Refresh(t.Context()); err == nil || running.Sequence() != 1 {
			t.Errorf("%s: an edge that runs went to head %d: %v", name, running.Sequence(), err)
		}
		if got := a.stateOf(t, running.askFor(t, a.request(t, ocsp.SHA1, 2)), 2, w.clock()); got != "unauthorized" {
			t.Errorf("%s: an answer of the refused pack is served: %s", name, got)
		}
	}
}

// TestResponderOfAnother: a delegate of another issuer, of the same name with another key, and an intermediate below the
// issuer that may sign OCSP, the forger of 2020.
func TestResponderOfAnother(t *testing.T) {
	for name, plant := range map[string]func(a *authority){
		"of another issuer":        func(a *authority) { a.deputy(t, newKey(t), newAuthority(t, "x", "X", newKey(t)), nil) },
		"of a namesake":            func(a *authority) { a.deputy(t, newKey(t), newAuthority(t, "ca", "CA", newKey(t)), nil) },
		"intermediate of 2020 (B)": func(a *authority) { a.deputy(t, newKey(t), a, intermediate(x509.ExtKeyUsageOCSPSigning)) },
		"intermediate without (C)": func(a *authority) { a.deputy(t, newKey(t), a, intermediate()) },
		"TLS server certificate (D)": func(a *authority) {
			a.deputy(t, newKey(t), a, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		},
	} {
		w := newWorld(t)
		a := newAuthority(t, "ca", "CA", newKey(t))
		plant(a)
		w.add(a, w.good(1))
		w.publish()
		if err := w.edge().Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func intermediate(purposes ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.ExtKeyUsage = true, true, purposes
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	}
}

// TestResponderNeedsIssuer: packs without the issuer's certificate, or under another's, are refused.
func TestResponderNeedsIssuer(t *testing.T) {
	w := newWorld(t)
	a, b := newAuthority(t, "ca", "CA", newKey(t)), newAuthority(t, "cb", "CB", newKey(t))
	w.add(a, w.good(1))
	named := w.issuer(a).Certificate
	ref := w.issuer(b).Certificate
	w.issuer(a).Certificate = ref
	w.publish()
	if err := w.edge().Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("another's certificate: %v", err)
	}
	w.issuer(a).Certificate = pack.ObjectRef{}
	w.publish()
	if err := w.edge().Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("no certificate: %v", err)
	}
	w.issuer(a).Certificate = named
	w.publish()
	if err := w.edge().Refresh(t.Context()); err != nil {
		t.Errorf("its own: %v", err)
	}
}
