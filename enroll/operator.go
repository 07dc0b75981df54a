package enroll

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"bulkhead"
)

// ErrPending is the cause of the fault with which a request that was handed in directly ends when issuing it takes too
// long. Its order goes on; the same request, repeated through Enroll or Reenroll, gets the certificate.
var ErrPending = errors.New("the order is still being processed")

// operatorReuse is how long a person's word for a name stands: for the one order it was given for.
const operatorReuse = time.Hour

// Upload is a certification request handed in directly, without the ACME dance.
type Upload struct {
	CSR       []byte // DER; its names are the order's names
	Profile   string
	Authority bulkhead.AuthorityID
	Replaces  bulkhead.CertificateRef
}

// OperatorOrder issues on an operator's word for names inside the own names: the validation recorded is
// operator-approval, CAA is looked at like for everybody; all of it and the order, in processing, are one transaction. actor is "operator:NAME"; acct is the house's account.
func (s *Service) OperatorOrder(ctx context.Context, actor string, acct bulkhead.Account, up Upload) (bulkhead.IssuedCertificate, error) {
	if !acct.Operator || acct.State != bulkhead.AccountValid {
		return bulkhead.IssuedCertificate{}, bulkhead.NewFault(bulkhead.KindForbidden, "the account may not order on an operator's word")
	}
	r, err := s.admitUpload(ctx, acct, up)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	o, err := s.draft(ctx, acct, OrderRequest{Identifiers: r.Names, Profile: up.Profile, Authority: up.Authority, Replaces: up.Replaces})
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	if err := s.ownOnly(o.Identifiers); err != nil {
		s.record(ctx, s.refusal(acct.ID, "", err))
		return bulkhead.IssuedCertificate{}, err
	}
	if _, err := s.gate(ctx, acct, o, bulkhead.OperatorApproval); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	fresh := make([]bulkhead.Authorization, len(o.Identifiers))
	validations := make([]bulkhead.Validation, len(fresh))
	ev := make([]bulkhead.Evidence, len(fresh))
	for i, id := range o.Identifiers {
		if fresh[i], validations[i], ev[i], err = s.vouched(acct, id, actor); err != nil {
			return bulkhead.IssuedCertificate{}, err
		}
		o.Authorizations = append(o.Authorizations, fresh[i].ID)
	}
	if s.highValue(o) { // it waits for a second person, whom the order has to be shown to
		if err := s.cfg.Store.PlaceOrder(ctx, o, fresh, validations, nil, ev...); err != nil {
			return bulkhead.IssuedCertificate{}, err
		}
		return s.finish(ctx, acct, o.ID, up.CSR)
	}
	if err := matchCSR(r, acct, o.Identifiers); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	if err := s.admitCertificate(ctx, acct, o); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	look := s.lookAtOnce(ctx, o, fresh)
	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, r.DER, s.now()
	if err := s.cfg.Store.PlaceOrder(ctx, o, fresh, validations, look.checks, append(ev, look.evidence...)...); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	end, err := s.awaitIssue(ctx, o, look)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return s.outcome(ctx, acct, end)
}

// vouched is a new authorisation that is valid on an operator's word, with its validation row and leaf.
func (s *Service) vouched(acct bulkhead.Account, id bulkhead.Identifier, actor string) (a bulkhead.Authorization, v bulkhead.Validation, ev bulkhead.Evidence, err error) {
	if a, err = s.newAuthorization(acct, id, bulkhead.OperatorApproval); err != nil {
		return a, v, ev, err
	}
	row, err := s.placedID()
	if err != nil {
		return a, v, ev, err
	}
	now, detail := s.now(), "own name, approved by "+actor
	c := &a.Challenges[0]
	c.State, c.ValidatedAt = bulkhead.ChallengeValid, now
	a.State, a.ExpiresAt = bulkhead.AuthorizationValid, now.Add(operatorReuse)
	v = bulkhead.Validation{ID: row, AuthorizationID: a.ID, AccountID: a.AccountID, Identifier: a.Identifier, Wildcard: a.Wildcard,
		Method: c.Method, At: now, ReuseUntil: a.ExpiresAt, Detail: clip(detail)}
	ev = s.validationEvidence(a, c.Method, "valid: "+detail)
	ev.Actor = actor
	return a, v, ev, nil
}

