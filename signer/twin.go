package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
	"bulkhead/pki/lint"
)

// twinKeys holds one throw-away key per type of issuing key, made on first use. A twin never leaves the process, so
// its key protects nothing; it only has to be of the same type, so that the bytes to be signed come out the same.
type twinKeys struct {
	mu   sync.Mutex
	keys map[string]crypto.Signer
}

func (t *twinKeys) like(pub crypto.PublicKey) (crypto.Signer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var name string
	var generate func() (crypto.Signer, error)
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		name = k.Curve.Params().Name
		generate = func() (crypto.Signer, error) { return ecdsa.GenerateKey(k.Curve, rand.Reader) }
	case *rsa.PublicKey:
		name = fmt.Sprintf("RSA %d", k.N.BitLen())
		generate = func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, k.N.BitLen()) }
	default:
		return nil, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the issuing key is neither RSA nor ECDSA").WithHint("rotate the authority to a key of an allowed type (BR 6.1.5)")
	}
	if key, ok := t.keys[name]; ok {
		return key, nil
	}
	key, err := generate()
	if err != nil {
		return nil, fmt.Errorf("throw-away key: %w", err)
	}
	if t.keys == nil {
		t.keys = map[string]crypto.Signer{}
	}
	t.keys[name] = key
	return key, nil
}

// scheme is how an issuing key signs: the one algorithm that BR 7.1.3.2 leaves for its type.
type scheme struct {
	algorithm x509.SignatureAlgorithm
	hash      crypto.Hash
}

func schemeOf(pub crypto.PublicKey) (scheme, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return scheme{x509.SHA256WithRSA, crypto.SHA256}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return scheme{x509.ECDSAWithSHA256, crypto.SHA256}, nil
		case elliptic.P384():
			return scheme{x509.ECDSAWithSHA384, crypto.SHA384}, nil
		}
	}
	return scheme{}, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the issuing key is neither RSA nor ECDSA on P-256 or P-384").WithHint("rotate the authority to a key of an allowed type (BR 6.1.5)")
}

// twin makes the certificate as it will be, under the issuer's name but signed by a throw-away key of the same type,
// and lints it as a member of set (BR 4.3.1.2). KindGate names the rules that refuse.
func (s *Signer) twin(a *authority, template *x509.Certificate, pub crypto.PublicKey, set lint.Set, want lint.Expect, at time.Time) (*x509.Certificate, error) {
	how, err := schemeOf(a.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	key, err := s.twins.like(a.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	parent := *a.cert
	parent.PublicKey = key.Public()
	template.SignatureAlgorithm = how.algorithm
	der, err := x509.CreateCertificate(s.cfg.Rand, template, &parent, pub, key)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "no certificate can be made of this request").WithHint("check the names and the key").WithCause(err)
	}
	twin, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse twin: %w", err)
	}
	want.Issuer = a.cert
	found, err := s.cfg.Linter.Expected(der, set, at, want)
	if err != nil {
		return nil, err
	}
	if err := lint.Blocking(found); err != nil {
		return nil, err
	}
	return twin, nil
}

// signTBS signs exactly tbs with the authority's key and returns the certificate, parsed back and checked: same
// TBSCertificate octet for octet, and a signature that verifies under the issuer's public key.
func (s *Signer) signTBS(a *authority, tbs []byte) ([]byte, error) {
	how, err := schemeOf(a.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	algorithm, err := algorithmOf(tbs)
	if err != nil {
		return nil, err
	}
	h := how.hash.New()
	h.Write(tbs)
	signature, err := a.key.Sign(s.cfg.Rand, h.Sum(nil), how.hash)
	if err != nil {
		return nil, fmt.Errorf("key of authority %s: %w", a.ID, err)
	}
	der, err := assemble(tbs, algorithm, signature)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse signed certificate: %w", err)
	}
	if !bytes.Equal(cert.RawTBSCertificate, tbs) || cert.SignatureAlgorithm != how.algorithm {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "the signed certificate is not the one that was linted")
	}
	if err := a.cert.CheckSignature(how.algorithm, tbs, signature); err != nil {
		return nil, fmt.Errorf("signature of authority %s does not verify: %w", a.ID, err)
	}
	return der, nil
}

// algorithmOf is the AlgorithmIdentifier inside a TBSCertificate, which the outer one must repeat (RFC 5280 section
// 4.1.1.2).
func algorithmOf(tbs []byte) ([]byte, error) {
	in, body := cryptobyte.String(tbs), cryptobyte.String(nil)
	var algorithm cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() ||
		!body.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) ||
		!body.SkipASN1(asn1.INTEGER) || !body.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "the bytes to sign are no TBSCertificate")
	}
	return algorithm, nil
}

func assemble(tbs, algorithm, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(algorithm)+len(signature)+16))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("assemble certificate: %w", err)
	}
	return der, nil
}
