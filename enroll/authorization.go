package enroll

import (
	"context"
	"encoding/base64"
	"slices"
	"time"

	"bulkhead"
)

// authorizations loads those of an order, each in its present state.
func (s *Service) authorizations(ctx context.Context, o bulkhead.Order) ([]bulkhead.Authorization, error) {
	out := make([]bulkhead.Authorization, 0, len(o.Authorizations))
	for _, id := range o.Authorizations {
		a, err := s.cfg.Store.Authorization(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, s.aged(a))
	}
	return out, nil
}

// aged shows an authorisation as expired once its time is over; expiry is by date and needs no write.
func (s *Service) aged(a bulkhead.Authorization) bulkhead.Authorization {
	open := a.State == bulkhead.AuthorizationPending || a.State == bulkhead.AuthorizationValid
	if open && s.now().After(a.ExpiresAt) {
		a.State = bulkhead.AuthorizationExpired
	}
	return a
}

// Authorization returns an authorisation of the account.
func (s *Service) Authorization(ctx context.Context, acct bulkhead.Account, id string) (bulkhead.Authorization, error) {
	a, err := s.cfg.Store.Authorization(ctx, id)
	if err != nil {
		return bulkhead.Authorization{}, err
	}
	if a.AccountID != acct.ID {
		return bulkhead.Authorization{}, bulkhead.NewFault(bulkhead.KindForbidden, "the authorization belongs to another account")
	}
	return s.aged(a), nil
}

// DeactivateAuthorization gives an authorisation up (RFC 8555 section 7.5.2).
func (s *Service) DeactivateAuthorization(ctx context.Context, acct bulkhead.Account, id string) (bulkhead.Authorization, error) {
	defer s.lock(id)()
	a, err := s.Authorization(ctx, acct, id)
	if err != nil {
		return a, err
	}
	if a.State != bulkhead.AuthorizationPending && a.State != bulkhead.AuthorizationValid {
		return a, bulkhead.Faultf(bulkhead.KindMalformed, "the authorization is %s and cannot be deactivated", a.State)
	}
	expect := a.State
	a.State = bulkhead.AuthorizationDeactivated
	ev := s.validationEvidence(a, "", "deactivated by its account")
	if err := s.cfg.Store.UpdateAuthorization(ctx, a, expect, nil, ev); err != nil {
		return a, err
	}
	return a, s.settleOrders(ctx, id)
}

