package lint

import (
	"time"

	"bulkhead/pki/policy"
)

// validityLimit holds server certificates to the row in force, by the stricter of the time of signing and notBefore:
// the CA is judged by the one, a browser can only see the other.
func validityLimit() rule {
	return rule{
		name: "bulkhead_validity", source: "BR 6.3.2, 1.6.1", severity: Error, sets: serverSets,
		check: func(s *subject, report report) {
			life := policy.Validity(s.cert.NotBefore, s.cert.NotAfter)
			if life <= 0 {
				report("notAfter is before notBefore")
			}
			if most := stricter(policy.MaxValidity, s); most > 0 && life > most {
				report("valid for %v, at most %v are allowed", life, most)
			}
			if s.set != SetTLSServerShort {
				return
			}
			if most := stricter(policy.ShortLived, s); life > most {
				report("valid for %v, short-lived is at most %v", life, most)
			}
		},
	}
}

// mailValidity holds strict S/MIME certificates to the row in force. Code signing needs no rule of ours: zlint has both
// limits with their dates.
func mailValidity() rule {
	return rule{
		name: "bulkhead_smime_validity", source: "S/MIME BR 6.3.2", severity: Error, sets: []Set{SetSMIME},
		check: func(s *subject, report report) {
			life := policy.Validity(s.cert.NotBefore, s.cert.NotAfter)
			if most := stricter(policy.MailValidity, s); life <= 0 || most > 0 && life > most {
				report("valid for %v, at most %v are allowed", life, most)
			}
		},
	}
}

func stricter(limit func(time.Time) time.Duration, s *subject) time.Duration {
	a, b := limit(s.at), limit(s.cert.NotBefore)
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
