package run

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
)

// heldRecord is the record as the signer sees it: a stop of issuance goes on until two people signed that it ends, whatever
// its row says, a partner may do what two people signed (see heldpartners.go), and second approvals are those that were signed. Once a second it looks for stops that it has not seen yet: enrolment refuses first, and asks the signer nothing.
type heldRecord struct {
	Store
	h *House

	mu      sync.Mutex               // guards below
	held    map[string]bulkhead.Stop // not yet seen ended by people
	settled map[string]bool          // seen ended by people
	told    map[string]bool          // whose alarm was raised by this process
	scopes  map[string]heldScope     // of partners, as they were believed last
	looked  time.Time                // when the stops that were made since were last looked for
}

// holdStops looks through the stops that ended while no signer was there.
func (h *House) holdStops(ctx context.Context) (*heldRecord, error) {
	s := &heldRecord{Store: h.store, h: h, held: map[string]bulkhead.Stop{}, settled: map[string]bool{}, told: map[string]bool{}, scopes: map[string]heldScope{}}
	if err := s.learn(ctx, 100_000); err != nil {
		return nil, err
	}
	if err := s.remember(ctx); err != nil {
		return nil, err
	}
	_, err := s.Stops(ctx)
	return s, err
}

// watch takes in, once a second, what nobody may ask a certificate for: a stop, or a scope that one person made narrower, holds from
// when it was seen, whatever becomes of its row.
func (s *heldRecord) watch(ctx context.Context) error {
	return every(ctx, time.Second, func() {
		if _, err := s.Stops(ctx); err != nil && ctx.Err() == nil {
			s.h.log.WarnContext(ctx, "stops of issuance could not be looked for", slog.String("error", err.Error()))
		}
		if err := s.lookAtPartners(ctx); err != nil && ctx.Err() == nil {
			s.h.log.WarnContext(ctx, "the scopes of registration partners could not be looked at", slog.String("error", err.Error()))
		}
	})
}

// learn takes in the stops that were not seen yet, in force or not. Callers hold mu, or are alone.
func (s *heldRecord) learn(ctx context.Context, newest int) error {
	all, err := s.Store.StopHistory(ctx, newest)
	if err != nil {
		return err
	}
	for _, x := range all {
		if !s.settled[x.ID] && s.held[x.ID].ID == "" {
			s.held[x.ID] = x
		}
	}
	s.looked = s.h.now()
	return nil
}

// Stops returns the stops in force, and those whose end nobody signed.
func (s *heldRecord) Stops(ctx context.Context) (bulkhead.Stops, error) {
	rows, err := s.Store.Stops(ctx)
	if err != nil {
		return nil, err
	}
	return s.hold(ctx, rows)
}

// Standing returns an account with the stops as Stops has them.
func (s *heldRecord) Standing(ctx context.Context, accountID string) (bulkhead.Standing, error) {
	st, err := s.Store.Standing(ctx, accountID)
	if err != nil {
		return st, err
	}
	if st.Stops, err = s.hold(ctx, st.Stops); err == nil && st.Partner != nil {
		st.Partner, err = s.bounded(ctx, *st.Partner)
	}
	return st, err
}

// hold adds to the stops in force those that were seen before and are gone without two people's word. The row that was seen
// counts, not one that was changed since.
func (s *heldRecord) hold(ctx context.Context, rows bulkhead.Stops) (bulkhead.Stops, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h.now().Sub(s.looked).Abs() > time.Second {
		if err := s.learn(ctx, 1000); err != nil {
			return nil, err
		}
	}
	in := make(map[string]bool, len(rows))
	for _, x := range rows {
		if in[x.ID] = true; s.held[x.ID].ID == "" {
			s.held[x.ID] = x
		}
	}
	if len(s.held) == len(in) {
		return rows, nil
	}
	for id, seen := range s.held {
		if in[id] {
			continue
		}
		err := s.ended(ctx, id)
		if err == nil {
			delete(s.held, id)
			s.settled[id] = true
			continue
		}
		if bulkhead.KindOf(err) != bulkhead.KindGate {
			return nil, err // nothing is signed while this cannot be told
		}
		seen.EndedAt, seen.EndedBy, seen.Ending = time.Time{}, "", ""
		rows = append(rows, seen)
		if !s.told[id] {
			s.told[id] = true
			s.h.raise(ctx, bulkhead.Alarm{Detector: quorum.Detector, Key: "stop," + id, Severity: bulkhead.Critical, Runbook: quorum.Runbook,
				Message: "stop " + id + " (" + seen.Scope() + ") was ended in the record and two people did not sign that: it goes on; " + bulkhead.AsFault(err).Detail})
		}
	}
	return rows, nil
}

// ended fails with KindGate unless a quorum signed that a stop ends: by name, or with the partner that it stops.
func (s *heldRecord) ended(ctx context.Context, id string) error {
	no := func(why string) error {
		return bulkhead.Faultf(bulkhead.KindGate, "stop %s: %s", id, why).WithHint("bulkhead issuance status")
	}
	x, err := s.Store.Stop(ctx, id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return no("its row is gone")
	}
	if err != nil {
		return err
	}
	r, err := approvals{s.h}.stands(ctx, strings.TrimPrefix(x.EndedBy, "request:"), no)
	if err != nil {
		return err
	}
	if p, err := payload[console.ResumePayload](r); err == nil && r.Action == console.ActionResume && p.Stop == id {
		return nil
	}
	if p, err := payload[bulkhead.Partner](r); err == nil && r.Action == console.ActionResumePartner && x.Kind == bulkhead.StopPartner && p.ID == x.Value {
		return nil
	}
	return no("request " + r.ID + " is for something else")
}
