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
	"bulkhead/pki/profile"
)

// twinKeys holds one throw-away key per type of issuing key, made on first use. A twin never leaves the process, so
// its key protects nothing; it only has to be of the same type, so that the bytes to be signed come out the same.
type twinKeys struct {
	mu         sync.Mutex
	keys       map[string]crypto.Signer
	signatures map[crypto.Signer][]byte // of the twins of certificates
}

// signature is one by the throw-away key that stands for pub.
func (t *twinKeys) signature(pub crypto.PublicKey, hash crypto.Hash) ([]byte, error) {
	key, err := t.like(pub)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.signatures[key]; ok {
		return s, nil
	}
	s, err := key.Sign(rand.Reader, make([]byte, hash.Size()), hash)
	if err != nil {
		return nil, fmt.Errorf("throw-away signature: %w", err)
	}
	if t.signatures == nil {
		t.signatures = map[crypto.Signer][]byte{}
	}
	t.signatures[key] = s
	return s, nil
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
	der       []byte // the AlgorithmIdentifier (BR 7.1.3.2)
}

var (
	sha256WithRSA   = scheme{x509.SHA256WithRSA, crypto.SHA256, []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00}}
	ecdsaWithSHA256 = scheme{x509.ECDSAWithSHA256, crypto.SHA256, []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}}
	ecdsaWithSHA384 = scheme{x509.ECDSAWithSHA384, crypto.SHA384, []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03}}
)

func schemeOf(pub crypto.PublicKey) (scheme, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return sha256WithRSA, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ecdsaWithSHA256, nil
		case elliptic.P384():
			return ecdsaWithSHA384, nil
		}
	}
	return scheme{}, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the issuing key is neither RSA nor ECDSA on P-256 or P-384").WithHint("rotate the authority to a key of an allowed type (BR 6.1.5)")
}

// twin makes the certificate as it will be, under the issuer's name but with a throw-away key's signature, and lints it as
// a member of set (BR 4.3.1.2). No rule looks at the value of the signature, so it is made once per type of key. KindGate
// names the rules that refuse.
func (s *Signer) twin(a *authority, template *x509.Certificate, spki []byte, set lint.Set, want lint.Expect, at time.Time) (*x509.Certificate, error) {
	how, err := schemeOf(a.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	signature, err := s.twins.signature(a.cert.PublicKey, how.hash)
	if err != nil {
		return nil, err
	}
	tbs, err := profile.MarshalTBS(template, a.cert, spki, how.der)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "no certificate can be made of this request").WithHint("check the names and the key").WithCause(err)
	}
	der, err := assemble(tbs, how.der, signature)
	if err != nil {
		return nil, err
	}
	twin, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "no certificate can be made of this request").WithHint("check the names and the key").WithCause(err)
	}
	want.Issuer = a.cert
	found, err := s.cfg.Linter.Parsed(twin, set, at, want)
	if err != nil {
		return nil, err
	}
	if err := lint.Blocking(found); err != nil {
		return nil, err
	}
	return twin, nil
}

// signTBS signs exactly tbs with the authority's key and returns the certificate, read back and checked: same
// TBSCertificate octet for octet (the twin with the same octets was parsed and linted), the algorithm that it names, and a
// signature that verifies under the issuer's public key.
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
	if !bytes.Equal(algorithm, how.der) || !holds(der, tbs, algorithm, signature) {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "the signed certificate is not the one that was linted")
	}
	if err := a.check.CheckSignature(how.algorithm, tbs, signature); err != nil {
		return nil, fmt.Errorf("signature of authority %s does not verify: %w", a.ID, err)
	}
	return der, nil
}

// holds reads a certificate's outer SEQUENCE and says whether it is exactly these three parts.
func holds(der, tbs, algorithm, signature []byte) bool {
	in, body := cryptobyte.String(der), cryptobyte.String(nil)
	var gotTBS, gotAlgorithm cryptobyte.String
	var gotSignature []byte
	return in.ReadASN1(&body, asn1.SEQUENCE) && in.Empty() &&
		body.ReadASN1Element(&gotTBS, asn1.SEQUENCE) && body.ReadASN1Element(&gotAlgorithm, asn1.SEQUENCE) &&
		body.ReadASN1BitStringAsBytes(&gotSignature) && body.Empty() &&
		bytes.Equal(gotTBS, tbs) && bytes.Equal(gotAlgorithm, algorithm) && bytes.Equal(gotSignature, signature)
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
