package enroll

import (
	"context"
	"sync"
	"time"

	"bulkhead"
)

// RenewalInfo advises when to renew (RFC 9773): around the fraction of the lifetime that
// the profile names, two thirds without one; at once when revoked. Anyone may ask.
// KindNotFound for serials that were never finally issued.
func (s *Service) RenewalInfo(ctx context.Context, certID string) (bulkhead.RenewalInfo, error) {
	epoch := int64(0)
	if s.cfg.Campaigns != nil {
		epoch = s.cfg.Campaigns.Epoch()
	}
	if info, ok := s.renewals.answer(certID, epoch, s.now()); ok {
		return info, nil
	}
	ref, err := s.ResolveCertID(ctx, certID)
	if err != nil {
		return bulkhead.RenewalInfo{}, err
	}
	info, err := s.renewalOf(ctx, ref)
	if err == nil {
		s.renewals.keep(certID, epoch, s.now(), info)
	}
	return info, err
}

// renewalOf is the advice for one certificate as the record has it now.
func (s *Service) renewalOf(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.RenewalInfo, error) {
	if s.cfg.Campaigns != nil {
		if window, member, err := s.cfg.Campaigns.RenewalWindow(ctx, ref); err != nil || member {
			return window, err
		}
	}
	rows, err := s.cfg.Store.CertificatesBySerial(ctx, ref.Issuer, []bulkhead.Serial{ref.Serial})
	if err == nil && (len(rows) == 0 || rows[0].State != bulkhead.Issued && rows[0].State != bulkhead.Revoked) {
		err = bulkhead.NewFault(bulkhead.KindNotFound, "there is no such certificate")
	}
	if err != nil {
		return bulkhead.RenewalInfo{}, err
	}
	c := rows[0]
	info := bulkhead.RenewalInfo{ExplanationURL: s.cfg.ExplanationURL, RetryAfter: renewalRetry}
	if c.State == bulkhead.Revoked {
		now := s.now().Truncate(time.Second)
		info.Start, info.End = now.Add(-time.Hour), now
		return info, nil
	}
	life := c.NotAfter.Sub(c.NotBefore)
	middle := c.NotBefore.Add(life * 2 / 3)
	if p, err := s.cfg.Book.Profile(ctx, c.Profile); err == nil && p.RenewAt > 0 && p.RenewAt < 1 {
		middle = c.NotBefore.Add(time.Duration(float64(life) * p.RenewAt))
	}
	half := life / 48 // a day for a 47-day certificate: room for clients to spread
	info.Start, info.End = middle.Add(-half).Truncate(time.Second), middle.Add(half).Truncate(time.Second)
	if !info.Start.Before(info.End) {
		info.End = info.Start.Add(time.Second)
	}
	return info, nil
}

// renewalFresh is how old prepared advice may be. Clients ask hours apart; what this process changes itself is seen at once.
const renewalFresh = 5 * time.Second

// renewalMost bounds the prepared answers of one age.
const renewalMost = 50_000

// renewals keeps renewal advice prepared for a few seconds: on a bad day everybody asks, and many ask again at once. Answers
// of a campaign that moved (epoch) and of certificates that this process touched are forgotten with all others.
type renewals struct {
	mu        sync.RWMutex
	epoch     int64
	since     time.Time // of fresh
	fresh     map[string]bulkhead.RenewalInfo
	old       map[string]bulkhead.RenewalInfo // of the stretch before
	issuers   map[string][]bulkhead.AuthorityID
	issuersAt time.Time
}

// answer is the prepared advice for a certificate identifier.
func (r *renewals) answer(certID string, epoch int64, now time.Time) (bulkhead.RenewalInfo, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	age := now.Sub(r.since)
	if r.epoch != epoch || age < 0 || age >= renewalFresh {
		return bulkhead.RenewalInfo{}, false
	}
	if info, ok := r.fresh[certID]; ok {
		return info, true
	}
	info, ok := r.old[certID] // less than two stretches old
	return info, ok
}

func (r *renewals) keep(certID string, epoch int64, now time.Time, info bulkhead.RenewalInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	age := now.Sub(r.since)
	switch {
	case r.fresh == nil || r.epoch != epoch || age < 0 || age >= 2*renewalFresh:
		r.fresh, r.old, r.since, r.epoch = map[string]bulkhead.RenewalInfo{}, nil, now, epoch
	case age >= renewalFresh || len(r.fresh) >= renewalMost:
		r.fresh, r.old, r.since = map[string]bulkhead.RenewalInfo{}, r.fresh, now
	}
	r.fresh[certID] = info
}

// forget drops everything: this process changed what some advice rests on.
func (r *renewals) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh, r.old = nil, nil
}

// issuersOf are the authorities with a key identifier. Parsing their certificates for each request would cost more than all
// the rest; a new authority is found when its first certificate is asked for.
func (r *renewals) issuersOf(ctx context.Context, store Store, keyID string, now time.Time) ([]bulkhead.AuthorityID, error) {
	r.mu.RLock()
	found, age := r.issuers[keyID], now.Sub(r.issuersAt)
	r.mu.RUnlock()
	keep := time.Second // strangers' identifiers make no work either
	if len(found) > 0 {
		keep = time.Minute
	}
	if age >= 0 && age < keep {
		return found, nil
	}
	all, err := store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	by := map[string][]bulkhead.AuthorityID{}
	for _, a := range all {
		if id := string(keyIdentifier(a)); id != "" {
			by[id] = append(by[id], a.ID)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issuers, r.issuersAt = by, now
	return by[keyID], nil
}
