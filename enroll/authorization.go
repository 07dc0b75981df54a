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
	list, err := s.cfg.Store.Authorizations(ctx, o.Authorizations...)
	if err != nil {
		return nil, err
	}
	for i, a := range list {
		list[i] = s.aged(a)
	}
	return list, nil
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
	t, err := s.startValidation(authorizationID, challengeID, &asked{a, acct})
	if err != nil {
		return a, err
	}
	late := time.NewTimer(s.limits.RespondWait)
	defer late.Stop()
	select {
	case <-t.done:
		if now, ok := t.left.(bulkhead.Authorization); ok {
			return now, nil
		}
	case <-late.C:
	case <-ctx.Done():
	}
	return s.markProcessing(ctx, acct, authorizationID, challengeID)
}

// settled reports whether a challenge has its outcome.
func settled(c bulkhead.Challenge) bool {
	return c.State != bulkhead.ChallengePending && c.State != bulkhead.ChallengeProcessing
}

// asked is what the request for a validation has read; the transaction that stores the outcome holds it against the record.
type asked struct {
	authorization bulkhead.Authorization
	account       bulkhead.Account
}

// startValidation validates in the background, once however often it is asked to. The task is left with the
// authorisation that it stored, if it did. q may be nil.
func (s *Service) startValidation(authorizationID, challengeID string, q *asked) (*task, error) {
	t, _, err := s.pool.start("validate/"+challengeID, func(ctx context.Context, t *task) {
		s.lost.Delete(challengeID)
		a, err := s.validate(ctx, authorizationID, challengeID, q)
		if err != nil {
			s.lost.Store(challengeID, authorizationID)
			s.log.ErrorContext(ctx, "validating; the challenge stays in processing", "authorization", authorizationID, "challenge", challengeID, "error", err)
		}
		if err == nil && a != nil {
			t.tell(*a)
		}
	})
	return t, err
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

// validate performs one challenge and stores the outcome; it returns what it stored. An error means that the outcome could
// not be stored: the challenge is validated again.
func (s *Service) validate(ctx context.Context, authorizationID, challengeID string, q *asked) (*bulkhead.Authorization, error) {
	if q == nil {
		a, err := s.cfg.Store.Authorization(ctx, authorizationID)
		if err != nil {
			return nil, err
		}
		q = &asked{authorization: a}
	}
	a := s.aged(q.authorization)
	i := challengeAt(a, challengeID)
	if i < 0 || a.State != bulkhead.AuthorizationPending || settled(a.Challenges[i]) {
		return nil, nil
	}
	var detail string
	var err error
	if q.account.ID == "" {
		q.account, err = s.Account(ctx, a.AccountID)
	}
	if err == nil {
		detail, err = s.look(ctx, a, a.Challenges[i], q.account)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // shutting down: what was seen may be the shutdown
	}
	return s.conclude(ctx, a, i, q.account.Thumbprint, detail, err)
}

// look asks the validator.
func (s *Service) look(ctx context.Context, a bulkhead.Authorization, c bulkhead.Challenge, acct bulkhead.Account) (string, error) {
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

// conclude stores the outcome of challenge i with its evidence, and moves the orders that waited for it. Nothing is stored
// when the authorisation was deactivated meanwhile, or settled by another challenge. What the other challenges of a
// settled authorisation say does not matter: a may be older than they are.
func (s *Service) conclude(ctx context.Context, a bulkhead.Authorization, i int, thumbprint, detail string, failure error) (*bulkhead.Authorization, error) {
	defer s.lock(a.ID)()
	if failure == nil {
		out, err := s.storeValid(ctx, a, i, detail, accountActor(a.AccountID), thumbprint, s.reuse(s.now()))
		return s.concluded(ctx, out, err)
	}
	f := bulkhead.AsFault(failure)
	a.Challenges = slices.Clone(a.Challenges)
	c := &a.Challenges[i]
	c.State, c.Problem = bulkhead.ChallengeInvalid, f
	a.State = bulkhead.AuthorizationInvalid
	ev := s.validationEvidence(a, c.Method, "refused: "+string(f.Kind)+": "+f.Detail)
	out, err := s.concluded(ctx, a, s.cfg.Store.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, nil, ev))
	if err != nil || out == nil {
		return out, err
	}
	s.countFailure(ctx, a)
	return out, s.settleOrders(ctx, a.ID)
}

// concluded judges the writing of an outcome: one for an authorisation that is not pending any more has no use.
func (s *Service) concluded(ctx context.Context, a bulkhead.Authorization, err error) (*bulkhead.Authorization, error) {
	if bulkhead.KindOf(err) == bulkhead.KindConflict {
		now, gone := s.cfg.Store.Authorization(ctx, a.ID)
		if gone == nil && now.State != bulkhead.AuthorizationPending {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// storeValid makes an authorisation valid by its challenge i, with the validation row and its leaf, and with it orders
// ready. KindConflict when its account has left, or has another key than the thumbprint's.
func (s *Service) storeValid(ctx context.Context, a bulkhead.Authorization, i int, detail, actor, thumbprint string, reuse time.Duration) (bulkhead.Authorization, error) {
	id, err := s.placedID()
	if err != nil {
		return a, err
	}
	now := s.now()
	a.Challenges = slices.Clone(a.Challenges)
	c := &a.Challenges[i]
	c.State, c.ValidatedAt, c.Problem = bulkhead.ChallengeValid, now, nil
	a.State, a.ExpiresAt = bulkhead.AuthorizationValid, now.Add(reuse)
	v := bulkhead.Validation{ID: id, AuthorizationID: a.ID, AccountID: a.AccountID, Identifier: a.Identifier, Wildcard: a.Wildcard,
		Method: c.Method, At: now, ReuseUntil: a.ExpiresAt, Detail: clip(detail)}
	ev := s.validationEvidence(a, c.Method, "valid: "+detail)
	ev.Actor = actor
	return a, s.cfg.Store.ConcludeAuthorization(ctx, a, v, thumbprint, ev)
}

func (s *Service) validationEvidence(a bulkhead.Authorization, m bulkhead.Method, text string) bulkhead.Evidence {
	what := string(a.Identifier.Type) + " " + ordered(a).Value
	if m != "" {
		what += " by " + string(m)
	}
	return bulkhead.Evidence{Kind: bulkhead.EvValidation, At: s.now(), Actor: accountActor(a.AccountID), Ref: a.ID, Detail: clip(what + ": " + text)}
}
