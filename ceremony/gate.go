package ceremony

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"bulkhead/pki/keycheck"
	"bulkhead/pki/profile"
)

// Role is what a certificate signed in a ceremony is.
type Role string

// Roles.
const (
	RoleRoot     Role = "root"
	RoleIssuing  Role = "issuing"
	RoleCross    Role = "cross"
	RoleDelegate Role = "ocsp-delegate"
)

var (
	// authorityUsage is the key usage of every authority; a foreign root may add digitalSignature.
	authorityUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	// signatureAlgorithms are those of BR 7.1.3.2 that the product makes or accepts.
	signatureAlgorithms = []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS,
		x509.SHA512WithRSAPSS, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384,
	}
	oidNoCheck          = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidEKU              = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSKI              = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAKI              = asn1.ObjectIdentifier{2, 5, 29, 35}
	asn1Null            = []byte{0x05, 0x00}
	oneDay              = 24 * time.Hour
)

// gate looks at a parsed certificate (a twin, before anything is signed) and refuses what a root must never sign.
// issuer is nil for a root.
func gate(cert, issuer *x509.Certificate, role Role, now time.Time) error {
	checks := []func() error{
		func() error { return gateKey(cert) },
		func() error { return gateKeyID(cert, role) },
		func() error { return gateCommon(cert, now) },
	}
	if role != RoleRoot {
		checks = append(checks, func() error { return gateIssuer(cert, issuer, now) })
	}
	if role == RoleDelegate {
		checks = append(checks, func() error { return gateDelegate(cert) })
	} else {
		checks = append(checks,
			func() error { return gateAuthority(cert, role == RoleRoot) },
			func() error { return gatePathLen(cert, issuer, role) })
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func gateKey(cert *x509.Certificate) error {
	if err := keycheck.Check(cert.PublicKey, keycheck.DefaultRules()); err != nil {
		return err
	}
	if !slices.Contains(signatureAlgorithms, cert.SignatureAlgorithm) {
		return refused("signature algorithm %s is weak or not allowed (BR 7.1.3.2)", cert.SignatureAlgorithm).WithHint("sign with SHA-256 or SHA-384")
	}
	return nil
}

// gateKeyID: ours is RFC 7093 method 1. A cross-certificate repeats the identifier of an authority that may not be ours,
// which is SHA-1 over the same bits with nearly everybody (RFC 5280 section 4.2.1.2); it names the key and secures nothing.
func gateKeyID(cert *x509.Certificate, role Role) error {
	skid, err := profile.KeyID(cert.PublicKey)
	if err != nil {
		return err
	}
	if bytes.Equal(cert.SubjectKeyId, skid) {
		return nil
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if role == RoleCross {
		if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &spki); err != nil {
			return malformedCertificate(err)
		}
		if sum := sha1.Sum(spki.Key.Bytes); bytes.Equal(cert.SubjectKeyId, sum[:]) {
			return nil
		}
	}
	return refused("subject key identifier is not that of the key").WithHint("make the template with pki/profile")
}

func gateCommon(cert *x509.Certificate, now time.Time) error {
	switch {
	case cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() < 64 || cert.SerialNumber.BitLen() > 159:
		return refused("serial number has %d bits, not between 64 and 159 (BR 7.1)", cert.SerialNumber.BitLen()).WithHint("use a random serial")
	case now.Sub(cert.NotBefore) > oneDay || cert.NotBefore.After(now):
		return refused("notBefore %s is not within the day before signing (BR 7.1.2.10.1)", cert.NotBefore.Format(time.RFC3339)).WithHint("check the clock of this machine")
	case !cert.NotAfter.After(cert.NotBefore):
		return refused("certificate ends before it begins").WithHint("choose a longer validity")
	case len(cert.UnhandledCriticalExtensions) != 0:
		return refused("unknown critical extension %s", cert.UnhandledCriticalExtensions[0]).WithHint("leave it out")
	}
	return nil
}

// gateIssuer: the issuer may sign, and is neither outlived nor imitated by what it signs.
func gateIssuer(cert, issuer *x509.Certificate, now time.Time) error {
	switch {
	case issuer == nil || !issuer.IsCA || issuer.KeyUsage&x509.KeyUsageCertSign == 0:
		return refused("the issuer is no authority").WithHint("sign with a root or a subordinate authority")
	case now.After(issuer.NotAfter) || now.Before(issuer.NotBefore):
		return refused("the issuer %q is not valid now", issuer.Subject.CommonName).WithHint("check the clock of this machine, or sign with another authority")
	case cert.NotAfter.After(issuer.NotAfter):
		return refused("certificate would outlive its issuer, which ends at %s", issuer.NotAfter.UTC().Format(time.RFC3339)).WithHint("choose a shorter validity, or another issuer")
	case cert.NotBefore.Before(issuer.NotBefore):
		return refused("certificate would begin before its issuer").WithHint("choose a later notBefore")
	case !bytes.Equal(cert.RawIssuer, issuer.RawSubject) || !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId) || len(cert.AuthorityKeyId) == 0:
		return refused("issuer name or authority key identifier is not the issuer's").WithHint("make the template with this issuer as parent")
	case bytes.Equal(cert.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo):
		return refused("certificate has its issuer's own key").WithHint("make a key of its own")
	}
	return nil
}

// gateAuthority: exactly the powers of an authority (BR 7.1.2.1, 7.1.2.6), above all no OCSPSigning, which would let it
// answer for its siblings.
func gateAuthority(cert *x509.Certificate, root bool) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA || !critical(cert, oidBasicConstraints):
		return refused("certificate is no authority: a root signs authorities and OCSP delegates only (BR 6.1.7)").WithHint("ask an issuing authority: bulkhead issue")
	case cert.KeyUsage != authorityUsage || !critical(cert, oidKeyUsage):
		return refused("key usage is not exactly critical keyCertSign and cRLSign").WithHint("make the template with pki/profile")
	case hasNames(cert):
		return refused("an authority's certificate has no subject alternative names").WithHint("make the template with pki/profile")
	}
	if err := gateAuthorityEKUs(cert); err != nil {
		return err
	}
	points := len(cert.CRLDistributionPoints) + len(cert.OCSPServer) + len(cert.IssuingCertificateURL)
	if root {
		if points != 0 || hasExtension(cert, oidEKU) || len(cert.Policies) != 0 {
			return refused("a root has no CDP, AIA, EKU or policies (BR 7.1.2.1)").WithHint("make the template with pki/profile")
		}
		return nil
	}
	if len(cert.ExtKeyUsage) == 0 || len(cert.Policies) == 0 {
		return refused("a subordinate authority is limited by EKU and policy (BR 7.1.2.6)").WithHint("make the template with pki/profile")
	}
	if len(cert.CRLDistributionPoints) == 0 || len(cert.IssuingCertificateURL) == 0 {
		return refused("a subordinate authority carries CDP and AIA (BR 7.1.2.6)").WithHint("make the template with pki/profile")
	}
	return nil
}

