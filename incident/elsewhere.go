package incident

import (
	"context"
	"slices"

	"bulkhead"
	"bulkhead/incident/plan"
)

// elsewherePage is how many of the items that others revoke are held against the record in one round.
const elsewherePage = 10_000

// elsewhere brings items that no job of the campaign revokes to where the record shows them: an imported authority revoked them
// and its list was given to this house, a root did at its ceremony, or they ended. Without it a day that touches such certificates
// would never be over. A hold is no end: its authority may take it back.
func (s *Service) elsewhere(ctx context.Context, c bulkhead.Campaign) error {
	p, err := ReadPlan(c)
	if err != nil {
		return err
	}
	var total, apart int64 // waves are numbered in their order, and this one is the last
	for _, w := range p.Waves {
		if total += int64(w.Items); w.Wave == plan.Ceremony {
			apart = int64(w.Items)
		}
	}
	if apart == 0 {
		return nil
	}
	s.mu.Lock()
	first := max(s.apart[c.ID], total-apart) + 1
	s.mu.Unlock()
	last := min(first+elsewherePage-1, total)
	items, err := s.cfg.Store.CampaignWork(ctx, c.ID, first, last)
	if err != nil {
		return err
	}
	now := s.now()
	ended := slices.DeleteFunc(items, func(it bulkhead.CampaignWork) bool {
		return it.State.Done() || it.Recorded == bulkhead.Revoked && it.Reason == bulkhead.CertificateHold
	})
	var out sorted
	for _, it := range ended {
		switch {
		case it.Recorded == bulkhead.Revoked:
			out.see(it, bulkhead.ItemRevoked, now, "revoked at "+utc(it.RevokedAt)+" ("+it.Reason.String()+"), by its authority")
		case it.Recorded == "" || it.NotAfter.Before(now):
			out.see(it, bulkhead.ItemExpired, now, "ended at "+utc(it.NotAfter))
		}
	}
	if len(out.moves) > 0 {
		evs := make([]bulkhead.Evidence, len(out.moves))
		for i, m := range out.moves {
			evs[i] = s.refsLeaf(c, "role:incident", out.moved[i:i+1], string(m.To)+": "+m.Detail)
		}
		if err := s.cfg.Store.MoveItems(ctx, c.ID, out.moves, nil, evs...); err != nil {
			return err
		}
		s.moved()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apart[c.ID] = last; last == total {
		delete(s.apart, c.ID) // the next round begins again
	}
	return nil
}
