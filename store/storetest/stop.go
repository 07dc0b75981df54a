package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"bulkhead"
)

func stop(n int, kind bulkhead.StopKind, value string) bulkhead.Stop {
	return bulkhead.Stop{ID: fmt.Sprintf("s-%d", n), Kind: kind, Value: value, Reason: "why", Actor: "operator:alice", At: at(n)}
}

func testStops(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	all, issuer := stop(1, bulkhead.StopAll, ""), stop(2, bulkhead.StopIssuer, "issuing-p256")
	ok(t, s.PutStop(ctx, all, event("stop")))
	wantKind(t, s.PutStop(ctx, all, event("again")), bulkhead.KindConflict)
	ok(t, s.PutStop(ctx, issuer, event("stop")))
	equal(t, value(s.Stops(ctx))(t), bulkhead.Stops{all, issuer})
	equal(t, value(open(t, nil).Stops(ctx))(t), bulkhead.Stops{all, issuer}) // another process sees it at once

	ended := all
	ended.EndedAt, ended.EndedBy, ended.Ending = at(9), "r-1", "over"
	ok(t, s.EndStop(ctx, ended, event("resume")))
	wantKind(t, s.EndStop(ctx, ended, event("again")), bulkhead.KindConflict)
	wantKind(t, s.EndStop(ctx, bulkhead.Stop{ID: "x", EndedAt: at(1)}, event("none")), bulkhead.KindNotFound)
	equal(t, value(s.Stops(ctx))(t), bulkhead.Stops{issuer})
	equal(t, value(s.Stop(ctx, "s-1"))(t), ended)
	_, err := s.Stop(ctx, "x")
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, value(s.StopHistory(ctx, 10))(t), []bulkhead.Stop{issuer, ended})
	equal(t, value(s.StopHistory(ctx, 1))(t), []bulkhead.Stop{issuer})
	equal(t, value(s.StopsEndedSince(ctx, at(9)))(t), []bulkhead.Stop{ended})
	equal(t, len(value(s.StopsEndedSince(ctx, at(10)))(t)), 0)
	equal(t, len(checkEvidence(t, s)), 3)

	a := bulkhead.Account{ID: "a-1", State: bulkhead.AccountSuspended, Thumbprint: "t", Creator: "operator:alice", RollDue: at(4), CreatedAt: at(1)}
	ok(t, s.CreateAccount(ctx, a))
	a.Contacts = value(s.Account(ctx, "a-1"))(t).Contacts
	equal(t, value(s.Standing(ctx, "a-1"))(t), bulkhead.Standing{Account: a, Stops: bulkhead.Stops{issuer}})
	equal(t, value(s.Standing(ctx, "nobody"))(t), bulkhead.Standing{Stops: bulkhead.Stops{issuer}})
}

