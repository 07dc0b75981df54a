package lint

import (
	"crypto/x509"
	"slices"
	"time"
)

// br200 is when the certificate profiles of BR 2.0.0 (SC-062) became binding.
var br200 = time.Date(2023, time.September, 15, 0, 0, 0, 0, time.UTC)

// caOCSPSigning keeps id-kp-OCSPSigning out of authorities: with it, an authority could answer for its siblings, and
// revoking it would need the destruction of its key (the incident of July 2020, mozilla 1649951).
func caOCSPSigning() rule {
	return rule{
		name: "bulkhead_ca_ocsp_signing", source: "BR 7.1.2.10.6", severity: Error, from: br200, sets: caSets,
		check: func(s *subject, report report) {
			if slices.Contains(s.cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
				report("an authority has the extended key usage OCSPSigning")
			}
		},
	}
}
