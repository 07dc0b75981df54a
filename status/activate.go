package status

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
)

// Activate stages an approved change, verifies what was staged, and makes it public in one step. After an error before
// the commit point nothing is public and the change can be activated again; after it, the next Tick publishes.
func (s *Service) Activate(ctx context.Context, id string) error {
	if s.cfg.Elsewhere {
		return s.await(ctx, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.activate(ctx, id)
}

// activate is Activate for callers that hold mu.
func (s *Service) activate(ctx context.Context, id string) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	switch c.State {
	case bulkhead.ChangeApproved, bulkhead.ChangeStaged:
	case bulkhead.ChangeActivated, bulkhead.ChangePublished:
		return s.settle(ctx, c)
	case bulkhead.ChangeSettled:
		return nil
	default:
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and not approved", id, c.State).WithHint("bulkhead change approve " + id)
	}
	if err := s.stillTrue(ctx, c); err != nil {
		return s.refuse(ctx, c, err)
	}
	next := clone(s.head)
	crls, err := s.stage(ctx, c, next)
	if err != nil {
		return err
	}
	if c.State == bulkhead.ChangeApproved {
		c.State = bulkhead.ChangeStaged
		if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangeApproved, s.leaf(bulkhead.EvChangeStaged, c, "role:status", "objects signed, published and verified; no head names them yet")); err != nil {
			return err
		}
	}
	rec, err := s.sign(ctx, next)
	if err != nil {
		return err
	}
	evs, err := s.activationLeaves(ctx, c, rec)
	if err != nil {
		return err
	}
	c.State, c.Epoch, c.ActivatedAt = bulkhead.ChangeActivated, rec.Sequence, s.now()
	if err := s.cfg.Store.Activate(ctx, c, rec, crls, evs...); err != nil {
		return err
	}
	s.take(next)
	if err := s.cfg.Objects.SetHead(ctx, rec.Body); err != nil {
		return err
	}
	return s.settle(ctx, c)
}

// refuse ends a change whose preview is not true any more; other errors leave it as it is.
func (s *Service) refuse(ctx context.Context, c bulkhead.Change, why error) error {
	if bulkhead.KindOf(why) != bulkhead.KindGate {
		return why
	}
	was := c.State
	c.State = bulkhead.ChangeRefused
	if err := s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangeRefused, c, "role:status", bulkhead.AsFault(why).Detail)); err != nil {
		s.cfg.Log.WarnContext(ctx, "a stale change could not be closed", slog.String("change", c.ID), slog.String("error", err.Error()))
	}
	return why
}

// activationLeaves are the leaves of the commit: the switch itself and one for each certificate.
func (s *Service) activationLeaves(ctx context.Context, c bulkhead.Change, rec bulkhead.HeadRecord) ([]bulkhead.Evidence, error) {
	evs := []bulkhead.Evidence{{Kind: bulkhead.EvChangeActivated, At: s.cfg.Now().UTC(), Actor: c.Actor, Ref: c.ID, Digest: c.PreviewHash, Count: int64(rec.Sequence), Detail: c.Why}}
	err := s.eachItem(ctx, c.ID, func(it bulkhead.ChangeItem) error {
		evs = append(evs, bulkhead.Evidence{Kind: bulkhead.EvRevocation, At: s.cfg.Now().UTC(), Actor: c.Actor, Authority: it.Issuer, Serial: it.Serial, Ref: c.ID,
			Detail: it.Reason.String() + " " + it.RevokedAt.UTC().Format(time.RFC3339)})
		return nil
	})
	return evs, err
}

// stage signs and publishes the objects of a change, reads them back, and names them in next.
func (s *Service) stage(ctx context.Context, c bulkhead.Change, next *pack.Head) ([]bulkhead.CRLRecord, error) {
	byIssuer := map[bulkhead.AuthorityID][]bulkhead.ChangeItem{}
	err := s.eachItem(ctx, c.ID, func(it bulkhead.ChangeItem) error {
		byIssuer[it.Issuer] = append(byIssuer[it.Issuer], it)
		return nil
	})
	if err != nil {
		return nil, err
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var crls []bulkhead.CRLRecord
	for _, a := range authorities {
		if len(byIssuer[a.ID]) == 0 {
			continue
		}
		ih := issuerHead(next, a.ID)
		shards, err := s.stageAnswers(ctx, c, a, ih, byIssuer[a.ID])
		if err != nil {
			return nil, err
		}
		for shard := range shards {
			rec, err := s.newCRL(ctx, a, ih, shard, c.ID)
			if err != nil {
				return nil, err
			}
			crls = append(crls, rec)
		}
		ih.Epoch++
		ih.Change = c.ID
	}
	return crls, nil
}

// stageAnswers makes the delta of one authority and returns the CRL shards concerned.
func (s *Service) stageAnswers(ctx context.Context, c bulkhead.Change, a bulkhead.Authority, ih *pack.IssuerHead, items []bulkhead.ChangeItem) (map[int]bool, error) {
	shards := map[int]bool{}
	var entries []pack.Entry
	var t responderTable
	for part := range slices.Chunk(items, batchSize) {
		serials := make([]bulkhead.Serial, len(part))
		for i, it := range part {
			serials[i] = it.Serial
		}
		rows, err := s.rows(ctx, a.ID, serials)
		if err != nil {
			return nil, err
		}
		for _, it := range part {
			rows[it.Serial] = afterItem(rows[it.Serial], it)
			shards[rows[it.Serial].Shard] = true
		}
		got, err := s.signAnswers(ctx, a, serials, c.ID, rows, &t)
		if err != nil {
			return nil, err
		}
		entries = append(entries, got...)
	}
	ref, err := s.putPack(ctx, a, entries, t)
	if err != nil {
		return nil, err
	}
	if _, err := s.openPack(ctx, ref); err != nil {
		return nil, err
	}
	ih.Packs = append([]pack.ObjectRef{ref}, ih.Packs...)
	return shards, nil
}