// gateAuthorityEKUs refuses OCSPSigning, anyExtendedKeyUsage and everything unknown in an authority's certificate.
func gateAuthorityEKUs(cert *x509.Certificate) error {
	const hint = "an authority with OCSPSigning can answer for its siblings: leave the extended key usages of one usage only"
	for _, eku := range cert.ExtKeyUsage {
		if !authorityEKU(eku) {
			return refused("an authority's certificate has the extended key usage %s", ekuName(eku)).WithHint(hint)
		}
	}
	if len(cert.UnknownExtKeyUsage) != 0 {
		return refused("an authority's certificate has the extended key usage %s", cert.UnknownExtKeyUsage[0]).WithHint(hint)
	}
	return oneUsage(cert)
}

func ekuName(eku x509.ExtKeyUsage) string {
	switch eku {
	case x509.ExtKeyUsageOCSPSigning:
		return "OCSPSigning"
	case x509.ExtKeyUsageAny:
		return "anyExtendedKeyUsage"
	default:
		return "of no issuing authority"
	}
}

func gatePathLen(cert, issuer *x509.Certificate, role Role) error {
	limit, limited := pathLen(cert)
	if role == RoleRoot {
		if limited {
			return refused("a root has no path length (BR 7.1.2.1.4)").WithHint("make the template with pki/profile")
		}
		return nil
	}
	if !limited || role == RoleIssuing && limit != 0 {
		return refused("path length is not 0: an issuing authority signs no authorities").WithHint("make the template with pki/profile")
	}
	if most, ok := pathLen(issuer); ok && limit >= most {
		return refused("path length %d does not fit below %q, which allows %d (RFC 5280 section 4.2.1.9)", limit, issuer.Subject.CommonName, most).
			WithHint("sign it with an authority higher up")
	}
	return nil
}

// pathLen reads crypto/x509's three ways to say path length.
func pathLen(c *x509.Certificate) (limit int, limited bool) {
	if c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero {
		return c.MaxPathLen, true
	}
	return 0, false
}

// gateDelegate: BR 7.1.2.8 to the letter, P-256 (answers are small).
func gateDelegate(cert *x509.Certificate) error {
	const hint = "make the template with pki/profile"
	k, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || k.Curve != elliptic.P256():
		return refused("an OCSP delegate has a P-256 key").WithHint("make the request with algorithm p256")
	case cert.IsCA:
		return refused("an OCSP delegate is no authority (BR 7.1.2.8.4)").WithHint(hint)
	case len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || len(cert.UnknownExtKeyUsage) != 0:
		return refused("an OCSP delegate has exactly the extended key usage OCSPSigning (BR 7.1.2.8.5)").WithHint(hint)
	case cert.KeyUsage != x509.KeyUsageDigitalSignature || !critical(cert, oidKeyUsage):
		return refused("an OCSP delegate has exactly the critical key usage digitalSignature (BR 7.1.2.8.7)").WithHint(hint)
	}
	if value, isCritical := extension(cert, oidNoCheck); !bytes.Equal(value, asn1Null) || isCritical {
		return refused("an OCSP delegate has id-pkix-ocsp-nocheck with NULL, not critical (BR 7.1.2.8.6)").WithHint(hint)
	}
	for _, e := range cert.Extensions {
		if !slices.ContainsFunc(delegateExtensions, e.Id.Equal) {
			return refused("an OCSP delegate does not have the extension %s (BR 7.1.2.8.2)", e.Id).WithHint(hint)
		}
	}
	return nil
}

// delegateExtensions are all that a delegate has: no CDP, AIA, SAN, policies or name constraints.
var delegateExtensions = []asn1.ObjectIdentifier{oidBasicConstraints, oidKeyUsage, oidEKU, oidSKI, oidAKI, oidNoCheck}

func extension(c *x509.Certificate, id asn1.ObjectIdentifier) (value []byte, isCritical bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value, e.Critical
		}
	}
	return nil, false
}

func hasExtension(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	value, _ := extension(c, id)
	return value != nil
}

func critical(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	_, is := extension(c, id)
	return is
}

func hasNames(c *x509.Certificate) bool {
	return hasExtension(c, asn1.ObjectIdentifier{2, 5, 29, 17})
}
