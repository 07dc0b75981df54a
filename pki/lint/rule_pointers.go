package lint

import (
	"crypto/x509"
	"net/url"
)

// pointersPresent: whatever can be revoked says where to ask: CRL, OCSP, and the issuer's certificate. Where the caller
// knows the URLs, they must be exactly those.
func pointersPresent() rule {
	return rule{
		name: "bulkhead_pointers", source: "BR 7.1.2.7.7, 7.1.2.10.3, 7.1.2.11.2", severity: Error, sets: pointerSets,
		check: func(s *subject, report report) {
			onePointer(report, "CRL distribution point", s.cert.CRLDistributionPoints, s.want.CRLURL)
			onePointer(report, "OCSP pointer", s.cert.OCSPServer, s.want.OCSPURL)
			onePointer(report, "pointer to the issuer's certificate", s.cert.IssuingCertificateURL, s.want.CAURL)
		},
	}
}

func onePointer(report report, what string, have []string, want string) {
	if len(have) == 0 {
		report("no %s", what)
	}
	for _, h := range have {
		if u, err := url.Parse(h); err != nil || u.Scheme != "http" || u.Host == "" {
			report("the %s %q is no http URL", what, h) // https would need the answer to fetch the answer
		}
	}
	if want != "" && len(have) > 0 && (len(have) != 1 || have[0] != want) {
		report("the %s is %q, expected %q", what, have, want)
	}
}

// pointersAbsent: nobody can be told that a root is revoked, and a pointer in it is never followed.
func pointersAbsent() rule {
	return rule{
		name: "bulkhead_root_pointers", source: "BR 7.1.2.1.2", severity: Error, sets: []Set{SetRoot},
		check: func(s *subject, report report) {
			if hasPointers(s.cert) {
				report("a root has a CRL distribution point or authority information")
			}
		},
	}
}

func hasPointers(c *x509.Certificate) bool {
	return extension(c, oidCRLDistributionPoints) != nil || extension(c, oidAuthorityInfoAccess) != nil
}
