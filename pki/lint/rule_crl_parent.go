package lint

import (
	"bytes"
	"crypto/x509"
)

// crlParent: the CRL names its issuer byte for byte and by key identifier, and the issuer may sign CRLs.
func crlParent() rule {
	return rule{
		name: "bulkhead_crl_parent", source: "RFC 5280 5.1.2.3, 5.2.1, BR 7.2", severity: Error, sets: crlSets,
		check: func(s *subject, report report) {
			p := s.want.Issuer
			if p == nil {
				return
			}
			if !bytes.Equal(s.crl.RawIssuer, p.RawSubject) {
				report("the issuer's name is not, byte for byte, the subject of the issuer")
			}
			if !bytes.Equal(s.crl.AuthorityKeyId, p.SubjectKeyId) {
				report("authorityKeyIdentifier is not the issuer's subjectKeyIdentifier")
			}
			if p.KeyUsage&x509.KeyUsageCRLSign == 0 {
				report("the issuer may not sign CRLs")
			}
		},
	}
}
