package storetest

import (
	"fmt"
	"testing"
	"time"

	"bulkhead"
)

// put issues certificate n after a change to its row.
func put(t testing.TB, s Store, n int, change func(c *bulkhead.Certificate)) {
	t.Helper()
	r := reservation(n)
	change(&r.Certificate)
	seqs, errs, err := s.Reserve(t.Context(), []bulkhead.Reservation{r})
	settled(t, seqs, errs, err, 1)
	complete(t, s, n)
}

// testNotices: what expires is found once for each channel and threshold, until it is revoked or replaced.
func testNotices(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const day = 24 * time.Hour
	a := account("a", "thumb-a")
	ok(t, s.CreateAccount(ctx, a))
	for n, change := range []func(c *bulkhead.Certificate){
		func(c *bulkhead.Certificate) { c.AccountID = "a" },
		func(c *bulkhead.Certificate) {},
		func(c *bulkhead.Certificate) { c.NotBefore = start.Add(2 * day) }, // lives 4 days: a week before is no news
		func(c *bulkhead.Certificate) { c.Kind = bulkhead.InfraCertificate },
		func(c *bulkhead.Certificate) { c.NotAfter = start.Add(10 * day) },
		func(c *bulkhead.Certificate) {}, // replaced
		func(c *bulkhead.Certificate) {}, // revoked
	} {
		put(t, s, n, func(c *bulkhead.Certificate) {
			c.NotBefore, c.NotAfter = start.Add(-30*day), start.Add(6*day)
			change(c)
		})
	}
	reserve(t, s, 8)
	ok(t, s.MarkReplaced(ctx, ref(5), ref(1)))
	revoke(t, s, "revoke-6", bulkhead.Superseded, at(1), 6)
	find := func(channel bulkhead.NoticeChannel, threshold time.Duration, more ...int64) (out string) {
		t.Helper()
		f := bulkhead.ExpiringFilter{Channel: channel, Threshold: threshold, From: start, To: start.Add(7 * day)}
		if len(more) == 2 {
			f.After, f.Limit = more[0], int(more[1])
		}
		for _, e := range value(s.Expiring(ctx, f))(t) {
			for n := range 10 {
				if e.CertificateRef == ref(n) {
					out += fmt.Sprintf("%d/%d ", n, len(e.Contacts))
				}
			}
		}
		return out
	}
	const first = "0/1 "
	equal(t, find(bulkhead.NoticeMail, 7*day), first+"1/0 ")
	equal(t, find(bulkhead.NoticeMail, 7*day, 0, 1), first)
	equal(t, find(bulkhead.NoticeMail, 7*day, 1, 5), "1/0 ")
	equal(t, find(bulkhead.NoticeMail, day), first+"1/0 2/0 ")
	told := bulkhead.ExpiryNotice{CertificateRef: ref(0), Channel: bulkhead.NoticeMail, Recipient: "a@a.test", Threshold: 7 * day, At: at(1)}
	ok(t, s.PutNotices(ctx, []bulkhead.ExpiryNotice{told, told}))
	equal(t, find(bulkhead.NoticeMail, 7*day), first+"1/0 ") // somebody was told, not everybody
	equal(t, value(s.Told(ctx, bulkhead.NoticeMail, ref(0), 7*day))(t), []string{"a@a.test"})
	equal(t, len(value(s.Told(ctx, bulkhead.NoticeMail, ref(0), day))(t)), 0)
	told.Recipient = ""
	ok(t, s.PutNotices(ctx, []bulkhead.ExpiryNotice{told}))
	ok(t, s.PutNotices(ctx, nil))
	equal(t, find(bulkhead.NoticeMail, 7*day), "1/0 ")
	equal(t, find(bulkhead.NoticeMail, 8*day), "1/0 ")          // a longer threshold says nothing new
	equal(t, find(bulkhead.NoticeMail, day), first+"1/0 2/0 ")  // a shorter one does
	equal(t, find(bulkhead.NoticeWebhook, 7*day), first+"1/0 ") // another channel is another matter
}

