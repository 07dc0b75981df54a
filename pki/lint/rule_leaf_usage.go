package lint

import (
	"crypto/x509"
	"slices"
)

// leafUsages are the extended key usages that a set must have and may have.
var leafUsages = map[Set]struct{ must, may []x509.ExtKeyUsage }{
	SetTLSServer:      {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	SetTLSServerShort: {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	SetTLSClient:      {[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil},
	SetSMIME:          {[]x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, nil},
	SetCodeSigning:    {[]x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, nil},
	SetInfrastructure: {nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}},
}

// leafUsage: a subscriber's key serves the one purpose of its set; it signs neither certificates nor status.
func leafUsage() rule {
	return rule{
		name: "bulkhead_leaf_usage", source: "BR 7.1.2.7.8, 7.1.2.7.10, 7.1.2.7.11, S/MIME BR 7.1.2.3, CSBR 7.1.2.3", severity: Error, sets: leafSets,
		check: func(s *subject, report report) {
			c, allowed := s.cert, leafUsages[s.set]
			if c.IsCA {
				report("basicConstraints says cA")
			}
			const most = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
			if c.KeyUsage&^most != 0 {
				report("keyUsage allows more than authentication and key exchange")
			}
			if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
				report("keyUsage lacks digitalSignature")
			}
			if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
				report("no extended key usage")
			}
			for _, u := range allowed.must {
				if !slices.Contains(c.ExtKeyUsage, u) {
					report("the extended key usage %v is missing", u)
				}
			}
			for _, u := range c.ExtKeyUsage {
				if !slices.Contains(allowed.must, u) && !slices.Contains(allowed.may, u) {
					report("the extended key usage %v is not allowed here", u)
				}
			}
			for _, u := range c.UnknownExtKeyUsage {
				report("the extended key usage %v is not allowed here", u)
			}
		},
	}
}
