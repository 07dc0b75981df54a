package fixedkey

import "crypto/ecdsa"

// Key is a public key on P-256 with a table of its multiples, for signatures that come one at a time and not in a certificate.
type Key struct{ tables *pair }

// NewKey makes the table (264 KiB, in the time of some 25 verifications by crypto/ecdsa). It is nil for any other key, and when the table
// does not agree with an independent multiplication.
func NewKey(public *ecdsa.PublicKey) *Key {
	t := pairOf(point(public), narrow, narrowBase)
	if t == nil {
		return nil
	}
	return &Key{t}
}

// Accepts reports whether signature, r and s of 32 octets each (RFC 7518 section 3.4), is the key's over the digest. Only a yes
// counts: it refuses some that are valid, and whoever hears a no asks crypto/ecdsa.
func (k *Key) Accepts(digest *[32]byte, signature *[64]byte) bool {
	r, s, ok := numbers(signature[:32], signature[32:])
	return ok && k.tables.verify(digest, r, s)
}
