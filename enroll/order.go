package enroll

import (
	"context"
	"encoding/base64"
	"slices"
	"time"

	"bulkhead"
)

// OrderRequest asks for a certificate over names.
type OrderRequest struct {
	Identifiers []bulkhead.Identifier
	Profile     string               // "" means the default
	Authority   bulkhead.AuthorityID // "" means the profile's default
	Replaces    bulkhead.CertificateRef
}

// NewOrder opens an order, resting on validations that are still good where there are some. It fails with
// KindInvalidProfile, KindAlreadyReplaced, or per identifier with KindUnsupportedIdentifier and
// KindRejectedIdentifier, and with KindRateLimited; with KindStopped while issuance is stopped for it, KindForbidden
// beyond the bounds of the account's registration partner, KindUserActionRequired when its key must be changed first.
func (s *Service) NewOrder(ctx context.Context, acct bulkhead.Account, req OrderRequest) (bulkhead.Order, error) {
	if acct.State != bulkhead.AccountValid {
		return bulkhead.Order{}, bulkhead.Faultf(bulkhead.KindUnauthorized, "the account is %s", acct.State)
	}
	o, err := s.draft(ctx, acct, req)
	if err != nil {
		if k := bulkhead.KindOf(err); k == bulkhead.KindRejectedIdentifier || k == bulkhead.KindCompound {
			s.record(ctx, s.refusal(acct.ID, "", err))
		}
		return bulkhead.Order{}, err
	}
	stops, err := s.gate(ctx, acct, o)
	if err != nil {
		return bulkhead.Order{}, err
	}
	reusable, err := s.reusable(ctx, acct, o.Identifiers)
	if err != nil {
		return bulkhead.Order{}, err
	}
	without(reusable, stops)
	var unproved []bulkhead.Identifier
	for _, id := range o.Identifiers {
		if _, ok := reusable[id]; !ok {
			unproved = append(unproved, id)
		}
	}
	if err := s.admitOrder(ctx, acct, o, unproved); err != nil {
		return bulkhead.Order{}, err
	}
	var fresh []bulkhead.Authorization
	allValid := true
	for _, id := range o.Identifiers {
		if a, ok := reusable[id]; ok {
			o.Authorizations = append(o.Authorizations, a.ID)
			o.ExpiresAt = earlier(o.ExpiresAt, a.ExpiresAt)
			continue
		}
		methods, err := s.openMethods(id, stops)
		if err != nil {
			return bulkhead.Order{}, err
		}
		a, err := s.newAuthorization(acct, id, methods...)
		if err != nil {
			return bulkhead.Order{}, err
		}
		fresh, allValid = append(fresh, a), false
		o.Authorizations = append(o.Authorizations, a.ID)
		o.ExpiresAt = earlier(o.ExpiresAt, a.ExpiresAt)
	}
	if allValid {
		o.State = bulkhead.OrderReady
	}
	if err := s.cfg.Store.CreateOrder(ctx, o, fresh); err != nil {
		return o, err
	}
	s.see(PartnerSeen{Partner: acct.Partner, Account: acct.ID, Names: o.Identifiers})
	return o, nil
}

// draft fills an order from a request after all checks, without authorisations.
func (s *Service) draft(ctx context.Context, acct bulkhead.Account, req OrderRequest) (bulkhead.Order, error) {
	name := req.Profile
	if name == "" {
		name = s.cfg.DefaultProfile
	}
	p, err := s.cfg.Book.Profile(ctx, name)
	if err != nil {
		return bulkhead.Order{}, err
	}
	ids, err := s.normalise(p, req.Identifiers)
	if err != nil {
		return bulkhead.Order{}, err
	}
	authority, err := s.authorityFor(ctx, name, req.Authority)
	if err != nil {
		return bulkhead.Order{}, err
	}
	if err := s.checkReplaces(ctx, acct, req.Replaces, ids); err != nil {
		return bulkhead.Order{}, err
	}
	id, err := s.placedID()
	if err != nil {
		return bulkhead.Order{}, err
	}
	now := s.now()
	return bulkhead.Order{ID: id, AccountID: acct.ID, State: bulkhead.OrderPending, Identifiers: ids, Profile: name,
		Authority: authority, Replaces: req.Replaces, CreatedAt: now, ExpiresAt: now.Add(s.limits.OrderLife)}, nil
}

