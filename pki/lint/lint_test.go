package lint

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3/lint"

	"bulkhead"
	"bulkhead/pki/profile"
)

var usages = map[Set]profile.Usage{SetIssuingSMIME: profile.UsageSMIME, SetIssuingCode: profile.UsageCodeSigning,
	SetSMIME: profile.UsageSMIME, SetCodeSigning: profile.UsageCodeSigning}

// twin signs a template of the set with a throw-away key, as the signer does before the real key is used.
func (h hierarchy) twin(t testing.TB, set Set, pub crypto.PublicKey, names ...string) ([]byte, Expect) {
	t.Helper()
	switch set {
	case SetRoot:
		return sign(t, h.rootTemplate(t), nil, throwaway(h.rootKey)), Expect{}
	case SetIssuing:
		return sign(t, h.issuingTemplate(t, h.issuingKey.Public()), h.root, throwaway(h.rootKey)), Expect{Issuer: h.root}
	case SetIssuingSMIME, SetIssuingCode:
		return sign(t, h.usageTemplate(t, h.issuingKey.Public(), usages[set]), h.root, throwaway(h.rootKey)), Expect{Issuer: h.root}
	case SetSMIME, SetCodeSigning:
		h.issuing = parse(t, sign(t, h.usageTemplate(t, h.issuingKey.Public(), usages[set]), h.root, h.rootKey))
		names = []string{"alice@mail.example.com"}
	case SetCross:
		return sign(t, h.crossTemplate(t), h.root, throwaway(h.rootKey)), Expect{Issuer: h.root}
	case SetDelegate:
		return sign(t, h.delegateTemplate(t), h.issuing, throwaway(h.issuingKey)), Expect{Issuer: h.issuing}
	}
	return sign(t, h.leafTemplate(t, string(set), pub, names...), h.issuing, throwaway(h.issuingKey)), Expect{
		Issuer: h.issuing, Names: identifiers(names...),
		CRLURL: h.urls.CRL("issuing", 3), OCSPURL: h.urls.OCSP(), CAURL: h.urls.CA("issuing"),
	}
}

// TestHousePasses: what the product makes has no findings but those named, with EC and RSA keys on both levels.
func TestHousePasses(t *testing.T) {
	private := []string{"localhost", "a.test", "b.internal", "127.0.0.1", "10.0.0.1", "::1"}
	public := []string{"www.example.com", "xn--bcher-kva.example.com"}
	allow := map[Set][]string{
		SetTLSServer: {"w_subject_common_name_included"},
		SetDelegate:  {"bulkhead_delegate_subject"},
	}
	for _, c := range []struct {
		name    string
		private bool
		urls    profile.URLs
		keys    [2]crypto.Signer
		names   []string
	}{
		{"private EC", true, privateURLs, [2]crypto.Signer{newEC(), newEC()}, private},
		{"private RSA", true, privateURLs, rsaKeys(), private},
		{"public EC", false, publicURLs, [2]crypto.Signer{newEC(), newEC()}, public},
		{"public RSA under EC", false, publicURLs, [2]crypto.Signer{newEC(), rsaKeys()[0]}, public},
	} {
		h, l := newHierarchy(t, c.urls, c.keys[0], c.keys[1]), newLinter(t, c.private)
		for _, set := range certSets {
			for _, pub := range []crypto.PublicKey{newEC().Public(), rsaKeys()[1].Public()} {
				if _, isRSA := pub.(*rsa.PublicKey); isRSA && set == SetCodeSigning {
					continue // 2048 bits are too few (CSBR 6.1.5.2)
				}
				if reflect.DeepEqual(pub, h.issuingKey.Public()) {
					continue
				}
				der, want := h.twin(t, set, pub, c.names...)
				found, err := l.Expected(der, set, now, want)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found {
					if !slices.Contains(allow[set], f.Rule) {
						t.Errorf("%s, %s: %s", c.name, set, f)
					}
				}
				if err := Blocking(found); err != nil {
					t.Errorf("%s, %s: %v", c.name, set, err)
				}
			}
		}
	}
}

