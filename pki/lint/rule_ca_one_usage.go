package lint

import "bulkhead/pki/profile"

var usageOfSet = map[Set]profile.Usage{SetIssuing: profile.UsageTLS, SetIssuingSMIME: profile.UsageSMIME, SetIssuingCode: profile.UsageCodeSigning}

// caOneUsage: an authority certifies for TLS, for mail or for code, and for one of them only.
func caOneUsage() rule {
	return rule{
		name: "bulkhead_ca_one_usage", source: "BR 7.1.2.10.6, S/MIME BR 7.1.2.2, CSBR 7.1.2.2", severity: Error, sets: issuingSets,
		check: func(s *subject, report report) {
			c := s.cert
			if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
				return // bulkhead_ca_usage_missing
			}
			if usage, one := profile.UsageOf(c.ExtKeyUsage); !one || usage != usageOfSet[s.set] || len(c.UnknownExtKeyUsage) > 0 {
				report("the extended key usages are not those of an authority for %s alone", usageOfSet[s.set])
			}
		},
	}
}
