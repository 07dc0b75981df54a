package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"slices"
	"strings"
	"sync"

	"bulkhead"
)

const memoryScheme = "memory:"

// MemoryRing holds keys that end with the process: for rehearsals, whose keys must be of no use afterwards.
type MemoryRing struct {
	mu      sync.Mutex // guards signers
	signers map[string]*signer
}

var _ Ring = (*MemoryRing)(nil)

// NewMemoryRing makes an empty ring.
func NewMemoryRing() *MemoryRing { return &MemoryRing{signers: map[string]*signer{}} }

// Open implements Ring.
func (r *MemoryRing) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if err := r.check(ctx, uri); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.signers[uri]; ok {
		return s, nil
	}
	return nil, r.absent(uri)
}

// Generate implements Ring. The key is as durable as the process.
func (r *MemoryRing) Generate(ctx context.Context, name string, alg Algorithm) (string, crypto.Signer, error) {
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	uri := memoryScheme + name
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.signers[uri]; taken {
		return "", nil, bulkhead.Faultf(bulkhead.KindConflict, "%s exists and is not overwritten", uri).WithHint("choose another name")
	}
	inner, err := newKey(rand.Reader, alg)
	if err != nil {
		return "", nil, err
	}
	s := newSigner(inner)
	r.signers[uri] = s
	return uri, s, nil
}

// Destroy implements Ring.
func (r *MemoryRing) Destroy(ctx context.Context, uri string) error {
	if err := r.check(ctx, uri); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.signers[uri]
	if !ok {
		return r.absent(uri)
	}
	s.destroy()
	delete(r.signers, uri)
	return nil
}

// List implements Ring.
func (r *MemoryRing) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	uris := make([]string, 0, len(r.signers))
	for uri := range r.signers {
		uris = append(uris, uri)
	}
	slices.Sort(uris)
	return uris, nil
}

func (r *MemoryRing) check(ctx context.Context, uri string) error {
	if name, ok := strings.CutPrefix(uri, memoryScheme); !ok || CheckName(name) != nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%q is not the URI of a key in memory", uri).WithHint("key URIs of a rehearsal look like memory:root")
	}
	return ctx.Err()
}

func (r *MemoryRing) absent(uri string) error {
	return bulkhead.Faultf(bulkhead.KindNotFound, "%s does not exist", uri).WithHint("keys in memory end with the process")
}
