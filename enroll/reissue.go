package enroll

import (
	"context"
	"errors"
	"slices"

	"bulkhead"
)

// Campaigns is what a mass replacement asks of enrolment.
type Campaigns interface {
	// RenewalWindow is the renewal information of a certificate that a campaign replaces; false for any other.
	RenewalWindow(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.RenewalInfo, bool, error)
	// Epoch changes whenever this process may have changed a window.
	Epoch() int64
	// IsMember reports whether an order is the replacement that a campaign asks for.
	IsMember(ctx context.Context, account string, replaces bulkhead.CertificateRef, names []bulkhead.Identifier) (bool, error)
	// KeySeen keeps that a blocked key came back in a request (D12).
	KeySeen(ctx context.Context, account, order string, key bulkhead.Hash) error
}

// errBlockedKey is the cause of a refusal because of a blocked key.
var errBlockedKey = errors.New("the key is blocked")

// blockedKeySeen tells the campaigns of a blocked key; the refusal stands whether or not that can be kept.
func (s *Service) blockedKeySeen(ctx context.Context, account, order string, r Request, refusal error) {
	if s.cfg.Campaigns == nil || !errors.Is(refusal, errBlockedKey) {
		return
	}
	if err := s.cfg.Campaigns.KeySeen(ctx, account, order, bulkhead.Digest(r.SPKI)); err != nil {
		s.log.ErrorContext(ctx, "keeping that a blocked key came back", "account", account, "error", err)
	}
}

// member reports whether a campaign asked for the order; one that cannot be asked frees nobody from a limit.
func (s *Service) member(ctx context.Context, acct bulkhead.Account, replaces bulkhead.CertificateRef, ids []bulkhead.Identifier) bool {
	if s.cfg.Campaigns == nil || len(s.cfg.Rates.Rates)+len(s.cfg.Rates.Overrides) == 0 {
		return false
	}
	yes, err := s.cfg.Campaigns.IsMember(ctx, acct.ID, replaces, ids)
	if err != nil {
		s.log.ErrorContext(ctx, "asking whether an order belongs to a campaign", "account", acct.ID, "error", err)
	}
	return yes && err == nil
}

// Reissue replaces a certificate of the account with one for the same names and the key of the request. With a method that
// differs from how a name was shown, the validation there is is given up and a new one is asked for: KindUserActionRequired
// names the order whose challenges wait, and the same request later finishes it. The same request repeated gets the same
// certificate.
func (s *Service) Reissue(ctx context.Context, accountID string, old bulkhead.Certificate, csr []byte, method bulkhead.Method) (bulkhead.IssuedCertificate, error) {
	var none bulkhead.IssuedCertificate
	acct, err := s.Account(ctx, accountID)
	if err != nil {
		return none, err
	}
	up := Upload{CSR: csr, Replaces: old.CertificateRef}
	r, err := s.admitUpload(ctx, acct, up)
	if err != nil {
		return none, err
	}
	if !slices.Equal(r.Names, sortNames(old.Names)) {
		return none, bulkhead.Faultf(bulkhead.KindBadCSR, "the request names %s, the certificate to replace %s", nameList(r.Names), nameList(sortNames(old.Names))).
			WithHint("make a request for exactly the names of the old certificate")
	}
	if up, err = s.renewal(ctx, old, up); err != nil {
		return none, err
	}
	got, found, err := s.repeated(ctx, acct, up, r)
	if err != nil || found {
		return got, err
	}
	if method != "" && !acct.Operator {
		if o, open, err := s.revalidate(ctx, acct, up, r, method); err != nil || open {
			if bulkhead.KindOf(err) == bulkhead.KindAlreadyReplaced && bulkhead.AsFault(err).Hint == "" {
				err = s.replacedAlready(ctx, old, method)
			}
			if err != nil {
				return none, err
			}
			return s.finish(ctx, acct, o.ID, csr)
		}
	}
	return replacing(up, old, func(up Upload) (bulkhead.IssuedCertificate, error) { return s.direct(ctx, acct, up) })
}

