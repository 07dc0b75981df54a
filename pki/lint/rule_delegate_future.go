package lint

// delegateFuture reports a delegate that begins later than it is signed, as a ceremony may prepare them. BR 7.1.2.8.1
// does not allow that in a publicly trusted hierarchy: give every prepared delegate the notBefore of the ceremony.
func delegateFuture() rule {
	return rule{
		name: "bulkhead_delegate_future", source: "BR 7.1.2.8.1", severity: Warn, from: br200, sets: []Set{SetDelegate},
		check: func(s *subject, report report) {
			if s.cert.NotBefore.After(s.at) {
				report("notBefore %s is later than the time of signing %s", stamp(s.cert.NotBefore), stamp(s.at))
			}
		},
	}
}