// testPrune: what is over goes, in bounded transactions; evidence stays octet for octet, and so does all that rests on
// what is not over.
func testPrune(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	before := at(500)
	old := func(c *bulkhead.Certificate) { c.NotAfter = at(400) }
	put(t, s, 0, func(c *bulkhead.Certificate) { old(c); c.OrderID = "gone" })
	put(t, s, 1, func(c *bulkhead.Certificate) { c.OrderID = "kept" })
	put(t, s, 2, func(c *bulkhead.Certificate) { old(c); c.Kind = bulkhead.CACertificate })
	put(t, s, 3, func(c *bulkhead.Certificate) { old(c); c.Shard = 1 }) // revoked, its CRL is new
	put(t, s, 4, func(c *bulkhead.Certificate) { old(c); c.Shard = 2 }) // revoked, its CRL is old
	put(t, s, 5, func(c *bulkhead.Certificate) { old(c); c.Kind = bulkhead.Precertificate })
	for _, n := range []int{6, 7} {
		r := reservation(n)
		old(&r.Certificate)
		_, _, err := s.Reserve(ctx, []bulkhead.Reservation{r})
		ok(t, err)
	}
	ok(t, s.Abandon(ctx, []bulkhead.CertificateRef{ref(7)}, []bulkhead.Evidence{event("abandoned")}))
	ok(t, s.Finalize(ctx, ref(5), der(15), event("final")))
	revoke(t, s, "revoke-3", bulkhead.Superseded, at(1), 3)
	revoke(t, s, "revoke-4", bulkhead.Superseded, at(1), 4)
	head := value(s.Head(ctx))(t)
	head.Sequence++
	crl := bulkhead.CRLRecord{Authority: issuer, Shard: 1, Number: 1, ThisUpdate: at(900), NextUpdate: at(999), Object: "crl/1"}
	stale := crl
	stale.Shard, stale.ThisUpdate = 2, at(899)
	ok(t, s.PutHead(ctx, head, []bulkhead.CRLRecord{crl, stale}))
	ok(t, s.PutNotices(ctx, []bulkhead.ExpiryNotice{{CertificateRef: ref(0), Channel: bulkhead.NoticeMail, Threshold: time.Hour, At: at(1)}}))

	for _, z := range []string{"z-gone", "z-kept", "z-late", "z-valid"} {
		a := authorization(z, "a.test")
		a.ExpiresAt = at(100)
		ok(t, s.CreateOrder(ctx, order("only-"+z, z), []bulkhead.Authorization{a}))
		if z == "z-valid" {
			a.State = bulkhead.AuthorizationValid
			v := bulkhead.Validation{ID: "v", AuthorizationID: z, AccountID: "a", Identifier: a.Identifier, Method: bulkhead.HTTP01, At: at(7), ReuseUntil: at(9)}
			ok(t, s.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, &v, event("validated")))
		}
	}
	late, busy, looked, claims := order("late", "z-late"), order("busy"), order("looked"), order("claims")
	late.ExpiresAt = at(600)
	busy.State = bulkhead.OrderProcessing
	claims.Replaces = ref(1)
	for _, o := range []bulkhead.Order{late, busy, looked, claims, order("gone", "z-gone"), order("kept", "z-kept")} {
		ok(t, s.CreateOrder(ctx, o, nil))
	}
	check := bulkhead.CAACheck{OrderID: "looked", Identifier: late.Identifiers[0], At: at(501), ValidUntil: at(502), Result: bulkhead.CAAPermitted}
	past := check
	past.OrderID, past.At = "gone", at(20)
	ok(t, s.PutCAAChecks(ctx, []bulkhead.CAACheck{check, past}))
	for n := range 3 {
		r := reply(n, "one", at(0))
		r.ExpiresAt = at(100 + n*300)
		value(s.ClaimReply(ctx, r, at(0)))(t)
		if n != 1 {
			ok(t, s.FinishReply(ctx, r.KeyHash, "one", 200, []byte("done")))
		}
	}
	ok(t, s.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: digest("blocked", 1), BlockedAt: at(1), Reason: "x", Actor: "y"}, event("blocked")))

	evidence := value(s.EvidenceAfter(ctx, 0, 1000))(t)
	p := bulkhead.Prune{Before: before, CRLFrom: at(900)}
	want := bulkhead.Pruned{Certificates: 4, Orders: 5, Authorizations: 1, Replies: 1}
	equal(t, value(s.Prunable(ctx, p))(t), want)
	leaf := func(n bulkhead.Pruned) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: bulkhead.EvPruned, At: at(1000), Actor: "operator:x", Count: n.Certificates}
	}
	var sum bulkhead.Pruned
	batches := 0
	for {
		n := value(s.Prune(ctx, p, 2, leaf))(t)
		if n.Total() > 2 {
			t.Fatalf("one transaction took %+v", n)
		}
		if n.Total() == 0 {
			break
		}
		sum, batches = sum.Add(n), batches+1
	}
	equal(t, sum, want)
	equal(t, value(s.Prunable(ctx, p))(t), bulkhead.Pruned{})
	after := value(s.EvidenceAfter(ctx, 0, 1000))(t)
	equal(t, after[:len(evidence)], evidence)
	equal(t, len(after), len(evidence)+batches)
	checkEvidence(t, s)

	for n, gone := range []bool{true, false, false, true, false, true, false, true} {
		_, _, err := s.Certificate(ctx, ref(n))
		if (bulkhead.KindOf(err) == bulkhead.KindNotFound) != gone {
			t.Errorf("certificate %d: gone should be %v, got %v", n, gone, err)
		}
		equal(t, value(s.Pruned(ctx, ref(n)))(t), gone && n != 7) // what was abandoned was never issued
	}
	for id, gone := range map[string]bool{"gone": true, "only-z-gone": true, "only-z-valid": true, "kept": false, "late": false, "busy": false, "looked": false, "claims": false} {
		_, err := s.Order(ctx, id)
		if (bulkhead.KindOf(err) == bulkhead.KindNotFound) != gone {
			t.Errorf("order %s: gone should be %v, got %v", id, gone, err)
		}
	}
	for id, gone := range map[string]bool{"z-gone": true, "z-kept": false, "z-late": false, "z-valid": false} {
		_, err := s.Authorization(ctx, id)
		if (bulkhead.KindOf(err) == bulkhead.KindNotFound) != gone {
			t.Errorf("authorisation %s: gone should be %v, got %v", id, gone, err)
		}
	}
	_, checks, err := s.OrderEvidence(ctx, "looked")
	ok(t, err)
	equal(t, len(checks), 1)
	equal(t, len(value(s.BlockedKeys(ctx, digest("blocked", 1)))(t)), 1)
	row, _, err := s.Certificate(ctx, ref(4))
	ok(t, err)
	equal(t, row.State, bulkhead.Revoked)
}
