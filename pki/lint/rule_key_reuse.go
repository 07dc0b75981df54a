package lint

import (
	"bytes"

	"bulkhead"
)

// keyReuse: a certificate never carries its issuer's key. A subscriber, a delegate or an authority with that key would
// be the issuer.
func keyReuse() rule {
	return rule{
		name: "bulkhead_key_reuse", source: "BR 6.1.1.3, 7.1.2.8", severity: Error, sets: childSets,
		check: func(s *subject, report report) {
			if p := s.want.Issuer; p != nil && bytes.Equal(p.RawSubjectPublicKeyInfo, s.cert.RawSubjectPublicKeyInfo) {
				report("the certificate has the key of its issuer")
			}
		},
	}
}

// keyExpected: the key is the one that the request proved possession of.
func keyExpected() rule {
	return rule{
		name: "bulkhead_key_expected", source: "BR 3.2.1", severity: Error, sets: certSets,
		check: func(s *subject, report report) {
			if w := s.want.KeyHash; !w.IsZero() && bulkhead.Digest(s.cert.RawSubjectPublicKeyInfo) != w {
				report("the certificate has another key than was asked for")
			}
		},
	}
}
