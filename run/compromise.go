package run

import (
	"context"
	"crypto/x509"
	"time"

	"bulkhead"
)

// lookAtOwnKey is how often the listener asks whether its own key was blocked, by whichever process.
const lookAtOwnKey = 5 * time.Second

// compromises adapts the status service to the console: the listener of this process hears of a block at once.
type compromises struct{ h *House }

func (x compromises) Compromise(ctx context.Context, c bulkhead.Compromise) (bulkhead.Compromise, error) {
	out, err := x.h.status.Compromise(ctx, c)
	if err == nil {
		select {
		case x.h.rekey <- struct{}{}:
		default:
		}
	}
	return out, err
}

func (x compromises) KeyCompromise(ctx context.Context, key bulkhead.Hash) (bulkhead.Compromise, int, error) {
	return x.h.status.KeyCompromise(ctx, key)
}

func (x compromises) CountKeyHolders(ctx context.Context, key bulkhead.Hash) (int, error) {
	return x.h.status.CountKeyHolders(ctx, key)
}

func (x compromises) Compromises(ctx context.Context, limit int) ([]bulkhead.Compromise, error) {
	return x.h.status.Compromises(ctx, limit)
}

// runCompromises pursues what is open, once the status service has started.
func (h *House) runCompromises(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-started:
	}
	return h.status.RunCompromises(ctx)
}

// keyBlocked reports whether the key of a certificate is blocked. When the record is away it says no: an old listener is
// better than none, and it is asked again.
func (f *front) keyBlocked(ctx context.Context, c *x509.Certificate) bool {
	if c == nil {
		return false
	}
	blocked, err := f.h.store.BlockedKeys(ctx, bulkhead.Digest(c.RawSubjectPublicKeyInfo))
	return err == nil && len(blocked) > 0
}
