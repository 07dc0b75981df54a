package lint

import "bulkhead/pki/policy"

// rootValidity compares a root's life with the range that root programs accept. A warning: a private root may live as
// its owner likes.
func rootValidity() rule {
	return rule{
		name: "bulkhead_root_validity", source: "BR 7.1.2.1.1", severity: Warn, sets: []Set{SetRoot},
		check: func(s *subject, report report) {
			life := policy.Validity(s.cert.NotBefore, s.cert.NotAfter)
			if r, ok := policy.At(policy.RootValidityMin, s.at); ok && life < r.Value.Duration {
				report("the root lives %v, shorter than %s", life, r.Value)
			}
			if r, ok := policy.At(policy.RootValidityMax, s.at); ok && life > r.Value.Duration {
				report("the root lives %v, longer than %s", life, r.Value)
			}
		},
	}
}
