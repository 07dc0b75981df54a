package lint

import (
	"bulkhead"
	"bulkhead/pki/profile"
)

// nameConstraints: no name is outside what the authorities above may certify. A verifier would refuse the whole chain.
func nameConstraints() rule {
	return rule{
		name: "bulkhead_name_constraints", source: "RFC 5280 4.2.1.10", severity: Error, sets: leafSets,
		check: func(s *subject, report report) {
			above := s.want.Above
			if len(above) == 0 && s.want.Issuer != nil {
				above = append(above, s.want.Issuer)
			}
			if err := profile.CheckConstraints(names(s.cert), above); err != nil {
				for _, sub := range bulkhead.AsFault(err).Subs {
					report("%s: %s", sub.Identifier.Value, sub.Detail)
				}
			}
		},
	}
}
