package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"bulkhead"
)

// compromiseChunk bounds the certificates of one change that follows a block: other changes of status get their turn
// between two chunks, so that one key on 10^5 certificates holds nobody up.
const compromiseChunk = 1000

// compromiseWatch is how long a settled compromise is looked at again: a signature that was under way at the block may
// have become durable after the last certificate was found.
const compromiseWatch = time.Hour

// compromiseEvery is how often open compromises are taken up when nobody asks.
const compromiseEvery = 5 * time.Second

// Compromise blocks a key for ever, at once and on one person's word (promise P10), and revokes what holds it, for
// keyCompromise: the first chunk before it returns where this process activates changes, the rest by RunCompromises. It may be repeated. KindGate for the key of
// one of our authorities: that is a decision of two people, and takes the authority away.
func (s *Service) Compromise(ctx context.Context, c bulkhead.Compromise) (bulkhead.Compromise, error) {
	if strings.TrimSpace(c.Reason) == "" {
		return c, bulkhead.NewFault(bulkhead.KindUsage, "a compromise needs a reason for the record").WithHint("add --reason TEXT")
	}
	if c.KeyHash.IsZero() {
		return c, bulkhead.NewFault(bulkhead.KindUsage, "a compromise needs a key").WithHint("bulkhead compromise key --cert FILE, --key FILE or --spki HEX")
	}
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return c, err
	}
	for _, a := range all {
		if bulkhead.Digest(a.SPKI) == c.KeyHash {
			return c, bulkhead.Faultf(bulkhead.KindGate, "this is the key of authority %s: nothing was blocked", a.ID).
				WithHint("stop it first: bulkhead issuance stop --issuer " + string(a.ID) + " --reason TEXT; then bulkhead change preview --revoke-ca FILE")
		}
	}
	now := s.now()
	c.At = now
	err = s.cfg.Store.PutCompromise(ctx, c,
		bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: s.cfg.Now().UTC(), Actor: c.Actor, KeyHash: c.KeyHash, Detail: c.Reason},
		bulkhead.Evidence{Kind: bulkhead.EvCompromise, At: s.cfg.Now().UTC(), Actor: c.Actor, KeyHash: c.KeyHash, Detail: "blocked; revoking what holds it: " + c.Reason})
	if err != nil {
		return c, err
	}
	if s.cfg.Elsewhere { // the process that activates changes takes it up within seconds
		return s.cfg.Store.Compromise(ctx, c.KeyHash)
	}
	if _, err := s.pursue(ctx, c.KeyHash); err != nil {
		s.cfg.Log.ErrorContext(ctx, "a compromised key is blocked; its certificates are revoked as soon as that works", slog.String("key", c.KeyHash.String()), slog.String("error", err.Error()))
	}
	return s.cfg.Store.Compromise(ctx, c.KeyHash)
}

// pursue revokes one chunk of what holds a key, and reports whether there may be more.
func (s *Service) pursue(ctx context.Context, key bulkhead.Hash) (more bool, err error) {
	s.pursuing.Lock()
	defer s.pursuing.Unlock()
	c, err := s.cfg.Store.Compromise(ctx, key)
	if err != nil {
		return false, err
	}
	rows, err := s.revocable(ctx, key)
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		if c.SettledAt.IsZero() {
			c.SettledAt = s.now()
			return false, s.cfg.Store.UpdateCompromise(ctx, c, s.compromiseLeaf(c, "", c.Revoked, "settled: no certificate in force holds the key"))
		}
		return false, nil
	}
	items := make([]bulkhead.ChangeItem, len(rows))
	for i, r := range rows {
		items[i] = bulkhead.ChangeItem{CertificateRef: r.CertificateRef, Reason: bulkhead.KeyCompromise, RevokedAt: s.now()}
	}
	why := fmt.Sprintf("key %s was blocked at %s: %s", key, c.At.UTC().Format(time.RFC3339), c.Reason)
	id, err := s.RevokeCertificates(ctx, c.Actor, why, items)
	if err != nil {
		return true, err
	}
	c.Revoked += len(items)
	c.Changes = append(c.Changes, id)
	c.SettledAt = time.Time{}
	return true, s.cfg.Store.UpdateCompromise(ctx, c, s.compromiseLeaf(c, id, len(items), "revoked what holds the key"))
}

