package client

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"time"

	"bulkhead"
)

const (
	onceTries = 4                      // of one request whose answer was lost
	oncePause = 300 * time.Millisecond // before the next try, more each time
)

// ErrLost is in the cause when a request may have arrived although there is no answer.
var ErrLost = errors.New("the request may have arrived")

func lost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return err // it was never sent
	}
	return errors.Join(err, ErrLost)
}

// DoOnce is Do for a request that must not take effect twice, like an order. It has an idempotency key of its own: when
// the answer is lost on the way, the same request is sent again and gets the answer of the first, or waits for it.
func (c *Client) DoOnce(ctx context.Context, method, path string, in, out any) error {
	key := rand.Text()
	for try := 1; ; try++ {
		err := c.do(ctx, method, path, key, in, out)
		waits := try > 1 && bulkhead.KindOf(err) == bulkhead.KindConflict && bulkhead.AsFault(err).RetryAfter > 0
		if err == nil || try == onceTries || !waits && !errors.Is(err, ErrLost) {
			return err
		}
		pause := oncePause * time.Duration(try)
		if waits {
			pause = bulkhead.AsFault(err).RetryAfter
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
