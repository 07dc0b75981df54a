package graph

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	_ "crypto/md5" // the algorithms of old certificates must be recognised to be reported
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// algorithm is a signature algorithm by OID (RFC 3279, 4055, 5758, 8410).
type algorithm struct {
	name string
	hash crypto.Hash
	kind keyKind
}

type keyKind int

const (
	otherKey keyKind = iota
	rsaKey
	pssKey
	ecKey
	edKey
)

const oidPSS = "1.2.840.113549.1.1.10"

var algorithms = map[string]algorithm{
	"1.2.840.113549.1.1.2":  {"MD2 with RSA", 0, otherKey},
	"1.2.840.113549.1.1.3":  {"MD4 with RSA", 0, otherKey},
	"1.2.840.113549.1.1.4":  {"MD5 with RSA", crypto.MD5, rsaKey},
	"1.2.840.113549.1.1.5":  {"SHA-1 with RSA", crypto.SHA1, rsaKey},
	"1.3.14.3.2.29":         {"SHA-1 with RSA", crypto.SHA1, rsaKey},
	"1.2.840.113549.1.1.14": {"SHA-224 with RSA", crypto.SHA224, rsaKey},
	"1.2.840.113549.1.1.11": {"SHA-256 with RSA", crypto.SHA256, rsaKey},
	"1.2.840.113549.1.1.12": {"SHA-384 with RSA", crypto.SHA384, rsaKey},
	"1.2.840.113549.1.1.13": {"SHA-512 with RSA", crypto.SHA512, rsaKey},
	"1.2.840.10040.4.3":     {"SHA-1 with DSA", 0, otherKey},
	"1.2.840.10045.4.1":     {"SHA-1 with ECDSA", crypto.SHA1, ecKey},
	"1.2.840.10045.4.3.1":   {"SHA-224 with ECDSA", crypto.SHA224, ecKey},
	"1.2.840.10045.4.3.2":   {"SHA-256 with ECDSA", crypto.SHA256, ecKey},
	"1.2.840.10045.4.3.3":   {"SHA-384 with ECDSA", crypto.SHA384, ecKey},
	"1.2.840.10045.4.3.4":   {"SHA-512 with ECDSA", crypto.SHA512, ecKey},
	"1.3.101.112":           {"Ed25519", 0, edKey},
}

var pssHashes = map[string]algorithm{
	"1.3.14.3.2.26":          {"SHA-1 with RSA-PSS", crypto.SHA1, pssKey},
	"2.16.840.1.101.3.4.2.1": {"SHA-256 with RSA-PSS", crypto.SHA256, pssKey},
	"2.16.840.1.101.3.4.2.2": {"SHA-384 with RSA-PSS", crypto.SHA384, pssKey},
	"2.16.840.1.101.3.4.2.3": {"SHA-512 with RSA-PSS", crypto.SHA512, pssKey},
}

// signedWith resolves the signature algorithm; the name of an unknown one is its OID.
func (c *Certificate) signedWith() algorithm {
	if c.algorithm == oidPSS {
		return pssAlgorithm(c.parameters)
	}
	if a, ok := algorithms[c.algorithm]; ok {
		return a
	}
	return algorithm{name: c.algorithm}
}

func pssAlgorithm(parameters cryptobyte.String) algorithm {
	var body, wrapped, id cryptobyte.String
	var present bool
	if !parameters.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadOptionalASN1(&wrapped, &present, cbasn1.Tag(0).Constructed().ContextSpecific()) {
		return algorithm{name: "RSA-PSS"}
	}
	if !present {
		return pssHashes["1.3.14.3.2.26"] // the default of RFC 4055
	}
	if !wrapped.ReadASN1(&id, cbasn1.SEQUENCE) {
		return algorithm{name: "RSA-PSS"}
	}
	oid, _ := readOID(&id)
	if a, ok := pssHashes[oid]; ok {
		return a
	}
	return algorithm{name: "RSA-PSS"}
}

// verdict is the outcome of checking a signature with a key.
type verdict int

const (
	wrong   verdict = iota
	right           // the key made the signature
	unknown         // this program cannot tell
)

// maxRSABits bounds the time of one verification.
const maxRSABits = 16384

// verify checks c's signature with a key.
func (c *Certificate) verify(key crypto.PublicKey) verdict {
	a := c.signedWith()
	if a.kind == otherKey {
		return unknown
	}
	digest := c.tbs
	if a.hash != 0 {
		if !a.hash.Available() {
			return unknown
		}
		h := a.hash.New()
		h.Write(c.tbs)
		digest = h.Sum(nil)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if a.kind != rsaKey && a.kind != pssKey {
			return wrong
		}
		return verifyRSA(k, a, digest, c.signature)
	case *ecdsa.PublicKey:
		return verdictOf(a.kind == ecKey && ecdsa.VerifyASN1(k, digest, c.signature))
	case ed25519.PublicKey:
		return verdictOf(a.kind == edKey && ed25519.Verify(k, digest, c.signature))
	case nil:
		return unknown
	default:
		return wrong // a supported signature algorithm, and a key of another
	}
}

func verdictOf(ok bool) verdict {
	if ok {
		return right
	}
	return wrong
}

// verifyRSA cannot tell for keys that the standard library refuses: too small, too large, with strange exponents.
func verifyRSA(k *rsa.PublicKey, a algorithm, digest, signature []byte) verdict {
	if k.N.BitLen() > maxRSABits {
		return unknown
	}
	var err error
	if a.kind == pssKey {
		err = rsa.VerifyPSS(k, a.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	} else {
		err = rsa.VerifyPKCS1v15(k, a.hash, digest, signature)
	}
	switch {
	case err == nil:
		return right
	case errors.Is(err, rsa.ErrVerification):
		return wrong
	default:
		return unknown
	}
}