// TestExecuteIsTheLibrarys: a rule run here says what it says when the library runs it, for each set's certificates held
// against every rule that the library has.
func TestExecuteIsTheLibrarys(t *testing.T) {
	h := ecHierarchy(t)
	compared, shared := 0, 0
	for _, set := range certSets {
		der, _ := h.twin(t, set, newEC().Public(), "localhost", "a.test", "10.0.0.1")
		c := zparse(der)
		is := sourcesOf(c)
		for _, rule := range certificateRules(zlint.GlobalRegistry().CertificateLints().Lints()) {
			if rule.shared != nil {
				shared++
			}
			want, got := rule.CertificateLint.Execute(c, zlint.NewEmptyConfig()), execute(rule, c, is)
			if got == nil {
				got = &zlint.LintResult{Status: want.Status, Details: want.Details}
				if want.Status > zlint.NE {
					t.Errorf("%s: %s says %v, here it was not run", set, rule.Name, want)
				}
			}
			if got.Status != want.Status || got.Details != want.Details {
				t.Errorf("%s: %s says %v, here %v", set, rule.Name, want, got)
			}
			compared++
		}
	}
	if compared < 1000 || shared < compared/2 {
		t.Errorf("only %d comparisons", compared)
	}
}

func zparse(der []byte) *zx509.Certificate {
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// TestPrivateNames: exactly the rules of Exclusions fall silent, and nothing else.
func TestPrivateNames(t *testing.T) {
	h := ecHierarchy(t)
	tmpl := h.leafTemplate(t, "tls-server", newEC().Public(), "localhost", "a.test", "127.0.0.1")
	tmpl.Subject.CommonName = "127.0.0.1"
	der := sign(t, tmpl, h.issuing, newEC())
	strict, err := newLinter(t, false).Certificate(der, SetTLSServer, now)
	if err != nil {
		t.Fatal(err)
	}
	lax, err := newLinter(t, true).Certificate(der, SetTLSServer, now)
	if err != nil {
		t.Fatal(err)
	}
	var gone []string
	for _, f := range strict {
		if !slices.Contains(lax, f) && !slices.Contains(gone, f.Rule) {
			gone = append(gone, f.Rule)
		}
	}
	slices.Sort(gone)
	want := []string{"bulkhead_pointer_host", "e_dnsname_not_valid_tld", "e_ext_san_contains_reserved_ip",
		"e_subject_contains_reserved_ip", "n_san_iana_pub_suffix_empty"}
	if !slices.Equal(gone, want) {
		t.Errorf("PrivateNames silenced %v, want %v", gone, want)
	}
	for _, f := range lax {
		if !slices.Contains(strict, f) {
			t.Errorf("PrivateNames added %s", f)
		}
	}
	if Blocking(strict) == nil {
		t.Error("private names pass a public linter")
	}
	if err := Blocking(lax); err != nil {
		t.Error(err)
	}
}

// TestExclusions: every rule left out has a reason and would have been run in at least one of its sets.
func TestExclusions(t *testing.T) {
	for _, x := range Exclusions(true) {
		if len(x.Reason) < 20 || len(x.Sets) == 0 {
			t.Errorf("%s: no reason or no set", x.Rule)
		}
	}
	l := newLinter(t, true)
	for set, r := range l.byset {
		all := r.certificate
		for _, lint := range all {
			for _, x := range Exclusions(true) {
				if x.Rule == lint.Name && slices.Contains(x.Sets, set) {
					t.Errorf("%s runs for %s although it is left out", x.Rule, set)
				}
			}
		}
		if !set.isCRL() && len(all) < 100 || set.isCRL() && len(r.crl) < 10 {
			t.Errorf("%s has only %d and %d rules", set, len(all), len(r.crl))
		}
	}
}

func TestRefuses(t *testing.T) {
	l := newLinter(t, true)
	h := ecHierarchy(t)
	for _, c := range []struct {
		name string
		run  func() ([]Finding, error)
		kind bulkhead.Kind
	}{
		{"garbage", func() ([]Finding, error) { return l.Certificate([]byte("x"), SetRoot, now) }, bulkhead.KindMalformed},
		{"trailing", func() ([]Finding, error) { return l.Certificate(append(h.root.Raw, 0), SetRoot, now) }, bulkhead.KindMalformed},
		{"garbage CRL", func() ([]Finding, error) { return l.CRL([]byte("x"), SetCRL, now) }, bulkhead.KindMalformed},
		{"wrong set", func() ([]Finding, error) { return l.Certificate(h.root.Raw, SetCRL, now) }, bulkhead.KindInternal},
		{"no set", func() ([]Finding, error) { return l.Certificate(h.root.Raw, "nonsense", now) }, bulkhead.KindInternal},
		{"certificate set for CRL", func() ([]Finding, error) { return l.CRL(h.root.Raw, SetRoot, now) }, bulkhead.KindInternal},
	} {
		if _, err := c.run(); bulkhead.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", c.name, err, c.kind)
		}
	}
}

