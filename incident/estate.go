package incident

import (
	"context"
	"fmt"
	"strings"
	"time"

	"bulkhead"
)

// How long a look at the own estate counts: a clean one until the notices are out, else until somebody may have mended it.
const (
	cleanFor = time.Hour
	dirtyFor = time.Minute
)

// MayTellCustomers says why customers may not be told yet; "" when they may. The house's own estate comes first: replaced to the
// last certificate, then looked at from outside and found clean (Comodo did so in 2014 and could say so). The look is evidence.
func (s *Service) MayTellCustomers(ctx context.Context, c bulkhead.Campaign) (string, error) {
	total, replaced, err := s.cfg.Store.OwnProgress(ctx, c.ID)
	if err != nil {
		return "", err
	}
	if replaced < total {
		return fmt.Sprintf("own estate first: %d of %d are replaced", replaced, total), nil
	}
	if s.cfg.Estate == nil {
		return "", nil
	}
	e, err := s.estate(ctx, c)
	if err != nil || e.Clean() {
		return "", err
	}
	return fmt.Sprintf("own estate first: %d of its endpoints are not clean: %s", len(e.Wrong), clipList(e.Wrong)), nil
}

// estate is the last look, or a new one where that does not count any more.
func (s *Service) estate(ctx context.Context, c bulkhead.Campaign) (bulkhead.EstateLook, error) {
	s.estateMu.Lock()
	defer s.estateMu.Unlock()
	last, err := s.cfg.Store.Estate(ctx, c.ID)
	if err != nil {
		return last, err
	}
	good := dirtyFor
	if last.Clean() {
		good = cleanFor
	}
	if age := s.now().Sub(last.At); !last.At.IsZero() && age >= 0 && age < good {
		return last, nil
	}
	var own []bulkhead.CampaignItem
	for first := int64(0); ; {
		items, err := s.cfg.Store.CampaignItems(ctx, c.ID, bulkhead.CampaignItemFilter{First: first, OwnOnly: true, Limit: page})
		if err != nil {
			return last, err
		}
		if len(items) == 0 {
			break
		}
		own, first = append(own, items...), items[len(items)-1].Ordinal+1
	}
	e, err := s.cfg.Estate.LookAtEstate(ctx, own)
	if err != nil {
		return e, err
	}
	e.At = s.now()
	ev := s.leaf(bulkhead.EvEstateLook, c.ID, "role:incident", fmt.Sprintf("own estate: %d endpoints, %d not clean: %s", e.Endpoints, len(e.Wrong), clipList(e.Wrong)))
	if e.Clean() {
		ev.Detail = fmt.Sprintf("own estate: %d endpoints, all clean", e.Endpoints)
	}
	ev.Count, ev.Digest = int64(e.Endpoints), bulkhead.Digest([]byte(strings.Join(e.Wrong, "\n")))
	return e, s.cfg.Store.KeepEstate(ctx, c.ID, e, ev)
}

func clipList(all []string) string {
	if len(all) > 5 {
		return strings.Join(all[:5], "; ") + fmt.Sprintf("; and %d more", len(all)-5)
	}
	return strings.Join(all, "; ")
}

// Estate returns the last look of a campaign at the own estate; the zero value when there was none.
func (s *Service) Estate(ctx context.Context, id string) (bulkhead.EstateLook, error) {
	return s.cfg.Store.Estate(ctx, id)
}
