package lint

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
)

// everyRule parses with the library and runs every rule, as a linter would that remembers nothing.
func everyRule(l *Linter, der []byte, set Set, at time.Time, want Expect) ([]Finding, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, malformed("certificate", err)
	}
	c, err := parsed(cert, set)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, rule := range l.byset[set].certificate {
		found = rule.findings(found, rule.CertificateLint.Execute(c, l.zconfig))
	}
	s := &subject{set: set, at: at, cert: cert, want: want, privateNames: l.privateNames}
	for _, o := range l.byset[set].own {
		found = o.run(found, s)
	}
	return sorted(found), nil
}

// corpus are changes of a template, one after the other: what leaves of one frame differ in, and what makes another frame.
var corpus = []func(c *x509.Certificate, i int){
	func(c *x509.Certificate, i int) { c.SerialNumber = bigBits(uint(70 + i)) },
	func(c *x509.Certificate, i int) { c.DNSNames = append(c.DNSNames, fmt.Sprintf("n%d.example.com", i)) },
	func(c *x509.Certificate, i int) { c.DNSNames = []string{"bad_name.example.com", "*.*.example.com"} },
	func(c *x509.Certificate, i int) { c.Subject = pkix.Name{} },
	func(c *x509.Certificate, i int) { c.Subject.CommonName = "not in the names " },
	func(c *x509.Certificate, i int) {
		c.Subject.OrganizationalUnit, c.Subject.Country = []string{"unit"}, []string{"XX"}
	},
	func(c *x509.Certificate, i int) { c.SubjectKeyId = []byte{1, 2, byte(i)} },
	func(c *x509.Certificate, i int) { c.PublicKey = rsaKeys()[0].Public() },
	func(c *x509.Certificate, i int) { c.NotAfter = c.NotBefore.Add(1000 * day) },
	func(c *x509.Certificate, i int) { c.NotBefore = time.Date(2012+i%12, 7, 1, 0, 0, 0, 0, time.UTC) },
	func(c *x509.Certificate, i int) { c.KeyUsage = x509.KeyUsageCertSign },
	func(c *x509.Certificate, i int) { c.KeyUsage = 0 },
	func(c *x509.Certificate, i int) { c.KeyUsage = x509.KeyUsageDataEncipherment },
	func(c *x509.Certificate, i int) { c.ExtKeyUsage = nil },
	func(c *x509.Certificate, i int) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
	func(c *x509.Certificate, i int) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) },
	func(c *x509.Certificate, i int) { c.BasicConstraintsValid, c.IsCA = false, false },
	func(c *x509.Certificate, i int) { c.BasicConstraintsValid, c.IsCA, c.MaxPathLen = true, true, 2 },
	func(c *x509.Certificate, i int) { c.CRLDistributionPoints = []string{"ldap://example.com/crl"} },
	func(c *x509.Certificate, i int) { c.CRLDistributionPoints = nil },
	func(c *x509.Certificate, i int) { c.OCSPServer, c.IssuingCertificateURL = nil, []string{"https://x/"} },
	func(c *x509.Certificate, i int) { c.PolicyIdentifiers, c.Policies = nil, nil },
	func(c *x509.Certificate, i int) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Critical: true, Value: []byte{5, 0}})
	},
	func(c *x509.Certificate, i int) {
		// One empty sequence alone: of several the library names any.
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Critical: true, Value: []byte{0x30, 0}})
	},
}

// said is what findings say, whatever the order of words: the library lists key usages in the order of a map.
func said(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		words := strings.FieldsFunc(f.Detail, func(r rune) bool { return strings.ContainsRune(" ,()[]", r) })
		slices.Sort(words)
		fmt.Fprintln(&b, f.Severity, f.Rule, f.Source, words)
	}
	return b.String()
}

// specimens are certificates that differ in all that leaves of one issuer differ in, and others that break rules in every part.
func specimens(t *testing.T, h hierarchy, set Set) (ders [][]byte, want Expect) {
	t.Helper()
	_, _, want = h.base(t, set)
	for i := range 2 * len(corpus) {
		tmpl, parent, _ := h.base(t, set)
		corpus[i%len(corpus)](tmpl, i)
		if i >= len(corpus) { // two faults at once
			corpus[(i*7)%len(corpus)](tmpl, i)
		}
		p := *parent
		p.PublicKey = nil
		der, err := x509.CreateCertificate(rand.Reader, tmpl, &p, tmpl.PublicKey, h.issuingKey)
		if err != nil {
			continue // no such certificate can be made
		}
		ders = append(ders, der)
		if i == 0 { // as no encoder does: critical, and said to be FALSE
			usage := []byte{0x06, 0x03, 0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff}
			explicit := bytes.Replace(der, usage, append(bytes.Clone(usage[:7]), 0), 1)
			if bytes.Equal(explicit, der) {
				t.Error("no critical keyUsage")
			}
			ders = append(ders, explicit)
		}
	}
	return ders, want
}

