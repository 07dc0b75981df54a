package storetest

import (
	"testing"
	"time"

	"bulkhead"
)

// Placing is the world in which PlaceOne places orders.
func Placing(t testing.TB, s Store) {
	ok(t, s.CreateAccount(t.Context(), account("a", "thumb-a"), event("a")))
}

// PlaceOne does to the record what order n of one name does, from its order to its certificate: five writes for which somebody
// waits, the sixth that goes with others' or alone, and the questions before each.
func PlaceOne(t testing.TB, s Store, n int, step func(what string)) {
	ctx := t.Context()
	id := func(what string) string { return digest(what, n).String()[:22] }
	name := bulkhead.Identifier{Type: bulkhead.DNS, Value: digest("name", n).String()[:12] + ".example.com"}
	when := start.Add(time.Duration(n) * 10 * time.Millisecond)
	names := []bulkhead.Identifier{name}

	// new-order
	value(s.AccountByThumbprint(ctx, "thumb-a"))(t)
	value(s.ReusableAuthorizations(ctx, "a", names, when))(t)
	a := authorization(id("authorization"), name.Value)
	for _, m := range []bulkhead.Method{bulkhead.HTTP01, bulkhead.DNS01, bulkhead.TLSALPN01} {
		a.Challenges = append(a.Challenges, bulkhead.Challenge{ID: id(string(m)), Method: m, Token: id("token") + id(string(m)), State: bulkhead.ChallengePending})
	}
	a.Challenges = a.Challenges[2:]
	a.CreatedAt, a.ExpiresAt = when, when.Add(7*24*time.Hour)
	o := order(id("order"), a.ID)
	o.Identifiers, o.CreatedAt, o.ExpiresAt = names, when, when.Add(7*24*time.Hour)
	ok(t, s.CreateOrder(ctx, o, []bulkhead.Authorization{a}))
	step("order")

	// challenge
	value(s.Account(ctx, "a"))(t)
	a = value(s.Authorization(ctx, a.ID))(t)
	a.State, a.Challenges[0].State, a.Challenges[0].ValidatedAt, a.ExpiresAt = bulkhead.AuthorizationValid, bulkhead.ChallengeValid, when, when.Add(30*24*time.Hour)
	v := bulkhead.Validation{ID: id("validation"), AuthorizationID: a.ID, AccountID: "a", Identifier: name, Method: bulkhead.HTTP01, At: when, ReuseUntil: a.ExpiresAt, Detail: "looked at 192.0.2.1"}
	ok(t, s.ConcludeAuthorization(ctx, a, v, "thumb-a", event("validation "+name.Value)))
	step("challenge")

	// finalize
	o = value(s.Order(ctx, o.ID))(t)
	value(s.Authorizations(ctx, a.ID))(t)
	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, benchCompletion(n).DER[:400], when
	ok(t, s.ProcessOrder(ctx, o, []bulkhead.CAACheck{{OrderID: o.ID, Identifier: name, At: when, ValidUntil: when.Add(time.Hour), Result: "allowed", Detail: "no CAA records"}}, nil, event("processing")))
	step("process")
	value(s.OrdersEvidence(ctx, o.ID))(t)
	r := benchReservation(n)
	r.Certificate.Names, r.Certificate.Subject, r.Certificate.AccountID, r.Certificate.OrderID = names, "CN="+name.Value, "a", o.ID
	r.Certificate.NotBefore, r.Certificate.NotAfter, r.Certificate.ReservedAt = when, when.Add(47*24*time.Hour), when
	seqs, errs, err := s.Reserve(ctx, []bulkhead.Reservation{r})
	settled(t, seqs, errs, err, 1)
	step("reserve")
	seqs, errs, err = s.Complete(ctx, []bulkhead.Completion{benchCompletion(n)})
	settled(t, seqs, errs, err, 1)
	step("complete")
	o.State, o.Certificate = bulkhead.OrderValid, r.Certificate.CertificateRef
	ok(t, s.UpdateOrder(ctx, o, bulkhead.OrderProcessing))
	step("end")
}
