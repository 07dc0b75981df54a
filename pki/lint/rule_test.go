package lint

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"bulkhead"
)

// plant is one fault in an otherwise good object: TestHousePasses shows every rule silent without it.
type plant struct {
	name   string
	rule   string
	set    Set
	change func(*plantCase)
}

// plantCase is what a plant may change.
type plantCase struct {
	t      *testing.T
	h      hierarchy
	tmpl   *x509.Certificate
	parent *x509.Certificate
	want   Expect
	at     time.Time
	strict bool // without PrivateNames
}

var oidEmailProtection = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}

func ext(oid asn1.ObjectIdentifier, critical bool, v any) pkix.Extension {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: oid, Critical: critical, Value: der}
}

func usage(critical bool, oids ...asn1.ObjectIdentifier) pkix.Extension {
	return ext(oidExtKeyUsage, critical, oids)
}

var caPlants = []plant{
	{"OCSPSigning", "bulkhead_ca_ocsp_signing", SetIssuing, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) }},
	{"OCSPSigning in a root", "bulkhead_ca_ocsp_signing", SetRoot, func(c *plantCase) { c.tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }},
	{"OCSPSigning in a cross", "bulkhead_ca_ocsp_signing", SetCross, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) }},
	{"any", "bulkhead_ca_any_usage", SetIssuing, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageAny) }},
	{"any in a cross", "bulkhead_ca_any_usage", SetCross, func(c *plantCase) { c.tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
	{"no cA", "bulkhead_ca_shape", SetIssuing, func(c *plantCase) { c.tmpl.IsCA = false; c.tmpl.MaxPathLen = -1; c.tmpl.MaxPathLenZero = false }},
	{"digitalSignature", "bulkhead_ca_shape", SetIssuing, func(c *plantCase) { c.tmpl.KeyUsage |= x509.KeyUsageDigitalSignature }},
	{"no cRLSign", "bulkhead_ca_shape", SetRoot, func(c *plantCase) { c.tmpl.KeyUsage = x509.KeyUsageCertSign }},
	{"path length 1", "bulkhead_ca_shape", SetIssuing, func(c *plantCase) { c.tmpl.MaxPathLen, c.tmpl.MaxPathLenZero = 1, false }},
	{"root with path length", "bulkhead_ca_shape", SetRoot, func(c *plantCase) { c.tmpl.MaxPathLen = 1 }},
	{"names", "bulkhead_ca_shape", SetIssuing, func(c *plantCase) { c.tmpl.DNSNames = []string{"ca.test"} }},
	{"no usage", "bulkhead_ca_usage_missing", SetIssuing, func(c *plantCase) { c.tmpl.ExtKeyUsage = nil }},
	{"two usages", "bulkhead_ca_one_usage", SetIssuing, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) }},
	{"usage of another set", "bulkhead_ca_one_usage", SetIssuing, func(c *plantCase) { c.tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }},
	{"mail and code", "bulkhead_ca_one_usage", SetIssuingSMIME, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }},
	{"unknown usage", "bulkhead_ca_one_usage", SetIssuingCode, func(c *plantCase) { c.tmpl.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }},
	{"short root", "bulkhead_root_validity", SetRoot, func(c *plantCase) { c.tmpl.NotAfter = c.tmpl.NotBefore.AddDate(7, 0, 0) }},
	{"long root", "bulkhead_root_validity", SetRoot, func(c *plantCase) { c.tmpl.NotAfter = c.tmpl.NotBefore.AddDate(26, 0, 0) }},
	{"root with CDP", "bulkhead_root_pointers", SetRoot, func(c *plantCase) { c.tmpl.CRLDistributionPoints = []string{"http://127.0.0.1/x"} }},
	{"root with AIA", "bulkhead_root_pointers", SetRoot, func(c *plantCase) { c.tmpl.OCSPServer = []string{"http://127.0.0.1/x"} }},
}