// TestFrame: what a linter remembers changes nothing. Specimens are linted by one linter that has seen all the others, and with
// every rule every time.
func TestFrame(t *testing.T) {
	h := ecHierarchy(t)
	l := newLinter(t, false)
	compared, frames := 0, 0
	for _, set := range certSets {
		ders, want := specimens(t, h, set)
		for i, der := range append(ders, ders...) { // the second time everything is known
			a, aerr := everyRule(l, der, set, now, want)
			b, berr := l.Expected(der, set, now, want)
			if said(a) != said(b) || fmt.Sprint(aerr) != fmt.Sprint(berr) {
				t.Errorf("%s, certificate %d: with memory\n%s\nwithout\n%s", set, i, show(b), show(a))
			}
			compared++
		}
		frames += len(l.byset[set].memory.of)
	}
	if compared < 500 || frames < 100 || frames > compared/2 {
		t.Errorf("%d comparisons with %d frames", compared, frames)
	}
}

// TestFrameMutations: a rule that is taken for one of the frame and is not, or whose say about whether it applies is, shows.
func TestFrameMutations(t *testing.T) {
	h := ecHierarchy(t)
	ders, want := specimens(t, h, SetTLSServer)
	for _, m := range []struct {
		list map[string]bool
		rule string
	}{
		{frameRules, "e_dnsname_bad_character_in_label"},
		{frameRules, "e_server_cert_valid_time_longer_than_200_days"},
		{dateRules, "e_dnsname_bad_character_in_label"},
		{dateRules, "e_organizational_unit_name_prohibited"},
		{frameRules, "e_organizational_unit_name_prohibited"},
		{frameRules, "w_rfc_dnsname_underscore_in_trd"},
		{appliesByFrame, "e_subject_contains_organizational_unit_name_and_no_organization_name"},
	} {
		t.Run(m.rule, func(t *testing.T) {
			if m.list[m.rule] {
				t.Fatal("it is in the list already")
			}
			m.list[m.rule] = true
			defer delete(m.list, m.rule)
			l := newLinter(t, false)
			differ := 0
			for _, der := range ders {
				a, _ := everyRule(l, der, SetTLSServer, now, want)
				b, _ := l.Expected(der, SetTLSServer, now, want)
				if said(a) != said(b) {
					differ++
				}
			}
			if differ == 0 {
				t.Error("nobody noticed")
			}
		})
	}
}

// TestLikeness: what stands for the library's parser makes of a certificate what that makes of it, in every field but those that
// no rule reads.
func TestLikeness(t *testing.T) {
	h := ecHierarchy(t)
	made, kept := 0, 0
	for _, set := range certSets {
		ders, _ := specimens(t, h, set)
		plans := map[string]*plan{}
		for _, der := range append(ders, ders...) {
			cert := parse(t, der)
			want, err := parsed(cert, set)
			o, ok := outlined(cert)
			if !ok || err != nil {
				continue
			}
			key := string(o.key(0, false))
			p := plans[key]
			if p == nil {
				plans[key] = &plan{like: *want}
				continue
			}
			got := p.likeness(cert, o)
			if got == nil {
				continue
			}
			made++
			if !bytes.Equal(got.Raw, p.like.Raw) {
				kept++
			}
			if d := unlike(got, want); d != "" {
				t.Errorf("%s: %s", set, d)
			}
		}
	}
	if made < 200 || kept < 50 {
		t.Errorf("%d likenesses, %d of them of another certificate", made, kept)
	}
}

// unlike names the fields in which two certificates differ.
func unlike(got, want *zx509.Certificate) string {
	var out []string
	a, b := reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem()
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if f.IsExported() && !slices.Contains(unset, f.Name) && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, fmt.Sprintf("%s is %v, not %v", f.Name, a.Field(i), b.Field(i)))
		}
	}
	return strings.Join(out, "; ")
}

// TestFrameOnce holds what linting a leaf costs that does not depend on the machine: the rules run for one whose frame was
// seen before.
func TestFrameOnce(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	set := SetTLSServer
	r := l.byset[set]
	for range 8 {
		der, want := h.twin(t, set, newEC().Public(), "localhost", "a.test")
		if _, err := l.Expected(der, set, now, want); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.memory.of); n != 1 {
		t.Errorf("8 leaves of one profile and shard make %d frames", n)
	}
	for _, p := range r.memory.of {
		known := 0
		for _, x := range p.steps {
			if x.applies {
				known++
			}
		}
		if len(p.steps) > 125 || known < 50 {
			t.Errorf("%d of %d rules are run for a frame that is known, %d of them without asking whether they apply", len(p.steps), len(r.certificate), known)
		}
		t.Logf("%d of %d rules for every leaf of a frame, %d of them without asking whether they apply", len(p.steps), len(r.certificate), known)
	}
	der, want := h.twin(t, set, newEC().Public(), "localhost", "a.test")
	cert := parse(t, der)
	allocs := testing.AllocsPerRun(20, func() {
		if _, err := l.Parsed(cert, set, now, want); err != nil {
			t.Error(err)
		}
	})
	if most := 420.0; allocs > most {
		t.Errorf("%.0f allocations for a leaf of a known frame, at most %.0f", allocs, most)
	}
	for i := range 3 * maxFrames { // somebody who could make new frames does not fill the memory
		r.memory.keep([]byte(fmt.Sprint(i)), &plan{})
	}
	if n := len(r.memory.of); n > maxFrames {
		t.Errorf("%d frames are remembered", n)
	}
}
