package lint

import (
	"crypto/x509"
	"slices"
)

// caAnyUsage keeps anyExtendedKeyUsage out of authorities. BR 7.1.2.2.4 would allow it in a cross-certificate between
// affiliates; the house does not, because any includes OCSPSigning for some validators.
func caAnyUsage() rule {
	return rule{
		name: "bulkhead_ca_any_usage", source: "BR 7.1.2.10.6", severity: Error, from: br200, sets: caSets,
		check: func(s *subject, report report) {
			if slices.Contains(s.cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
				report("an authority has the extended key usage anyExtendedKeyUsage")
			}
		},
	}
}
