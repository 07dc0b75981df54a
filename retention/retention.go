// Package retention deletes what the record need not hold any more: certificates that ended long ago, and orders,
// authorisations and replies that ran out.
//
// Invariant: evidence, blocked keys, validations, authorities' certificates and every row of a certificate that has not
// ended or stands on a current CRL stay; each transaction is bounded and carries a leaf that says who deleted how many.
//
// Refuses: a day that is nearer than the retention time.
package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkhead"
)

const (
	// Least is the shortest retention: two years after the end of a certificate (BR 5.4.3, 5.5.2).
	Least = 730 * 24 * time.Hour
	// batch bounds the rows of one transaction.
	batch = 1000
	// offCRL is how long after a certificate's end a CRL is sure to leave it out; the signer keeps entries for a week.
	offCRL = 30 * 24 * time.Hour
)

// Store is the durable record as retention needs it.
type Store interface {
	// Prunable counts what Prune would delete in the end.
	Prunable(ctx context.Context, p bulkhead.Prune) (bulkhead.Pruned, error)
	// Prune deletes at most limit rows and appends the leaf made of the counts; neither when nothing is over.
	Prune(ctx context.Context, p bulkhead.Prune, limit int, leaf func(bulkhead.Pruned) bulkhead.Evidence) (bulkhead.Pruned, error)
}

// Config is what a service needs. Store is required, and Period of Least or more.
type Config struct {
	Store  Store
	Period time.Duration
	Now    func() time.Time
}

// Service prunes.
type Service struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("retention: no store")
	}
	if cfg.Period < Least {
		return nil, fmt.Errorf("retention: %s is shorter than %s", cfg.Period, Least)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg}, nil
}

func (s *Service) prune(before time.Time) (bulkhead.Prune, error) {
	before = before.UTC().Truncate(24 * time.Hour)
	if last := s.cfg.Now().Add(-s.cfg.Period).UTC().Truncate(24 * time.Hour); before.After(last) {
		return bulkhead.Prune{}, bulkhead.Faultf(bulkhead.KindForbidden, "what ended after %s is kept: the retention is %d days", last.Format(time.DateOnly), int(s.cfg.Period/(24*time.Hour))).
			WithHint("bulkhead prune --before " + last.Format(time.DateOnly))
	}
	return bulkhead.Prune{Before: before, CRLFrom: before.Add(offCRL)}, nil
}

// Plan counts what Prune would delete.
func (s *Service) Plan(ctx context.Context, before time.Time) (bulkhead.Pruned, error) {
	p, err := s.prune(before)
	if err != nil {
		return bulkhead.Pruned{}, err
	}
	return s.cfg.Store.Prunable(ctx, p)
}

// Prune deletes what ended before the day. What was deleted until an error stays deleted, is in evidence, and is
// returned with the error; the same call goes on with the rest.
func (s *Service) Prune(ctx context.Context, actor string, before time.Time) (sum bulkhead.Pruned, err error) {
	p, err := s.prune(before)
	if err != nil {
		return sum, err
	}
	leaf := func(n bulkhead.Pruned) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: bulkhead.EvPruned, At: s.cfg.Now().UTC().Truncate(time.Millisecond), Actor: actor, Count: n.Certificates,
			Detail: fmt.Sprintf("before %s: %d certificates, %d orders, %d authorizations, %d replies", p.Before.Format(time.DateOnly), n.Certificates, n.Orders, n.Authorizations, n.Replies)}
	}
	for {
		n, err := s.cfg.Store.Prune(ctx, p, batch, leaf)
		if err != nil || n.Total() == 0 {
			return sum, err
		}
		sum = sum.Add(n)
	}
}