// Respond says that the account is ready for a challenge, and starts the validation in the background. It waits a moment
// for the outcome, so that most clients need not ask again; the challenge that it returns is valid, invalid or
// processing, each of which is durable: a validation that takes longer is marked, and taken up again after a crash.
// Repeating it changes nothing; on an authorisation that is no longer pending it only shows the state.
func (s *Service) Respond(ctx context.Context, acct bulkhead.Account, authorizationID, challengeID string) (bulkhead.Authorization, error) {
	a, i, err := s.answerable(ctx, acct, authorizationID, challengeID)
	if err != nil || a.State != bulkhead.AuthorizationPending || settled(a.Challenges[i]) {
		return a, err
	}
	if a.Challenges[i].State == bulkhead.ChallengePending {
		if err := s.challengeGate(ctx, acct, a.Challenges[i].Method); err != nil {
			return a, err
		}
	}
	done, err := s.startValidation(authorizationID, challengeID)
	if err != nil {
		return a, err
	}
	t := time.NewTimer(s.limits.RespondWait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
	return s.markProcessing(ctx, acct, authorizationID, challengeID)
}

// settled reports whether a challenge has its outcome.
func settled(c bulkhead.Challenge) bool {
	return c.State != bulkhead.ChallengePending && c.State != bulkhead.ChallengeProcessing
}

// startValidation validates in the background, once however often it is asked to; the channel closes when that ends.
func (s *Service) startValidation(authorizationID, challengeID string) (<-chan struct{}, error) {
	return s.pool.start("validate/"+challengeID, func(ctx context.Context) {
		s.lost.Delete(challengeID)
		if err := s.validate(ctx, authorizationID, challengeID); err != nil {
			s.lost.Store(challengeID, authorizationID)
			s.log.ErrorContext(ctx, "validating; the challenge stays in processing", "authorization", authorizationID, "challenge", challengeID, "error", err)
		}
	})
}

// answerable finds a challenge that the account may answer.
func (s *Service) answerable(ctx context.Context, acct bulkhead.Account, authorizationID, challengeID string) (bulkhead.Authorization, int, error) {
	a, err := s.Authorization(ctx, acct, authorizationID)
	if err != nil {
		return a, 0, err
	}
	i := challengeAt(a, challengeID)
	if i < 0 {
		return a, 0, bulkhead.NewFault(bulkhead.KindNotFound, "the authorization has no such challenge")
	}
	if a.Challenges[i].Method == bulkhead.OperatorApproval {
		return a, 0, bulkhead.NewFault(bulkhead.KindForbidden, "this challenge is for an operator to approve")
	}
	return a, i, nil
}

// markProcessing makes it durable that a challenge is being validated, unless its outcome is.
func (s *Service) markProcessing(ctx context.Context, acct bulkhead.Account, authorizationID, challengeID string) (bulkhead.Authorization, error) {
	defer s.lock(authorizationID)()
	a, i, err := s.answerable(ctx, acct, authorizationID, challengeID)
	if err != nil || a.State != bulkhead.AuthorizationPending || a.Challenges[i].State != bulkhead.ChallengePending {
		return a, err
	}
	a.Challenges[i].State = bulkhead.ChallengeProcessing
	return a, s.cfg.Store.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, nil)
}

func challengeAt(a bulkhead.Authorization, id string) int {
	return slices.IndexFunc(a.Challenges, func(c bulkhead.Challenge) bool { return c.ID == id })
}

// validate performs one challenge and stores the outcome. An error means that the outcome could not be stored: the
// challenge is validated again.
func (s *Service) validate(ctx context.Context, authorizationID, challengeID string) error {
	a, err := s.cfg.Store.Authorization(ctx, authorizationID)
	if err != nil {
		return err
	}
	a = s.aged(a)
	i := challengeAt(a, challengeID)
	if i < 0 || a.State != bulkhead.AuthorizationPending || settled(a.Challenges[i]) {
		return nil
	}
	detail, err := s.look(ctx, a, a.Challenges[i])
	if ctx.Err() != nil {
		return ctx.Err() // shutting down: what was seen may be the shutdown
	}
	return s.conclude(ctx, authorizationID, challengeID, detail, err)
}

// look asks the validator, for an account that is still in office.
func (s *Service) look(ctx context.Context, a bulkhead.Authorization, c bulkhead.Challenge) (string, error) {
	acct, err := s.Account(ctx, a.AccountID)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.ValidationTimeout)
	defer cancel()
	return s.cfg.Validator.Validate(ctx, a.Identifier, c.Method, c.Token, KeyAuthorization(acct, c.Token))
}

// KeyAuthorization binds a challenge token to the account (RFC 8555 section 8.1). An API account has no key; the
// digest of its id stands in for the thumbprint, so that nobody else's answer can serve it.
func KeyAuthorization(acct bulkhead.Account, token string) string {
	thumbprint := acct.Thumbprint
	if thumbprint == "" {
		id := bulkhead.Digest([]byte("bulkhead account " + acct.ID))
		thumbprint = base64.RawURLEncoding.EncodeToString(id[:])
	}
	return token + "." + thumbprint
}

// conclude stores the outcome with its evidence and moves the orders that waited for it.
func (s *Service) conclude(ctx context.Context, authorizationID, challengeID, detail string, failure error) error {
	done, err := s.storeOutcome(ctx, authorizationID, challengeID, detail, failure)
	if err != nil || done {
		return err
	}
	return s.settleOrders(ctx, authorizationID)
}