// replacedAlready says what to do where a certificate that was replaced is to be replaced again by another validation: an order
// claims a certificate once, so it is the newest one that is replaced.
func (s *Service) replacedAlready(ctx context.Context, old bulkhead.Certificate, method bulkhead.Method) error {
	newest := old
	for range 100 { // replacements of replacements
		c, _, err := s.cfg.Store.Certificate(ctx, newest.CertificateRef)
		if err != nil {
			return err
		}
		if newest = c; c.ReplacedBy == (bulkhead.CertificateRef{}) {
			break
		}
		newest.CertificateRef = c.ReplacedBy
	}
	switch {
	case newest.CertificateRef == old.CertificateRef:
		return bulkhead.Faultf(bulkhead.KindAlreadyReplaced, "certificate %s is being replaced by another order", old.Serial).
			WithHint("let that order end; without --method this reissue goes on by the validation there is")
	case newest.State != bulkhead.Issued:
		return bulkhead.Faultf(bulkhead.KindAlreadyReplaced, "certificate %s was replaced by %s, which is %s", old.Serial, newest.Serial, newest.State).
			WithHint("order a new certificate over ACME and answer by " + string(method) + "; without --method this reissue goes on by the validation there is")
	}
	return bulkhead.Faultf(bulkhead.KindAlreadyReplaced, "certificate %s was replaced by %s already, which is the one to replace now", old.Serial, newest.Serial).
		WithHint("bulkhead ticket issue " + newest.OrderID + " NAME, and redeem that code with --method " + string(method) + "; without --method this reissue goes on by the validation there is")
}

// revalidate sees to it that the names are shown by the method asked for. It returns the order that carries the new
// validation: ready to finish, or, with KindUserActionRequired, waiting for its challenges. open is false when the names
// are shown in that way already.
func (s *Service) revalidate(ctx context.Context, acct bulkhead.Account, up Upload, r Request, method bulkhead.Method) (o bulkhead.Order, open bool, err error) {
	for _, id := range r.Names {
		if !slices.Contains(s.methodsFor(id), method) {
			return o, false, bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "%q cannot be shown by %s", id.Value, method).WithHint("http-01, dns-01 or tls-alpn-01, as the name allows")
		}
	}
	if o, open, err = s.openReissue(ctx, acct, up.Replaces); err != nil || open {
		return o, open, err
	}
	held, err := s.reusable(ctx, acct, r.Names)
	if err != nil {
		return o, false, err
	}
	other := 0
	for _, a := range held {
		if methodOf(a) != method {
			other++
		}
	}
	if other == 0 && len(held) == len(r.Names) {
		return o, false, nil
	}
	// Before anything is given up: an order claims a certificate once.
	if now, _, err := s.cfg.Store.Certificate(ctx, up.Replaces); err != nil || now.ReplacedBy != (bulkhead.CertificateRef{}) {
		if err == nil {
			err = s.replacedAlready(ctx, now, method)
		}
		return o, false, err
	}
	for _, a := range held {
		if methodOf(a) != method {
			if _, err := s.DeactivateAuthorization(ctx, acct, a.ID); err != nil {
				return o, false, err
			}
		}
	}
	if acct.Thumbprint == "" {
		return o, false, bulkhead.NewFault(bulkhead.KindUserActionRequired, "a new validation takes an ACME account, and this account has only a token").
			WithHint("order over ACME, or leave the method as it was")
	}
	if o, err = s.draft(ctx, acct, OrderRequest{Identifiers: r.Names, Profile: up.Profile, Authority: up.Authority, Replaces: up.Replaces}); err != nil {
		return o, false, err
	}
	var fresh []bulkhead.Authorization
	for _, id := range o.Identifiers {
		if a, ok := held[id]; ok && methodOf(a) == method {
			o.Authorizations = append(o.Authorizations, a.ID)
			continue
		}
		a, err := s.newAuthorization(acct, id, method)
		if err != nil {
			return o, false, err
		}
		fresh, o.Authorizations = append(fresh, a), append(o.Authorizations, a.ID)
	}
	if err := s.cfg.Store.CreateOrder(ctx, o, fresh); err != nil {
		return o, false, err
	}
	return o, true, waitsForChallenge(o)
}

// openReissue finds the order that claims the certificate and waits for its challenges, or is ready.
func (s *Service) openReissue(ctx context.Context, acct bulkhead.Account, ref bulkhead.CertificateRef) (bulkhead.Order, bool, error) {
	all, err := s.cfg.Store.OpenOrdersByAccount(ctx, acct.ID, 1000)
	if err != nil {
		return bulkhead.Order{}, false, err
	}
	for _, o := range all {
		if o.Replaces != ref {
			continue
		}
		o, err := s.settle(ctx, o)
		switch {
		case err != nil:
			return o, false, err
		case o.State == bulkhead.OrderPending:
			return o, true, waitsForChallenge(o)
		case o.State == bulkhead.OrderReady:
			return o, true, nil
		}
	}
	return bulkhead.Order{}, false, nil
}

func waitsForChallenge(o bulkhead.Order) error {
	return bulkhead.Faultf(bulkhead.KindUserActionRequired, "the names must be shown anew: order %s waits for its challenges", o.ID).
		WithHint("answer the challenges over ACME, then ask again with the same request")
}