// delegatePlants change one field of BR 7.1.2.8 each.
var delegatePlants = []plant{
	{"cA", "", SetDelegate, func(c *plantCase) { c.tmpl.IsCA = true }},
	{"path length", "", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, ext(oidBasicConstraints, true, struct {
			CA  bool `asn1:"optional"`
			Len int
		}{false, 3}))
	}},
	{"basicConstraints not critical", "", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, ext(oidBasicConstraints, false, struct{}{}))
	}},
	{"keyUsage more", "", SetDelegate, func(c *plantCase) { c.tmpl.KeyUsage |= x509.KeyUsageKeyAgreement }},
	{"keyUsage certSign", "", SetDelegate, func(c *plantCase) { c.tmpl.KeyUsage |= x509.KeyUsageCertSign }},
	{"keyUsage other", "", SetDelegate, func(c *plantCase) { c.tmpl.KeyUsage = x509.KeyUsageContentCommitment }},
	{"keyUsage missing", "", SetDelegate, func(c *plantCase) { c.tmpl.KeyUsage = 0 }},
	{"keyUsage not critical", "", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, ext(oidKeyUsage, false, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}))
	}},
	{"EKU more", "", SetDelegate, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }},
	{"EKU any", "", SetDelegate, func(c *plantCase) { c.tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
	{"EKU unknown too", "", SetDelegate, func(c *plantCase) { c.tmpl.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }},
	{"EKU missing", "", SetDelegate, func(c *plantCase) { c.tmpl.ExtKeyUsage = nil }},
	{"EKU critical", "", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, usage(true, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}))
	}},
	{"nocheck missing", "", SetDelegate, func(c *plantCase) { c.tmpl.ExtraExtensions = nil }},
	{"nocheck critical", "", SetDelegate, func(c *plantCase) { c.tmpl.ExtraExtensions[0].Critical = true }},
	{"nocheck with content", "", SetDelegate, func(c *plantCase) { c.tmpl.ExtraExtensions[0].Value = []byte{4, 0} }},
	{"AKI missing", "", SetDelegate, func(c *plantCase) { c.tmpl.AuthorityKeyId = nil; c.parent.SubjectKeyId = nil }},
	{"SKI critical", "malformed", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, ext(oidSubjectKeyID, true, c.tmpl.SubjectKeyId))
	}},
	{"CDP", "", SetDelegate, func(c *plantCase) { c.tmpl.CRLDistributionPoints = []string{"http://127.0.0.1/x"} }},
	{"AIA", "", SetDelegate, func(c *plantCase) { c.tmpl.IssuingCertificateURL = []string{"http://127.0.0.1/x"} }},
	{"AIA OCSP", "", SetDelegate, func(c *plantCase) { c.tmpl.OCSPServer = []string{"http://127.0.0.1/x"} }},
	{"policies", "", SetDelegate, func(c *plantCase) { c.tmpl.Policies = []x509.OID{c.h.issuing.Policies[0]} }},
	{"names", "", SetDelegate, func(c *plantCase) { c.tmpl.DNSNames = []string{"ocsp.test"} }},
	{"name constraints", "", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, pkix.Extension{Id: oidNameConstraints, Critical: true,
			Value: []byte{0x30, 0x0a, 0xa0, 0x08, 0x30, 0x06, 0x82, 0x04, 't', 'e', 's', 't'}})
	}},
	{"something else", "", SetDelegate, func(c *plantCase) {
		c.tmpl.ExtraExtensions = append(c.tmpl.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}})
	}},
	{"no common name", "", SetDelegate, func(c *plantCase) { c.tmpl.Subject = pkix.Name{Organization: []string{"X"}} }},
	{"no country", "bulkhead_delegate_subject", SetDelegate, func(c *plantCase) { c.tmpl.Subject.Organization = []string{"X"} }},
	{"future", "bulkhead_delegate_future", SetDelegate, func(c *plantCase) { c.tmpl.NotBefore = c.at.Add(time.Hour) }},
}

