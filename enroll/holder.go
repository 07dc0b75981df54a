package enroll

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/policy"
)

// Holder is whoever showed the use of the key of a good certificate of ours. CertificateHolder makes it.
type Holder struct {
	Certificate bulkhead.Certificate
	Account     bulkhead.Account // that ordered the certificate
}

// CertificateHolder resolves a certificate, given as DER, with which somebody authenticates; that its key was used is
// the caller's to have seen. The certificate must be a subscriber's, byte for byte what we issued, in its time, neither
// revoked nor with a blocked key, under an authority that is not revoked, and its account in office: KindUnauthorized
// otherwise.
func (s *Service) CertificateHolder(ctx context.Context, der []byte) (Holder, error) {
	no := func(format string, args ...any) (Holder, error) {
		return Holder{}, bulkhead.Faultf(bulkhead.KindUnauthorized, format, args...).
			WithHint("show a good certificate of this authority, or a token; see: bulkhead cert list")
	}
	c, err := s.FindCertificate(ctx, der)
	if k := bulkhead.KindOf(err); k == bulkhead.KindNotFound || k == bulkhead.KindMalformed {
		return no("the client certificate was not issued here")
	}
	if err != nil {
		return Holder{}, err
	}
	now := s.now()
	switch {
	case c.Kind != bulkhead.LeafCertificate:
		return no("the client certificate is not a subscriber's")
	case c.State != bulkhead.Issued:
		return no("the client certificate %s is revoked (%s)", c.Serial, c.Reason)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return no("the client certificate %s is valid from %s to %s", c.Serial, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	if ok, err := s.signedByOurs(ctx, c, der); err != nil || !ok {
		if err != nil {
			return Holder{}, err
		}
		return no("the client certificate is not signed by an authority in office")
	}
	blocked, err := s.cfg.Store.BlockedKeys(ctx, c.KeyHash)
	if err != nil {
		return Holder{}, err
	}
	if len(blocked) > 0 {
		return no("the key of client certificate %s is blocked: it was reported as compromised", c.Serial)
	}
	acct, err := s.Account(ctx, c.AccountID)
	switch bulkhead.KindOf(err) {
	case "":
		return Holder{c, acct}, nil
	case bulkhead.KindUnauthorized, bulkhead.KindAccountDoesNotExist:
		return no("the account that ordered client certificate %s is not in office any more", c.Serial)
	default:
		return Holder{}, err
	}
}

// signedByOurs verifies the signature with the key of the authority that the row names.
func (s *Service) signedByOurs(ctx context.Context, c bulkhead.Certificate, der []byte) (bool, error) {
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(all, func(a bulkhead.Authority) bool { return a.ID == c.Issuer })
	if i < 0 || all[i].State == bulkhead.AuthorityRevoked {
		return false, nil
	}
	x, err1 := x509.ParseCertificate(der)
	issuer, err2 := x509.ParseCertificate(all[i].Certificate)
	return err1 == nil && err2 == nil && x.CheckSignatureFrom(issuer) == nil, nil
}

// ReenrollWithCertificate issues again for the holder of a certificate: same names, same profile, the old key or
// another. It rests on the standing of the certificate's account: its authorisations that are still valid, or, for an
// account of the house and its own names, the operator's word on which the certificate rests, counted from the day that
// it was given. KindBadCSR for other names; KindForbidden, with what to do, when a validation is too old.
func (s *Service) ReenrollWithCertificate(ctx context.Context, h Holder, up Upload) (bulkhead.IssuedCertificate, error) {
	var none bulkhead.IssuedCertificate
	r, err := s.admitUpload(ctx, h.Account, up)
	if err != nil {
		return none, err
	}
	if want := sortNames(h.Certificate.Names); !slices.Equal(r.Names, want) {
		return none, bulkhead.Faultf(bulkhead.KindBadCSR, "the request names %s, the certificate being renewed %s (RFC 7030 section 4.2.2)", nameList(r.Names), nameList(want)).
			WithHint("make a request for exactly the names of the certificate, or enrol anew for others")
	}
	if up, err = s.renewal(ctx, h.Certificate, up); err != nil {
		return none, err
	}
	got, found, err := s.repeated(ctx, h.Account, up, r)
	if err != nil || found {
		return got, err
	}
	return replacing(up, h.Certificate, func(up Upload) (bulkhead.IssuedCertificate, error) {
		o, err := s.holderOrder(ctx, h, up, r.Names)
		if err != nil {
			return none, err
		}
		ev := bulkhead.Evidence{Kind: bulkhead.EvAccount, At: s.now(), Actor: accountActor(h.Account.ID), Ref: h.Account.ID,
			Detail: clip("order " + o.ID + " placed with certificate " + h.Certificate.CertificateRef.String() + " and its key")}
		if _, err := s.cfg.Store.AppendEvidence(ctx, ev); err != nil {
			return none, err
		}
		return s.finish(ctx, h.Account, o.ID, up.CSR)
	})
}

// holderOrder places the order; every name has its validation before it is placed.
func (s *Service) holderOrder(ctx context.Context, h Holder, up Upload, names []bulkhead.Identifier) (bulkhead.Order, error) {
	req := OrderRequest{Identifiers: names, Profile: up.Profile, Authority: up.Authority, Replaces: up.Replaces}
	if h.Account.Operator {
		return s.approvedOrder(ctx, h, req)
	}
	valid, err := s.reusable(ctx, h.Account, names)
	if err != nil {
		return bulkhead.Order{}, err
	}
	var subs []bulkhead.SubFault
	for _, id := range names {
		if _, ok := valid[id]; !ok {
			subs = append(subs, bulkhead.SubFault{Identifier: id, Kind: bulkhead.KindForbidden, Detail: "the account of the certificate has no valid authorization any more"})
		}
	}
	stops, err := s.cfg.Store.Stops(ctx)
	if err != nil {
		return bulkhead.Order{}, err
	}
	if err := stops.Refuse(bulkhead.StopSubject{Methods: methodsOf(slices.Collect(maps.Values(valid)))}); err != nil {
		return bulkhead.Order{}, err
	}
	if len(subs) > 0 {
		return bulkhead.Order{}, s.stale(ctx, h, subs, "validate the names again through ACME with account "+h.Account.ID+", then repeat this request")
	}
	return s.NewOrder(ctx, h.Account, req)
}

// approvedOrder carries the operator's word for own names over from the certificate's order. The new validations keep
// the day of the word, so that no chain of renewals makes it younger.
func (s *Service) approvedOrder(ctx context.Context, h Holder, req OrderRequest) (bulkhead.Order, error) {
	o, err := s.draft(ctx, h.Account, req)
	if err != nil {
		return o, err
	}
	if err := s.ownOnly(o.Identifiers); err != nil {
		s.record(ctx, s.refusal(h.Account.ID, "", err))
		return o, err
	}
	if _, err := s.gate(ctx, h.Account, o, bulkhead.OperatorApproval); err != nil {
		return o, err
	}
	given, err := s.approvals(ctx, h.Certificate)
	if err != nil {
		return o, err
	}
	now := s.now()
	limit := min(s.limits.ApprovalReuse, policy.DCVReuse(now))
	var fresh []bulkhead.Authorization
	var subs []bulkhead.SubFault
	for _, id := range o.Identifiers {
		at, ok := given[id]
		if !ok || !now.Before(at.Add(limit)) {
			subs = append(subs, bulkhead.SubFault{Identifier: id, Kind: bulkhead.KindForbidden, Detail: "the operator's approval is too old or not on record"})
			continue
		}
		a, err := s.newAuthorization(h.Account, id, bulkhead.OperatorApproval)
		if err != nil {
			return o, err
		}
		fresh = append(fresh, a)
		o.Authorizations = append(o.Authorizations, a.ID)
	}
	if len(subs) > 0 {
		return o, s.stale(ctx, h, subs, "an operator approves the names again with: bulkhead cert renew "+h.Certificate.Serial.String())
	}
	if o.Replaces == (bulkhead.CertificateRef{}) {
		// The house is free of limits, whoever holds one of its certificates is not: what renews a
		// certificate for the second time counts as a new one.
		if err := s.take(ctx, s.certificateCharges(h.Account.ID, o.Identifiers)); err != nil {
			return o, err
		}
	}
	if err := s.cfg.Store.CreateOrder(ctx, o, fresh); err != nil {
		return o, err
	}
	for _, a := range fresh {
		if err := s.carryApproval(ctx, h, a, given[ordered(a)], limit); err != nil {
			return o, err
		}
	}
	return o, nil
}

// stale refuses for want of a fresh validation, and records it.
func (s *Service) stale(ctx context.Context, h Holder, subs []bulkhead.SubFault, hint string) error {
	err := joinSubs(subs).WithHint(hint)
	s.record(ctx, s.refusal(h.Account.ID, h.Certificate.OrderID, err))
	return err
}

// approvals gives for each name of a certificate when an operator approved it; authorisations that somebody ended
// before their time do not count.
func (s *Service) approvals(ctx context.Context, c bulkhead.Certificate) (map[bulkhead.Identifier]time.Time, error) {
	out := map[bulkhead.Identifier]time.Time{}
	o, err := s.cfg.Store.Order(ctx, c.OrderID)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	authzs, err := s.authorizations(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, a := range authzs {
		if a.State != bulkhead.AuthorizationValid && a.State != bulkhead.AuthorizationExpired {
			continue
		}
		for _, ch := range a.Challenges {
			if ch.Method == bulkhead.OperatorApproval && ch.State == bulkhead.ChallengeValid {
				out[ordered(a)] = ch.ValidatedAt
			}
		}
	}
	return out, nil
}

// carryApproval makes an authorisation valid on an earlier word of an operator.
func (s *Service) carryApproval(ctx context.Context, h Holder, a bulkhead.Authorization, at time.Time, limit time.Duration) error {
	id, err := s.placedID()
	if err != nil {
		return err
	}
	c := &a.Challenges[0]
	c.State, c.ValidatedAt = bulkhead.ChallengeValid, at
	a.State, a.ExpiresAt = bulkhead.AuthorizationValid, s.now().Add(operatorReuse)
	detail := "own name, approved by an operator " + at.UTC().Format(time.RFC3339) + "; renewed with certificate " + h.Certificate.CertificateRef.String() + " and its key"
	v := bulkhead.Validation{ID: id, AuthorizationID: a.ID, AccountID: a.AccountID, Identifier: a.Identifier, Wildcard: a.Wildcard,
		Method: bulkhead.OperatorApproval, At: at, ReuseUntil: at.Add(limit), Detail: clip(detail)}
	return s.cfg.Store.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, &v, s.validationEvidence(a, bulkhead.OperatorApproval, "valid: "+detail))
}
