package status

import (
	"context"
	"log/slog"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

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
	st, err := s.holds(ctx, c)
	if err != nil {
		return s.refuse(ctx, c, err)
	}
	if err := s.signed(ctx, st); err != nil {
		return s.refuse(ctx, c, err)
	}
	next := clone(s.head)
	if err := s.stage(ctx, st, next); err != nil {
		return err
	}
	rec, err := s.sign(ctx, next)
	if err != nil {
		return err
	}
	if err := s.canary(ctx, st, next, rec.Body); err != nil {
		return s.note(ctx, c, err)
	}
	return s.commit(ctx, st, next, rec)
}

// holds reads what a change is about; it fails with KindGate when the world has moved since the preview.
func (s *Service) holds(ctx context.Context, c bulkhead.Change) (*staging, error) {
	st, err := s.read(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.TakesBack() {
		return st, s.stillSo(st)
	}
	if err := s.stillTrue(ctx, c); err != nil {
		return nil, err
	}
	return st, st.stillStand()
}

// stillStand fails with KindGate for an item that is no longer as it was when shown.
func (st *staging) stillStand() error {
	for _, u := range st.issuers {
		for row := range u.rows.All() {
			if row.State == bulkhead.Issued || row.State == bulkhead.Revoked && row.Item.Reason == bulkhead.KeyCompromise && row.Reason != bulkhead.KeyCompromise {
				continue
			}
			was := "is " + string(row.State)
			if row.State == bulkhead.Revoked {
				was = "was revoked at " + row.RevokedAt.UTC().Format(time.RFC3339)
			}
			return bulkhead.Faultf(bulkhead.KindGate, "the world moved since the preview of change %s: certificate %s %s", st.change.ID, row.Serial, was).
				WithHint("plan what is left again: bulkhead cert revoke")
		}
	}
	return nil
}

// commit moves the change over the point of no return, and makes it public.
func (s *Service) commit(ctx context.Context, st *staging, next *pack.Head, rec bulkhead.HeadRecord) error {
	c := st.change
	c.Problem, c.Dies = "", time.Time{}
	if c.State == bulkhead.ChangeApproved {
		c.State = bulkhead.ChangeStaged
		if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangeApproved, s.leaf(bulkhead.EvChangeStaged, c, "role:status", "objects signed, published and verified; no head names them yet")); err != nil {
			return err
		}
	}
	evs := s.activationLeaves(st, rec)
	c.State, c.Epoch, c.ActivatedAt = bulkhead.ChangeActivated, rec.Sequence, s.now()
	if err := s.cfg.Store.Activate(ctx, c, rec, st.crls, evs...); err != nil {
		return err
	}
	s.take(next)
	if err := s.expose(ctx, rec); err != nil {
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

func said(r bulkhead.Reason, t time.Time) string {
	return r.String() + " " + t.UTC().Format(time.RFC3339)
}

// staging is a change on its way into a head: its certificates as they are now, and what was made for them. A nil
// staging is no change.
type staging struct {
	change  bulkhead.Change
	issuers []affected
	crls    []bulkhead.CRLRecord
}

// affected is the certificates of a change under one authority, in serial order.
type affected struct {
	authority bulkhead.Authority
	rows      *bulkhead.AffectedList
	shards    []int
}

func (st *staging) id() string {
	if st == nil {
		return ""
	}
	return st.change.ID
}

func (st *staging) under(id bulkhead.AuthorityID) *bulkhead.AffectedList {
	if st != nil {
		for _, u := range st.issuers {
			if u.authority.ID == id {
				return u.rows
			}
		}
	}
	return &bulkhead.AffectedList{}
}

func (st *staging) after(row bulkhead.AffectedStatus) bulkhead.Status { return row.After(st.change) }

// read loads what a change is about. KindConflict when the record lacks a certificate of it.
func (s *Service) read(ctx context.Context, c bulkhead.Change) (*staging, error) {
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	defer s.forewarn(ctx, c)()
	st, n := &staging{change: c}, 0
	for _, a := range authorities {
		u := affected{authority: a, rows: &bulkhead.AffectedList{Issuer: a.ID}}
		shards := map[int]bool{}
		for row, err := range s.cfg.Store.Affected(ctx, c.ID, a.ID) {
			if err != nil {
				return nil, err
			}
			u.rows.Append(row)
			shards[row.Shard] = true
		}
		for shard := range shards {
			u.shards = append(u.shards, shard)
		}
		sort.Ints(u.shards)
		if n += u.rows.Len(); u.rows.Len() > 0 {
			st.issuers = append(st.issuers, u)
		}
	}
	if n != c.Count {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "%d of %d certificates of change %s are not in the record", c.Count-n, c.Count, c.ID).WithHint("bulkhead change show " + c.ID)
	}
	return st, nil
}

// forewarn has the signer read a large change while we read it: it keeps what it read until it is asked to sign. wait
// returns when it has.
func (s *Service) forewarn(ctx context.Context, c bulkhead.Change) (wait func()) {
	if c.Count <= largeBatch {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer stop()
		first, err := s.cfg.Store.ChangeItems(ctx, c.ID, bulkhead.CertificateRef{}, 1)
		if err != nil || len(first) == 0 {
			return // whoever reads it next says so
		}
		for range s.cfg.Signer.ShadowAnswers(ctx, c.ID, first[0].Issuer, []bulkhead.Serial{first[0].Serial}) {
			break // the answer is not wanted
		}
	}()
	return func() { <-done }
}

// stage signs and publishes the objects of a change, reads them back, and names them in next.
func (s *Service) stage(ctx context.Context, st *staging, next *pack.Head) error {
	defer s.locate(ctx, st.change)()
	for _, u := range st.issuers {
		ih := issuerHead(next, u.authority.ID)
		crls := func(ctx context.Context) error {
			for _, shard := range u.shards {
				rec, err := s.changedCRL(ctx, u.authority, ih, shard, st)
				if err != nil {
					return err
				}
				st.crls = append(st.crls, rec)
			}
			return nil
		}
		answers := func(ctx context.Context) error { return s.stageAnswers(ctx, st, u, ih) }
		if err := inOrder(ctx, u.rows.Len() > largeBatch, answers, crls); err != nil {
			return err
		}
		ih.Epoch++
		ih.Change = st.change.ID
	}
	return nil
}

// locate has the store find the rows of a large change while its answers are signed: the commit, for which everybody waits,
// then moves them and looks for none. end ends the search.
func (s *Service) locate(ctx context.Context, c bulkhead.Change) (end func()) {
	if c.Count <= largeBatch {
		return func() {}
	}
	return beside(ctx, func(ctx context.Context) {
		if err := s.cfg.Store.Locate(ctx, c.ID); err != nil && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "the rows of a large change could not be found in advance; its commit takes longer", slog.String("change", c.ID), slog.String("error", err.Error()))
		}
	})
}

// beside begins f; end tells it to end and returns when it has.
func beside(ctx context.Context, f func(context.Context)) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() { stop(); <-done }
}

// inOrder does things one after the other, or all at once.
func inOrder(ctx context.Context, atOnce bool, things ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	if !atOnce {
		g.SetLimit(1)
	}
	for _, f := range things {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(ctx)
		})
	}
	return g.Wait()
}
