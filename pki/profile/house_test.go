package profile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bulkhead"
)

var update = flag.Bool("update", false, "write the golden files")

// fixedKey makes the same key each time, for golden files only.
func fixedKey(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// describe writes down everything in a certificate but the signature.
func describe(c *x509.Certificate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d\nserial %x\nsignature %s\nissuer %s\nsubject %s\nnotBefore %s\nnotAfter %s\nkey %x\n", c.Version, c.SerialNumber,
		c.SignatureAlgorithm, c.Issuer, c.Subject, stamp(c.NotBefore), stamp(c.NotAfter), c.SubjectKeyId)
	for _, e := range c.Extensions {
		critical := ""
		if e.Critical {
			critical = " critical"
		}
		fmt.Fprintf(&b, "extension %s%s\n  %x\n", e.Id, critical, e.Value)
	}
	fmt.Fprintf(&b, "ca %v pathlen %d zero %v usage %b eku %v policies %v\n", c.IsCA, c.MaxPathLen, c.MaxPathLenZero, c.KeyUsage, c.ExtKeyUsage, c.Policies)
	fmt.Fprintf(&b, "cdp %v\nocsp %v\nissuers %v\ndns %v\nip %v\n", c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL, c.DNSNames, c.IPAddresses)
	return b.String()
}

// TestGolden compares every template, signed, with its golden text: run with -update after a wanted change.
func TestGolden(t *testing.T) {
	rootKey, issuingKey, otherKey, leafKey := fixedKey(t, 1), fixedKey(t, 2), fixedKey(t, 3), fixedKey(t, 4)
	subject := func(cn string) pkix.Name {
		return pkix.Name{CommonName: cn, Organization: []string{"Test House"}, Country: []string{"CH"}}
	}
	check := func(name string, parent *x509.Certificate, key *ecdsa.PrivateKey) func(*x509.Certificate, error) *x509.Certificate {
		return func(tmpl *x509.Certificate, err error) *x509.Certificate {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c := sign(t, tmpl, parent, key)
			golden(t, name, describe(c))
			return c
		}
	}
	root := check("root", nil, rootKey)(Root(House{Subject: subject("Test Root"), PublicKey: rootKey.Public(), Serial: serial(1), Now: now, Validity: 3650 * day, Backdate: time.Hour}))
	other := check("other-root", nil, otherKey)(Root(House{Subject: subject("Other Root"), PublicKey: otherKey.Public(), Serial: serial(9), Now: now, Validity: 3650 * day}))
	issuing := check("issuing", root, rootKey)(Issuing(House{Subject: subject("Test Issuing"), PublicKey: issuingKey.Public(), Serial: serial(2), Now: now, Validity: 1825 * day, Backdate: time.Hour, Parent: root, ParentID: "root", URLs: urls}))
	check("cross-issuing", other, otherKey)(Cross(House{RawSubject: issuing.RawSubject, PublicKey: issuing.PublicKey, Serial: serial(3), Now: now, Validity: 1825 * day, Parent: other, ParentID: "other", URLs: urls}))
	cross := check("cross-root", other, otherKey)(Cross(House{RawSubject: root.RawSubject, PublicKey: root.PublicKey, Serial: serial(4), Now: now, Validity: 1825 * day, Parent: other, ParentID: "other", URLs: urls, PathLen: 1}))
	if !bytes.Equal(cross.RawSubject, root.RawSubject) || !bytes.Equal(cross.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo) {
		t.Error("a cross-certificate does not repeat subject and key")
	}
	check("delegate", issuing, issuingKey)(OCSPDelegate(House{Subject: subject("Test Responder"), PublicKey: leafKey.Public(), Serial: serial(5), Now: now, Validity: 14 * day, Backdate: time.Hour, Parent: issuing}))
	in := Input{Issuer: issuing, IssuerID: "issuing-p256", PublicKey: leafKey.Public(), Serial: serial(6), Now: now, Shard: 7, URLs: urls}
	in.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "www.example.test"}, {Type: bulkhead.DNS, Value: "*.example.test"}, {Type: bulkhead.IP, Value: "10.0.0.1"}, {Type: bulkhead.IP, Value: "fd00::1"}}
	check("tls-server", issuing, issuingKey)(builtinProfile(t, "tls-server").Template(in))
	check("tls-server-short", issuing, issuingKey)(builtinProfile(t, "tls-server-short").Template(in))
	check("infrastructure", issuing, issuingKey)(Infrastructure(in, 7*day, time.Hour))
	in.Names = in.Names[:1]
	check("tls-client", issuing, issuingKey)(builtinProfile(t, "tls-client").Template(in))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from its golden text:\n%s", name, got)
	}
}

