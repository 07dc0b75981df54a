package status

import (
	"context"
	"log/slog"
	"time"

	"bulkhead"
)

// previewAtMost bounds a preview that nobody waits for any more.
const previewAtMost = time.Hour

// PlanSoon is PlanRevocation for a caller that cannot wait for ever: the preview of an authority with millions of
// certificates reads all of them. When that takes longer than wait, the change is returned as it is, planned, and its
// preview goes on: look at the change again. A preview that then fails ends the change, with the reason. A process that ends
// leaves the change planned, and any status process ends it when nobody has held it for two minutes.
func (s *Service) PlanSoon(ctx context.Context, actor, why string, items []bulkhead.ChangeItem, wait time.Duration) (bulkhead.Change, error) {
	c, err := s.Plan(ctx, actor, why, items)
	if err != nil {
		return c, err
	}
	return s.soon(ctx, c, wait, func(ctx context.Context) error {
		_, _, err := s.Preview(ctx, c.ID)
		return err
	})
}

// soon does what ends in the preview of a change, which goes on when wait is over.
func (s *Service) soon(ctx context.Context, c bulkhead.Change, wait time.Duration, do func(context.Context) error) (bulkhead.Change, error) {
	alone, stop := context.WithTimeout(context.WithoutCancel(ctx), previewAtMost)
	if _, busy := s.previews.LoadOrStore(c.ID, stop); busy {
		stop()
		return c, bulkhead.Faultf(bulkhead.KindConflict, "change %s is being previewed", c.ID).WithHint("bulkhead change show " + c.ID)
	}
	done := make(chan error, 1)
	go func() {
		defer stop()
		defer s.previews.Delete(c.ID)
		defer s.holding(alone, c)()
		done <- do(alone)
	}()
	var err error
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case err := <-done:
		if err != nil {
			return c, err
		}
		return s.cfg.Store.Change(ctx, c.ID)
	case <-t.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	go func() {
		if err := <-done; err != nil {
			s.giveUp(context.WithoutCancel(ctx), c, err)
		}
	}()
	return c, err
}

// giveUp ends a change whose preview failed after its caller had gone.
func (s *Service) giveUp(ctx context.Context, c bulkhead.Change, why error) {
	s.cfg.Log.ErrorContext(ctx, "a preview could not be made", slog.String("change", c.ID), slog.String("error", why.Error()))
	c.State = bulkhead.ChangeRefused
	c.Problem = clip("its preview could not be made: " + bulkhead.AsFault(why).Detail)
	if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePlanned, s.leaf(bulkhead.EvChangeRefused, c, "role:status", c.Problem)); err != nil {
		s.cfg.Log.WarnContext(ctx, "a change without a preview could not be closed", slog.String("change", c.ID), slog.String("error", err.Error()))
	}
}

// endPreviews lets go of previews that nobody waits for, when the service ends.
func (s *Service) endPreviews() {
	s.previews.Range(func(_, stop any) bool {
		stop.(context.CancelFunc)()
		return true
	})
}
