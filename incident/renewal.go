package incident

import (
	"context"
	"time"

	"bulkhead"
)

// renewalRetry is how soon a client of a campaign should ask again: plans move, and a window must not be missed.
const renewalRetry = time.Hour

// RenewalWindow is the renewal information of a certificate in a campaign: its own slice of the time left, and where to
// read why. false when it is in none, is replaced or revoked already, or has no window. After the window, until the old
// certificate is revoked, it says: now.
func (s *Service) RenewalWindow(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.RenewalInfo, bool, error) {
	none, err := s.quiet(ctx)
	if err != nil || none {
		return bulkhead.RenewalInfo{}, false, err
	}
	c, it, revoked, found, err := s.cfg.Store.WindowOf(ctx, ref)
	if err != nil || !found || revoked {
		return bulkhead.RenewalInfo{}, false, err
	}
	switch it.State {
	case bulkhead.ItemHeld, bulkhead.ItemReissued, bulkhead.ItemInstalled, bulkhead.ItemRevoked, bulkhead.ItemExpired:
		return bulkhead.RenewalInfo{}, false, nil
	}
	if it.WindowStart.IsZero() && it.RevokeAt.IsZero() || it.Replacement != (bulkhead.CertificateRef{}) && it.State != bulkhead.ItemReopened {
		return bulkhead.RenewalInfo{}, false, nil
	}
	info := bulkhead.RenewalInfo{Start: it.WindowStart, End: it.WindowEnd, ExplanationURL: s.cfg.Explanation, RetryAfter: renewalRetry}
	now := s.now()
	if it.State == bulkhead.ItemReopened || it.WindowStart.IsZero() {
		info.Start, info.End = now.Add(-time.Minute), now
	}
	if c.Deadline.Sub(c.StartedAt) < 12*renewalRetry {
		info.RetryAfter = 10 * time.Minute
	}
	return info, true, nil
}

// quietFor is how long it is taken for true that no campaign goes on.
const quietFor = time.Second

// quiet reports whether no campaign goes on, so that an ordinary day does not ask for each certificate.
func (s *Service) quiet(ctx context.Context) (bool, error) {
	epoch, now := s.epoch.Load(), s.cfg.Now()
	if q := s.lull.Load(); q != nil && q.epoch == epoch && !now.Before(q.at) && now.Sub(q.at) < quietFor {
		return q.none, nil
	}
	all, err := s.cfg.Store.Campaigns(ctx, 1, bulkhead.CampaignRunning, bulkhead.CampaignPaused, bulkhead.CampaignPlanned)
	if err == nil {
		s.lull.Store(&lull{epoch, now, len(all) == 0})
	}
	return len(all) == 0, err
}

// lull is what was found about campaigns at a time.
type lull struct {
	epoch int64
	at    time.Time
	none  bool
}

// IsMember reports whether an order replaces a certificate of a campaign, or is for an account and a name that one has:
// such an order is our doing, and counts against no limit.
func (s *Service) IsMember(ctx context.Context, account string, replaces bulkhead.CertificateRef, names []bulkhead.Identifier) (bool, error) {
	if replaces != (bulkhead.CertificateRef{}) {
		_, it, err := s.cfg.Store.MembershipOf(ctx, replaces)
		if bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return err == nil && it.AccountID == account, err
		}
	}
	running, err := s.cfg.Store.Campaigns(ctx, 100, bulkhead.CampaignRunning, bulkhead.CampaignPaused)
	if err != nil {
		return false, err
	}
	for _, c := range running {
		for _, n := range names {
			items, err := s.cfg.Store.OpenItemsOf(ctx, c.ID, account, n.Value)
			if err != nil {
				return false, err
			}
			for _, it := range items {
				if it.Replacement == (bulkhead.CertificateRef{}) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// Exposure is one certificate of an account in an open incident.
type Exposure = bulkhead.Exposure

// Exposures lists an account's certificates in open incidents, with what is due, after an IntentSeq; no other account's.
func (s *Service) Exposures(ctx context.Context, account string, limit int) ([]Exposure, error) {
	if account == "" {
		return nil, bulkhead.NewFault(bulkhead.KindForbidden, "this list is for accounts").WithHint("operators: bulkhead incident show ID")
	}
	all, err := s.cfg.Store.AccountIncidents(ctx, account)
	if err != nil {
		return nil, err
	}
	var out []Exposure
	for _, i := range all {
		var after int64
		for len(out) < limit {
			items, err := s.cfg.Store.IncidentItems(ctx, i.ID, account, false, after, min(limit-len(out), 1000))
			if err != nil {
				return nil, err
			}
			if len(items) == 0 {
				break
			}
			for _, it := range items {
				after = it.Certificate.IntentSeq
				e := Exposure{Incident: i, Certificate: it.Certificate, Deadline: deadlineOf(i, it.Certificate), Held: it.HeldWhy != "", Advice: s.ChainAdvice(it.Certificate.Profile, it.Certificate.NotBefore)}
				if c, ci, err := s.cfg.Store.MembershipOf(ctx, it.Certificate.CertificateRef); err == nil && c.Incident == i.ID {
					e.Item = &ci
				} else if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
					return nil, err
				}
				out = append(out, e)
			}
		}
	}
	return out, nil
}
