//go:build pkcs11

package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"io"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"

	"bulkhead"
)

// signer shows a key's public half and signs with it on the token.
type signer struct {
	t      *Token
	object string
	public crypto.PublicKey
}

// String keeps whatever the library knows out of logs.
func (s *signer) String() string { return "signer" }

// GoString is String for %#v.
func (s *signer) GoString() string { return "signer" }

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.public }

// digestInfo are the prefixes of RFC 8017 section 9.2.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// Sign implements crypto.Signer: ECDSA in DER, RSA as PKCS#1 v1.5. KindNotFound when the key was destroyed.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	mechanism, input := uint(pkcs11.CKM_ECDSA), digest
	hash := opts.HashFunc()
	if hash != 0 && len(digest) != hash.Size() {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "digest of %d octets for %s", len(digest), hash).WithHint("hash the message first")
	}
	if _, ok := s.public.(*rsa.PublicKey); ok {
		prefix, known := digestInfo[hash]
		if _, pss := opts.(*rsa.PSSOptions); pss || !known {
			return nil, bulkhead.NewFault(bulkhead.KindMalformed, "keys on tokens sign PKCS#1 v1.5 with SHA-256, SHA-384 or SHA-512").WithHint("use SHA-256 without PSS")
		}
		mechanism, input = pkcs11.CKM_RSA_PKCS, append(slices.Clone(prefix), digest...)
	}
	out, err := with(s.t, patience, func(sess pkcs11.SessionHandle) ([]byte, error) {
		key, err := s.t.privateKey(sess, s.object)
		if err != nil {
			return nil, err
		}
		if err := s.t.ctx.SignInit(sess, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
			return nil, err
		}
		return s.t.ctx.Sign(sess, input)
	})
	if err != nil || mechanism != pkcs11.CKM_ECDSA {
		return out, err
	}
	half := len(out) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(out[:half]), new(big.Int).SetBytes(out[half:])})
}

// Signer opens a key by its URI.
func (t *Token) Signer(uri string) (crypto.Signer, error) {
	object, err := t.object(uri)
	if err != nil {
		return nil, err
	}
	pub, err := with(t, patience, func(sess pkcs11.SessionHandle) (crypto.PublicKey, error) {
		private, err := t.find(sess, pkcs11.CKO_PRIVATE_KEY, object)
		if err != nil {
			return nil, err
		}
		public, err := t.find(sess, pkcs11.CKO_PUBLIC_KEY, object)
		if err != nil {
			return nil, err
		}
		if len(private) != 1 || len(public) != 1 {
			return nil, t.absent(bulkhead.Faultf(bulkhead.KindNotFound, "the token has %d private and %d public keys %q", len(private), len(public), object).WithHint("see what is on it: pkcs11-tool --list-objects"))
		}
		return t.publicKey(sess, public[0])
	})
	if err != nil {
		return nil, err
	}
	return &signer{t: t, object: object, public: pub}, nil
}

func (t *Token) object(uri string) (string, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return "", err
	}
	if u.Token != t.uri.Token || u.Object == "" {
		return "", bulkhead.Faultf(bulkhead.KindMalformed, "%q names no key of token %q", uri, t.uri.Token).WithHint(t.uri.Key("NAME"))
	}
	return u.Object, nil
}

func (t *Token) publicKey(s pkcs11.SessionHandle, o pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	bad := bulkhead.NewFault(bulkhead.KindMalformed, "the key on the token is neither P-256, P-384 nor RSA").WithHint("make it with bulkhead-root")
	a, err := t.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return nil, err
	}
	if len(a[0].Value) > 0 && a[0].Value[0] == pkcs11.CKK_RSA {
		a, err := t.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil)})
		if err != nil {
			return nil, err
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(a[0].Value), E: int(new(big.Int).SetBytes(a[1].Value).Int64())}, nil
	}
	if a, err = t.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)}); err != nil {
		return nil, err
	}
	var oid asn1.ObjectIdentifier
	var point []byte
	if _, err := asn1.Unmarshal(a[0].Value, &oid); err != nil {
		return nil, bad
	}
	if _, err := asn1.Unmarshal(a[1].Value, &point); err != nil {
		return nil, bad
	}
	for curve, id := range curves {
		if id.Equal(oid) {
			pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
			if err != nil {
				return nil, bad
			}
			return pub, nil
		}
	}
	return nil, bad
}

var curves = map[elliptic.Curve]asn1.ObjectIdentifier{elliptic.P256(): {1, 2, 840, 10045, 3, 1, 7}, elliptic.P384(): {1, 3, 132, 0, 34}}

// Generate makes a key pair on the token: sensitive, not extractable. KindConflict when the label is taken.
func (t *Token) Generate(name, algorithm string) (string, crypto.Signer, error) {
	public := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, name), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(name))}
	private := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, name), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(name))}
	mechanism := uint(pkcs11.CKM_EC_KEY_PAIR_GEN)
	switch algorithm {
	case "p256", "p384":
		curve := map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()}[algorithm]
		params, err := asn1.Marshal(curves[curve])
		if err != nil {
			return "", nil, err
		}
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params))
	case "rsa2048", "rsa3072", "rsa4096":
		mechanism = pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN
		bits := map[string]int{"rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}[algorithm]
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	default:
		return "", nil, bulkhead.Faultf(bulkhead.KindMalformed, "keys on tokens are p256, p384 or RSA, not %s", algorithm).WithHint("choose p256, p384, rsa2048, rsa3072 or rsa4096")
	}
	t.made.Lock()
	defer t.made.Unlock()
	_, err := with(t, makingPatience, func(s pkcs11.SessionHandle) (none struct{}, err error) {
		for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
			found, err := t.find(s, class, name)
			if err != nil {
				return none, err
			}
			if len(found) > 0 {
				return none, bulkhead.Faultf(bulkhead.KindConflict, "the token has a key %q already", name).WithHint("choose another name")
			}
		}
		_, _, err = t.ctx.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
		return none, err
	})
	if err != nil {
		return "", nil, err
	}
	uri := t.uri.Key(name)
	s, err := t.Signer(uri)
	return uri, s, err
}

// Destroy removes a key pair from the token. KindNotFound when there is none.
func (t *Token) Destroy(uri string) error {
	object, err := t.object(uri)
	if err != nil {
		return err
	}
	gone := 0
	_, err = with(t, patience, func(s pkcs11.SessionHandle) (none struct{}, err error) {
		for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
			found, err := t.find(s, class, object)
			if err != nil {
				return none, err
			}
			for _, o := range found {
				if err := t.ctx.DestroyObject(s, o); err != nil {
					return none, err
				}
				gone++
			}
		}
		t.mu.Lock()
		delete(t.private, object)
		t.mu.Unlock()
		if gone == 0 {
			return none, t.absent(bulkhead.Faultf(bulkhead.KindNotFound, "the token has no key %q", object).WithHint("see what is on it: pkcs11-tool --list-objects"))
		}
		return none, nil
	})
	return err
}

// List returns the URIs of all private keys, sorted.
func (t *Token) List() ([]string, error) {
	return with(t, patience, func(s pkcs11.SessionHandle) ([]string, error) {
		out := []string{}
		found, err := t.find(s, pkcs11.CKO_PRIVATE_KEY, "")
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			a, err := t.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
			if err != nil {
				return nil, err
			}
			out = append(out, t.uri.Key(string(a[0].Value)))
		}
		slices.Sort(out)
		return out, nil
	})
}
