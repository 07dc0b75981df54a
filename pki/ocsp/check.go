package ocsp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"bulkhead"
)

var (
	idNoCheck          = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	idKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	idSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	idBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	idNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	idCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	idPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	idAuthorityKey     = asn1.ObjectIdentifier{2, 5, 29, 35}
)

func refuse(hint, format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindGate, format, args...).WithHint(hint)
}

const (
	hintDelegate = "replace the OCSP delegate by one of the profile in BR 7.1.2.8 and sign its answers again"
	hintAnswer   = "sign the answer again with a delegate of the issuing authority"
)

// CheckResponse decides whether a response speaks with authority of one certificate, and returns what it says. The signer must be
// the issuer itself or a delegate that passes CheckDelegate; the signature must be valid under an allowed algorithm; some
// SingleResponse must name the issuer by name hash and key hash and the certificate by serial, and all that do must
// agree and be current: thisUpdate <= now < nextUpdate, nextUpdate not after the end of the signer and of the issuer
// (MRSP 6). issuer is trusted as given. Every failure is KindGate. A nonce is for the caller to compare.
func CheckResponse(r *Response, issuer *x509.Certificate, serial bulkhead.Serial, now time.Time) (Single, error) {
	if r == nil || issuer == nil || serial.IsZero() {
		return Single{}, refuse(hintAnswer, "response, issuer and serial number are needed")
	}
	if r.Status != Successful {
		return Single{}, refuse("see the responder's log", "the response is %s, not a statement about the certificate", r.Status)
	}
	if !allowedAlgorithm(r.SignatureAlgorithm) {
		return Single{}, refuse(hintAnswer, "the response is signed with %v, which is not allowed (BR 7.1.3.2)", r.SignatureAlgorithm)
	}
	if r.unknownCritical {
		return Single{}, refuse(hintAnswer, "the response has a critical extension that is not known")
	}
	signer, err := r.authorise(issuer, now)
	if err != nil {
		return Single{}, err
	}
	s, err := r.find(issuer, serial, now)
	if err != nil {
		return Single{}, err
	}
	if s.NextUpdate.After(signer.NotAfter) || s.NextUpdate.After(issuer.NotAfter) {
		return Single{}, refuse(hintAnswer, "the answer outlives its signer or the issuer (MRSP 6)")
	}
	return s, nil
}

// authorise finds the certificate whose key made the signature and that may speak for issuer.
func (r *Response) authorise(issuer *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	if r.names(issuer) && r.embedsOnly(issuer) {
		if err := issuer.CheckSignature(r.SignatureAlgorithm, r.TBS, r.Signature); err != nil {
			return nil, refuse(hintAnswer, "the issuer's own signature does not verify: %v", err)
		}
		return issuer, nil
	}
	err := refuse(hintAnswer, "no certificate in the response is the responder that it names")
	for _, der := range r.Certificates {
		cert, perr := x509.ParseCertificate(der)
		if perr != nil {
			err = refuse(hintDelegate, "a certificate in the response is malformed: %v", perr)
			continue
		}
		if !r.names(cert) {
			continue
		}
		if err = CheckDelegate(cert, issuer, now); err != nil {
			continue
		}
		if serr := cert.CheckSignature(r.SignatureAlgorithm, r.TBS, r.Signature); serr != nil {
			err = refuse(hintAnswer, "the delegate's signature does not verify: %v", serr)
			continue
		}
		return cert, nil
	}
	return nil, err
}

// names reports whether the responder id is that of cert.
func (r *Response) names(cert *x509.Certificate) bool {
	if r.ResponderKeyHash == nil {
		return bytes.Equal(r.ResponderName, cert.RawSubject)
	}
	h, err := KeyHash(cert.RawSubjectPublicKeyInfo)
	return err == nil && bytes.Equal(h[:], r.ResponderKeyHash)
}

// embedsOnly reports whether the response embeds no certificate, or the issuer's alone: then the issuer signed itself.
func (r *Response) embedsOnly(issuer *x509.Certificate) bool {
	for _, der := range r.Certificates {
		if !bytes.Equal(der, issuer.Raw) {
			return false
		}
	}
	return true
}

// find returns the statement about a certificate after checking that all statements about it agree.
func (r *Response) find(issuer *x509.Certificate, serial bulkhead.Serial, now time.Time) (Single, error) {
	id, err := NewIssuer(issuer.RawSubject, issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return Single{}, fmt.Errorf("hash issuer: %w", err)
	}
	var found *Single
	for i := range r.Singles {
		s := &r.Singles[i]
		if s.CertID.Serial != serial || !id.Matches(s.CertID.Hash, s.CertID.NameHash, s.CertID.KeyHash) {
			continue
		}
		if err := s.check(now); err != nil {
			return Single{}, err
		}
		if found != nil && *found != s.Single {
			return Single{}, refuse(hintAnswer, "the response contradicts itself about serial %s", serial)
		}
		found = &s.Single
	}
	if found == nil {
		return Single{}, refuse(hintAnswer, "the response says nothing of serial %s of this issuer (name, key and serial must match)", serial)
	}
	return *found, nil
}

func (s *SingleResponse) check(now time.Time) error {
	switch {
	case s.reasonExtension:
		return refuse(hintAnswer, "the reason stands in a single extension (BR 7.3.2)")
	case s.unknownCritical:
		return refuse(hintAnswer, "the single response has a critical extension that is not known")
	case s.HasReason && !reasonAllowed(s.Reason):
		return refuse(hintAnswer, "reason %s may not stand in a response (BR 7.3)", s.Reason)
	case s.NextUpdate.IsZero():
		return refuse(hintAnswer, "the answer has no nextUpdate (BR 4.9.9)")
	case now.Before(s.ThisUpdate):
		return refuse("compare the clocks", "the answer begins at %s, after now", s.ThisUpdate.Format(time.RFC3339))
	case !now.Before(s.NextUpdate):
		return refuse(hintAnswer, "the answer ended at %s", s.NextUpdate.Format(time.RFC3339))
	}
	return nil
}

