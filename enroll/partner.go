package enroll

import (
	"context"
	"slices"

	"bulkhead"
)

// PartnerSeen is what a registration partner's customers ordered, or were refused.
type PartnerSeen struct {
	Partner string
	Account string
	Names   []bulkhead.Identifier
	Refused *bulkhead.Fault // nil for an order that was taken
}

// partnerGate holds an order against the bounds of the partner that brought the account, and tells what it saw.
func (s *Service) partnerGate(ctx context.Context, st bulkhead.Standing, o bulkhead.Order) error {
	if st.Partner == nil {
		return nil
	}
	err := st.Partner.Permits(o.Profile, o.Identifiers, s.now())
	if err != nil {
		s.partnerRefused(ctx, st.Partner.ID, o, bulkhead.AsFault(err))
	}
	return err
}

func (s *Service) partnerRefused(ctx context.Context, partner string, o bulkhead.Order, f *bulkhead.Fault) {
	s.record(ctx, bulkhead.Evidence{Kind: bulkhead.EvPartnerRefused, At: s.now(), Actor: accountActor(o.AccountID), Ref: partner,
		Detail: clip("order " + o.ID + ": " + string(f.Kind) + ": " + f.Detail)})
	s.see(PartnerSeen{Partner: partner, Account: o.AccountID, Names: o.Identifiers, Refused: f})
}

func (s *Service) see(x PartnerSeen) {
	if s.cfg.Seen != nil && x.Partner != "" {
		s.cfg.Seen(x)
	}
}

// highValue reports whether an order has a name of the high-value list.
func (s *Service) highValue(o bulkhead.Order) bool {
	return slices.ContainsFunc(o.Identifiers, func(n bulkhead.Identifier) bool { return bulkhead.WithinSuffixes(s.cfg.Policy.HighValue, n) })
}

// secondGate wants a second person's approval for an order with a name of the high-value list. The order stays ready
// meanwhile, so that its client may finalize once the word is there.
func (s *Service) secondGate(ctx context.Context, acct bulkhead.Account, o bulkhead.Order) error {
	if !s.highValue(o) {
		return nil
	}
	words, err := s.cfg.Store.SecondApprovals(ctx, o.ID)
	if err == nil {
		words, err = s.counted(ctx, o, words)
	}
	if err != nil || bulkhead.SecondWord(acct, words) {
		return err
	}
	f := bulkhead.Faultf(bulkhead.KindUserActionRequired, "order %s has a name of the high-value list and waits for a second person's approval", o.ID).
		WithHint("an operator asks for it with: bulkhead partner approve " + o.ID + "; then finalize again")
	s.record(ctx, s.refusal(acct.ID, o.ID, f))
	if acct.Partner != "" {
		s.partnerRefused(ctx, acct.Partner, o, f)
	}
	return f
}

// counted leaves those second approvals that count with the signer.
func (s *Service) counted(ctx context.Context, o bulkhead.Order, words []bulkhead.SecondApproval) ([]bulkhead.SecondApproval, error) {
	if s.cfg.Seconded == nil {
		return words, nil
	}
	return s.cfg.Seconded(ctx, o, words)
}

// HighValueNames returns the names of an order that take a second approval.
func (s *Service) HighValueNames(o bulkhead.Order) (names []bulkhead.Identifier) {
	for _, n := range o.Identifiers {
		if bulkhead.WithinSuffixes(s.cfg.Policy.HighValue, n) {
			names = append(names, n)
		}
	}
	return names
}

// OrderToApprove returns an order; KindNotFound when there is none.
func (s *Service) OrderToApprove(ctx context.Context, orderID string) (bulkhead.Order, error) {
	return s.cfg.Store.Order(ctx, orderID)
}

// ApproveOrder records a second person's approval of an order (SecondWord decides whether it counts). by is a request
// of the quorum, "request:ID", or a person of the partner that brought the account, with a signature; person is "" for the
// former.
func (s *Service) ApproveOrder(ctx context.Context, by bulkhead.PartnerPerson, request, orderID string, signature []byte) (bulkhead.Order, error) {
	o, err := s.cfg.Store.Order(ctx, orderID)
	if err != nil {
		return o, err
	}
	acct, err := s.cfg.Store.Account(ctx, o.AccountID)
	if err != nil {
		return o, err
	}
	w := bulkhead.SecondApproval{OrderID: o.ID, Actor: "request:" + request, Signature: signature, At: s.now()}
	if request == "" {
		if acct.Partner != by.Partner || by.Partner == "" {
			return o, bulkhead.Faultf(bulkhead.KindNotFound, "there is no order %s", orderID)
		}
		w.Actor = by.Actor()
	}
	if !bulkhead.SecondWord(acct, []bulkhead.SecondApproval{w}) {
		return o, bulkhead.NewFault(bulkhead.KindGate, "who made the account cannot be its second person").WithHint("another person approves")
	}
	if o.State != bulkhead.OrderPending && o.State != bulkhead.OrderReady {
		return o, bulkhead.Faultf(bulkhead.KindConflict, "order %s is %s", o.ID, o.State)
	}
	counts, err := s.counted(ctx, o, []bulkhead.SecondApproval{w})
	if err != nil {
		return o, err
	}
	if len(counts) == 0 {
		return o, bulkhead.NewFault(bulkhead.KindGate, "the approval is not signed by a key that two operators bound to "+w.Actor+", over exactly this order").
			WithHint("bind one: bulkhead partner person key PARTNER NAME --public-key FILE; then: bulkhead partner approve " + o.ID + " --key FILE")
	}
	names := ""
	for _, n := range o.Identifiers {
		names += " " + n.Value
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvSecondApproval, At: s.now(), Actor: w.Actor, Ref: o.ID, Detail: clip("order of account " + o.AccountID + ":" + names)}
	err = s.cfg.Store.PutSecondApproval(ctx, w, ev)
	return o, ignoreConflict(err)
}
