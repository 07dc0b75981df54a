package lint

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
)

// delegateExtensions are those that an OCSP responder certificate may have, and whether it must (BR 7.1.2.8.2). The
// house has no use for the others that the BR tolerate.
var delegateExtensions = []struct {
	oid            asn1.ObjectIdentifier
	name           string
	must, critical bool
}{
	{oidAuthorityKeyID, "authorityKeyIdentifier", true, false},
	{oidExtKeyUsage, "extKeyUsage", true, false},
	{oidNoCheck, "id-pkix-ocsp-nocheck", true, false},
	{oidKeyUsage, "keyUsage", true, true},
	{oidSubjectKeyID, "subjectKeyIdentifier", false, false},
	{oidBasicConstraints, "basicConstraints", false, true},
}

// delegateProfile is BR 7.1.2.8: a delegate speaks for its authority about status and can do nothing else, and its own
// status is nobody's question, so it points nowhere.
func delegateProfile() rule {
	return rule{
		name: "bulkhead_delegate_profile", source: "BR 7.1.2.8, RFC 6960 4.2.2.2", severity: Error, from: br200, sets: []Set{SetDelegate},
		check: func(s *subject, report report) {
			delegateFields(s.cert, report)
			checkDelegateExtensions(s.cert, report)
		},
	}
}

func delegateFields(c *x509.Certificate, report report) {
	if c.Version != 3 {
		report("version is %d, not 3", c.Version)
	}
	if c.IsCA {
		report("basicConstraints says cA")
	}
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		report("basicConstraints has a path length")
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature {
		report("keyUsage is not exactly digitalSignature")
	}
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || len(c.UnknownExtKeyUsage) != 0 {
		report("extKeyUsage is not exactly OCSPSigning")
	}
	if e := extension(c, oidNoCheck); e != nil && !bytes.Equal(e.Value, asn1.NullBytes) {
		report("id-pkix-ocsp-nocheck is not exactly 0500 in hex")
	}
	if c.Subject.CommonName == "" {
		report("no common name (BR 7.1.2.10.2)")
	}
}

func checkDelegateExtensions(c *x509.Certificate, report report) {
	for _, want := range delegateExtensions {
		switch e := extension(c, want.oid); {
		case e == nil && want.must:
			report("%s is missing", want.name)
		case e != nil && e.Critical != want.critical:
			report("%s: critical is %v, want %v", want.name, e.Critical, want.critical)
		}
	}
next:
	for _, e := range c.Extensions {
		for _, want := range delegateExtensions {
			if e.Id.Equal(want.oid) {
				continue next
			}
		}
		report("the extension %s does not belong into an OCSP delegate", extensionName(e.Id))
	}
}