var leafPlants = []plant{
	{"short serial", "bulkhead_serial_size", SetTLSServer, func(c *plantCase) { c.tmpl.SerialNumber = new(big.Int).Sub(bigBits(63), big.NewInt(1)) }},
	{"long serial", "bulkhead_serial_size", SetTLSServer, func(c *plantCase) { c.tmpl.SerialNumber = bigBits(159) }},
	{"short serial of an authority", "bulkhead_serial_size", SetIssuing, func(c *plantCase) { c.tmpl.SerialNumber = big.NewInt(1) }},
	{"201 days in 2026", "bulkhead_validity", SetTLSServer, func(c *plantCase) { c.tmpl.NotAfter = c.tmpl.NotBefore.Add(200 * day) }},
	{"backwards", "bulkhead_validity", SetTLSServer, func(c *plantCase) { c.tmpl.NotAfter = c.tmpl.NotBefore.Add(-time.Hour) }},
	{"7 days and a second", "bulkhead_validity", SetTLSServerShort, func(c *plantCase) { c.tmpl.NotAfter = c.tmpl.NotBefore.Add(7 * day) }},
	{"too old", "bulkhead_not_before", SetTLSServer, func(c *plantCase) { c.tmpl.NotBefore = c.at.Add(-48*time.Hour - time.Second) }},
	{"too far ahead", "bulkhead_not_before", SetTLSServer, func(c *plantCase) { c.tmpl.NotBefore = c.at.Add(48*time.Hour + time.Second) }},
	{"old authority", "bulkhead_not_before", SetIssuing, func(c *plantCase) { c.tmpl.NotBefore = c.at.Add(-25 * time.Hour) }},
	{"future authority", "bulkhead_not_before", SetIssuing, func(c *plantCase) { c.tmpl.NotBefore = c.at.Add(time.Second) }},
	{"future cross", "bulkhead_not_before", SetCross, func(c *plantCase) { c.tmpl.NotBefore = c.at.Add(time.Second) }},
	{"no CDP", "bulkhead_pointers", SetTLSServer, func(c *plantCase) { c.tmpl.CRLDistributionPoints = nil }},
	{"no OCSP", "bulkhead_pointers", SetTLSServerShort, func(c *plantCase) { c.tmpl.OCSPServer = nil }},
	{"no CA issuers", "bulkhead_pointers", SetTLSClient, func(c *plantCase) { c.tmpl.IssuingCertificateURL = nil }},
	{"authority without CDP", "bulkhead_pointers", SetIssuing, func(c *plantCase) { c.tmpl.CRLDistributionPoints = nil }},
	{"https", "bulkhead_pointers", SetTLSServer, func(c *plantCase) { c.tmpl.OCSPServer = []string{"https://x.test/"}; c.want.OCSPURL = "" }},
	{"other shard", "bulkhead_pointers", SetTLSServer, func(c *plantCase) { c.want.CRLURL = c.h.urls.CRL("issuing", 4) }},
	{"two pointers", "bulkhead_pointers", SetTLSServer, func(c *plantCase) { c.tmpl.OCSPServer = append(c.tmpl.OCSPServer, "http://x.test/") }},
	{"private address", "bulkhead_pointer_host", SetTLSServer, func(c *plantCase) { c.strict = true }},
	{"private name", "bulkhead_pointer_host", SetTLSServer, func(c *plantCase) {
		c.strict = true
		c.tmpl.OCSPServer, c.tmpl.CRLDistributionPoints, c.tmpl.IssuingCertificateURL = []string{"http://a.internal/"}, nil, nil
	}},
	{"no names", "bulkhead_names", SetTLSServer, func(c *plantCase) { c.tmpl.DNSNames, c.tmpl.IPAddresses, c.want.Names = nil, nil, nil }},
	{"one name more", "bulkhead_names", SetTLSServer, func(c *plantCase) { c.tmpl.DNSNames = append(c.tmpl.DNSNames, "evil.test") }},
	{"one name less", "bulkhead_names", SetTLSServer, func(c *plantCase) { c.tmpl.DNSNames = c.tmpl.DNSNames[:1] }},
	{"other case", "bulkhead_names", SetTLSServer, func(c *plantCase) { c.tmpl.DNSNames[0] = "LOCALHOST" }},
	{"name twice", "bulkhead_names", SetTLSServer, func(c *plantCase) { c.tmpl.DNSNames = append(c.tmpl.DNSNames, "a.test") }},
	{"address instead of name", "bulkhead_names", SetTLSServer, func(c *plantCase) { c.want.Names[2].Type = bulkhead.DNS }},
	{"common name elsewhere", "bulkhead_names", SetTLSClient, func(c *plantCase) { c.tmpl.Subject.CommonName = "other.test" }},
	{"URI", "bulkhead_names", SetInfrastructure, func(c *plantCase) { c.tmpl.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }},
	{"leaf with cA", "bulkhead_leaf_usage", SetTLSServer, func(c *plantCase) { c.tmpl.IsCA = true }},
	{"leaf signs", "bulkhead_leaf_usage", SetTLSServer, func(c *plantCase) { c.tmpl.KeyUsage |= x509.KeyUsageCertSign }},
	{"leaf cannot sign TLS", "bulkhead_leaf_usage", SetTLSServer, func(c *plantCase) { c.tmpl.KeyUsage = x509.KeyUsageKeyAgreement }},
	{"leaf without usage", "bulkhead_leaf_usage", SetTLSClient, func(c *plantCase) { c.tmpl.ExtKeyUsage = nil }},
	{"server without serverAuth", "bulkhead_leaf_usage", SetTLSServer, func(c *plantCase) { c.tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
	{"client with serverAuth", "bulkhead_leaf_usage", SetTLSClient, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }},
	{"leaf answers OCSP", "bulkhead_leaf_usage", SetInfrastructure, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) }},
	{"unknown usage", "bulkhead_leaf_usage", SetTLSServer, func(c *plantCase) {
		c.tmpl.UnknownExtKeyUsage = []asn1.ObjectIdentifier{append(slices.Clone(oidEmailProtection), 1)}
	}},
	{"826 days of mail", "bulkhead_smime_validity", SetSMIME, func(c *plantCase) { c.tmpl.NotAfter = c.tmpl.NotBefore.Add(825 * day) }},
	{"mail with a second purpose", "bulkhead_leaf_usage", SetSMIME, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }},
	{"code with a second purpose", "bulkhead_leaf_usage", SetCodeSigning, func(c *plantCase) { c.tmpl.ExtKeyUsage = append(c.tmpl.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) }},
	{"code in another name", "bulkhead_names", SetCodeSigning, func(c *plantCase) { c.tmpl.Subject.CommonName = "Somebody Else" }},
	{"outside the permitted names", "bulkhead_name_constraints", SetTLSServer, func(c *plantCase) { c.want.Issuer.PermittedDNSDomains = []string{"example.com"} }},
	{"inside the excluded range", "bulkhead_name_constraints", SetTLSServer, func(c *plantCase) {
		c.want.Above = []*x509.Certificate{c.want.Issuer, {ExcludedIPRanges: []*net.IPNet{{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}}}
	}},
	{"mail outside", "bulkhead_name_constraints", SetSMIME, func(c *plantCase) { c.want.Issuer.PermittedEmailAddresses = []string{"example.net"} }},
	{"issuer's key", "bulkhead_key_reuse", SetTLSServer, func(c *plantCase) { c.tmpl.PublicKey = c.h.issuingKey.Public() }},
	{"delegate with issuer's key", "bulkhead_key_reuse", SetDelegate, func(c *plantCase) { c.tmpl.PublicKey = c.h.issuingKey.Public() }},
	{"other key", "bulkhead_key_expected", SetTLSServer, func(c *plantCase) { c.want.KeyHash = bulkhead.Digest([]byte("other")) }},
	{"outlives", "bulkhead_parent_end", SetTLSServer, func(c *plantCase) { c.want.Issuer.NotAfter = c.tmpl.NotAfter.Add(-time.Second) }},
	{"authority outlives", "bulkhead_parent_end", SetIssuing, func(c *plantCase) { c.want.Issuer.NotAfter = c.tmpl.NotAfter.Add(-time.Second) }},
	{"precedes", "bulkhead_parent_end", SetTLSServer, func(c *plantCase) { c.want.Issuer.NotBefore = c.tmpl.NotBefore.Add(time.Second) }},
	{"other issuer", "bulkhead_parent_link", SetTLSServer, func(c *plantCase) { c.want.Issuer = c.h.root }},
	{"other key id", "bulkhead_parent_link", SetTLSServer, func(c *plantCase) { c.want.Issuer.SubjectKeyId = []byte{1} }},
	{"issuer is no authority", "bulkhead_parent_link", SetTLSServer, func(c *plantCase) { c.want.Issuer.IsCA = false }},
	{"issuer may not", "bulkhead_parent_link", SetTLSServer, func(c *plantCase) { c.want.Issuer.KeyUsage = x509.KeyUsageCRLSign }},
	{"issuer lacks usage", "bulkhead_parent_link", SetTLSServer, func(c *plantCase) { c.want.Issuer.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
	{"no room below", "bulkhead_parent_link", SetIssuing, func(c *plantCase) { c.want.Issuer.MaxPathLen, c.want.Issuer.MaxPathLenZero = 0, true }},
	{"root names another", "bulkhead_parent_link", SetRoot, func(c *plantCase) { c.parent = c.h.issuing }},
}

// TestPlants plants each fault and wants its rule to speak, and the same object without the fault to be silent.
func TestPlants(t *testing.T) {
	h := ecHierarchy(t)
	lax, strict := newLinter(t, true), newLinter(t, false)
	planted := map[string]bool{}
	for _, p := range slices.Concat(caPlants, delegatePlants, leafPlants) {
		if p.rule == "" {
			p.rule = "bulkhead_delegate_profile"
		}
		planted[p.rule] = true
		c := &plantCase{t: t, h: h, at: now}
		c.tmpl, c.parent, c.want = h.base(t, p.set)
		if p.rule != "bulkhead_delegate_subject" && p.rule != "bulkhead_pointer_host" {
			if found := c.lint(lax, p.set); has(found, p.rule) {
				t.Errorf("%s: %s speaks without the fault:\n%s", p.name, p.rule, show(found))
			}
		}
		p.change(c)
		l := lax
		if c.strict {
			l = strict
		}
		if found := c.lint(l, p.set); !has(found, p.rule) {
			t.Errorf("%s: %s is silent:\n%s", p.name, p.rule, show(found))
		}
	}
	for _, rule := range []string{"bulkhead_signature_algorithm", "bulkhead_crl_window", "bulkhead_crl_reason", "bulkhead_crl_scope", "bulkhead_crl_parent"} {
		planted[rule] = true // in tests of their own
	}
	for _, r := range OwnRules() {
		if !planted[r.Name] {
			t.Errorf("no fault is planted for %s", r.Name)
		}
		if r.Source == "" || len(r.Sets) == 0 {
			t.Errorf("%s has no source or no set", r.Name)
		}
	}
}

// base is a template of the set, the parent to sign with, and what to expect; all may be changed.
func (h hierarchy) base(t *testing.T, set Set) (tmpl, parent *x509.Certificate, want Expect) {
	_, want = h.twin(t, set, newEC().Public(), "localhost", "a.test", "10.0.0.1")
	parent = h.root
	switch set {
	case SetRoot:
		tmpl = h.rootTemplate(t)
		return tmpl, tmpl, want
	case SetIssuing:
		tmpl = h.issuingTemplate(t, newEC().Public())
	case SetCross:
		tmpl = h.crossTemplate(t)
	case SetIssuingSMIME, SetIssuingCode:
		tmpl = h.usageTemplate(t, newEC().Public(), usages[set])
	case SetSMIME, SetCodeSigning:
		tmpl, parent = h.leafTemplate(t, string(set), newEC().Public(), "alice@mail.example.com"), want.Issuer
	case SetDelegate:
		tmpl, parent = h.delegateTemplate(t), h.issuing
	default:
		tmpl, parent = h.leafTemplate(t, string(set), newEC().Public(), "localhost", "a.test", "10.0.0.1"), h.issuing
	}
	p, issuer := *parent, *want.Issuer
	want.Issuer = &issuer
	return tmpl, &p, want
}

func (c *plantCase) lint(l *Linter, set Set) []Finding {
	c.t.Helper()
	found, err := l.Expected(sign(c.t, c.tmpl, c.parent, newEC()), set, c.at, c.want)
	if bulkhead.KindOf(err) == bulkhead.KindMalformed {
		return []Finding{{Rule: "malformed"}} // the parser was there before the rules
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return found
}

// TestEffectiveDates: a rule with a date is silent the second before and speaks from that second on.
func TestEffectiveDates(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	tmpl, parent, want := h.base(t, SetIssuing)
	tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning, x509.ExtKeyUsageAny)
	der := sign(t, tmpl, parent, newEC())
	for _, r := range []rule{caOCSPSigning(), caAnyUsage()} {
		for at, speaks := range map[time.Time]bool{r.from.Add(-time.Second): false, r.from: true} {
			found, err := l.Expected(der, SetIssuing, at, want)
			if err != nil {
				t.Fatal(err)
			}
			if has(found, r.name) != speaks {
				t.Errorf("%s at %v: %v", r.name, at, !speaks)
			}
		}
	}
}

// TestValidityByDate: the limit changes with the rows, on both sides of each date, and a notBefore beyond the date
// falls under the next row although it is signed before.
func TestValidityByDate(t *testing.T) {
	h, l := ecHierarchy(t), newLinter(t, true)
	d := func(y int, m time.Month, dd int) time.Time { return time.Date(y, m, dd, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		at, notBefore time.Time
		days          int
		ok            bool
	}{
		{d(2026, 3, 15).Add(-time.Second), d(2026, 3, 15).Add(-time.Second), 398, true},
		{d(2026, 3, 15).Add(-time.Second), d(2026, 3, 15).Add(-time.Second), 399, false},
		{d(2026, 3, 15), d(2026, 3, 15), 200, true},
		{d(2026, 3, 15), d(2026, 3, 15), 201, false},
		{d(2027, 3, 15).Add(-time.Second), d(2027, 3, 15).Add(-time.Second), 200, true},
		{d(2027, 3, 15).Add(-time.Second), d(2027, 3, 15), 200, false},
		{d(2027, 3, 15), d(2027, 3, 15).Add(-time.Hour), 200, false},
		{d(2027, 3, 15), d(2027, 3, 15), 100, true},
		{d(2029, 3, 15).Add(-time.Second), d(2029, 3, 15).Add(-time.Second), 100, true},
		{d(2029, 3, 15), d(2029, 3, 15), 48, false},
		{d(2029, 3, 15), d(2029, 3, 15), 47, true},
	} {
		tmpl, parent, _ := h.base(t, SetTLSServer)
		tmpl.NotBefore, tmpl.NotAfter = c.notBefore, c.notBefore.Add(time.Duration(c.days)*day-time.Second)
		found, err := l.Certificate(sign(t, tmpl, parent, newEC()), SetTLSServer, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if has(found, "bulkhead_validity") == c.ok {
			t.Errorf("signed %v, from %v, %d days: want ok %v", c.at, c.notBefore, c.days, c.ok)
		}
	}
}

// TestSignatureAlgorithm: a hash that does not belong to the issuer's key, and an algorithm of the past.
func TestSignatureAlgorithm(t *testing.T) {
	const rule = "bulkhead_signature_algorithm"
	h, l := ecHierarchy(t), newLinter(t, true)
	tmpl, parent, want := h.base(t, SetTLSServer)
	tmpl.SignatureAlgorithm = x509.ECDSAWithSHA384
	found, err := l.Expected(sign(t, tmpl, parent, newEC()), SetTLSServer, now, want)
	if err != nil || !has(found, rule) {
		t.Errorf("SHA-384 with P-256: %v\n%s", err, show(found))
	}
	tmpl.SignatureAlgorithm = 0
	found, err = l.Expected(sign(t, tmpl, parent, rsaKeys()[0]), SetTLSServer, now, want)
	if err != nil || !has(found, rule) {
		t.Errorf("RSA under an EC issuer: %v\n%s", err, show(found))
	}
	found, err = l.Certificate(sign(t, tmpl, parent, ed25519Key(t)), SetTLSServer, now)
	if err != nil || !has(found, rule) {
		t.Errorf("Ed25519: %v\n%s", err, show(found))
	}
	found, err = l.Certificate(sha1Signed(t, sign(t, tmpl, parent, rsaKeys()[0])), SetTLSServer, now)
	if err != nil || !has(found, rule) {
		t.Errorf("SHA-1: %v\n%s", err, show(found))
	}
	if found, err = l.Expected(sign(t, tmpl, parent, newEC()), SetTLSServer, now, want); err != nil || has(found, rule) {
		t.Errorf("speaks without the fault: %v\n%s", err, show(found))
	}
}
