package lint

import "bulkhead/pki/policy"

// crlWindow holds nextUpdate to the row in force. A CRL of subscriber certificates is not dated into the future; those
// of an offline root are, because a ceremony signs its successors.
func crlWindow() rule {
	return rule{
		name: "bulkhead_crl_window", source: "BR 7.2, 4.9.7", severity: Error, sets: crlSets,
		check: func(s *subject, report report) {
			of := policy.Subscriber
			if s.set == SetRootCRL {
				of = policy.CA
			}
			if !s.crl.NextUpdate.After(s.crl.ThisUpdate) {
				report("nextUpdate is not after thisUpdate")
			}
			if last := policy.CRLMaxNextUpdate(of, s.crl.ThisUpdate); s.crl.NextUpdate.After(last) {
				report("nextUpdate %s is later than %s", stamp(s.crl.NextUpdate), stamp(last))
			}
			if s.set == SetCRL && s.crl.ThisUpdate.After(s.at) {
				report("thisUpdate %s is later than the time of signing %s", stamp(s.crl.ThisUpdate), stamp(s.at))
			}
		},
	}
}
