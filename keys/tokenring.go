//go:build pkcs11

package keys

import (
	"context"
	"crypto"

	"bulkhead/keys/internal/pkcs11"
)

// tokenRing is a token as a ring: names and algorithms are checked here, everything else there.
type tokenRing struct{ t *pkcs11.Token }

var _ Ring = tokenRing{}

// Open implements Ring.
func (r tokenRing) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.t.Signer(uri)
}

// Generate implements Ring.
func (r tokenRing) Generate(ctx context.Context, name string, alg Algorithm) (string, crypto.Signer, error) {
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	if _, err := ParseAlgorithm(string(alg)); err != nil {
		return "", nil, err
	}
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	return r.t.Generate(name, string(alg))
}

// Destroy implements Ring.
func (r tokenRing) Destroy(ctx context.Context, uri string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.t.Destroy(uri)
}

// List implements Ring.
func (r tokenRing) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.t.List()
}
