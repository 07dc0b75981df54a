package lint

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// forgetful is a linter that runs every rule for every certificate.
func forgetful(t testing.TB, private bool) *Linter {
	t.Helper()
	l := newLinter(t, private)
	for set, r := range l.byset {
		r.certificate = slices.Concat(r.framed, r.subjected, r.certificate)
		r.framed, r.subjected = nil, nil
		l.byset[set] = r
	}
	return l
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

// TestFrame: what a linter remembers changes nothing. Certificates that differ in all that leaves of one issuer differ in, and
// others that break rules in every part, are linted by one linter that has seen all the others, and by one that runs every
// rule every time.
func TestFrame(t *testing.T) {
	h := ecHierarchy(t)
	plain := forgetful(t, false)
	remembers := newLinter(t, false)
	compared, frames := 0, 0
	for _, set := range certSets {
		var ders [][]byte
		_, _, want := h.base(t, set)
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
		}
		for range 2 { // the second time everything is known
			for i, der := range ders {
				a, aerr := plain.Expected(der, set, now, want)
				b, berr := remembers.Expected(der, set, now, want)
				if said(a) != said(b) || fmt.Sprint(aerr) != fmt.Sprint(berr) {
					t.Errorf("%s, certificate %d: with memory\n%s\nwithout\n%s", set, i, show(b), show(a))
				}
				compared++
			}
		}
		frames += len(remembers.byset[set].memory.of)
	}
	if compared < 500 || frames < 100 || frames > compared/2 {
		t.Errorf("%d comparisons with %d frames", compared, frames)
	}
}

// TestFrameOnce holds what linting a leaf costs that does not depend on the machine: the rules run for one whose frame was
// seen before.
func TestFrameOnce(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	set := SetTLSServer
	r := l.byset[set]
	all := len(r.framed) + len(r.subjected) + len(r.certificate)
	for range 8 {
		der, want := h.twin(t, set, newEC().Public(), "localhost", "a.test")
		if _, err := l.Expected(der, set, now, want); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.memory.of); n != 1 {
		t.Errorf("8 leaves of one profile and shard make %d frames", n)
	}
	if again := len(r.subjected) + len(r.certificate); again > all*3/5 {
		t.Errorf("%d of %d rules are run for a frame that is known", again, all)
	}
	t.Logf("%d rules for every leaf, %d more where it has a subject, %d once for a frame", len(r.certificate), len(r.subjected), len(r.framed))
	for i := range 3 * maxFrames { // somebody who could make new frames does not fill the memory
		r.memory.recall([]byte(fmt.Sprint(i)), false, func() []Finding { return nil })
	}
	if n := len(r.memory.of); n > maxFrames {
		t.Errorf("%d frames are remembered", n)
	}
}
