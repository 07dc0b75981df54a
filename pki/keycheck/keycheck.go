// Package keycheck decides whether a public key may appear in a certificate: it refuses malformed keys and keys whose
// private half anybody could find (BR 6.1.1.3, 6.1.5, 6.1.6).
//
// Invariant: the answer depends on the key and the rules alone, and takes bounded time: the size of a key is judged
// before any arithmetic is done with it.
//
// Refuses: sizes, curves and algorithms that the rules do not name; even, prime, prime-power and smooth RSA moduli;
// exponents outside 2^16+1 … 2^256-1; primes close together (Fermat); ROCA keys (CVE-2017-15361); points off their
// curve or of small order; ECDSA keys whose private
// number is tiny; and keys on the weak-key lists that the operator configured.
//
// The Debian weak keys (CVE-2008-0166) can only be recognised by list: they were made by a broken OpenSSL that no
// longer exists, and current distributions no longer carry the lists. Bulkhead ships no list. ParseList reads those
// that an operator has: the files of Debian's old openssl-blacklist package, and the badkeys block list, which covers
// the Debian keys and thousands of keys published by accident. Rules without a list do not catch them, and say so by
// Lists being empty.
//
// Keys reported as compromised are a matter of the record, not of arithmetic: see the blocked keys of the store.
package keycheck

//lint:file-ignore SA1019 a key to be judged may have impossible coordinates: they are read, never used

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"bulkhead"
)

// MaxRSABits is the largest modulus that is looked at at all, whatever the rules say.
const MaxRSABits = 8192

// Rules say which keys are allowed.
type Rules struct {
	RSASizes     []int // exact modulus lengths in bits; nil allows every multiple of 8 from MinRSABits to RSAMaxBits
	MinRSABits   int   // used when RSASizes is nil; at least 2048 always (BR 6.1.5)
	RSAMaxBits   int   // used when RSASizes is nil; at most MaxRSABits
	NoRSA        bool
	P256         bool
	P384         bool
	P521         bool
	Ed25519      bool
	FermatRounds int     // at least 100 are done (BR 6.1.1.3)
	Lists        []*List // weak-key lists; see ParseList
}

// DefaultRules allow RSA with 2048, 3072 or 4096 bits, P-256 and P-384, and hold no list.
func DefaultRules() Rules {
	return Rules{RSASizes: []int{2048, 3072, 4096}, P256: true, P384: true, FermatRounds: minFermatRounds}
}

// AnyRSASize is DefaultRules with every RSA size from 2048 to MaxRSABits that is a multiple of 8 (BR 6.1.5).
func AnyRSASize() Rules {
	r := DefaultRules()
	r.RSASizes, r.MinRSABits, r.RSAMaxBits = nil, minRSABits, MaxRSABits
	return r
}

// Check returns nil for a key that may be certified. The error is a *bulkhead.Fault of KindBadPublicKey which says
// what is wrong and what to do.
func Check(pub crypto.PublicKey, allow Rules) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return checkRSA(k, allow)
	case *ecdsa.PublicKey:
		return checkECDSA(k, allow)
	case ed25519.PublicKey:
		return checkEd25519(k, allow)
	case nil:
		return refuse("there is no public key")
	default:
		return refuse("keys of type %T are not supported", pub)
	}
}

// SPKI encodes a public key as DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7). It fails with KindBadPublicKey.
func SPKI(pub crypto.PublicKey) ([]byte, error) {
	der, err := marshal(pub)
	if err != nil {
		return nil, refuse("the public key cannot be encoded").WithCause(err)
	}
	return der, nil
}

// marshal turns the panic of the standard library over a key with nil fields into an error.
func marshal(pub crypto.PublicKey) (der []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed key: %v", r)
		}
	}()
	if k, ok := pub.(*ecdsa.PublicKey); ok {
		if head, ok := spkiHeads[k.Curve]; ok {
			point, err := k.Bytes()
			return append(bytes.Clone(head), point...), err
		}
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// spkiHeads are all octets of a SubjectPublicKeyInfo before the uncompressed point (RFC 5480 section 2.1.1). The library
// puts them together by reflection for each key.
var spkiHeads = map[elliptic.Curve][]byte{
	elliptic.P256(): {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00},
	elliptic.P384(): {0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00},
}

// SPKIHash is the SHA-256 of a DER SubjectPublicKeyInfo: the name of a key in the record, in block lists and in
// evidence.
func SPKIHash(spkiDER []byte) bulkhead.Hash { return bulkhead.Digest(spkiDER) }

const nextStep = "make a new key pair with a current tool, for example: openssl ecparam -name prime256v1 -genkey -noout"

func refuse(format string, args ...any) *bulkhead.Fault {
	return bulkhead.Faultf(bulkhead.KindBadPublicKey, format, args...).WithHint(nextStep)
}

func checkECDSA(k *ecdsa.PublicKey, allow Rules) error {
	if k == nil || k.Curve == nil || k.X == nil || k.Y == nil {
		return refuse("the ECDSA key has no curve or no point")
	}
	var ok bool
	switch k.Curve {
	case elliptic.P256():
		ok = allow.P256
	case elliptic.P384():
		ok = allow.P384
	case elliptic.P521():
		ok = allow.P521
	default:
		return refuse("the elliptic curve is not one of P-256, P-384 and P-521 (BR 6.1.5)")
	}
	if !ok {
		return refuse("the curve %s is not allowed here", k.Curve.Params().Name)
	}
	if k.X.Sign() < 0 || k.Y.Sign() < 0 || k.X.Cmp(k.Curve.Params().P) >= 0 || k.Y.Cmp(k.Curve.Params().P) >= 0 {
		return refuse("a coordinate of the ECDSA key is outside the field (SP 800-56A 5.6.2.3.3)")
	}
	if _, err := k.ECDH(); err != nil {
		return refuse("the ECDSA point is not on %s (SP 800-56A 5.6.2.3.3)", k.Curve.Params().Name).WithCause(err)
	}
	if smallPrivate(k) {
		return refuse("the private key is so small that anybody finds it by counting (BR 6.1.1.3)")
	}
	return listed(allow.Lists, func(l *List) bool { return l.hasNumber(k.X.Bytes()) })
}

func listed(lists []*List, has func(*List) bool) error {
	i := slices.IndexFunc(lists, has)
	if i < 0 {
		return nil
	}
	return refuse("the key is on the list of weak or published keys %q: its private half is public (BR 6.1.1.3)", lists[i].Name)
}
