package bulkhead

import (
	"crypto/sha256"
	"encoding/hex"
)

// Hash is a SHA-256 digest. The zero value means "none".
type Hash [32]byte

// Digest hashes p with SHA-256.
func Digest(p []byte) Hash { return sha256.Sum256(p) }

// ParseHash reads 64 hex digits.
func ParseHash(text string) (Hash, error) {
	var h Hash
	p, err := hex.DecodeString(text)
	if err != nil || len(p) != len(h) {
		return h, Faultf(KindMalformed, "%q is not a SHA-256 digest of 64 hex digits", text)
	}
	copy(h[:], p)
	return h, nil
}

// IsZero reports whether h is absent.
func (h Hash) IsZero() bool { return h == Hash{} }

// String is 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler; the zero value is the empty text.
func (h Hash) MarshalText() ([]byte, error) {
	if h.IsZero() {
		return []byte{}, nil
	}
	return []byte(h.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(p []byte) error {
	if len(p) == 0 {
		*h = Hash{}
		return nil
	}
	v, err := ParseHash(string(p))
	if err != nil {
		return err
	}
	*h = v
	return nil
}
