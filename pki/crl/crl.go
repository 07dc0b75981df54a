package crl

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"time"

	"bulkhead"
)

// Entry is one revoked certificate. Times have a resolution of one second, UTC.
type Entry struct {
	Serial         bulkhead.Serial
	RevokedAt      time.Time
	Reason         bulkhead.Reason // Unspecified is omitted (BR 7.2.2); 6, 7 and 8 are refused
	InvalidityDate time.Time       // omitted when zero
}

// Scope is the kind of certificates that a CRL speaks of (RFC 5280 section 5.2.5).
type Scope uint8

// Scopes.
const (
	ScopeAll Scope = iota
	ScopeUserCerts
	ScopeCACerts
)

// Info is what stands around the entries.
type Info struct {
	Issuer                 *x509.Certificate // subject, subject key identifier and public key
	Number                 int64             // CRLNumber, not negative; strictly increasing per scope is the caller's duty
	ThisUpdate, NextUpdate time.Time
	URL                    string // URI of the critical issuingDistributionPoint, byte for byte the CDP's; "" for a full CRL without it
	Scope                  Scope  // ScopeAll when there is no URL
}

// ToSign is a finished TBSCertList on its way to the issuer's key.
type ToSign struct {
	TBSDigest bulkhead.Hash // SHA-256 of the TBSCertList whatever the signature's hash: its name in evidence
	Size      int64         // octets
	Algorithm x509.SignatureAlgorithm
	Hash      crypto.Hash // SHA-256, or SHA-384 for a P-384 key (BR 7.1.3.2.2)
	Digest    []byte      // of the TBSCertList under Hash: what the key signs
}

// SignFunc signs Digest: RSA PKCS #1 v1.5, or ECDSA in DER, by the issuer's key type. It is called once, when the whole TBSCertList is
// known and before anything is written: the place to make the intent durable.
type SignFunc func(t ToSign) (signature []byte, err error)

// Result describes a CRL that was written.
type Result struct {
	Entries int
	Size    int64         // octets of the DER
	Digest  bulkhead.Hash // SHA-256 of the DER
}

// scheme is a signature algorithm allowed by BR 7.1.3.2.
type scheme struct {
	algorithm  x509.SignatureAlgorithm
	hash       crypto.Hash
	identifier string // DER AlgorithmIdentifier
}

// Signature schemes: RSA with NULL parameters, ECDSA without (RFC 5758 section 3.2).
var (
	rsaSHA256  = scheme{x509.SHA256WithRSA, crypto.SHA256, "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"}
	p256SHA256 = scheme{x509.ECDSAWithSHA256, crypto.SHA256, "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"}
	p384SHA384 = scheme{x509.ECDSAWithSHA384, crypto.SHA384, "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"}
)

// schemeFor chooses the algorithm by the issuer's public key.
func schemeFor(issuer *x509.Certificate) (scheme, error) {
	switch k := issuer.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return rsaSHA256, nil
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return p256SHA256, nil
		case elliptic.P384():
			return p384SHA384, nil
		}
	}
	return scheme{}, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the issuer's key is neither RSA of 2048 bits or more nor ECDSA on P-256 or P-384 (BR 6.1.5)").
		WithHint("sign the CRL with an issuing authority of an allowed key type")
}

// checkInfo verifies what can be known before the first entry.
func checkInfo(info Info) error {
	bad := func(format string, args ...any) error {
		return bulkhead.Faultf(bulkhead.KindMalformed, "CRL: "+format, args...)
	}
	c := info.Issuer
	switch {
	case c == nil || len(c.RawSubject) == 0:
		return bad("the issuer is missing")
	case len(c.SubjectKeyId) == 0:
		return bad("the issuer has no subject key identifier, so the CRL could have no authority key identifier (RFC 5280 section 5.2.1)")
	case !c.IsCA || c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return bad("the issuer may not sign CRLs: it is no CA, or its keyUsage lacks cRLSign (RFC 5280 section 6.3.3)")
	case info.Number < 0:
		return bad("the number %d is negative (BR 7.2.2)", info.Number)
	case info.ThisUpdate.IsZero() || !info.NextUpdate.Truncate(time.Second).After(info.ThisUpdate.Truncate(time.Second)):
		return bad("nextUpdate must be after thisUpdate")
	case !yearAllowed(info.ThisUpdate) || !yearAllowed(info.NextUpdate):
		return bad("a date lies outside 1950 to 9999")
	case info.Scope > ScopeCACerts:
		return bad("scope %d does not exist", info.Scope)
	case info.URL == "" && info.Scope != ScopeAll:
		return bad("a scope needs the distribution point's URL (BR 7.2.2.1)")
	}
	for i := 0; i < len(info.URL); i++ {
		if info.URL[i] <= ' ' || info.URL[i] > '~' {
			return bad("the distribution point %q is not a URI", info.URL)
		}
	}
	return nil
}

// reasonAllowed refuses certificateHold (no suspension, BR 4.9.13), 7 (does not exist) and removeFromCRL (delta CRLs only).
func reasonAllowed(r bulkhead.Reason) bool {
	return r >= bulkhead.Unspecified && r <= bulkhead.AACompromise &&
		r != bulkhead.CertificateHold && r != 7 && r != bulkhead.RemoveFromCRL
}

// yearAllowed bounds dates to those that a Time of RFC 5280 section 4.1.2.5 can hold.
func yearAllowed(t time.Time) bool {
	y := t.UTC().Year()
	return y >= 1950 && y <= 9999
}
