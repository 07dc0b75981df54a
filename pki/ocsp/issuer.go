package ocsp

import (
	"crypto/sha1" // #nosec G505 -- RFC 6960 CertIDs and responder key hashes are names, not signatures
	"crypto/sha256"
	"crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// Issuer holds the hashes of one issuer's name and key under every CertID hash. The zero value matches nothing.
type Issuer struct {
	name, key digests
	set       bool
}

type digests struct {
	sha1   [20]byte
	sha256 [32]byte
	sha384 [48]byte
	sha512 [64]byte
}

func digest(p []byte) digests {
	return digests{sha1.Sum(p), sha256.Sum256(p), sha512.Sum384(p), sha512.Sum512(p)} // #nosec G401 -- a name
}

func (d *digests) of(h HashAlgorithm) []byte {
	switch h {
	case SHA1:
		return d.sha1[:]
	case SHA256:
		return d.sha256[:]
	case SHA384:
		return d.sha384[:]
	case SHA512:
		return d.sha512[:]
	default:
		return nil
	}
}

// NewIssuer hashes an issuer's subject (DER Name) and the BIT STRING contents of its SubjectPublicKeyInfo
// (RFC 6960 section 4.1.1). KindMalformed when either is not what it should be.
func NewIssuer(subjectDER, spkiDER []byte) (Issuer, error) {
	name := cryptobyte.String(subjectDER)
	if !name.SkipASN1(asn1.SEQUENCE) || !name.Empty() {
		return Issuer{}, bulkhead.NewFault(bulkhead.KindMalformed, "the issuer's subject is not a DER Name")
	}
	bits, ok := keyBits(spkiDER)
	if !ok {
		return Issuer{}, bulkhead.NewFault(bulkhead.KindMalformed, "the issuer's key is not a DER SubjectPublicKeyInfo")
	}
	return Issuer{name: digest(subjectDER), key: digest(bits), set: true}, nil
}

// KeyHash is the SHA-1 responder key hash of a key (RFC 6960 section 4.2.1, KeyHash), from a DER SubjectPublicKeyInfo.
func KeyHash(spkiDER []byte) ([20]byte, error) {
	bits, ok := keyBits(spkiDER)
	if !ok {
		return [20]byte{}, bulkhead.NewFault(bulkhead.KindMalformed, "the key is not a DER SubjectPublicKeyInfo")
	}
	return sha1.Sum(bits), nil // #nosec G401 -- a name
}

func keyBits(spkiDER []byte) ([]byte, bool) {
	in := cryptobyte.String(spkiDER)
	var spki, oid, params, bits cryptobyte.String
	if !in.ReadASN1(&spki, asn1.SEQUENCE) || !in.Empty() || !readAlgorithm(&spki, &oid, &params) ||
		!spki.ReadASN1(&bits, asn1.BIT_STRING) || !spki.Empty() || len(bits) < 2 || bits[0] != 0 {
		return nil, false
	}
	return bits[1:], true
}

// Matches reports whether a CertID's two hashes are this issuer's: name and key, never one alone. Pre-signed answers
// hold SHA-1 and SHA-256 CertIDs, so a match under another hash can only be answered by live signing.
func (i *Issuer) Matches(hash HashAlgorithm, nameHash, keyHash []byte) bool {
	return i.set && hash.Size() > 0 && string(i.name.of(hash)) == string(nameHash) && string(i.key.of(hash)) == string(keyHash)
}

// CertID names the certificate of this issuer with the given serial. Its slices belong to the caller.
func (i *Issuer) CertID(hash HashAlgorithm, serial bulkhead.Serial) CertID {
	return CertID{
		Hash: hash, Serial: serial,
		NameHash: append([]byte(nil), i.name.of(hash)...), KeyHash: append([]byte(nil), i.key.of(hash)...),
	}
}
