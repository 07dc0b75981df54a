// Package keys hands out signing keys by URI without letting the key itself out.
//
// Purpose: one interface, Ring, over whatever holds private keys: files sealed with age here, tokens with PKCS#11
// elsewhere. A caller gets a crypto.Signer that can sign and show its public key and can do nothing else.
//
// Invariant: a private key is on disk only sealed, in a file of mode 0600 that was complete before it had its name.
// A name, once taken, is never given to another key.
//
// Refuses: to export a key, to overwrite one, to open one with the wrong identity, an identity file that others may
// read, and a secret in an error.
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"io"
	"regexp"
	"strings"

	"bulkhead"
)

// Ring holds private keys. Implementations are safe for concurrent use and pass the suite in keys/keystest.
type Ring interface {
	// Open returns the signer of a key. KindNotFound when there is none, KindUnauthorized when the ring's identity
	// does not open it, KindMalformed when the URI is not one of this ring.
	Open(ctx context.Context, uri string) (crypto.Signer, error)
	// Generate makes a key and returns its URI once the key is durable. KindConflict when the name is taken,
	// KindMalformed for a name that is not a slug or an algorithm that does not exist.
	Generate(ctx context.Context, name string, alg Algorithm) (uri string, s crypto.Signer, err error)
	// Destroy makes the key unusable through this ring; signers handed out before stop working too. See DestroyNotice
	// for what that cannot promise. KindNotFound when there is none.
	Destroy(ctx context.Context, uri string) error
	// List returns the URIs of all keys, sorted.
	List(ctx context.Context) ([]string, error)
}

// Algorithm is a kind of key with its size.
type Algorithm string

// Algorithms.
const (
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
	RSA4096 Algorithm = "rsa4096"
	Ed25519 Algorithm = "ed25519"
)

// Algorithms lists every algorithm.
var Algorithms = []Algorithm{P256, P384, RSA2048, RSA3072, RSA4096, Ed25519}

// ParseAlgorithm reads an algorithm's name.
func ParseAlgorithm(text string) (Algorithm, error) {
	for _, a := range Algorithms {
		if text == string(a) {
			return a, nil
		}
	}
	return "", bulkhead.Faultf(bulkhead.KindMalformed, "key algorithm %q does not exist", text).
		WithHint("use p256, p384, rsa2048, rsa3072, rsa4096 or ed25519")
}

// DestroyNotice says what destroying a key file cannot promise. Show it where a key is destroyed.
const DestroyNotice = "the file was overwritten and removed; copies made by backups, snapshots, journals, copy-on-write " +
	"file systems and the wear levelling of flash storage may remain, as may memory of processes that had the key open. " +
	"Only destroying the identity or passphrase that seals them makes those copies useless; a key in an HSM can be destroyed for certain"

// maxName is the length of the longest name, in octets.
const maxName = 64

// DestroyTokenNotice says what destroying a key on a token cannot promise.
const DestroyTokenNotice = "the token destroys the key; copies that were made by the token's own means of backup are destroyed where they are, with witnesses of their own"

// NoticeOf is what destroying the key at a URI cannot promise.
func NoticeOf(uri string) string {
	if strings.HasPrefix(uri, "pkcs11:") {
		return DestroyTokenNotice
	}
	return DestroyNotice
}

var nameSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// CheckName verifies the name of a new key: a slug of at most 64 characters.
func CheckName(name string) error {
	if !nameSyntax.MatchString(name) {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%q is not a key name", name).
			WithHint("use lower-case letters, digits and '-', at most 64, for example issuing-p256")
	}
	return nil
}

// newKey makes a key of the algorithm.
func newKey(random io.Reader, alg Algorithm) (crypto.Signer, error) {
	switch alg {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), random)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), random)
	case RSA2048:
		return rsa.GenerateKey(random, 2048)
	case RSA3072:
		return rsa.GenerateKey(random, 3072)
	case RSA4096:
		return rsa.GenerateKey(random, 4096)
	case Ed25519:
		_, k, err := ed25519.GenerateKey(random)
		return k, err
	}
	_, err := ParseAlgorithm(string(alg))
	return nil, err
}