// authorityFor picks the authority of an order; an authority asked for by name must be able to issue.
func (s *Service) authorityFor(ctx context.Context, profile string, asked bulkhead.AuthorityID) (bulkhead.AuthorityID, error) {
	if asked == "" && s.cfg.DefaultAuthority != nil {
		return s.cfg.DefaultAuthority(profile), nil
	}
	if asked == "" {
		p, err := s.cfg.Book.Profile(ctx, profile)
		if err != nil {
			return "", err
		}
		return p.DefaultAuthority, nil
	}
	e, err := s.Entrance(ctx, string(asked))
	if err != nil {
		return "", err
	}
	if e.Authority == "" {
		return "", bulkhead.Faultf(bulkhead.KindNotFound, "there is no issuing authority named %q", asked)
	}
	if e.Authority != asked { // who names an issuer gets that one
		return "", bulkhead.Faultf(bulkhead.KindNotFound, "authority %s issues no more; %s succeeded it", asked, e.Authority).WithHint("order from " + string(e.Authority) + ", or name no issuer")
	}
	return e.Authority, nil
}

// checkReplaces applies RFC 9773 section 5: same account, at least one identifier in common, not yet replaced.
func (s *Service) checkReplaces(ctx context.Context, acct bulkhead.Account, ref bulkhead.CertificateRef, ids []bulkhead.Identifier) error {
	if ref == (bulkhead.CertificateRef{}) {
		return nil
	}
	c, _, err := s.cfg.Store.Certificate(ctx, ref)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the certificate to replace is not known here")
	}
	if err != nil {
		return err
	}
	switch {
	case c.AccountID != acct.ID:
		return bulkhead.NewFault(bulkhead.KindForbidden, "the certificate to replace belongs to another account")
	case c.ReplacedBy != (bulkhead.CertificateRef{}):
		return bulkhead.NewFault(bulkhead.KindAlreadyReplaced, "the certificate has been replaced already")
	case !slices.ContainsFunc(c.Names, func(n bulkhead.Identifier) bool { return slices.Contains(ids, n) }):
		return bulkhead.NewFault(bulkhead.KindMalformed, "the order has no identifier of the certificate to replace")
	}
	return nil
}

// reusable finds valid authorisations by the identifier as ordered. A person's word for one request is not reused.
func (s *Service) reusable(ctx context.Context, acct bulkhead.Account, ids []bulkhead.Identifier) (map[bulkhead.Identifier]bulkhead.Authorization, error) {
	const margin = time.Hour // time left to finalize
	list, err := s.cfg.Store.ReusableAuthorizations(ctx, acct.ID, ids, s.now().Add(margin))
	if err != nil {
		return nil, err
	}
	out := map[bulkhead.Identifier]bulkhead.Authorization{}
	for _, a := range list {
		if methodOf(a) == bulkhead.OperatorApproval || a.State != bulkhead.AuthorizationValid {
			continue
		}
		out[ordered(a)] = a
	}
	return out, nil
}

// ordered is the identifier of an authorisation as an order has it, with its wildcard label.
func ordered(a bulkhead.Authorization) bulkhead.Identifier {
	if a.Wildcard {
		return bulkhead.Identifier{Type: a.Identifier.Type, Value: "*." + a.Identifier.Value}
	}
	return a.Identifier
}

// methodOf is the method by which an authorisation became valid, "" when it is not.
func methodOf(a bulkhead.Authorization) bulkhead.Method {
	for _, c := range a.Challenges {
		if c.State == bulkhead.ChallengeValid {
			return c.Method
		}
	}
	return ""
}