// revocable are holders of a key that can be revoked here, those first that can be at once: one that needs a ceremony, or that only
// the authority it has elsewhere can revoke, would hold up the change of all. KindGate when none but the latter are left.
func (s *Service) revocable(ctx context.Context, key bulkhead.Hash) ([]bulkhead.Certificate, error) {
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var later, never []bulkhead.AuthorityID
	for _, a := range all {
		switch {
		case a.KeyURI != "":
		case a.Foreign() || a.Dead():
			never = append(never, a.ID)
		default:
			later = append(later, a.ID)
		}
	}
	rows, err := s.cfg.Store.KeyHolders(ctx, key, s.now(), compromiseChunk, append(later, never...)...)
	if err != nil || len(rows) > 0 {
		return rows, err
	}
	if len(later) > 0 {
		if rows, err = s.cfg.Store.KeyHolders(ctx, key, s.now(), compromiseChunk, never...); err != nil || len(rows) > 0 {
			return rows, err
		}
	}
	left, err := s.cfg.Store.CountKeyHolders(ctx, key, s.now())
	if err == nil && left > 0 {
		err = bulkhead.Faultf(bulkhead.KindGate, "%d certificates with the key are of authorities whose keys are not here: only those can revoke them", left).WithHint("bulkhead compromise list")
	}
	return nil, err
}

func (s *Service) compromiseLeaf(c bulkhead.Compromise, change string, n int, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvCompromise, At: s.cfg.Now().UTC(), Actor: c.Actor, Ref: change, KeyHash: c.KeyHash, Count: int64(n), Detail: detail}
}

// PursueCompromises takes every open compromise, and those that settled within the hour, one chunk further, in turn, until
// none has more. A crash in between is taken up by the same path: what is still in force is found by its key. One that fails
// holds up no other.
func (s *Service) PursueCompromises(ctx context.Context) error {
	failed := map[bulkhead.Hash]bool{}
	var errs []error
	for {
		open, err := s.cfg.Store.UnsettledCompromises(ctx, s.now().Add(-compromiseWatch))
		if err != nil {
			return err
		}
		again := false
		for _, c := range open {
			if failed[c.KeyHash] {
				continue
			}
			more, err := s.pursue(ctx, c.KeyHash)
			if err != nil {
				failed[c.KeyHash] = true
				errs = append(errs, fmt.Errorf("key %s: %w", c.KeyHash, err))
				s.compromiseAtRisk(ctx, c, err)
				continue
			}
			again = again || more
		}
		if !again || ctx.Err() != nil {
			return errors.Join(errs...)
		}
	}
}

// What holds a compromised key is revoked within 24 hours (BR 4.9.1.1). It takes seconds as a rule, and what is still in the
// way after a quarter of an hour is for people.
const (
	compromiseDue  = 24 * time.Hour
	compromiseSlow = 15 * time.Minute // from the block, and between two alarms
)

func (s *Service) compromiseAtRisk(ctx context.Context, c bulkhead.Compromise, why error) {
	now := s.now()
	if now.Sub(c.At) < compromiseSlow || !c.SettledAt.IsZero() {
		return
	}
	if last, raised := s.slowKeys.Load(c.KeyHash); raised && now.Sub(last.(time.Time)) < compromiseSlow {
		return
	}
	s.slowKeys.Store(c.KeyHash, now)
	s.alarm(ctx, bulkhead.Alarm{Detector: "D13", Key: "compromise/" + c.KeyHash.String(), Severity: bulkhead.Critical, FirstAt: now, LastAt: now, Count: 1, Runbook: "deadline-at-risk.md",
		Message: fmt.Sprintf("certificates with the compromised key %s are still in force; they must be revoked by %s: %s", c.KeyHash, c.At.Add(compromiseDue).UTC().Format(time.RFC3339), bulkhead.AsFault(why).Detail)})
}

// RunCompromises pursues compromises until ctx ends.
func (s *Service) RunCompromises(ctx context.Context) error {
	t := time.NewTicker(compromiseEvery)
	defer t.Stop()
	for {
		if err := s.PursueCompromises(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "the certificates of a compromised key are not revoked yet; it is tried again", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// KeyCompromise returns what became of a compromise, and how many certificates in force still hold the key.
func (s *Service) KeyCompromise(ctx context.Context, key bulkhead.Hash) (c bulkhead.Compromise, left int, err error) {
	if c, err = s.cfg.Store.Compromise(ctx, key); err != nil {
		return c, 0, err
	}
	left, err = s.cfg.Store.CountKeyHolders(ctx, key, s.now())
	return c, left, err
}

// CountKeyHolders counts the certificates in force that hold a key: what a compromise of it would revoke.
func (s *Service) CountKeyHolders(ctx context.Context, key bulkhead.Hash) (int, error) {
	return s.cfg.Store.CountKeyHolders(ctx, key, s.now())
}

// Compromises returns them newest first.
func (s *Service) Compromises(ctx context.Context, limit int) ([]bulkhead.Compromise, error) {
	return s.cfg.Store.Compromises(ctx, limit)
}
