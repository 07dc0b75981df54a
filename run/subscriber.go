package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/incident"
)

// Desk is the incident desk.
func (r *Rehearsal) Desk() *incident.Service { return r.h.desk }

// ACMEAccount makes the account that a key has.
func (r *Rehearsal) ACMEAccount(ctx context.Context, key *ecdsa.PublicKey) (bulkhead.Account, error) {
	point, err := key.Bytes()
	if err != nil {
		return bulkhead.Account{}, fmt.Errorf("account key: %w", err)
	}
	half, b64 := (len(point)-1)/2, base64.RawURLEncoding
	jwk := fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, b64.EncodeToString(point[1:1+half]), b64.EncodeToString(point[1+half:])) // in the order of RFC 7638
	sum := sha256.Sum256(jwk)
	a, _, err := r.h.enroll.NewAccount(ctx, enroll.AccountRequest{JWK: jwk, Thumbprint: b64.EncodeToString(sum[:]), Key: key, TermsAgreed: true})
	return a, err
}

// Shown is how a subscriber of a rehearsal answers a challenge before it is looked at.
type Shown func(name string, m bulkhead.Method, token, keyAuthorization string) error

// Subscribe is an order as a client places it: the names of the request, each shown by the method where the account has
// not shown it before, then the request.
func (r *Rehearsal) Subscribe(ctx context.Context, acct bulkhead.Account, profile string, csr []byte, replaces bulkhead.CertificateRef, m bulkhead.Method, show Shown) (bulkhead.IssuedCertificate, error) {
	req, err := enroll.ParseCSR(csr)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	if replaces != (bulkhead.CertificateRef{}) { // an order whose request was refused is still there, and takes another
		o, err := r.openOrder(ctx, acct, replaces)
		if err != nil {
			return bulkhead.IssuedCertificate{}, err
		}
		if o.ID != "" {
			return r.complete(ctx, acct, o.ID, csr, m, show)
		}
	}
	o, err := r.h.enroll.NewOrder(ctx, acct, enroll.OrderRequest{Identifiers: req.Names, Profile: profile, Replaces: replaces})
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return r.complete(ctx, acct, o.ID, csr, m, show)
}

// Reissue asks for a replacement of the account's certificate by the desk's path. With a method that differs from how the
// name was shown, asked is the order that waits for a new validation, which is then given; zero when none was asked for.
func (r *Rehearsal) Reissue(ctx context.Context, acct bulkhead.Account, old bulkhead.Certificate, csr []byte, m bulkhead.Method, show Shown) (got bulkhead.IssuedCertificate, asked bulkhead.Order, err error) {
	got, err = r.h.enroll.Reissue(ctx, acct.ID, old, csr, m)
	if bulkhead.KindOf(err) != bulkhead.KindUserActionRequired {
		return got, asked, err
	}
	if asked, err = r.openOrder(ctx, acct, old.CertificateRef); err != nil {
		return got, asked, err
	}
	got, err = r.complete(ctx, acct, asked.ID, csr, m, show)
	return got, asked, err
}

// openOrder is the account's open order for a replacement; the zero order when there is none.
func (r *Rehearsal) openOrder(ctx context.Context, acct bulkhead.Account, replaces bulkhead.CertificateRef) (bulkhead.Order, error) {
	open, err := r.h.store.OpenOrdersByAccount(ctx, acct.ID, 100)
	for _, o := range open {
		if o.Replaces == replaces {
			return o, err
		}
	}
	return bulkhead.Order{}, err
}

// complete answers what an order waits for and finishes it.
func (r *Rehearsal) complete(ctx context.Context, acct bulkhead.Account, id string, csr []byte, m bulkhead.Method, show Shown) (bulkhead.IssuedCertificate, error) {
	var none bulkhead.IssuedCertificate
	o, err := r.h.enroll.Order(ctx, acct, id)
	if err != nil {
		return none, err
	}
	for _, a := range o.Authorizations {
		if err := r.answer(ctx, acct, a, m, show); err != nil {
			return none, err
		}
	}
	if o, err = r.h.enroll.Finalize(ctx, acct, o.ID, csr); err != nil {
		return none, err
	}
	if o.State != bulkhead.OrderValid {
		return none, bulkhead.Faultf(bulkhead.KindUnavailable, "order %s is %s", o.ID, o.State)
	}
	return r.h.enroll.Certificate(ctx, acct, o.Certificate)
}

// validationWait bounds how long a rehearsal waits for one validation.
const validationWait = 20 * time.Second

func (r *Rehearsal) answer(ctx context.Context, acct bulkhead.Account, id string, m bulkhead.Method, show Shown) error {
	a, err := r.h.enroll.Authorization(ctx, acct, id)
	if err != nil || a.State == bulkhead.AuthorizationValid {
		return err
	}
	for _, c := range a.Challenges {
		if c.Method != m {
			continue
		}
		if err := show(a.Identifier.Value, m, c.Token, enroll.KeyAuthorization(acct, c.Token)); err != nil {
			return err
		}
		if a, err = r.h.enroll.Respond(ctx, acct, id, c.ID); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, validationWait)
		defer cancel()
		for a.State == bulkhead.AuthorizationPending && err == nil {
			select {
			case <-ctx.Done():
				return bulkhead.Faultf(bulkhead.KindUnavailable, "%s was not validated within %s", a.Identifier.Value, validationWait)
			case <-time.After(5 * time.Millisecond):
			}
			a, err = r.h.enroll.Authorization(ctx, acct, id)
		}
		if err != nil || a.State == bulkhead.AuthorizationValid {
			return err
		}
		return bulkhead.Faultf(bulkhead.KindUnauthorized, "%s is %s by %s", a.Identifier.Value, a.State, m)
	}
	return bulkhead.Faultf(bulkhead.KindMalformed, "%s cannot be shown by %s", a.Identifier.Value, m)
}

// StartCampaign puts the plan of a campaign into force as it is done on the day: asked for, and signed by the two operators
// of the first start where one person may not.
func (r *Rehearsal) StartCampaign(ctx context.Context, c bulkhead.Campaign, why string) error {
	req, err := desk{r.h.desk, r.h}.AskStart(ctx, "operator:operator-1", c.ID, c.PlanHash, why)
	if err != nil || req == nil {
		return err
	}
	return r.sign(ctx, *req, 2)
}

// rehearsedLooker is how the desk of a rehearsal looks from outside: at the fleet that the rehearsal has.
type rehearsedLooker func(ctx context.Context, item bulkhead.CampaignItem) []bulkhead.Look

// Look implements incident.Looker.
func (f rehearsedLooker) Look(ctx context.Context, item bulkhead.CampaignItem, _ bool) ([]incident.EndpointLook, error) {
	var out []incident.EndpointLook
	for _, l := range f(ctx, item) {
		e := incident.EndpointLook{Address: l.Endpoint.AddrPort().String(), Verdict: string(l.Verdict)}
		if l.Chain != nil && len(l.Chain.DER) > 0 {
			e.Fingerprint, e.Key = bulkhead.Digest(l.Chain.DER[0]), l.Chain.Key.SPKI
		}
		out = append(out, e)
	}
	return out, ctx.Err()
}
