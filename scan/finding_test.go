package scan

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
)

// clan is an authority and a leaf.
type clan struct {
	ca, leaf *x509.Certificate
	caKey    crypto.Signer
}

func makeClan(t *testing.T, at time.Time) clan {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sign := func(c, by *x509.Certificate, pub crypto.PublicKey, k crypto.Signer) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, by, pub, k)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	x := clan{caKey: key()}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1 << 40), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3}, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0)}
	x.ca = sign(tmpl, tmpl, x.caKey.Public(), x.caKey)
	x.leaf = sign(&x509.Certificate{SerialNumber: big.NewInt(1 << 41), DNSNames: []string{"a.test"},
		OCSPServer: []string{"http://status.test/ocsp"}, CRLDistributionPoints: []string{"http://status.test/0.crl"}, NotBefore: at.AddDate(0, 0, -30), NotAfter: at.AddDate(0, 0, 60)}, x.ca, key().Public(), x.caKey)
	return x
}

func (c clan) staple(t *testing.T, status int, at time.Time) []byte {
	t.Helper()
	raw, err := ocsp.CreateResponse(c.ca, c.ca, ocsp.Response{Status: status, SerialNumber: c.leaf.SerialNumber, ThisUpdate: at.Add(-time.Hour), NextUpdate: at.Add(time.Hour), RevokedAt: at.Add(-2 * time.Hour)}, c.caKey)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestFindings plants each fault alone, and is silent without one.
func TestFindings(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	c, foreign := makeClan(t, at), makeClan(t, at)
	clean := func() bulkhead.Look {
		return bulkhead.Look{At: at, Endpoint: bulkhead.Endpoint{SNI: "a.test"}, Staple: c.staple(t, ocsp.Good, at),
			Chain: &bulkhead.ServedChain{DER: [][]byte{c.leaf.Raw, c.ca.Raw}, NotBefore: c.leaf.NotBefore, NotAfter: c.leaf.NotAfter}}
	}
	for rule, plant := range map[string]func(l *bulkhead.Look){
		"":                       func(*bulkhead.Look) {},
		"certificate-unreadable": func(l *bulkhead.Look) { l.Chain = &bulkhead.ServedChain{DER: [][]byte{{1}}, Malformed: "nonsense"} },
		"certificate-expired":    func(l *bulkhead.Look) { l.Chain.Expired, l.Chain.NotAfter = true, at.Add(-time.Hour) },
		"certificate-expiring":   func(l *bulkhead.Look) { l.Chain.NotAfter = at.Add(3 * 24 * time.Hour) },
		"name-mismatch":          func(l *bulkhead.Look) { l.Endpoint.SNI = "b.test" },
		"chain-incomplete":       func(l *bulkhead.Look) { l.Chain.Missing = "CN=X" },
		"chain-superfluous":      func(l *bulkhead.Look) { l.Chain.Superfluous = []string{"CN=X"} },
		"chain-disorder":         func(l *bulkhead.Look) { l.Chain.Disorder = true },
		"key-weak":               func(l *bulkhead.Look) { l.Chain.Key.Weak = "512 bits" },
		"staple-bad":             func(l *bulkhead.Look) { l.Staple = foreign.staple(t, ocsp.Good, at) },
		"staple-revoked":         func(l *bulkhead.Look) { l.Staple = c.staple(t, ocsp.Revoked, at) },
		"suites-weak":            func(l *bulkhead.Look) { l.Suites = []uint16{5} },
	} {
		l := clean()
		plant(&l)
		got := Findings(l, nil)
		if rule == "" && len(got) != 0 || rule != "" && (len(got) != 1 || got[0].Rule != rule || ruleWords[rule] == "") {
			t.Errorf("%s: %+v", rule, got)
		}
	}
	stale := clean()
	stale.Staple = c.staple(t, ocsp.Good, at.Add(-48*time.Hour))
	if got := Findings(stale, nil); len(got) != 1 || got[0].Rule != "staple-bad" {
		t.Errorf("a stale staple: %+v", got)
	}
}

// TestKeysOfARun: shared keys are told with the hosts that share, a key that was kept after a leak is critical (S3-3), and a new
// one is silent.
func TestKeysOfARun(t *testing.T) {
	old, fresh := bulkhead.Digest([]byte("old")), bulkhead.Digest([]byte("new"))
	result := func(host string, key bulkhead.Hash, v bulkhead.Verdict) Result {
		ep := bulkhead.Endpoint{Host: host, Address: netip.MustParseAddr("192.0.2.1"), Port: 443}
		return Result{Target: host + ":443", Host: host, Verdict: v, Endpoints: []Endpoint{{Look: bulkhead.Look{Endpoint: ep, Verdict: v, At: time.Unix(1_397_000_000, 0).UTC(), Chain: &bulkhead.ServedChain{Key: bulkhead.KeyFacts{SPKI: key}}}}}}
	}
	before := []Result{result("a.test", old, bulkhead.Vulnerable), result("b.test", old, bulkhead.Vulnerable), result("c.test", fresh, bulkhead.Patched)}
	doc, err := json.Marshal(map[string]any{"targets": before})
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadResults(strings.NewReader(string(doc)), "before.json")
	if err != nil || len(read) != 3 {
		t.Fatal(read, err)
	}
	now := []Result{result("a.test", old, bulkhead.Patched), result("b.test", bulkhead.Digest([]byte("b")), bulkhead.Patched), result("c.test", fresh, bulkhead.Patched), result("d.test", old, bulkhead.Patched)}
	SharedKeys(now)
	Since(now, read)
	for i, want := range [][]string{{"key-shared", "key-kept"}, nil, {"key-unchanged"}, {"key-shared"}} {
		var rules []string
		for _, f := range now[i].Endpoints[0].Findings {
			rules = append(rules, f.Rule)
		}
		if !slices.Equal(rules, want) {
			t.Errorf("%s: %v, want %v", now[i].Target, rules, want)
		}
	}
	if s := Summarize(now); s.Critical != 1 {
		t.Errorf("%+v", s)
	}
	if f := now[0].Endpoints[0].Findings[0]; !strings.Contains(f.Message, "d.test") || strings.Contains(f.Message, "a.test") {
		t.Error(f.Message)
	}
	for _, text := range []string{"", "hosts", `{"targets":[]}`, `[1]`} {
		if _, err := ReadResults(strings.NewReader(text), "x"); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%q: %v", text, err)
		}
	}
}
