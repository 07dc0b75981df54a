package profile

import (
	"crypto/x509"
	"slices"

	"bulkhead"
)

// Usage is what an issuing authority may certify. An authority has exactly one: the three Baseline Requirements each
// want authorities of their own (S/MIME BR 7.1.2.2, CSBR 7.1.2.2, BR 7.1.2.10.6).
type Usage string

// Usages.
const (
	UsageTLS         Usage = "tls"
	UsageSMIME       Usage = "smime"
	UsageCodeSigning Usage = "code-signing"
)

// Usages lists them.
func Usages() []Usage { return []Usage{UsageTLS, UsageSMIME, UsageCodeSigning} }

// ParseUsage reads a usage; "" is UsageTLS. KindUsage for anything else, above all for two at once.
func ParseUsage(text string) (Usage, error) {
	u := Usage(text)
	if text == "" {
		u = UsageTLS
	}
	if !slices.Contains(Usages(), u) {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "%q is no usage of an authority", text).WithHint("use one of tls, smime, code-signing; one authority serves one usage")
	}
	return u, nil
}

// EKUs are the extended key usages of an authority of this usage.
func (u Usage) EKUs() []x509.ExtKeyUsage {
	switch u {
	case UsageSMIME:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	case UsageCodeSigning:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	default:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
}

func (u Usage) policy() x509.OID {
	switch u {
	case UsageSMIME:
		return oidMailboxValidated
	case UsageCodeSigning:
		return oidCodeSigning
	default:
		return oidDomainValidated
	}
}

// UsageOf says which one usage the extended key usages of an authority's certificate are; false when they are of none
// or of several, or hold anything else. serverAuth alone is TLS.
func UsageOf(ekus []x509.ExtKeyUsage) (Usage, bool) {
	for _, u := range Usages() {
		if len(ekus) > 0 && !slices.ContainsFunc(ekus, func(e x509.ExtKeyUsage) bool { return !slices.Contains(u.EKUs(), e) }) {
			return u, true
		}
	}
	return "", false
}

// Usage is what the issuer of a profile's certificates must be for.
func (p *Profile) Usage() Usage { return kindRules()[p.Kind].usage }
