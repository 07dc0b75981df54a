package lint

// parentEnd: no certificate outlives its issuer, nor begins before it: nobody could check it then, and its status would
// have no signer.
func parentEnd() rule {
	return rule{
		name: "bulkhead_parent_end", source: "RFC 5280 6.1.3, BR 4.9.7", severity: Error, sets: childSets,
		check: func(s *subject, report report) {
			p := s.want.Issuer
			if p == nil {
				return
			}
			if s.cert.NotAfter.After(p.NotAfter) {
				report("notAfter %s is later than the issuer's %s", stamp(s.cert.NotAfter), stamp(p.NotAfter))
			}
			if s.cert.NotBefore.Before(p.NotBefore) && s.set != SetCross {
				report("notBefore %s is earlier than the issuer's %s", stamp(s.cert.NotBefore), stamp(p.NotBefore))
			}
		},
	}
}
