package graph

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestRules plants one fault for each rule beside a sound hierarchy, which stays silent.
func TestRules(t *testing.T) {
	m := newMaker(t)
	root, ica := m.cert("Root", "Root", ca()), m.cert("ICA", "Root", ca())
	sound := func() []*Certificate {
		return []*Certificate{root, ica, m.cert("www.example.test", "ICA", leaf("www.example.test"))}
	}
	if got := Audit(New(sound()), now); len(got) != 0 {
		t.Fatalf("a sound hierarchy: %+v", got)
	}
	pathLen0 := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	long := func(c *x509.Certificate) { c.NotAfter = now.AddDate(9, 0, 0) }
	short := m.cert("Short", "Root", ca(pathLen0))
	below := m.cert("Below", "Short", ca())
	siteBelow := m.cert("site", "Below", leaf())
	stranger := m.cert("Stranger", "Nobody", ca())
	dangerous := m.cert("Any", "Root", ca(anyUsage))
	forged := m.cert("Forged", "Root", ca())
	forged.signature = bytes.Clone(forged.signature)
	forged.signature[len(forged.signature)-1] ^= 1
	old := m.cert("Old", "Root", ca(func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -1) }))
	wild := m.cert("wild", "www", leaf())
	first := m.cert("Twin", "Twin", ca(func(c *x509.Certificate) { c.NotBefore = now.AddDate(-3, 0, 0) }))
	second := m.cert("Twin", "Root", ca())
	later := m.cert("Later", "Root", ca(long))
	small := m.cert("Serial", "Root", ca(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }))
	for _, c := range []struct {
		rule     Rule
		severity Severity
		on       *Certificate
		planted  []*Certificate
		victims  []*Certificate
		says     string
	}{
		{RuleAnyUsage, Warning, dangerous, []*Certificate{dangerous}, []*Certificate{ica}, "nocheck is absent"},
		{RuleTwin, Warning, second, []*Certificate{first, second}, []*Certificate{first}, "cross-certificate"},
		{RuleOutlives, Warning, later, []*Certificate{later}, nil, "2035-11-01"},
		{RulePathLength, Error, below, []*Certificate{short, below, siteBelow}, []*Certificate{siteBelow}, "allows none"},
		{RuleUnreachable, Warning, stranger, []*Certificate{stranger}, nil, "no certificate of its issuer"},
		{RuleIssuerNotCA, Error, wild, []*Certificate{m.cert("www", "Root", leaf()), wild}, nil, "no authority"},
		{RuleBadSignature, Error, forged, []*Certificate{forged}, nil, "not by the key"},
		{RuleExpired, Notice, old, []*Certificate{old}, nil, "2026-10-31"},
		{RuleSerial, Notice, small, []*Certificate{small}, nil, "3 bits"},
	} {
		got := of(Audit(New(append(sound(), c.planted...)), now), c.rule)
		if len(got) != 1 || got[0].Certificate != c.on || got[0].Severity != c.severity || !slices.Equal(got[0].Victims, c.victims) || !strings.Contains(got[0].Message, c.says) {
			t.Errorf("%s: %+v", c.rule, got)
		}
	}
}

// TestKeysAndSignatures plants a small RSA key, SHA-1, MD5 and an algorithm that nobody knows.
func TestKeysAndSignatures(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	make := func(cn, issuer string, a x509.SignatureAlgorithm, bits int) []byte {
		k := &rsa.PublicKey{N: new(big.Int).Rsh(key.N, uint(2048-bits)), E: key.E}
		k.N.SetBit(k.N, 0, 1)
		c := ca()
		c.SerialNumber, c.SignatureAlgorithm, c.Subject = new(big.Int).Lsh(big.NewInt(3), 100), a, pkix.Name{CommonName: cn}
		der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}, SignatureAlgorithm: a}, k, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	read := func(der []byte) *Certificate {
		c, err := Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root := read(make("Root", "Root", x509.SHA256WithRSAPSS, 2048))
	weak := read(make("Small", "Root", x509.SHA384WithRSA, 1024))
	sha256 := asn1OID(t, 1, 2, 840, 113549, 1, 1, 11)
	swap := func(cn string, oid []byte) *Certificate {
		return read(bytes.ReplaceAll(make(cn, "Root", x509.SHA256WithRSA, 2048), sha256, oid))
	}
	sha1, md5 := swap("SHA1", asn1OID(t, 1, 2, 840, 113549, 1, 1, 5)), swap("MD5", asn1OID(t, 1, 2, 840, 113549, 1, 1, 4))
	odd := swap("Odd", asn1OID(t, 1, 2, 840, 113549, 1, 1, 99))
	g := New([]*Certificate{root, weak, sha1, md5, odd})
	if g.link[root.id] != verified || g.link[weak.id] != verified {
		t.Errorf("links: %v, %v", g.link[root.id], g.link[weak.id])
	}
	if g.link[odd.id] != presumed || g.Issuer(odd) != g.Subject(root) {
		t.Errorf("an unknown algorithm: %v", g.link[odd.id])
	}
	findings := Audit(g, now)
	for _, c := range []struct {
		rule Rule
		on   *Certificate
		want Severity
	}{{RuleWeakKey, weak, Warning}, {RuleWeakSignature, sha1, Warning}, {RuleWeakSignature, md5, Error}, {RuleNotVerified, odd, Notice}} {
		if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Rule == c.rule && f.Certificate == c.on && f.Severity == c.want }) {
			t.Errorf("no %s %s for %s", c.want, c.rule, c.on.Subject)
		}
	}
	if n := len(of(findings, RuleWeakSignature)); n != 2 {
		t.Errorf("%d weak signatures", n)
	}
}

