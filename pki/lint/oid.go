package lint

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"
)

// Extensions that the rules look at (RFC 5280 section 4.2, RFC 6960 section 4.2.2.2.1).
var (
	oidSubjectKeyID             = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage                 = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName           = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints         = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidDeltaCRL                 = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidNameConstraints          = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLDistributionPoints    = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidCertificatePolicies      = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage              = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAuthorityInfoAccess      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidNoCheck                  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// extensionName is for people.
func extensionName(oid asn1.ObjectIdentifier) string {
	switch {
	case oid.Equal(oidSubjectAltName):
		return "subjectAltName"
	case oid.Equal(oidNameConstraints):
		return "nameConstraints"
	case oid.Equal(oidCRLDistributionPoints):
		return "cRLDistributionPoints"
	case oid.Equal(oidCertificatePolicies):
		return "certificatePolicies"
	case oid.Equal(oidAuthorityInfoAccess):
		return "authorityInfoAccess"
	default:
		return oid.String()
	}
}

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(oid) {
			return &c.Extensions[i]
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
