package lint

import (
	"bulkhead"
	"bulkhead/pki/policy"
)

// crlReason: only reasons that the kind of certificate may have; a CA certificate states one. An absent reason is 0.
func crlReason() rule {
	return rule{
		name: "bulkhead_crl_reason", source: "BR 7.2.2, 4.9.13", severity: Error, sets: crlSets,
		check: func(s *subject, report report) {
			of := policy.Subscriber
			if s.set == SetRootCRL {
				of = policy.CA
			}
			for i := range s.crl.RevokedCertificateEntries {
				e := &s.crl.RevokedCertificateEntries[i]
				if r := bulkhead.Reason(e.ReasonCode); !policy.CRLReasonAllowed(of, r, s.at) {
					report("serial %x is listed with the reason %v", e.SerialNumber, r)
				}
			}
		},
	}
}