// methodsFor says which methods can show control of a name: wildcards only dns-01 (BR 3.2.2.4.7), addresses never
// (RFC 8738 section 7).
func (s *Service) methodsFor(id bulkhead.Identifier) []bulkhead.Method {
	var out []bulkhead.Method
	for _, m := range s.methods {
		if id.Wildcard() && m != bulkhead.DNS01 || id.Type == bulkhead.IP && m == bulkhead.DNS01 {
			continue
		}
		out = append(out, m)
	}
	return out
}

func (s *Service) newAuthorization(acct bulkhead.Account, id bulkhead.Identifier, methods ...bulkhead.Method) (bulkhead.Authorization, error) {
	if len(methods) == 0 {
		return bulkhead.Authorization{}, bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "no enabled validation method can serve %q", id.Value)
	}
	now := s.now()
	a := bulkhead.Authorization{AccountID: acct.ID, Identifier: id.Base(), Wildcard: id.Wildcard(),
		State: bulkhead.AuthorizationPending, CreatedAt: now, ExpiresAt: now.Add(s.limits.AuthorizationLife)}
	var err error
	if a.ID, err = s.placedID(); err != nil {
		return a, err
	}
	p, err := s.random(32) // RFC 8555 section 8.1: at least 128 bits
	if err != nil {
		return a, err
	}
	for _, m := range methods {
		c := bulkhead.Challenge{Method: m, Token: base64.RawURLEncoding.EncodeToString(p), State: bulkhead.ChallengePending}
		if c.ID, err = s.newID(); err != nil {
			return a, err
		}
		a.Challenges = append(a.Challenges, c)
	}
	return a, nil
}

// Order returns an order of the account in its present state.
func (s *Service) Order(ctx context.Context, acct bulkhead.Account, id string) (bulkhead.Order, error) {
	o, _, err := s.orderOf(ctx, acct, id)
	return o, err
}

// orderOf is Order with its authorisations, which are there for a pending or ready order.
func (s *Service) orderOf(ctx context.Context, acct bulkhead.Account, id string) (bulkhead.Order, []bulkhead.Authorization, error) {
	o, err := s.cfg.Store.Order(ctx, id)
	if err != nil {
		return bulkhead.Order{}, nil, err
	}
	if o.AccountID != acct.ID {
		return bulkhead.Order{}, nil, bulkhead.NewFault(bulkhead.KindForbidden, "the order belongs to another account")
	}
	return s.settledOrder(ctx, o)
}

// Orders lists the ids of an account's orders, newest first, after the cursor.
func (s *Service) Orders(ctx context.Context, acct bulkhead.Account, after string, limit int) ([]string, error) {
	return s.cfg.Store.OrdersByAccount(ctx, acct.ID, after, limit)
}

// settle moves an order that is pending or ready to the state that its authorisations and the clock give it. Doing so
// at every look makes a crash between two writes harmless.
func (s *Service) settle(ctx context.Context, o bulkhead.Order) (bulkhead.Order, error) {
	o, _, err := s.settledOrder(ctx, o)
	return o, err
}

// settledOrder is settle, and returns the authorisations that it went by.
func (s *Service) settledOrder(ctx context.Context, o bulkhead.Order) (bulkhead.Order, []bulkhead.Authorization, error) {
	if o.State == bulkhead.OrderProcessing {
		o, err := s.fulfilled(ctx, o)
		return o, nil, err
	}
	if o.State != bulkhead.OrderPending && o.State != bulkhead.OrderReady {
		return o, nil, nil
	}
	if s.now().After(o.ExpiresAt) {
		o, err := s.refuse(ctx, o, bulkhead.NewFault(bulkhead.KindMalformed, "the order expired").WithHint("place a new order"))
		return o, nil, err
	}
	authzs, err := s.authorizations(ctx, o)
	if err != nil {
		return o, nil, err
	}
	o, err = s.settleBy(ctx, o, authzs)
	return o, authzs, err
}

