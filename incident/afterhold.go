package incident

import (
	"context"

	"bulkhead"
)

// afterHolds lets items go on whose hold ended: at once when somebody ends it, and in each round for what a process that was
// killed left. A letter for many may have left before, so each of them is told by a letter of its own; one that was on hold
// when the plan was made gets its date and its revocation, too.
func (s *Service) afterHolds(ctx context.Context, c bulkhead.Campaign, actor, why string) error {
	items, err := s.cfg.Store.HeldNoMore(ctx, c.ID)
	if err != nil {
		return err
	}
	for _, it := range items {
		if err := s.afterHold(ctx, c, it, actor, why); err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict { // somebody else was first
			return err
		}
	}
	return nil
}

func (s *Service) afterHold(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem, actor, why string) error {
	defer s.moved()
	now := s.now()
	it.NotifyAt = now
	jobs := []bulkhead.CampaignJob{{Kind: bulkhead.JobAfterHold, First: it.Ordinal, Last: it.Ordinal, DueAt: now}}
	if it.RevokeAt.IsZero() { // no chunk of the plan revokes it
		it.RevokeAt = c.ForceAt
		jobs = append(jobs, bulkhead.CampaignJob{Kind: bulkhead.JobRevoke, First: it.Ordinal, Last: it.Ordinal, DueAt: now})
	}
	m := bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: bulkhead.ItemHeld, To: bulkhead.ItemPlanned, At: now, Detail: why}
	return s.cfg.Store.AfterHold(ctx, c, m, it, jobs, s.itemsLeaf(c, actor, []bulkhead.CampaignItem{it}, string(m.To)+": "+why))
}

// toldBefore reports whether the holder of an item was told of it before its hold.
func (s *Service) toldBefore(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem) (bool, error) {
	steps, err := s.cfg.Store.ItemSteps(ctx, c.ID, it.IntentSeq)
	for _, x := range steps {
		if x.State == bulkhead.ItemNotified {
			return true, err
		}
	}
	return false, err
}