func testCompromises(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	key := digest("key", 1)
	c := bulkhead.Compromise{KeyHash: key, Actor: "operator:alice", Reason: "leaked", At: at(1)}
	wantKind(t, s.PutCompromise(ctx, bulkhead.Compromise{}), bulkhead.KindMalformed)
	ok(t, s.PutCompromise(ctx, c, event("blocked")))
	c.Changes = []string{}
	equal(t, value(s.Compromise(ctx, key))(t), c)
	_, err := s.Compromise(ctx, digest("key", 2))
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, value(s.BlockedKeys(ctx, key))(t), []bulkhead.BlockedKey{{KeyHash: key, BlockedAt: at(1), Reason: "leaked", Actor: "operator:alice"}})
	_, errs, err := s.Reserve(ctx, []bulkhead.Reservation{reservation(1)})
	ok(t, err)
	wantKind(t, errs[0], bulkhead.KindBadPublicKey)

	shared := func(n int) bulkhead.Reservation {
		r := reservation(n)
		r.Certificate.KeyHash, r.Intent.KeyHash = digest("shared", 0), digest("shared", 0)
		return r
	}
	_, errs, err = s.Reserve(ctx, each(numbers(10, 14), shared))
	ok(t, errors.Join(append(errs, err)...))
	complete(t, s, 10, 11, 12) // 13 stays reserved
	equal(t, value(s.CountKeyHolders(ctx, digest("shared", 0), at(5)))(t), 3)
	equal(t, value(s.CountKeyHolders(ctx, digest("shared", 0), at(5000)))(t), 0) // ended
	if others := value(s.KeyHolders(ctx, digest("shared", 0), at(5), 2, "nobody", ref(0).Issuer))(t); len(others) != 0 {
		t.Fatalf("holders under an issuer that was left out: %+v", others)
	}
	rows := value(s.KeyHolders(ctx, digest("shared", 0), at(5), 2, "nobody"))(t)
	equal(t, len(rows), 2)
	equal(t, rows[0].CertificateRef, ref(10))

	c.Revoked, c.Changes, c.SettledAt = 7, []string{"c-1", "c-2"}, at(5)
	ok(t, s.UpdateCompromise(ctx, c, event("settled")))
	wantKind(t, s.UpdateCompromise(ctx, bulkhead.Compromise{KeyHash: digest("key", 2)}), bulkhead.KindNotFound)
	equal(t, value(s.Compromises(ctx, 5))(t), []bulkhead.Compromise{c})
	equal(t, value(s.UnsettledCompromises(ctx, at(5)))(t), []bulkhead.Compromise{c})
	equal(t, len(value(s.UnsettledCompromises(ctx, at(6)))(t)), 0)
	ok(t, s.PutCompromise(ctx, bulkhead.Compromise{KeyHash: key, Actor: "operator:bob", Reason: "again", At: at(9)}, event("again")))
	c.SettledAt = time.Time{}
	equal(t, value(s.UnsettledCompromises(ctx, at(60)))(t), []bulkhead.Compromise{c})
}

func testKilledCredentials(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	for n := range 5 {
		a := bulkhead.Account{ID: fmt.Sprintf("a-%d", n), State: bulkhead.AccountValid, TokenHash: digest("token", n), CreatedAt: at(n)}
		if n == 4 {
			a.TokenHash, a.Thumbprint = bulkhead.Hash{}, "acme"
		}
		ok(t, s.CreateAccount(ctx, a))
	}
	leaf := func(a bulkhead.Account) bulkhead.Evidence { return event("token of " + a.ID) }
	equal(t, value(s.KillTokens(ctx, 3, leaf))(t), 3)
	_, err := s.AccountByToken(ctx, digest("token", 0))
	wantKind(t, err, bulkhead.KindNotFound)
	value(s.AccountByToken(ctx, digest("token", 3)))(t)
	equal(t, value(s.KillTokens(ctx, 3, leaf))(t), 1)
	equal(t, value(s.KillTokens(ctx, 3, leaf))(t), 0)
	equal(t, value(s.Account(ctx, "a-0"))(t).State, bulkhead.AccountValid)
	equal(t, len(checkEvidence(t, s)), 4)

	ok(t, s.CreateExternalKey(ctx, bulkhead.ExternalKey{ID: "k-1", CreatedAt: at(1)}))
	ok(t, s.CreateExternalKey(ctx, bulkhead.ExternalKey{ID: "k-2", CreatedAt: at(1)}))
	ok(t, s.CreateBoundAccount(ctx, bulkhead.Account{ID: "bound", State: bulkhead.AccountValid, Thumbprint: "b", CreatedAt: at(2)}, "k-1"))
	dead := func(k bulkhead.ExternalKey) bulkhead.Evidence { return event("key " + k.ID) }
	equal(t, value(s.KillExternalKeys(ctx, "north", at(3), 10, dead))(t), 0)
	equal(t, value(s.KillExternalKeys(ctx, "", at(3), 10, dead))(t), 1)
	equal(t, value(s.KillExternalKeys(ctx, "", at(3), 10, dead))(t), 0)
	equal(t, value(s.RollAccounts(ctx, at(3), 10, leaf))(t), 2) // a-4 and bound: those with a key of their own
	equal(t, value(s.RollAccounts(ctx, at(4), 10, leaf))(t), 0)
	equal(t, value(s.Account(ctx, "a-4"))(t).RollDue, at(3))
	wantKind(t, s.CreateBoundAccount(ctx, bulkhead.Account{ID: "late", State: bulkhead.AccountValid, Thumbprint: "l", CreatedAt: at(4)}, "k-2"), bulkhead.KindUnauthorized)

	ok(t, s.PutOperator(ctx, bulkhead.Operator{Name: "alice", AddedAt: at(1)}))
	ok(t, s.ReviewOperator(ctx, "alice", at(8), event("reviewed")))
	wantKind(t, s.ReviewOperator(ctx, "nobody", at(8), event("reviewed")), bulkhead.KindNotFound)
	equal(t, value(s.Operators(ctx))(t)[0].ReviewedAt, at(8))
}

