package signer

import (
	"context"
	"errors"
	"slices"

	"bulkhead"
	"bulkhead/pki/profile"
)

// mandate is what the record gives a request: what a stop could cover, on what the order rests, and the volume to count
// it against.
type mandate struct {
	subject  bulkhead.StopSubject
	stops    bulkhead.Stops
	evidence *bulkhead.OrderEvidence // nil when there is no such order
	volume   *bulkhead.Volume
}

// mandate asks the record, and nobody else, whether the account may have this certificate now: it exists and is in
// office, no stop covers it, and its registration partner may bring such an order. A caller that lies about any of it
// is refused here, as one that was taken over would be.
func (s *Signer) mandate(ctx context.Context, req bulkhead.CertificateRequest, p *profile.Profile, names []bulkhead.Identifier) (mandate, error) {
	if req.AccountID == "" || req.OrderID == "" {
		return mandate{}, bulkhead.NewFault(bulkhead.KindMalformed, "a certificate needs an account and an order").WithHint("place an order first")
	}
	g, err := s.groundsOf(ctx, req.AccountID, req.OrderID)
	if err != nil {
		return mandate{}, err
	}
	st := g.standing
	m := mandate{stops: st.Stops, evidence: g.evidence, subject: bulkhead.StopSubject{Issuer: req.Authority, Profile: p.Name, Partner: st.Account.Partner, Account: req.AccountID}}
	if err := m.stops.Refuse(m.subject); err != nil {
		return m, err
	}
	switch {
	case st.Account.ID == "":
		return m, bulkhead.NewFault(bulkhead.KindUnauthorized, "there is no such account").WithHint("register an account, then place an order")
	case st.Account.State != bulkhead.AccountValid:
		return m, bulkhead.Faultf(bulkhead.KindUnauthorized, "the account is %s", st.Account.State).WithHint("ask the house about the account")
	}
	if err := st.Account.MayOrder(); err != nil {
		return m, err
	}
	if st.Partner != nil {
		now := s.now()
		if err := st.Partner.Permits(p.Name, names, now); err != nil {
			return m, err
		}
		m.volume = &bulkhead.Volume{Partner: st.Partner.ID, At: now, PerHour: st.Partner.Scope.PerHour, PerDay: st.Partner.Scope.PerDay}
	}
	return m, s.seconded(ctx, st.Account, req.OrderID, names)
}

// groundsOf reads an account's standing and on what an order rests, as the record has them now.
func (s *Signer) groundsOf(ctx context.Context, account, order string) (grounds, error) {
	g, err := s.standings.do(ctx.Done(), asker{account, order})
	if errors.Is(err, errNotTaken) {
		return g, unavailable("the request was given up", ctx.Err())
	}
	return g, err
}

// seconded wants the word of a second person for an order with a name of the high-value list.
func (s *Signer) seconded(ctx context.Context, a bulkhead.Account, orderID string, names []bulkhead.Identifier) error {
	high := slices.DeleteFunc(slices.Clone(names), func(n bulkhead.Identifier) bool { return !bulkhead.WithinSuffixes(s.cfg.HighValue, n) })
	if len(high) == 0 {
		return nil
	}
	var words []bulkhead.SecondApproval
	var err error
	if s.cfg.Words != nil {
		words, err = s.cfg.Words.Seconded(ctx, orderID, high)
	} else {
		words, err = s.cfg.Store.SecondApprovals(ctx, orderID)
	}
	if err != nil {
		return err
	}
	if !bulkhead.SecondWord(a, words) {
		return bulkhead.NewFault(bulkhead.KindGate, "the order has a name of the high-value list and no second approval").WithHint("have a second person approve it: bulkhead partner approve ORDER, or bulkhead approve")
	}
	return nil
}

// mayStill asks the record right before the signature: is the key blocked by now (P10), is issuance stopped (P7)? The
// house's own certificates go on while subscribers' are stopped, because status outlives issuance (P8) and a house under
// attack has to renew its listeners; only a stop of their very issuer reaches those of listeners.
func (s *Signer) mayStill(ctx context.Context, key bulkhead.Hash, kind bulkhead.CertificateKind, x bulkhead.StopSubject) error {
	stops, err := s.blocks.do(ctx.Done(), key)
	if errors.Is(err, errNotTaken) {
		return unavailable("the request was given up", ctx.Err())
	}
	if err != nil {
		return err
	}
	return applicable(stops, kind).Refuse(x)
}

// applicable are the stops that concern certificates of a kind.
func applicable(all bulkhead.Stops, kind bulkhead.CertificateKind) bulkhead.Stops {
	switch kind {
	case bulkhead.LeafCertificate, bulkhead.Precertificate:
		return all
	case bulkhead.InfraCertificate:
		return all.Of(bulkhead.StopIssuer)
	default:
		return nil
	}
}