// present is an order as it is now.
func (s *Service) present(ctx context.Context, id string) (bulkhead.Order, error) {
	o, err := s.cfg.Store.Order(ctx, id)
	if err != nil {
		return o, err
	}
	return s.fulfilled(ctx, o)
}

// fulfilled shows an order in processing as valid once its certificate is durable; the row follows by itself. One that
// replaces a certificate is valid when that is marked, which its row says.
func (s *Service) fulfilled(ctx context.Context, o bulkhead.Order) (bulkhead.Order, error) {
	if o.State != bulkhead.OrderProcessing || o.Replaces != (bulkhead.CertificateRef{}) {
		return o, nil
	}
	c, _, err := s.cfg.Store.CertificateByOrder(ctx, o.ID)
	switch bulkhead.KindOf(err) {
	case "":
		o.State, o.Certificate, o.Problem = bulkhead.OrderValid, c.CertificateRef, nil
	case bulkhead.KindNotFound:
		err = nil
	}
	return o, err
}

func (s *Service) settleBy(ctx context.Context, o bulkhead.Order, authzs []bulkhead.Authorization) (bulkhead.Order, error) {
	allValid := true
	var subs []bulkhead.SubFault
	for _, a := range authzs {
		switch a.State {
		case bulkhead.AuthorizationValid:
		case bulkhead.AuthorizationPending:
			allValid = false
		default:
			subs = append(subs, authorizationFault(a))
		}
	}
	switch {
	case len(subs) > 0:
		return s.refuse(ctx, o, joinSubs(subs))
	case allValid && o.State == bulkhead.OrderPending:
		o.State = bulkhead.OrderReady
		return s.moved(ctx, o, s.cfg.Store.UpdateOrder(ctx, o, bulkhead.OrderPending))
	}
	return o, nil
}

func authorizationFault(a bulkhead.Authorization) bulkhead.SubFault {
	for _, c := range a.Challenges {
		if c.Problem != nil {
			return bulkhead.SubFault{Identifier: ordered(a), Kind: c.Problem.Kind, Detail: c.Problem.Detail}
		}
	}
	return bulkhead.SubFault{Identifier: ordered(a), Kind: bulkhead.KindUnauthorized, Detail: "the authorization is " + string(a.State)}
}

// refuse ends an order with a problem, recording why.
func (s *Service) refuse(ctx context.Context, o bulkhead.Order, f *bulkhead.Fault) (bulkhead.Order, error) {
	expect := o.State
	o.State, o.Problem = bulkhead.OrderInvalid, f
	return s.moved(ctx, o, s.cfg.Store.UpdateOrder(ctx, o, expect, s.refusal(o.AccountID, o.ID, f)))
}

// moved returns o, or the stored row when somebody else moved it first.
func (s *Service) moved(ctx context.Context, o bulkhead.Order, err error) (bulkhead.Order, error) {
	if bulkhead.KindOf(err) == bulkhead.KindConflict {
		return s.cfg.Store.Order(ctx, o.ID)
	}
	return o, err
}

func (s *Service) refusal(accountID, orderID string, err error) bulkhead.Evidence {
	f := bulkhead.AsFault(err)
	return bulkhead.Evidence{Kind: bulkhead.EvOrderRefused, At: s.now(), Actor: accountActor(accountID), Ref: orderID,
		Detail: clip(string(f.Kind) + ": " + f.Detail)}
}

// record appends evidence of a refusal; the refusal stands even when the record is away, so that is logged only.
func (s *Service) record(ctx context.Context, ev bulkhead.Evidence) {
	if _, err := s.cfg.Store.AppendEvidence(ctx, ev); err != nil {
		s.log.ErrorContext(ctx, "recording a refusal", "error", err)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