func testPartners(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	p := bulkhead.Partner{ID: "north", Title: "North KK", State: bulkhead.PartnerActive, CreatedAt: at(1),
		Scope: bulkhead.PartnerScope{Names: []string{"example.com"}, Profiles: []string{"tls-server"}, PerHour: 2, PerDay: 3, From: 480, To: 1080}}
	ok(t, s.CreatePartner(ctx, p, event("partner")))
	wantKind(t, s.CreatePartner(ctx, p, event("again")), bulkhead.KindConflict)
	equal(t, value(s.Partner(ctx, "north"))(t), p)
	_, err := s.Partner(ctx, "x")
	wantKind(t, err, bulkhead.KindNotFound)
	south := bulkhead.Partner{ID: "south", State: bulkhead.PartnerActive, CreatedAt: at(1)}
	ok(t, s.CreatePartner(ctx, south))
	equal(t, value(s.Partners(ctx))(t), []bulkhead.Partner{p, south})

	one := bulkhead.PartnerPerson{Partner: "north", Name: "yuki", TokenHash: digest("person", 1), CreatedAt: at(2)}
	wantKind(t, s.PutPerson(ctx, bulkhead.PartnerPerson{Partner: "x", Name: "n"}), bulkhead.KindNotFound)
	ok(t, s.PutPerson(ctx, one, event("person")))
	got, of, err := s.PersonByToken(ctx, digest("person", 1))
	ok(t, err)
	equal(t, got, one)
	equal(t, of, p)
	one.TokenHash = digest("person", 2)
	ok(t, s.PutPerson(ctx, one, event("another token")))
	_, _, err = s.PersonByToken(ctx, digest("person", 1))
	wantKind(t, err, bulkhead.KindNotFound)
	ok(t, s.PutPerson(ctx, bulkhead.PartnerPerson{Partner: "south", Name: "ken", TokenHash: digest("person", 3), CreatedAt: at(2)}))
	equal(t, value(s.KillPeople(ctx, "north", at(3), 9, func(bulkhead.PartnerPerson) bulkhead.Evidence { return event("dead") }))(t), 1)
	_, _, err = s.PersonByToken(ctx, digest("person", 2))
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, value(s.People(ctx, "north"))(t)[0].RevokedAt, at(3))
	equal(t, value(s.KillPeople(ctx, "", at(3), 9, func(bulkhead.PartnerPerson) bulkhead.Evidence { return event("dead") }))(t), 1)

	// The key says whose customer an account is.
	ok(t, s.CreateExternalKey(ctx, bulkhead.ExternalKey{ID: "k", Actor: "partner:north/yuki", Partner: "north", CreatedAt: at(1)}))
	ok(t, s.CreateBoundAccount(ctx, bulkhead.Account{ID: "mine", State: bulkhead.AccountValid, Thumbprint: "m", Partner: "south", CreatedAt: at(2)}, "k"))
	ok(t, s.CreateAccount(ctx, bulkhead.Account{ID: "other", State: bulkhead.AccountValid, Thumbprint: "o", Partner: "south", CreatedAt: at(2)}))
	mine := value(s.PartnerAccounts(ctx, "north", 10))(t)
	equal(t, len(mine), 1)
	equal(t, mine[0].ID+mine[0].Partner+mine[0].Creator, "minenorthpartner:north/yuki")
	equal(t, *value(s.Standing(ctx, "mine"))(t).Partner, p)

	suspended := p
	suspended.State = bulkhead.PartnerSuspended
	ok(t, s.UpdatePartner(ctx, suspended, bulkhead.PartnerActive, []bulkhead.Stop{stop(1, bulkhead.StopPartner, "north")}, event("suspended")))
	wantKind(t, s.UpdatePartner(ctx, suspended, bulkhead.PartnerActive, nil), bulkhead.KindConflict)
	equal(t, value(s.Stops(ctx))(t)[0].Value, "north")

	for n, account := range []string{"mine", "other", "mine"} {
		o := bulkhead.Order{ID: fmt.Sprintf("o-%d", n), AccountID: account, State: bulkhead.OrderPending, CreatedAt: at(n), ExpiresAt: at(99)}
		ok(t, s.CreateOrder(ctx, o, nil))
	}
	rows, next, err := s.PartnerOrders(ctx, "north", 0, 1)
	ok(t, err)
	equal(t, rows[0].ID, "o-2")
	rows, next, err = s.PartnerOrders(ctx, "north", next, 1)
	ok(t, err)
	equal(t, rows[0].ID+fmt.Sprint(next), "o-00")

	w := bulkhead.SecondApproval{OrderID: "o-0", Actor: "partner:north/ken", At: at(5)}
	ok(t, s.PutSecondApproval(ctx, w, event("second")))
	wantKind(t, s.PutSecondApproval(ctx, w, event("again")), bulkhead.KindConflict)
	equal(t, value(s.SecondApprovals(ctx, "o-0"))(t), []bulkhead.SecondApproval{w})
	equal(t, len(value(s.SecondApprovals(ctx, "o-1"))(t)), 0)
}

