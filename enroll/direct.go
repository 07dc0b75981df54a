package enroll

import (
	"bytes"
	"context"
	"slices"
	"time"

	"bulkhead"
)

// repeatable is how long the same certification request gets the same certificate: a client that was told to come
// back, or that lost the answer, must not cost a second certificate.
const repeatable = time.Hour

// Enroll issues for an account that hands in a certification request directly: by OperatorOrder for an account of the
// house, by SubmitCSR for others. The same request repeated within an hour joins its order, or gets its certificate
// while that is good.
func (s *Service) Enroll(ctx context.Context, acct bulkhead.Account, up Upload) (bulkhead.IssuedCertificate, error) {
	r, err := s.admitUpload(ctx, acct, up)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	got, found, err := s.repeated(ctx, acct, up, r)
	if err != nil || found {
		return got, err
	}
	return s.direct(ctx, acct, up)
}

func (s *Service) direct(ctx context.Context, acct bulkhead.Account, up Upload) (bulkhead.IssuedCertificate, error) {
	if acct.Operator {
		return s.OperatorOrder(ctx, accountActor(acct.ID), acct, up)
	}
	return s.SubmitCSR(ctx, acct, up)
}

// Reenroll is Enroll for an account that has a good certificate for exactly the names of the request, which the new
// one replaces; KindForbidden when there is none.
func (s *Service) Reenroll(ctx context.Context, acct bulkhead.Account, up Upload) (bulkhead.IssuedCertificate, error) {
	r, err := s.admitUpload(ctx, acct, up)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	old, err := s.held(ctx, acct, r.Names, up.Profile)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	if up, err = s.renewal(ctx, old, up); err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	got, found, err := s.repeated(ctx, acct, up, r)
	if err != nil || found {
		return got, err
	}
	return replacing(up, old, func(up Upload) (bulkhead.IssuedCertificate, error) { return s.direct(ctx, acct, up) })
}

// held finds the account's newest good certificate for exactly the names.
func (s *Service) held(ctx context.Context, acct bulkhead.Account, names []bulkhead.Identifier, profile string) (bulkhead.Certificate, error) {
	f := bulkhead.CertificateFilter{AccountID: acct.ID, Name: names[0].Value, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued, Profile: profile, ExpiresFrom: s.now()}
	for {
		rows, next, err := s.cfg.Store.Certificates(ctx, f)
		if err != nil {
			return bulkhead.Certificate{}, err
		}
		for _, c := range rows {
			if slices.Equal(sortNames(c.Names), names) {
				return c, nil
			}
		}
		if next == "" {
			return bulkhead.Certificate{}, bulkhead.Faultf(bulkhead.KindForbidden, "the account has no good certificate for exactly %s", nameList(names)).
				WithHint("enrol for these names first")
		}
		f.After = next
	}
}

// repeated finds the order that this very request made before.
func (s *Service) repeated(ctx context.Context, acct bulkhead.Account, up Upload, r Request) (got bulkhead.IssuedCertificate, found bool, err error) {
	if up.Profile == "" {
		up.Profile = s.cfg.DefaultProfile
	}
	same := func(o bulkhead.Order) bool {
		return o.AccountID == acct.ID && o.Profile == up.Profile && (up.Authority == "" || o.Authority == up.Authority) && bytes.Equal(o.CSR, up.CSR)
	}
	processing, err := s.cfg.Store.OrdersInState(ctx, bulkhead.OrderProcessing, 1000)
	if err != nil {
		return got, false, err
	}
	for _, o := range processing {
		if same(o) {
			got, err = s.outcome(ctx, acct, ended{order: o})
			return got, true, err
		}
	}
	rows, _, err := s.cfg.Store.Certificates(ctx, bulkhead.CertificateFilter{AccountID: acct.ID, KeyHash: bulkhead.Digest(r.SPKI), Kind: bulkhead.LeafCertificate,
		State: bulkhead.Issued, IssuedFrom: s.now().Add(-repeatable)})
	if err != nil {
		return got, false, err
	}
	for _, c := range rows {
		o, err := s.cfg.Store.Order(ctx, c.OrderID)
		if err != nil {
			return got, false, err
		}
		if same(o) {
			got, err = s.Certificate(ctx, acct, c.CertificateRef)
			return got, true, err
		}
	}
	return got, false, nil
}

// renewal settles profile and authority of a renewal: the profile of the old certificate and no other, and its issuer
// or whoever succeeded that one, unless another was asked for.
func (s *Service) renewal(ctx context.Context, old bulkhead.Certificate, up Upload) (Upload, error) {
	if up.Profile == "" {
		up.Profile = old.Profile
	}
	if up.Profile != old.Profile {
		return up, bulkhead.Faultf(bulkhead.KindForbidden, "the certificate is of profile %s and cannot become one of profile %s by renewal", old.Profile, up.Profile).
			WithHint("enrol for profile " + up.Profile + " instead")
	}
	if up.Authority != "" {
		return up, nil
	}
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return up, err
	}
	up.Authority = issuerOrSuccessor(all, old.Issuer)
	return up, nil
}

// replacing issues in place of old. An old certificate that was replaced before may still be renewed, since its holder
// may never have received the other: the new one then replaces nothing.
func replacing(up Upload, old bulkhead.Certificate, issue func(Upload) (bulkhead.IssuedCertificate, error)) (bulkhead.IssuedCertificate, error) {
	up.Replaces = old.CertificateRef
	got, err := issue(up)
	if bulkhead.KindOf(err) == bulkhead.KindAlreadyReplaced {
		up.Replaces = bulkhead.CertificateRef{}
		return issue(up)
	}
	return got, err
}

// TrustChain lists the authority certificates that clients of an entrance need: the issuing chain with its root. An
// entrance that presets nothing gives the chains of every authority that issues, the default one's first.
func (s *Service) TrustChain(ctx context.Context, at Entrance) ([][]byte, error) {
	name := at.Profile
	if name == "" {
		name = s.cfg.DefaultProfile
	}
	first, err := s.authorityFor(ctx, name, at.Authority)
	if err != nil {
		return nil, err
	}
	out, err := s.chain(ctx, first)
	if err != nil || at != (Entrance{}) {
		return out, err
	}
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Kind != bulkhead.IssuingAuthority || !a.CanIssue() {
			continue
		}
		for _, der := range append([][]byte{a.Certificate}, a.Chain...) {
			if !slices.ContainsFunc(out, func(x []byte) bool { return bytes.Equal(x, der) }) {
				out = append(out, der)
			}
		}
	}
	return out, nil
}
