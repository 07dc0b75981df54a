package lint

import (
	"slices"

	"bulkhead/pki/policy"
)

// notBeforeWindow keeps notBefore near the time of signing: 48 hours to both sides for subscribers, one day into the
// past for the house's own. A cross-certificate may begin with the oldest certificate of its subject (BR 7.1.2.2.1),
// so only its future is looked at; the future of a delegate is bulkhead_delegate_future.
func notBeforeWindow() rule {
	return rule{
		name: "bulkhead_not_before", source: "BR 7.1.2.7, 7.1.2.1.1, 7.1.2.2.1, 7.1.2.6.1, 7.1.2.8.1", severity: Error, from: br200, sets: certSets,
		check: func(s *subject, report report) {
			id := policy.NotBeforeWindow
			if !slices.Contains(leafSets, s.set) {
				id = policy.NotBeforeWindowCA
			}
			r, ok := policy.At(id, s.at)
			if !ok {
				return
			}
			early := s.at.Sub(s.cert.NotBefore)
			if early > r.Value.Duration && s.set != SetCross {
				report("notBefore lies %v before the time of signing, at most %s are allowed", early, r.Value)
			}
			if slices.Contains(leafSets, s.set) && -early > r.Value.Duration {
				report("notBefore lies %v after the time of signing, at most %s are allowed", -early, r.Value)
			}
			if slices.Contains(caSets, s.set) && early < 0 {
				report("notBefore lies %v after the time of signing", -early)
			}
		},
	}
}
