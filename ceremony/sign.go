package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"bulkhead"
	"bulkhead/pki/lint"
)

var lintSets = map[Role]lint.Set{
	RoleRoot: lint.SetRoot, RoleIssuing: lint.SetIssuing, RoleCross: lint.SetCross, RoleDelegate: lint.SetDelegate,
}

// twinBits is the size of a throw-away RSA key. It signs nothing that anybody keeps, and its size is not in the bytes
// that are compared.
const twinBits = 2048

// sign makes a certificate: twin, gates, lint, then the real signature over the very bytes that were looked at.
// issuer is nil for a root, which signer signs itself.
func (e *execution) sign(tmpl, issuer *x509.Certificate, signer crypto.Signer, role Role) (*x509.Certificate, error) {
	alg, err := signatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	tmpl.SignatureAlgorithm = alg
	parent := issuer
	if parent == nil {
		parent = tmpl
	}
	twin, err := e.twin(tmpl, parent, signer.Public())
	if err != nil {
		return nil, err
	}
	if err := gate(twin, issuer, role, e.start); err != nil {
		return nil, err
	}
	findings, err := e.Lint.Expected(twin.Raw, setOf(twin, role), e.start, lint.Expect{Issuer: issuer})
	if err != nil {
		return nil, err
	}
	if err := lint.Blocking(findings); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(e.Rand, tmpl, parent, tmpl.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(cert.RawTBSCertificate, twin.RawTBSCertificate) {
		return nil, errOtherBytes()
	}
	if issuer == nil {
		issuer = cert
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("verify after signing: %w", err)
	}
	return cert, nil
}

func errOtherBytes() error {
	return bulkhead.NewFault(bulkhead.KindInternal, "the signed bytes are not those that were checked").WithHint("do not use this machine for the ceremony")
}

// twin signs the template with a throw-away key of the parent's kind: the same bytes to be signed, and of no use.
func (e *execution) twin(tmpl, parent *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	key, err := e.throwAway(pub)
	if err != nil {
		return nil, err
	}
	stand := *parent
	stand.PublicKey = key.Public()
	der, err := x509.CreateCertificate(e.Rand, tmpl, &stand, tmpl.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make twin: %w", err)
	}
	twin, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read twin: %w", err)
	}
	return twin, nil
}

// throwAway makes one key of each kind per ceremony.
func (e *execution) throwAway(pub crypto.PublicKey) (crypto.Signer, error) {
	kind := fmt.Sprintf("%T", pub)
	curve := elliptic.P256()
	if k, ok := pub.(*ecdsa.PublicKey); ok {
		curve = k.Curve
		kind = curve.Params().Name
	}
	if key, ok := e.twins[kind]; ok {
		return key, nil
	}
	var key crypto.Signer
	var err error
	if _, ok := pub.(*rsa.PublicKey); ok {
		key, err = rsa.GenerateKey(e.Rand, twinBits)
	} else {
		key, err = ecdsa.GenerateKey(curve, e.Rand)
	}
	if err != nil {
		return nil, fmt.Errorf("throw-away key: %w", err)
	}
	if e.twins == nil {
		e.twins = make(map[string]crypto.Signer)
	}
	e.twins[kind] = key
	return key, nil
}

// signatureAlgorithm of an authority's key (BR 7.1.3.2).
func signatureAlgorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return x509.SHA256WithRSA, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, nil
		}
	}
	return 0, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the authority's key is neither RSA, P-256 nor P-384").WithHint("use p384 or rsa4096 for a root")
}