func TestHouseRefuses(t *testing.T) {
	h := newHouse(t)
	good := House{
		Subject: pkix.Name{CommonName: "Child"}, PublicKey: newKey(t).Public(), Serial: serial(7), Now: now, Validity: 30 * day,
		Parent: h.root, ParentID: "root", URLs: urls,
	}
	with := func(change func(*House)) House {
		in := good
		change(&in)
		return in
	}
	tests := []struct {
		what string
		make func(House) (*x509.Certificate, error)
		in   House
		want bulkhead.Kind
	}{
		{"silent: issuing", Issuing, good, ""},
		{"silent: delegate", OCSPDelegate, good, ""},
		{"silent: cross", Cross, with(func(in *House) { in.RawSubject = h.issuing.RawSubject }), ""},
		{"silent: root", Root, with(func(in *House) { in.Parent = nil }), ""},
		{"root with a parent", Root, good, bulkhead.KindInternal},
		{"issuing without a parent", Issuing, with(func(in *House) { in.Parent = nil }), bulkhead.KindInternal},
		{"issuing without URL", Issuing, with(func(in *House) { in.URLs = URLs{} }), bulkhead.KindInternal},
		{"issuing without a parent's name", Issuing, with(func(in *House) { in.ParentID = "" }), bulkhead.KindInternal},
		{"issuing under path length 0", Issuing, with(func(in *House) { in.Parent = h.issuing }), bulkhead.KindGate},
		{"cross under path length 0", Cross, with(func(in *House) { in.RawSubject, in.Parent = h.root.RawSubject, h.issuing }), bulkhead.KindGate},
		{"cross with negative path length", Cross, with(func(in *House) { in.RawSubject, in.PathLen = h.root.RawSubject, -1 }), bulkhead.KindInternal},
		{"cross without a subject", Cross, good, bulkhead.KindInternal},
		{"delegate without a parent", OCSPDelegate, with(func(in *House) { in.Parent = nil }), bulkhead.KindInternal},
		{"no common name", Issuing, with(func(in *House) { in.Subject = pkix.Name{} }), bulkhead.KindInternal},
		{"no serial", Issuing, with(func(in *House) { in.Serial = bulkhead.Serial{} }), bulkhead.KindInternal},
		{"no time", Issuing, with(func(in *House) { in.Now = time.Time{} }), bulkhead.KindInternal},
		{"an hour", Issuing, with(func(in *House) { in.Validity = time.Hour }), bulkhead.KindInternal},
		{"backdate of two days", Issuing, with(func(in *House) { in.Backdate = 48 * time.Hour }), bulkhead.KindInternal},
		{"no key", Issuing, with(func(in *House) { in.PublicKey = nil }), bulkhead.KindBadPublicKey},
		{"parent ends in half an hour", OCSPDelegate, with(func(in *House) { in.Now = h.root.NotAfter.Add(-time.Hour / 2) }), bulkhead.KindConflict},
	}
	for _, x := range tests {
		_, err := x.make(x.in)
		wantKind(t, x.what, err, x.want)
	}
	in := h.input(newKey(t).Public(), "localhost")
	if _, err := Infrastructure(in, day, 0); err != nil {
		t.Error(err)
	}
	in.Names = nil
	_, err := Infrastructure(in, day, 0)
	wantKind(t, "listener without a name", err, bulkhead.KindInternal)
}

// TestNothingOutlivesItsIssuer draws dates at random: whatever is made lies within its issuer's validity, and what
// cannot be made is refused.
func TestNothingOutlivesItsIssuer(t *testing.T) {
	key := newKey(t).Public()
	rapid.Check(t, func(t *rapid.T) {
		seconds := func(name string, low, high time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(int64(low/time.Second), int64(high/time.Second)).Draw(t, name)) * time.Second
		}
		issuer := &x509.Certificate{IsCA: true, MaxPathLen: -1, SubjectKeyId: []byte{1}, RawSubject: []byte{0x30, 0}}
		issuer.NotBefore = time.Unix(0, 0).UTC().Add(seconds("issuer from", 0, 36500*day))
		issuer.NotAfter = issuer.NotBefore.Add(seconds("issuer for", time.Second, 7300*day))
		at := issuer.NotBefore.Add(seconds("at", -10*day, 7400*day)).Add(time.Duration(rapid.Int64Range(0, 999_999_999).Draw(t, "ns")))
		validity := seconds("validity", 2*time.Hour, 10000*day)
		backdate := min(seconds("backdate", 0, maxHouseBackdate), validity-minRemaining)
		p := Profile{Kind: TLSServer, Validity: validity, Backdate: backdate, Keys: []KeyType{P256}, IdentifierTypes: []bulkhead.IdentifierType{bulkhead.DNS}, MaxNames: 1}
		house := House{Subject: pkix.Name{CommonName: "x"}, PublicKey: key, Serial: serial(1), Now: at, Validity: validity, Backdate: backdate, Parent: issuer, ParentID: "parent", URLs: urls}
		cross := house
		cross.RawSubject = []byte{0x30, 0}
		input := Input{Issuer: issuer, IssuerID: "parent", Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "a.test"}}, PublicKey: key, Serial: serial(1), Now: at, URLs: urls}
		for name, make := range map[string]func() (*x509.Certificate, error){
			"template":       func() (*x509.Certificate, error) { return p.Template(input) },
			"issuing":        func() (*x509.Certificate, error) { return Issuing(house) },
			"cross":          func() (*x509.Certificate, error) { return Cross(cross) },
			"delegate":       func() (*x509.Certificate, error) { return OCSPDelegate(house) },
			"infrastructure": func() (*x509.Certificate, error) { return Infrastructure(input, validity, backdate) },
		} {
			c, err := make()
			possible := !at.Truncate(time.Second).Before(issuer.NotBefore) && issuer.NotAfter.Sub(at.Truncate(time.Second)) >= minRemaining
			switch {
			case err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict:
				t.Fatalf("%s: %v", name, err)
			case (err == nil) != possible:
				t.Fatalf("%s: %v, possible is %v", name, err, possible)
			case err != nil:
			case c.NotAfter.After(issuer.NotAfter) || c.NotBefore.Before(issuer.NotBefore):
				t.Fatalf("%s: %v to %v lies outside its issuer's %v to %v", name, c.NotBefore, c.NotAfter, issuer.NotBefore, issuer.NotAfter)
			case c.NotAfter.Sub(c.NotBefore)+time.Second > validity || c.NotBefore.After(at) || at.Sub(c.NotBefore) > backdate+time.Second:
				t.Fatalf("%s: %v to %v at %v", name, c.NotBefore, c.NotAfter, at)
			case c.NotAfter.Sub(at.Truncate(time.Second)) < minRemaining-time.Second:
				t.Fatalf("%s: ends %v after signing", name, c.NotAfter.Sub(at))
			}
		}
	})
}
