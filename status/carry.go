package status

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
)

// retryAfter is how long a change rests that could not be carried on.
const retryAfter = 30 * time.Second

// settle notes that the head is public and, once it was read back, that the change is done.
func (s *Service) settle(ctx context.Context, c bulkhead.Change) error {
	if c.State == bulkhead.ChangeActivated {
		c.State = bulkhead.ChangePublished
		if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangeActivated, s.leaf(bulkhead.EvChangePublished, c, "role:status", fmt.Sprintf("head %d is public", c.Epoch))); err != nil {
			return err
		}
	}
	signed, err := s.cfg.Objects.Head(ctx)
	if err != nil {
		return err
	}
	h, err := pack.OpenHead(signed, s.cfg.HeadVerifier)
	if err != nil {
		return err
	}
	if h.Sequence < c.Epoch {
		return fmt.Errorf("head %d is public, change %s needs %d", h.Sequence, c.ID, c.Epoch)
	}
	c.State = bulkhead.ChangeSettled
	return s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePublished, s.leaf(bulkhead.EvChangeSettled, c, "role:status", "read back through the object store"))
}

// withdraw refuses what an earlier process planned and never previewed: nobody has seen it.
func (s *Service) withdraw(ctx context.Context) error {
	planned, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangePlanned)
	if err != nil {
		return err
	}
	for _, c := range planned {
		c.State = bulkhead.ChangeRefused
		if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePlanned, s.leaf(bulkhead.EvChangeRefused, c, "role:status", "interrupted before its preview; ask again")); err != nil {
			return err
		}
	}
	return nil
}

// carryOn takes changes that were approved, and then interrupted by a crash or an error, to their end by the ordinary
// path. One that fails rests a while; the others go on.
func (s *Service) carryOn(ctx context.Context) error {
	open, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangeApproved, bulkhead.ChangeStaged, bulkhead.ChangeActivated, bulkhead.ChangePublished)
	if err != nil {
		return err
	}
	for i := len(open) - 1; i >= 0; i-- { // the oldest first
		c := open[i]
		if at, failed := s.troubles.Load(c.ID); failed && s.cfg.Now().Before(at.(time.Time)) {
			continue
		}
		if err := s.Activate(ctx, c.ID); err != nil {
			s.troubles.Store(c.ID, s.cfg.Now().Add(retryAfter))
			s.cfg.Log.ErrorContext(ctx, "an approved change could not be carried on", slog.String("change", c.ID), slog.String("error", err.Error()))
			continue
		}
		s.troubles.Delete(c.ID)
	}
	return nil
}