func testPartnerVolume(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	ok(t, s.CreatePartner(ctx, bulkhead.Partner{ID: "north", State: bulkhead.PartnerActive, CreatedAt: at(1)}))
	ok(t, s.CreateAccount(ctx, bulkhead.Account{ID: "mine", State: bulkhead.AccountValid, Thumbprint: "m", Partner: "north", CreatedAt: at(2)}))
	item := func(n, minute int) bulkhead.Reservation {
		r := reservation(n)
		r.Certificate.AccountID = "mine"
		r.Volume = &bulkhead.Volume{Partner: "north", At: at(minute), PerHour: 2, PerDay: 3}
		return r
	}
	// One batch: the third in the hour is refused and nothing else is.
	seqs, errs, err := s.Reserve(ctx, []bulkhead.Reservation{item(1, 0), item(2, 1), item(3, 2), reservation(4)})
	ok(t, err)
	ok(t, errs[0])
	ok(t, errs[1])
	wantKind(t, errs[2], bulkhead.KindRateLimited)
	ok(t, errs[3])
	equal(t, seqs[2], 0)
	// The next hour gives one more, and then the day is full.
	_, errs, err = s.Reserve(ctx, []bulkhead.Reservation{item(5, 60), item(6, 61)})
	ok(t, err)
	ok(t, errs[0])
	wantKind(t, errs[1], bulkhead.KindRateLimited)
	_, errs, err = s.Reserve(ctx, []bulkhead.Reservation{item(7, 24*60)})
	ok(t, err)
	ok(t, errs[0])
	equal(t, value(s.PartnerUse(ctx, "north", at(0)))(t), []bulkhead.PartnerUse{{Hour: at(0), Used: 2}, {Hour: at(60), Used: 1}, {Hour: at(24 * 60), Used: 1}})
	equal(t, value(s.PartnerKnows(ctx, "north", "example.com", at(500)))(t), true)
	equal(t, value(s.PartnerKnows(ctx, "north", "le.com", at(500)))(t), false)
	equal(t, value(s.PartnerKnows(ctx, "north", "example.com", at(-1)))(t), false)
	rows, _, err := s.Certificates(ctx, bulkhead.CertificateFilter{Partner: "north"})
	ok(t, err)
	equal(t, len(rows), 4)

	// However many try at once, no more than the volume comes through.
	errs = race(8, func(n int) error {
		_, each, err := open(t, nil).Reserve(ctx, []bulkhead.Reservation{item(100+n, 48*60)})
		if err != nil {
			return err
		}
		return each[0]
	})
	passed := 0
	for _, e := range errs {
		if e == nil {
			passed++
		} else {
			wantKind(t, e, bulkhead.KindRateLimited)
		}
	}
	equal(t, passed, 2)
}