func allowedAlgorithm(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return true
	default:
		return false
	}
}

// CheckDelegate decides whether a certificate is an OCSP delegate of exactly this issuer at this time, field by field of
// BR 7.1.2.8: issued under the issuer's name and key, in date and not outliving it, never a CA, keyUsage
// digitalSignature alone, the OCSPSigning purpose alone, nocheck, and none of the extensions that may not be there.
// Every failure is KindGate.
func CheckDelegate(delegate, issuer *x509.Certificate, now time.Time) error {
	if err := CheckProfile(delegate, issuer); err != nil {
		return err
	}
	if now.Before(delegate.NotBefore) || now.After(delegate.NotAfter) {
		return refuse("rotate the delegate", "the delegate is valid from %s to %s, not now",
			delegate.NotBefore.Format(time.RFC3339), delegate.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// CheckProfile is CheckDelegate for whoever does not ask about a moment: answers that a delegate signed in time are
// served until they end.
func CheckProfile(delegate, issuer *x509.Certificate) error {
	if delegate == nil || issuer == nil {
		return refuse(hintDelegate, "delegate and issuer are needed")
	}
	for _, check := range []func(d, issuer *x509.Certificate) error{checkIssued, checkNotCA, checkUsage, checkExtensions, checkKey} {
		if err := check(delegate, issuer); err != nil {
			return err
		}
	}
	if delegate.NotAfter.After(issuer.NotAfter) {
		return refuse(hintDelegate, "the delegate outlives its issuer")
	}
	return nil
}

func checkIssued(d, issuer *x509.Certificate) error {
	if !bytes.Equal(d.RawIssuer, issuer.RawSubject) {
		return refuse(hintDelegate, "the delegate is issued under another name than the issuer's")
	}
	if len(d.AuthorityKeyId) == 0 || !bytes.Equal(d.AuthorityKeyId, issuer.SubjectKeyId) {
		return refuse(hintDelegate, "the delegate's authority key identifier is not the issuer's")
	}
	if !allowedAlgorithm(d.SignatureAlgorithm) {
		return refuse(hintDelegate, "the delegate is signed with %v, which is not allowed (BR 7.1.3.2)", d.SignatureAlgorithm)
	}
	if err := d.CheckSignatureFrom(issuer); err != nil {
		return refuse(hintDelegate, "the delegate is not signed by the issuer's key: %v", err)
	}
	return nil
}

func checkNotCA(d, _ *x509.Certificate) error {
	if d.IsCA || d.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return refuse(hintDelegate, "the responder is a CA certificate: it could forge the status of its siblings (BR 7.1.2.8.4)")
	}
	if e := extensionOf(d, idBasicConstraints); e != nil && (!e.Critical || d.MaxPathLen > 0 || d.MaxPathLenZero) {
		return refuse(hintDelegate, "basicConstraints of a delegate must be critical and without a path length (BR 7.1.2.8.4)")
	}
	return nil
}

func checkUsage(d, _ *x509.Certificate) error {
	if d.KeyUsage != x509.KeyUsageDigitalSignature {
		return refuse(hintDelegate, "keyUsage of a delegate must be digitalSignature alone (BR 7.1.2.8.7)")
	}
	if e := extensionOf(d, idKeyUsage); e == nil || !e.Critical {
		return refuse(hintDelegate, "keyUsage of a delegate must be critical (BR 7.1.2.8.2)")
	}
	if len(d.ExtKeyUsage) != 1 || d.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || len(d.UnknownExtKeyUsage) != 0 {
		return refuse(hintDelegate, "extKeyUsage of a delegate must be OCSPSigning alone (BR 7.1.2.8.5)")
	}
	return nil
}

func checkExtensions(d, _ *x509.Certificate) error {
	if e := extensionOf(d, idNoCheck); e == nil || e.Critical || !bytes.Equal(e.Value, []byte{5, 0}) {
		return refuse(hintDelegate, "id-pkix-ocsp-nocheck must be there, not critical, with the value 0500 (BR 7.1.2.8.6)")
	}
	if e := extensionOf(d, idAuthorityKey); e == nil || e.Critical {
		return refuse(hintDelegate, "authorityKeyIdentifier of a delegate must not be critical (BR 7.1.2.8.2)")
	}
	for _, id := range []asn1.ObjectIdentifier{idSubjectAltName, idNameConstraints, idCRLPoints, idPolicies} {
		if extensionOf(d, id) != nil {
			return refuse(hintDelegate, "a delegate must not have the extension %s (BR 7.1.2.8.2)", id)
		}
	}
	if len(d.UnhandledCriticalExtensions) != 0 {
		return refuse(hintDelegate, "the delegate has a critical extension that is not known: %s", d.UnhandledCriticalExtensions[0])
	}
	return nil
}

func checkKey(d, _ *x509.Certificate) error {
	switch k := d.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	}
	return refuse(hintDelegate, "the delegate's key is neither ECDSA on P-256, P-384 or P-521 nor RSA of 2048 bits or more (BR 6.1.5)")
}

func extensionOf(c *x509.Certificate, id asn1.ObjectIdentifier) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(id) {
			return &c.Extensions[i]
		}
	}
	return nil
}
