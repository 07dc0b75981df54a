package run

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/pki/approval"
	"bulkhead/quorum"
)

// heldScope is what a partner may do, as this process believed it last.
type heldScope struct {
	scope  bulkhead.PartnerScope
	signed string // the request under which it was believed
}

// bounded gives the partner the bounds that people signed. The row may be narrower, which takes one person; a row that is
// wider than the newest scope with two people's signatures, or wider than it was when this process saw it last, counts for
// nothing: the bounds of before hold, and an alarm says so. A partner whom nobody approved brings nothing.
//
// What was believed is kept in the record, in rows that the signer alone may write, before anything is signed under it: made narrower
// by one person, a scope stays so over a restart.
func (s *heldRecord) bounded(ctx context.Context, p bulkhead.Partner) (*bulkhead.Partner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, seen := s.scopes[p.ID]
	if seen && reflect.DeepEqual(was.scope, p.Scope) {
		return &p, nil
	}
	newest, err := s.h.signedScope(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	now := heldScope{scope: p.Scope, signed: newest.signed}
	limit := newest.scope
	if seen && was.signed == newest.signed {
		limit = was.scope // made narrower since, by one person
	}
	key := "partner," + p.ID
	if newest.signed != "" && p.Scope.Within(limit) {
		delete(s.told, key)
	} else {
		now.scope = limit
		if !s.told[key] {
			s.told[key] = true
			s.h.raise(ctx, bulkhead.Alarm{Detector: quorum.Detector, Key: key, Severity: bulkhead.Critical, Runbook: quorum.Runbook,
				Message: "the record permits registration partner " + p.ID + " more than two people signed: the signer holds it to what they signed"})
		}
	}
	p.Scope = now.scope
	if !seen || !reflect.DeepEqual(was, now) {
		if err := s.keep(ctx, p.ID, now); err != nil {
			return nil, err
		}
	}
	s.scopes[p.ID] = now
	return &p, nil
}

// keep writes down what a partner is held to.
func (s *heldRecord) keep(ctx context.Context, partner string, x heldScope) error {
	text, err := json.Marshal(x.scope)
	if err != nil {
		return err
	}
	at := s.h.now().UTC()
	detail := "request " + x.signed + ": " + string(text)
	if x.signed == "" {
		detail = "nothing, because no two people signed for it"
	}
	return s.Store.HoldScope(ctx, bulkhead.HeldScope{Partner: partner, Scope: x.scope, Signed: x.signed, At: at},
		bulkhead.Evidence{Kind: bulkhead.EvScopeHeld, At: at, Actor: "role:signer", Ref: partner, Digest: bulkhead.Digest(text), Detail: detail})
}

// remember takes in what an earlier process held partners to, and then what became narrower since. Nobody else asks yet.
func (s *heldRecord) remember(ctx context.Context) error {
	all, err := s.Store.HeldScopes(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		s.scopes[x.Partner] = heldScope{scope: x.Scope, signed: x.Signed}
	}
	return s.lookAtPartners(ctx)
}

// lookAtPartners sees what partners may do now.
func (s *heldRecord) lookAtPartners(ctx context.Context) error {
	all, err := s.Store.Partners(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if _, err := s.bounded(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// signedScope is the newest scope that a quorum signed for a partner, in the order in which they were asked for, which no role
// can change; the zero scope, which permits nothing, when there is none.
func (h *House) signedScope(ctx context.Context, id string) (heldScope, error) {
	requests, err := h.store.ActionRequests(ctx, console.ActionAddPartner, console.ActionLimitPartner)
	if err != nil {
		return heldScope{}, err
	}
	for _, r := range slices.Backward(requests) {
		p, err := payload[bulkhead.Partner](r)
		if err != nil || p.ID != id {
			continue
		}
		if signed, err := h.wasSigned(ctx, r); signed || err != nil {
			return heldScope{scope: p.Scope, signed: r.ID}, err
		}
	}
	return heldScope{}, nil
}

// limitApproved widens a partner's scope, unless people signed another one that was asked for later.
func (h *House) limitApproved(ctx context.Context, r bulkhead.ApprovalRequest, p bulkhead.Partner) error {
	newest, err := h.signedScope(ctx, p.ID)
	if err != nil {
		return err
	}
	if newest.signed != r.ID {
		return bulkhead.Faultf(bulkhead.KindConflict, "the scope of partner %s that was asked for in request %s is newer and is signed", p.ID, newest.signed).WithHint("ask again: bulkhead partner limit " + p.ID)
	}
	_, err = h.enroll.LimitPartner(ctx, "request:"+r.ID, p.ID, p.Scope, true)
	return err
}

// wasSigned judges a request by its signatures alone, whatever its state says; who left since was in office then.
func (h *House) wasSigned(ctx context.Context, r bulkhead.ApprovalRequest) (bool, error) {
	r.State = bulkhead.RequestExecuted
	err := h.quorum.Signed(ctx, r)
	if bulkhead.KindOf(err) == bulkhead.KindGate {
		return false, nil
	}
	return err == nil, err
}

// Seconded implements signer.Words.
func (s *heldRecord) Seconded(ctx context.Context, orderID string, names []bulkhead.Identifier) ([]bulkhead.SecondApproval, error) {
	words, err := s.Store.SecondApprovals(ctx, orderID)
	if err != nil || len(words) == 0 {
		return nil, err
	}
	o, err := s.Store.Order(ctx, orderID)
	if err != nil {
		return nil, err
	}
	counted, err := s.h.counted(ctx, o, names, words)
	if err == nil && len(counted) < len(words) {
		s.h.raise(ctx, bulkhead.Alarm{Detector: quorum.Detector, Key: "order," + orderID, Severity: bulkhead.Critical, Runbook: quorum.Runbook,
			Message: "order " + orderID + " has a second approval in the record that nobody signed for its names: it does not count"})
	}
	return counted, err
}

// seconded judges for enrolment as the signer will.
func (h *House) seconded(ctx context.Context, o bulkhead.Order, words []bulkhead.SecondApproval) ([]bulkhead.SecondApproval, error) {
	return h.counted(ctx, o, h.enroll.HighValueNames(o), words)
}

// counted leaves those second approvals of an order that people signed for all of the names: operators by a request, or a
// person at a partner by the key that operators bound to him.
func (h *House) counted(ctx context.Context, o bulkhead.Order, names []bulkhead.Identifier, words []bulkhead.SecondApproval) (out []bulkhead.SecondApproval, err error) {
	for _, w := range words {
		ok := false
		if id, by := strings.CutPrefix(w.Actor, "request:"); by {
			ok, err = h.requestFor(ctx, id, o, names)
		} else if person, by := strings.CutPrefix(w.Actor, "partner:"); by {
			ok, err = h.personFor(ctx, person, o, names, w.Signature)
		}
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, w)
		}
	}
	return out, nil
}

func (h *House) requestFor(ctx context.Context, id string, o bulkhead.Order, names []bulkhead.Identifier) (bool, error) {
	r, err := h.store.Request(ctx, id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p, err := payload[console.OrderPayload](r)
	if err != nil || r.Action != console.ActionApproveOrder || p.Order != o.ID || !holds(p.Names, names) {
		return false, nil
	}
	return h.wasSigned(ctx, r)
}

func holds(all, some []bulkhead.Identifier) bool {
	return !slices.ContainsFunc(some, func(n bulkhead.Identifier) bool { return !slices.Contains(all, n) })
}

// personFor looks for the newest key that was bound to a person whose row says that he is still there.
func (h *House) personFor(ctx context.Context, person string, o bulkhead.Order, names []bulkhead.Identifier, signature []byte) (bool, error) {
	partner, name, _ := strings.Cut(person, "/")
	people, err := h.store.People(ctx, partner)
	if err != nil {
		return false, err
	}
	here := slices.ContainsFunc(people, func(p bulkhead.PartnerPerson) bool { return p.Name == name && p.RevokedAt.IsZero() })
	if !here || len(signature) == 0 || !holds(o.Identifiers, names) {
		return false, nil
	}
	requests, err := h.store.ActionRequests(ctx, console.ActionBindPerson)
	if err != nil {
		return false, err
	}
	for _, r := range slices.Backward(requests) {
		p, err := payload[approval.PersonPayload](r)
		if err != nil || p.Partner != partner || p.Name != name {
			continue
		}
		signed, err := h.wasSigned(ctx, r)
		if err != nil {
			return false, err
		}
		if signed { // an older key is a lost one
			return p.SignedOrder(o.ID, o.Identifiers, signature), nil
		}
	}
	return false, nil
}

// bindPersonApproved records that a key is a person's. Whoever judges reads it from the request.
func (h *House) bindPersonApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	p, err := payload[approval.PersonPayload](r)
	if err != nil {
		return err
	}
	people, err := h.store.People(ctx, p.Partner)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(people, func(x bulkhead.PartnerPerson) bool { return x.Name == p.Name && x.RevokedAt.IsZero() }) {
		return bulkhead.Faultf(bulkhead.KindNotFound, "there is no person %s at partner %s", p.Name, p.Partner).WithHint("bulkhead partner person add " + p.Partner + " " + p.Name)
	}
	_, err = h.store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvPersonKey, At: h.now().UTC(), Actor: "role:quorum", Ref: p.Partner + "/" + p.Name, KeyHash: bulkhead.Digest(p.PublicKey), Digest: r.Digest,
		Detail: "bound by request " + r.ID})
	return err
}
