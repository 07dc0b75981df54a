package lint

import "bulkhead/pki/policy"

// serialSize: positive, at least as long as the random bits asked for, below 2^159. A 64-bit number can be short by
// chance; the house draws more bits, so that a short one here means a broken source.
func serialSize() rule {
	return rule{
		name: "bulkhead_serial_size", source: "BR 7.1.2.7, RFC 5280 4.1.2.2", severity: Error, sets: certSets,
		check: func(s *subject, report report) {
			n := s.cert.SerialNumber
			if n.Sign() <= 0 {
				report("the serial number is not positive")
				return
			}
			if r, ok := policy.At(policy.SerialMinBits, s.at); ok && n.BitLen() < r.Value.Count {
				report("the serial number has %d bits, at least %d are needed", n.BitLen(), r.Value.Count)
			}
			if r, ok := policy.At(policy.SerialMaxBits, s.at); ok && n.BitLen() > r.Value.Count {
				report("the serial number has %d bits, at most %d are allowed", n.BitLen(), r.Value.Count)
			}
		},
	}
}
