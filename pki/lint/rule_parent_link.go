package lint

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// parentLink: the certificate names its issuer byte for byte and by key identifier, and the issuer may sign it: cA,
// keyCertSign, a path length that leaves room, extended key usages that cover the child's. A root names itself.
func parentLink() rule {
	return rule{
		name: "bulkhead_parent_link", source: "BR 7.1.4.1, RFC 5280 4.2.1.1, 4.2.1.9", severity: Error, sets: certSets,
		check: func(s *subject, report report) {
			c, p := s.cert, s.want.Issuer
			if s.set == SetRoot {
				p = c
			}
			if p == nil {
				return
			}
			if !bytes.Equal(c.RawIssuer, p.RawSubject) {
				report("the issuer's name is not, byte for byte, the subject of the issuer")
			}
			if (s.set != SetRoot || len(c.AuthorityKeyId) > 0) && !bytes.Equal(c.AuthorityKeyId, p.SubjectKeyId) {
				report("authorityKeyIdentifier is not the issuer's subjectKeyIdentifier")
			}
			if !p.IsCA || p.KeyUsage&x509.KeyUsageCertSign == 0 {
				report("the issuer may not sign certificates")
			}
			if s.set != SetRoot {
				below(c, p, report)
			}
		},
	}
}

// below compares path length and usages of a child with its issuer's.
func below(c, p *x509.Certificate, report report) {
	if limited := p.MaxPathLen > 0 || p.MaxPathLenZero; c.IsCA && limited && (p.MaxPathLen == 0 || c.MaxPathLen >= p.MaxPathLen || c.MaxPathLen < 0) {
		report("the issuer's path length %d leaves no room for this authority", p.MaxPathLen)
	}
	if len(p.ExtKeyUsage)+len(p.UnknownExtKeyUsage) == 0 || slices.Contains(p.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return
	}
	for _, u := range c.ExtKeyUsage {
		// A delegate's usage is not nested: RFC 6960 judges it by who issued it.
		if u != x509.ExtKeyUsageOCSPSigning && !slices.Contains(p.ExtKeyUsage, u) {
			report("the issuer lacks the extended key usage %v", u)
		}
	}
}
