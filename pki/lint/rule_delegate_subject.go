package lint

// delegateSubject asks for the naming of authorities, which BR 7.1.2.8 prescribes for responders too. A warning: a
// private hierarchy may name its delegates as it likes, and no validator looks.
func delegateSubject() rule {
	return rule{
		name: "bulkhead_delegate_subject", source: "BR 7.1.2.8, 7.1.2.10.2", severity: Warn, from: br200, sets: []Set{SetDelegate},
		check: func(s *subject, report report) {
			if len(s.cert.Subject.Country) != 1 {
				report("the subject has no country, or several")
			}
			if len(s.cert.Subject.Organization) == 0 {
				report("the subject has no organisation")
			}
		},
	}
}
