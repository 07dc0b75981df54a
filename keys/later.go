package keys

import (
	"context"
	"crypto"
	"sync"

	"bulkhead"
)

// LaterRing is a token that is opened when it is there: at once, or at its first use after that.
type LaterRing struct {
	open func() (Ring, error)

	mu   sync.Mutex // guards ring; held while it is opened, so that it is opened once
	ring Ring
}

var _ Ring = (*LaterRing)(nil)

// OpenToken opens the ring of a token. One that is away is no error: each use says so until it is back. Everything else is:
// a wrong PIN, a library that cannot be loaded, a program without PKCS#11.
func OpenToken(uri string) (*LaterRing, error) {
	if _, _, err := TokenFiles(uri); err != nil {
		return nil, err
	}
	r := &LaterRing{open: func() (Ring, error) { return OpenURI(uri) }}
	if _, err := r.now(context.Background()); err != nil && bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		return nil, err
	}
	return r, nil
}

func (r *LaterRing) now(ctx context.Context) (Ring, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring != nil {
		return r.ring, nil
	}
	ring, err := r.open()
	if err == nil {
		r.ring = ring
	}
	return ring, err
}

// Open implements Ring.
func (r *LaterRing) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	ring, err := r.now(ctx)
	if err != nil {
		return nil, err
	}
	return ring.Open(ctx, uri)
}

// Generate implements Ring.
func (r *LaterRing) Generate(ctx context.Context, name string, alg Algorithm) (string, crypto.Signer, error) {
	ring, err := r.now(ctx)
	if err != nil {
		return "", nil, err
	}
	return ring.Generate(ctx, name, alg)
}

// Destroy implements Ring.
func (r *LaterRing) Destroy(ctx context.Context, uri string) error {
	ring, err := r.now(ctx)
	if err != nil {
		return err
	}
	return ring.Destroy(ctx, uri)
}

// List implements Ring.
func (r *LaterRing) List(ctx context.Context) ([]string, error) {
	ring, err := r.now(ctx)
	if err != nil {
		return nil, err
	}
	return ring.List(ctx)
}
