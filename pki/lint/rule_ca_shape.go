package lint

import (
	"crypto/x509"
	"slices"
)

// caShape: cA, exactly keyCertSign and cRLSign, no alternative names, a subject key identifier; path length 0 in an
// issuing authority and none in a root.
func caShape() rule {
	return rule{
		name: "bulkhead_ca_shape", source: "BR 7.1.2.1, 7.1.2.6, 7.1.2.10", severity: Error, sets: caSets,
		check: func(s *subject, report report) {
			c := s.cert
			if !c.BasicConstraintsValid || !c.IsCA {
				report("basicConstraints does not say cA")
			}
			if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
				report("keyUsage is not exactly keyCertSign and cRLSign")
			}
			if hasNames(c) {
				report("an authority has subject alternative names")
			}
			if len(c.SubjectKeyId) == 0 {
				report("no subject key identifier: children could not name their issuer (RFC 5280 section 4.2.1.2)")
			}
			switch {
			case slices.Contains(issuingSets, s.set) && !c.MaxPathLenZero:
				report("the path length of an issuing authority is not 0")
			case s.set == SetRoot && (c.MaxPathLen > 0 || c.MaxPathLenZero):
				report("a root has a path length")
			}
		},
	}
}

func hasNames(c *x509.Certificate) bool { return extension(c, oidSubjectAltName) != nil }