// SubmitCSR issues for an account that holds valid authorisations for every name of the request already; an
// operator's account is served by OperatorOrder. Names without one fail with KindUnauthorized and change nothing.
func (s *Service) SubmitCSR(ctx context.Context, acct bulkhead.Account, up Upload) (bulkhead.IssuedCertificate, error) {
	r, err := s.admitUpload(ctx, acct, up)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	stops, err := s.cfg.Store.Stops(ctx)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	if err := stops.Refuse(bulkhead.StopSubject{Account: acct.ID, Partner: acct.Partner}); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	held, err := s.reusable(ctx, acct, r.Names)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	var subs []bulkhead.SubFault
	for _, id := range r.Names {
		if _, ok := held[id]; !ok {
			subs = append(subs, bulkhead.SubFault{Identifier: id, Kind: bulkhead.KindUnauthorized, Detail: "the account has no valid authorization"})
		}
	}
	if len(subs) > 0 {
		return bulkhead.IssuedCertificate{}, joinSubs(subs).WithHint("show control of the names through ACME, or ask an operator for names of the house")
	}
	if err := stops.Refuse(bulkhead.StopSubject{Methods: methodsOf(slices.Collect(maps.Values(held)))}); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	o, err := s.NewOrder(ctx, acct, OrderRequest{Identifiers: r.Names, Profile: up.Profile, Authority: up.Authority, Replaces: up.Replaces})
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return s.finish(ctx, acct, o.ID, up.CSR)
}

// admitUpload checks a request before any row is made for it.
func (s *Service) admitUpload(ctx context.Context, acct bulkhead.Account, up Upload) (Request, error) {
	r, err := parseCSR(s.cfg.Requests, up.CSR)
	if err != nil {
		return r, err
	}
	if len(r.Names) == 0 {
		return r, bulkhead.NewFault(bulkhead.KindBadCSR, "the request names nothing").WithHint("put the names into the subject alternative name")
	}
	if err := matchCSR(r, acct, r.Names); err != nil {
		return r, err
	}
	err = s.admitKey(ctx, r)
	s.blockedKeySeen(ctx, acct.ID, "", r, err)
	return r, err
}

func (s *Service) ownOnly(ids []bulkhead.Identifier) error {
	var subs []bulkhead.SubFault
	for _, id := range ids {
		if !s.own.Contains(id) {
			subs = append(subs, bulkhead.SubFault{Identifier: id, Kind: bulkhead.KindRejectedIdentifier, Detail: "not one of the house's own names (own_names)"})
		}
	}
	if len(subs) == 0 {
		return nil
	}
	return joinSubs(subs).WithHint("order it through ACME, which validates control of the name, or add it to own_names")
}

// finish finalizes and waits for the end, which the caller's context bounds.
func (s *Service) finish(ctx context.Context, acct bulkhead.Account, orderID string, csr []byte) (bulkhead.IssuedCertificate, error) {
	o, err := s.Finalize(ctx, acct, orderID, csr)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return s.outcome(ctx, acct, ended{order: o})
}

// outcome waits for the end of an order that was finalized.
func (s *Service) outcome(ctx context.Context, acct bulkhead.Account, end ended) (bulkhead.IssuedCertificate, error) {
	if end.order.State == bulkhead.OrderProcessing {
		var err error
		if end, err = s.awaitEnd(ctx, end.order); err != nil {
			return bulkhead.IssuedCertificate{}, err
		}
	}
	o := end.order
	switch {
	case end.issued != nil && o.AccountID == acct.ID:
		return *end.issued, nil // durable before the signer handed it out
	case o.State == bulkhead.OrderValid:
		return s.Certificate(ctx, acct, o.Certificate)
	case o.Problem != nil:
		return bulkhead.IssuedCertificate{}, o.Problem
	}
	if held, err := s.waits(ctx, o); err == nil && held {
		return bulkhead.IssuedCertificate{}, bulkhead.Faultf(bulkhead.KindStopped, "issuance was stopped before order %s was signed; it is finished by itself when issuance resumes", o.ID).
			WithHint("see: bulkhead issuance status").WithRetry(stoppedRetry).WithCause(ErrPending)
	}
	return bulkhead.IssuedCertificate{}, bulkhead.Faultf(bulkhead.KindUnavailable, "order %s is still %s and will be finished by itself", o.ID, o.State).
		WithHint("see: bulkhead cert list").WithRetry(time.Minute).WithCause(ErrPending)
}

// awaitEnd joins the issuance under way for as long as issuing one order may take.
func (s *Service) awaitEnd(ctx context.Context, o bulkhead.Order) (ended, error) {
	t, err := s.startIssue(o.ID)
	if err != nil {
		return ended{order: o}, nil
	}
	late := time.NewTimer(s.limits.IssueTimeout)
	defer late.Stop()
	select {
	case <-t.done:
		if end, ok := t.left.(ended); ok {
			return end, nil
		}
	case <-late.C:
	case <-ctx.Done():
	}
	o, err = s.present(context.WithoutCancel(ctx), o.ID)
	return ended{order: o}, err
}
