package ceremony

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"bulkhead"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
)

// usageSets are the lint rules of each usage.
var usageSets = map[profile.Usage]lint.Set{
	profile.UsageTLS: lint.SetIssuing, profile.UsageSMIME: lint.SetIssuingSMIME, profile.UsageCodeSigning: lint.SetIssuingCode,
}

// ekuArcs are the last arcs of id-kp (RFC 5280 section 4.2.1.12).
var ekuArcs = map[x509.ExtKeyUsage]int{
	x509.ExtKeyUsageServerAuth: 1, x509.ExtKeyUsageClientAuth: 2, x509.ExtKeyUsageCodeSigning: 3, x509.ExtKeyUsageEmailProtection: 4,
}

func ekuOID(arc int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, arc} }

func ekuExtension(u profile.Usage) (pkix.Extension, error) {
	usage, err := profile.ParseUsage(string(u))
	if err != nil {
		return pkix.Extension{}, err
	}
	var oids []asn1.ObjectIdentifier
	for _, e := range usage.EKUs() {
		oids = append(oids, ekuOID(ekuArcs[e]))
	}
	der, err := asn1.Marshal(oids)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("extended key usages: %w", err)
	}
	return pkix.Extension{Id: oidEKU, Value: der}, nil
}

// RequestedUsage is the usage that an authority's request asks for; "" when it asks for none. KindGate when it asks for
// several, or for something else.
func RequestedUsage(csr []byte) (profile.Usage, error) {
	parsed, err := checkCSR(csr)
	if err != nil {
		return "", err
	}
	return requestedUsage(parsed)
}

func requestedUsage(csr *x509.CertificateRequest) (profile.Usage, error) {
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidEKU) {
			continue
		}
		var oids []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(e.Value, &oids); err != nil || len(rest) > 0 {
			return "", bulkhead.NewFault(bulkhead.KindBadCSR, "the extended key usages of the request are not readable").WithHint("make it with: bulkhead hierarchy add")
		}
		var ekus []x509.ExtKeyUsage
		for _, oid := range oids {
			known := false
			for eku, arc := range ekuArcs {
				if oid.Equal(ekuOID(arc)) {
					ekus, known = append(ekus, eku), true
				}
			}
			if !known {
				return "", refused("the request asks for the extended key usage %s", oid).WithHint("make it with: bulkhead hierarchy add")
			}
		}
		usage, one := profile.UsageOf(ekus)
		if !one {
			return "", refused("the request asks for the usages of several authorities").WithHint("make an authority for each usage: tls, smime, code-signing")
		}
		return usage, nil
	}
	return "", nil
}

// acceptUsage holds a certificate from elsewhere to the usage that the pending authority asked for. One without extended
// key usages may certify anything: the house uses it for TLS only, so it serves no other request.
func acceptUsage(pending bulkhead.Authority, cert *x509.Certificate) error {
	want, err := RequestedUsage(pending.CSR)
	if err != nil {
		return err
	}
	if len(cert.ExtKeyUsage) == 0 {
		if want == profile.UsageTLS || want == "" {
			return nil
		}
		return refused("the certificate has no extended key usage, the authority asked for %s", want).WithHint("have it issued with the extended key usages of the request")
	}
	got, one := profile.UsageOf(cert.ExtKeyUsage)
	if !one || want != "" && got != want {
		return refused("the certificate is for %s, the authority asked for %s", orMixed(got, one), want).WithHint("have it issued with the extended key usages of the request")
	}
	return nil
}

func orMixed(u profile.Usage, one bool) string {
	if !one {
		return "several usages"
	}
	return string(u)
}

// checkUsage refuses a step whose request asks for another usage than the plan says.
func (s IssuingStep) checkUsage(csr *x509.CertificateRequest) (profile.Usage, error) {
	usage, err := profile.ParseUsage(string(s.Usage))
	if err != nil {
		return "", err
	}
	asked, err := requestedUsage(csr)
	if err != nil {
		return "", err
	}
	if asked != "" && asked != usage {
		return "", refused("the request asks for usage %s, the plan says %s", asked, usage).WithHint("usage: " + string(asked) + ", or make the request anew")
	}
	if s.Kind == bulkhead.InfrastructureAuthority && usage != profile.UsageTLS {
		return "", refused("an infrastructure authority has usage tls").WithHint("leave usage out")
	}
	return usage, nil
}

// oneUsage refuses an authority for several usages at once, whoever made the template.
func oneUsage(cert *x509.Certificate) error {
	if len(cert.ExtKeyUsage) == 0 {
		return nil
	}
	if _, one := profile.UsageOf(cert.ExtKeyUsage); !one {
		return refused("an authority's certificate mixes the extended key usages of several usages").WithHint("make an authority for each usage: tls, smime, code-signing")
	}
	return nil
}

// nestedUsages: verifiers want every authority above to have the extended key usages of those below.
func nestedUsages(below, above *x509.Certificate) error {
	if len(above.ExtKeyUsage)+len(above.UnknownExtKeyUsage) == 0 || slices.Contains(above.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	for _, u := range below.ExtKeyUsage {
		if !slices.Contains(above.ExtKeyUsage, u) {
			return refused("%q lacks an extended key usage of %q below it", above.Subject.CommonName, below.Subject.CommonName).WithHint("have it issued from an authority with these purposes")
		}
	}
	return nil
}

// setOf is the lint set of a certificate in its role.
func setOf(cert *x509.Certificate, role Role) lint.Set {
	if usage, one := profile.UsageOf(cert.ExtKeyUsage); role == RoleIssuing && one {
		return usageSets[usage]
	}
	return lintSets[role]
}

// authorityEKU says whether any usage has it (BR 7.1.2.10.6 and its like).
func authorityEKU(e x509.ExtKeyUsage) bool {
	return slices.ContainsFunc(profile.Usages(), func(u profile.Usage) bool { return slices.Contains(u.EKUs(), e) })
}
