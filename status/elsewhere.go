package status

import (
	"context"
	"time"

	"bulkhead"
)

// How often a change that another process carries through is looked at, and how long the one who asked waits for it. A
// change that takes longer goes on; the waiting ends.
const (
	awaitEvery = 100 * time.Millisecond
	awaitFor   = 30 * time.Second
)

// await returns when the status process has made an approved change public, or has refused it. KindUnavailable when that
// takes too long: the change stays approved, and is carried through by that process when it comes back.
func (s *Service) await(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, awaitFor)
	defer cancel()
	t := time.NewTicker(awaitEvery)
	defer t.Stop()
	for {
		c, err := s.cfg.Store.Change(ctx, id)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err != nil:
		case c.State == bulkhead.ChangePublished || c.State == bulkhead.ChangeSettled:
			return nil
		case c.State == bulkhead.ChangeRefused:
			return bulkhead.Faultf(bulkhead.KindGate, "change %s was refused by the status role", id).WithHint("bulkhead change show " + id)
		case c.State == bulkhead.ChangePlanned || c.State == bulkhead.ChangePreviewed:
			return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and not approved", id, c.State).WithHint("bulkhead change approve " + id)
		}
		select {
		case <-ctx.Done():
			return bulkhead.Faultf(bulkhead.KindUnavailable, "change %s is approved and waits for the status role", id).WithHint("see that the status role runs, then: bulkhead change show " + id)
		case <-t.C:
		}
	}
}