func asn1OID(t *testing.T, n ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(n))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestNameConstraints: what is inside stays silent, what is outside is named, at any depth.
func TestNameConstraints(t *testing.T) {
	m := newMaker(t)
	_, permit, _ := net.ParseCIDR("10.0.0.0/8")
	constrained := ca(func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains, c.ExcludedDNSDomains = []string{"example.test"}, []string{"secret.example.test"}
		c.PermittedIPRanges, c.PermittedEmailAddresses, c.PermittedURIDomains = []*net.IPNet{permit}, []string{"example.test"}, []string{".example.test"}
	})
	base := []*Certificate{m.cert("Root", "Root", ca()), m.cert("Bound", "Root", constrained), m.cert("Sub", "Bound", ca())}
	for name, bad := range map[string]bool{"www.example.test": false, "EXAMPLE.test": false, "example.org": true, "www.secret.example.test": true, "badexample.test": true,
		"10.1.2.3": false, "11.1.2.3": true, "::1": true, "a@example.test": false, "a@www.example.test": true} {
		l := leaf()
		switch ip := net.ParseIP(name); {
		case ip != nil:
			l.IPAddresses = []net.IP{ip}
		case strings.Contains(name, "@"):
			l.EmailAddresses = []string{name}
		default:
			l.DNSNames = []string{name}
		}
		c := m.cert("site", "Sub", l)
		got := of(Audit(New(append(slices.Clone(base), c)), now), RuleNameConstraints)
		if (len(got) == 1) != bad || bad && got[0].Certificate != c {
			t.Errorf("%s: %+v", name, got)
		}
	}
	elsewhere := m.cert("site", "Root", leaf("example.org"))
	if got := of(Audit(New(append(slices.Clone(base), elsewhere)), now), RuleNameConstraints); len(got) != 0 {
		t.Errorf("a certificate not below it: %+v", got)
	}
}

// TestOrder: findings do not depend on the order of the input.
func TestOrder(t *testing.T) {
	m := newMaker(t)
	m.last = 0
	var blocks [][]byte
	for i := range 12 {
		blocks = append(blocks, m.der(fmt.Sprintf("CA %d", i), "Root", ca(ocspSigning)))
	}
	say := func(blocks [][]byte) string {
		var list []*Certificate
		for _, b := range blocks {
			c, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, c)
		}
		var b strings.Builder
		for _, f := range Audit(New(list), now) {
			fmt.Fprintln(&b, f.Rule, f.Certificate.Hash, f.Message, f.Total)
			for _, v := range f.Victims {
				fmt.Fprintln(&b, v.Hash)
			}
		}
		return b.String()
	}
	want := say(blocks)
	slices.Reverse(blocks)
	if got := say(blocks); got != want {
		t.Error("the order of the input shows")
	}
}

// TestThousands audits 5,000 certificates: all of them dangerous siblings, which is the most victims there can be.
func TestThousands(t *testing.T) {
	m := newMaker(t)
	var file bytes.Buffer
	add := func(der []byte) {
		if err := pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	add(m.der("Root", "Root", ca()))
	m.keys["shared"] = m.key("shared")
	for i := 1; i < 5000; i++ {
		name := fmt.Sprintf("CA %d", i)
		m.keys[name] = m.keys["shared"]
		add(m.der(name, "Root", ca(ocspSigning)))
	}
	found, unparsed := Read("all.pem", file.Bytes())
	findings := of(Audit(New(found), now), RuleOCSPSigning)
	listed, total := 0, 0
	for _, f := range findings {
		listed, total = listed+len(f.Victims), total+f.Total
	}
	if len(found) != 5000 || len(unparsed) != 0 || len(findings) != 4999 || total != 4999*4998 || listed != maxVictims {
		t.Errorf("%d certificates, %d unparsed, %d findings, %d victims, %d listed", len(found), len(unparsed), len(findings), total, listed)
	}
}
