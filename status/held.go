package status

import (
	"context"
	"log/slog"
	"time"

	"bulkhead"
)

// A change that is planned is held by whoever makes it: until a time that stands in its row, and that is moved on while work
// goes on. Processes share the record, and one that starts cannot know what another is doing: it ends what nobody holds any
// more, and nothing else.
const (
	// heldFor is how long a process that died keeps a change planned. One that lives says so four times as often.
	heldFor = 2 * time.Minute
	// openFor is how long a change stays open to a client after it was opened, or after a part came: no process of ours
	// works on it in between, and a client may have to come back.
	openFor = time.Hour
	// sweepEvery is how often a status process looks for what nobody holds.
	sweepEvery = 30 * time.Second
)

// heldUntil is until when a planned change is left alone.
func heldUntil(c bulkhead.Change) time.Time {
	if c.Held.IsZero() { // of an earlier version, which did not say
		return c.CreatedAt.Add(openFor)
	}
	return c.Held
}

// holding says that this process is at work on a planned change, now and until stop is called.
func (s *Service) holding(ctx context.Context, c bulkhead.Change) (stop func()) {
	if c.State != bulkhead.ChangePlanned {
		return func() {}
	}
	if left := heldUntil(c).Sub(s.cfg.Now()); left < heldFor/2 || left > heldFor {
		s.hold(ctx, c.ID, heldFor)
	}
	return beside(ctx, func(ctx context.Context) {
		t := time.NewTicker(heldFor / 4)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				s.hold(ctx, c.ID, heldFor)
			}
		}
	})
}

// hold moves on until when a planned change is held. Whoever cannot say so goes on all the same: what becomes of the change
// is decided when it moves.
func (s *Service) hold(ctx context.Context, id string, by time.Duration) {
	if err := s.cfg.Store.HoldChange(ctx, id, s.cfg.Now().Add(by)); err != nil && ctx.Err() == nil {
		s.cfg.Log.WarnContext(ctx, "a planned change could not be held", slog.String("change", id), slog.String("error", err.Error()))
	}
}

// withdraw refuses what was planned, was never previewed, and is held by nobody any more: nobody has seen it.
func (s *Service) withdraw(ctx context.Context) error {
	now := s.cfg.Now()
	s.swept.Store(now.UnixNano())
	planned, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangePlanned)
	if err != nil {
		return err
	}
	for _, c := range planned {
		if !now.After(heldUntil(c)) {
			continue
		}
		err := s.cfg.Store.EndPlanned(ctx, c, s.leaf(bulkhead.EvChangeRefused, c, "role:status", "interrupted before its preview; ask again"))
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict { // a conflict: somebody was at it after all
			return err
		}
	}
	return nil
}

// sweep is withdraw, now and then.
func (s *Service) sweep(ctx context.Context) error {
	if last := time.Unix(0, s.swept.Load()); s.cfg.Now().Sub(last) < sweepEvery && !last.After(s.cfg.Now()) {
		return nil
	}
	return s.withdraw(ctx)
}