// storeOutcome reports whether the orders on the authorisation are settled with it.
func (s *Service) storeOutcome(ctx context.Context, authorizationID, challengeID, detail string, failure error) (bool, error) {
	defer s.lock(authorizationID)()
	a, err := s.cfg.Store.Authorization(ctx, authorizationID)
	if err != nil {
		return false, err
	}
	i := challengeAt(a, challengeID)
	if i < 0 || a.State != bulkhead.AuthorizationPending {
		return false, nil // deactivated meanwhile, or settled by another challenge
	}
	c := &a.Challenges[i]
	if failure != nil {
		f := bulkhead.AsFault(failure)
		c.State, c.Problem = bulkhead.ChallengeInvalid, f
		a.State = bulkhead.AuthorizationInvalid
		ev := s.validationEvidence(a, c.Method, "refused: "+string(f.Kind)+": "+f.Detail)
		s.countFailure(ctx, a)
		return false, s.cfg.Store.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, nil, ev)
	}
	ready, all, err := s.madeReady(ctx, a.ID)
	if err != nil {
		return false, err
	}
	_, err = s.storeValid(ctx, a, i, detail, accountActor(a.AccountID), s.reuse(s.now()), ready...)
	return all, err
}

// madeReady lists the orders for which an authorisation is the last that is not valid; all says that there are no others.
// Orders that two authorisations make ready at the same moment are settled after it, or when somebody looks.
func (s *Service) madeReady(ctx context.Context, authorizationID string) (ready []string, all bool, err error) {
	orders, err := s.cfg.Store.OrdersByAuthorization(ctx, authorizationID)
	if err != nil {
		return nil, false, err
	}
	for _, o := range orders {
		if o.State != bulkhead.OrderPending || s.now().After(o.ExpiresAt) {
			continue
		}
		last := true
		for _, id := range o.Authorizations {
			if id == authorizationID {
				continue
			}
			a, err := s.cfg.Store.Authorization(ctx, id)
			if err != nil {
				return nil, false, err
			}
			last = last && s.aged(a).State == bulkhead.AuthorizationValid
		}
		if last {
			ready = append(ready, o.ID)
		}
	}
	return ready, len(ready) == len(orders), nil
}

// storeValid makes an authorisation valid by its challenge i, with the validation row and its leaf, and with it orders
// ready.
func (s *Service) storeValid(ctx context.Context, a bulkhead.Authorization, i int, detail, actor string, reuse time.Duration, ready ...string) (bulkhead.Authorization, error) {
	id, err := s.newID()
	if err != nil {
		return a, err
	}
	now := s.now()
	c := &a.Challenges[i]
	c.State, c.ValidatedAt, c.Problem = bulkhead.ChallengeValid, now, nil
	a.State, a.ExpiresAt = bulkhead.AuthorizationValid, now.Add(reuse)
	v := bulkhead.Validation{ID: id, AuthorizationID: a.ID, AccountID: a.AccountID, Identifier: a.Identifier, Wildcard: a.Wildcard,
		Method: c.Method, At: now, ReuseUntil: a.ExpiresAt, Detail: clip(detail)}
	ev := s.validationEvidence(a, c.Method, "valid: "+detail)
	ev.Actor = actor
	return a, s.cfg.Store.ConcludeAuthorization(ctx, a, v, ready, ev)
}

func (s *Service) validationEvidence(a bulkhead.Authorization, m bulkhead.Method, text string) bulkhead.Evidence {
	what := string(a.Identifier.Type) + " " + ordered(a).Value
	if m != "" {
		what += " by " + string(m)
	}
	return bulkhead.Evidence{Kind: bulkhead.EvValidation, At: s.now(), Actor: accountActor(a.AccountID), Ref: a.ID, Detail: clip(what + ": " + text)}
}
