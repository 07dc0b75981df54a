package enroll

import (
	"context"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Stop stops issuance at once on one person's word (promise P7); the scope is not held against the record, so that
// nobody has to get a name right at three in the morning. KindUsage for a stop without a scope or a reason.
func (s *Service) Stop(ctx context.Context, actor string, x bulkhead.Stop) (bulkhead.Stop, error) {
	if strings.TrimSpace(x.Reason) == "" {
		return x, bulkhead.NewFault(bulkhead.KindUsage, "a stop needs a reason for the record; no proof is asked for").WithHint("add --reason TEXT")
	}
	if err := x.Check(); err != nil {
		return x, err
	}
	id, err := s.newID()
	if err != nil {
		return x, err
	}
	now := s.now()
	x = bulkhead.Stop{ID: id[:12], Kind: x.Kind, Value: x.Value, Reason: clip(x.Reason), Actor: actor, At: now.Truncate(time.Second)}
	return x, s.cfg.Store.PutStop(ctx, x, bulkhead.Evidence{Kind: bulkhead.EvStop, At: now, Actor: actor, Ref: x.ID, Detail: clip(x.Scope() + ": " + x.Reason)})
}

// EndStop ends a stop; request names the approved request of the quorum and digest what was approved. Ending it twice by
// the same request is no error.
func (s *Service) EndStop(ctx context.Context, id, request string, digest bulkhead.Hash, why string) error {
	x, err := s.cfg.Store.Stop(ctx, id)
	if err != nil {
		return err
	}
	if !x.InForce() && x.EndedBy == request {
		return nil
	}
	now := s.now()
	x.EndedAt, x.EndedBy, x.Ending = now.Truncate(time.Second), request, clip(why)
	ev := bulkhead.Evidence{Kind: bulkhead.EvResume, At: now, Actor: "request:" + request, Ref: id, Digest: digest, Detail: clip(x.Scope() + ": " + why)}
	if err := s.cfg.Store.EndStop(ctx, x, ev); err != nil {
		return err
	}
	return s.retry(ctx) // what waited in processing goes on at once
}

// Stops returns the stops in force, oldest first.
func (s *Service) Stops(ctx context.Context) (bulkhead.Stops, error) { return s.cfg.Store.Stops(ctx) }

// IssuanceStop returns one stop, in force or ended.
func (s *Service) IssuanceStop(ctx context.Context, id string) (bulkhead.Stop, error) {
	return s.cfg.Store.Stop(ctx, id)
}

// StopHistory returns stops, in force or ended, newest first.
func (s *Service) StopHistory(ctx context.Context, limit int) ([]bulkhead.Stop, error) {
	return s.cfg.Store.StopHistory(ctx, limit)
}

// subject is what an order rests on, without the methods.
func subject(acct bulkhead.Account, o bulkhead.Order) bulkhead.StopSubject {
	return bulkhead.StopSubject{Issuer: o.Authority, Profile: o.Profile, Partner: acct.Partner, Account: acct.ID}
}

// gate refuses what the house has stopped, an account that must change its key first, and an order beyond the bounds of
// the account's registration partner. Each request reads the record: a stop holds from its commit on, in every
// process. The signer asks the same again for itself. It returns the stops in force.
func (s *Service) gate(ctx context.Context, acct bulkhead.Account, o bulkhead.Order, methods ...bulkhead.Method) (bulkhead.Stops, error) {
	st, err := s.standing(ctx, acct.ID)
	if err != nil {
		return nil, err
	}
	x := subject(acct, o)
	x.Methods = methods
	if err := st.Stops.Refuse(x); err != nil {
		return st.Stops, err
	}
	if err := st.Account.MayOrder(); err != nil {
		return st.Stops, err
	}
	return st.Stops, s.partnerGate(ctx, st, o)
}

// methodsOf are those on which valid authorisations rest.
func methodsOf(list []bulkhead.Authorization) []bulkhead.Method {
	var out []bulkhead.Method
	for _, a := range list {
		if m := methodOf(a); m != "" && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// finalGate is gate for an order whose authorisations are there.
func (s *Service) finalGate(ctx context.Context, acct bulkhead.Account, o bulkhead.Order, authzs []bulkhead.Authorization) error {
	if _, err := s.gate(ctx, acct, o, methodsOf(authzs)...); err != nil {
		return err
	}
	return s.secondGate(ctx, acct, o)
}

// without removes authorisations by stopped methods: the names are validated anew in another way.
func without(held map[bulkhead.Identifier]bulkhead.Authorization, stops bulkhead.Stops) {
	for id, a := range held {
		if stops.Method(methodOf(a)) {
			delete(held, id)
		}
	}
}

// openMethods are the methods for a name that are not stopped; KindStopped when a stop has left none.
func (s *Service) openMethods(id bulkhead.Identifier, stops bulkhead.Stops) ([]bulkhead.Method, error) {
	all := s.methodsFor(id)
	open := slices.DeleteFunc(slices.Clone(all), stops.Method)
	if len(open) == 0 && len(all) > 0 {
		return nil, stops.Refuse(bulkhead.StopSubject{Methods: all})
	}
	return open, nil
}

// challengeGate refuses to begin a validation that a stop covers. What was begun ends.
func (s *Service) challengeGate(ctx context.Context, acct bulkhead.Account, m bulkhead.Method) error {
	st, err := s.standing(ctx, acct.ID)
	if err != nil {
		return err
	}
	return st.Stops.Refuse(bulkhead.StopSubject{Partner: acct.Partner, Account: acct.ID, Methods: []bulkhead.Method{m}})
}

// waits reports whether a stop in force keeps an order in processing. Such an order is neither failed nor signed: its
// client, if it still polls, gets the certificate after the stop; one that gave up orders again. An order whose time
// runs out meanwhile ends as every other does.
func (s *Service) waits(ctx context.Context, o bulkhead.Order) (bool, error) {
	stops, err := s.cfg.Store.Stops(ctx)
	if err != nil || len(stops) == 0 {
		return false, err
	}
	x, err := s.subjectOf(ctx, o)
	return err == nil && stops.Refuse(x) != nil, err
}

func (s *Service) subjectOf(ctx context.Context, o bulkhead.Order) (bulkhead.StopSubject, error) {
	acct, err := s.cfg.Store.Account(ctx, o.AccountID)
	if err != nil {
		return bulkhead.StopSubject{}, err
	}
	authzs, err := s.authorizations(ctx, o)
	x := subject(acct, o)
	x.Methods = methodsOf(authzs)
	return x, err
}

// triesFrom is when the tries of an order began to count: a stop stops that clock, too.
func (s *Service) triesFrom(ctx context.Context, o bulkhead.Order) (time.Time, error) {
	ended, err := s.cfg.Store.StopsEndedSince(ctx, o.ProcessingSince)
	if err != nil || len(ended) == 0 {
		return o.ProcessingSince, err
	}
	x, err := s.subjectOf(ctx, o)
	if err != nil {
		return o.ProcessingSince, err
	}
	from := o.ProcessingSince
	for _, e := range ended {
		at := e.EndedAt
		if e.EndedAt = (time.Time{}); e.Covers(x) && at.After(from) {
			from = at
		}
	}
	return from, nil
}

// stoppedRetry is how soon a client may ask again for an order that a stop holds.
const stoppedRetry = time.Minute

// RetryAfter is how soon a client should look again at an order in processing; usual where nothing holds it.
func (s *Service) RetryAfter(ctx context.Context, o bulkhead.Order, usual time.Duration) time.Duration {
	if held, err := s.waits(ctx, o); err == nil && held {
		return stoppedRetry
	}
	return usual
}