func TestBlocking(t *testing.T) {
	if err := Blocking([]Finding{{"a", "s", Warn, ""}, {"b", "s", Notice, ""}}); err != nil {
		t.Errorf("warnings block: %v", err)
	}
	err := Blocking([]Finding{{"a", "s1", Warn, ""}, {"b", "s2", Error, "why"}, {"c", "s3", Error, ""}})
	var f *bulkhead.Fault
	if !errors.As(err, &f) || f.Kind != bulkhead.KindGate || f.Hint == "" {
		t.Fatalf("not a gate: %v", err)
	}
	for _, part := range []string{"b (s2): why", "c (s3)"} {
		if !strings.Contains(f.Detail, part) {
			t.Errorf("%q does not name %q", f.Detail, part)
		}
	}
	if strings.Contains(f.Detail, "s1") {
		t.Errorf("%q names a warning", f.Detail)
	}
}

// TestSameForEverybody: many goroutines, one linter, one answer.
func TestSameForEverybody(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, false)
	der, want := h.twin(t, SetTLSServer, newEC().Public(), "localhost", "a.test", "10.0.0.1")
	first, err := l.Expected(der, SetTLSServer, now, want)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				again, err := l.Expected(der, SetTLSServer, now, want)
				if err != nil || !slices.Equal(first, again) {
					t.Errorf("differs: %v %s", err, show(again))
				}
			}
		})
	}
	wg.Wait()
}

// TestForeignStillBites: the filter has not thrown out the rules that matter.
func TestForeignStillBites(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	for rule, change := range map[string]func() []byte{
		"e_dnsname_underscore_in_sld": func() []byte {
			c := h.leafTemplate(t, "tls-server", newEC().Public(), "www.example.com")
			c.DNSNames = []string{"www.exa_mple.com"}
			return sign(t, c, h.issuing, newEC())
		},
		"e_sub_cert_certificate_policies_missing": func() []byte {
			c := h.leafTemplate(t, "tls-server", newEC().Public(), "www.example.com")
			c.Policies = nil
			return sign(t, c, h.issuing, newEC())
		},
	} {
		found, err := l.Certificate(change(), SetTLSServer, now)
		if err != nil {
			t.Fatal(err)
		}
		if !has(found, rule) {
			t.Errorf("%s is silent:\n%s", rule, show(found))
		}
	}
}

// FuzzCertificate: run it with -fuzzminimizetime=10x; the coverage of so large a library is never twice the same, and
// minimising would take the whole time.
func FuzzCertificate(f *testing.F) {
	h := ecHierarchy(f)
	l := newLinter(f, true)
	f.Add(h.root.Raw, uint8(0))
	for i, set := range certSets {
		der, _ := h.twin(f, set, newEC().Public(), "localhost", "10.0.0.1")
		f.Add(der, uint8(i))
	}
	f.Fuzz(func(t *testing.T, der []byte, n uint8) {
		set := certSets[int(n)%len(certSets)]
		found, err := l.Expected(der, set, now, Expect{Issuer: h.issuing, Names: identifiers("localhost")})
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Fatal(err)
		}
		again, _ := l.Expected(der, set, now, Expect{Issuer: h.issuing, Names: identifiers("localhost")})
		whole, werr := everyRule(l, der, set, now, Expect{Issuer: h.issuing, Names: identifiers("localhost")})
		for what, other := range map[string][]Finding{"a second time": again, "without memory": whole} {
			if rulesOf(found) != rulesOf(other) || bulkhead.KindOf(err) != bulkhead.KindOf(werr) {
				t.Fatalf("%v\n%s\n%s: %v\n%s", err, show(found), what, werr, show(other))
			}
		}
	})
}

// rulesOf is what of findings is always the same: the library puts parts of some details in the order of a map.
func rulesOf(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		b.WriteString(string(f.Severity) + " " + f.Rule + "\n")
	}
	return b.String()
}

func BenchmarkCertificate(b *testing.B) {
	h, l := ecHierarchy(b), newLinter(b, true)
	for _, set := range []Set{SetTLSServer, SetTLSServerShort, SetTLSClient, SetIssuing, SetDelegate} {
		der, want := h.twin(b, set, newEC().Public(), "localhost", "a.test", "10.0.0.1")
		b.Run(string(set), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Expected(der, set, now, want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
