package status

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
)

const (
	retryAfter  = 30 * time.Second // how long a change rests that could not be carried on
	retryAtMost = time.Hour        // it rests twice as long each time, up to this
)

// trouble is a change that could not be carried on.
type trouble struct {
	until time.Time
	rest  time.Duration
}

// settle notes that the head is public. Where nothing else is to be looked at the change is then done; else it is
// verified in the background. Callers hold mu.
func (s *Service) settle(ctx context.Context, c bulkhead.Change) error {
	if c.State == bulkhead.ChangeActivated {
		c.State = bulkhead.ChangePublished
		if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangeActivated, s.leaf(bulkhead.EvChangePublished, c, "role:status", fmt.Sprintf("head %d is public", c.Epoch))); err != nil {
			return err
		}
	}
	if err := s.endAuthorities(ctx, c); err != nil {
		return err
	}
	if err := s.isPublic(ctx, c); err != nil {
		return err
	}
	if len(s.cfg.Verifiers) > 0 || s.cfg.Tiers != nil {
		s.wake(c.ID)
		return nil
	}
	c.State = bulkhead.ChangeSettled
	return s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePublished, s.leaf(bulkhead.EvChangeSettled, c, "role:status", "read back through the object store"))
}

// isPublic reads the public head back.
func (s *Service) isPublic(ctx context.Context, c bulkhead.Change) error {
	h, err := s.publicHead(ctx)
	if err != nil {
		return err
	}
	if h.Sequence < c.Epoch {
		return fmt.Errorf("head %d is public, change %s needs %d", h.Sequence, c.ID, c.Epoch)
	}
	return nil
}

func (s *Service) publicHead(ctx context.Context) (*pack.Head, error) {
	signed, err := s.cfg.Objects.Head(ctx)
	if err != nil {
		return nil, err
	}
	return pack.OpenHead(signed, s.cfg.HeadVerifier)
}

// wake asks Run to verify what is public without waiting for its next tick.
func (s *Service) wake(id string) {
	select {
	case s.woken <- id:
	default: // a look is due already
	}
}

// carryOn takes changes that were approved, and then interrupted by a crash or an error, to their end by the ordinary
// path. One that fails rests a while; the others go on. What is public is verified in the background, when verify says so:
// not before the edges of this process serve.
func (s *Service) carryOn(ctx context.Context, verify bool) error {
	open, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangeApproved, bulkhead.ChangeStaged, bulkhead.ChangeActivated, bulkhead.ChangePublished)
	if err != nil {
		return err
	}
	for i := len(open) - 1; i >= 0; i-- { // the oldest first
		c := open[i]
		if t, failed := s.troubles.Load(c.ID); failed && s.cfg.Now().Before(t.(trouble).until) {
			continue
		}
		if c.State == bulkhead.ChangePublished && (len(s.cfg.Verifiers) > 0 || s.cfg.Tiers != nil) {
			if verify {
				s.follow(ctx, c.ID)
			}
			continue
		}
		s.outcome(ctx, c.ID, s.Activate(ctx, c.ID))
	}
	return nil
}

// outcome keeps whether a change may be tried again at once.
func (s *Service) outcome(ctx context.Context, id string, err error) {
	if err == nil {
		s.troubles.Delete(id)
		return
	}
	if ctx.Err() != nil {
		return
	}
	rest := retryAfter
	if t, failed := s.troubles.Load(id); failed {
		rest = min(2*t.(trouble).rest, retryAtMost)
	}
	s.troubles.Store(id, trouble{s.cfg.Now().Add(rest), rest})
	s.cfg.Log.ErrorContext(ctx, "an approved change could not be carried on", slog.String("change", id), slog.String("error", err.Error()))
}

// note keeps with a change why it does not go on, once for each reason, and returns the reason.
func (s *Service) note(ctx context.Context, c bulkhead.Change, why error) error {
	if ctx.Err() != nil {
		return why
	}
	s.problem(ctx, c, bulkhead.AsFault(why).Detail, time.Time{})
	return why
}

// problem keeps a sentence with a change. A failure to keep it is in the log: what is wrong is said there too.
func (s *Service) problem(ctx context.Context, c bulkhead.Change, text string, dies time.Time) {
	text = clip(text)
	if c.Problem == text && c.Dies.Equal(dies) {
		return
	}
	c.Problem, c.Dies = text, dies
	if err := s.cfg.Store.MoveChange(ctx, c, c.State, s.leaf(bulkhead.EvChangeProblem, c, "role:status", text)); err != nil {
		s.cfg.Log.WarnContext(ctx, "a change's problem could not be recorded", slog.String("change", c.ID), slog.String("problem", text), slog.String("error", err.Error()))
	}
}
