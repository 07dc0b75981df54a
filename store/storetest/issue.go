package storetest

import (
	"slices"
	"testing"

	"bulkhead"
)

func testEvidence(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, value(s.IsEmpty(ctx))(t), true)
	ok(t, s.Ping(ctx))
	equal(t, len(checkEvidence(t, s)), 0)
	equal(t, value(s.AppendEvidence(ctx, event("a"), event("b")))(t), []int64{1, 2})
	equal(t, value(s.AppendEvidence(ctx, event("c")))(t), []int64{3})
	equal(t, len(value(s.AppendEvidence(ctx))(t)), 0)
	got := checkEvidence(t, s)
	equal(t, []string{got[0].Detail, got[1].Detail, got[2].Detail}, []string{"a", "b", "c"})
	equal(t, got[0], event("a"))
	equal(t, value(s.IsEmpty(ctx))(t), false)
	equal(t, len(value(s.EvidenceAfter(ctx, 0, 2))(t)), 2)

	long := event(string(make([]byte, 5000)))
	_, err := s.AppendEvidence(ctx, event("d"), long)
	if err == nil {
		t.Fatal("a leaf that cannot be encoded was appended")
	}
	equal(t, len(checkEvidence(t, s)), 3)
}

func testIssue(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	r := reservation(1)
	r.Certificate.Kind = bulkhead.DelegateCertificate
	r.Certificate.AccountID, r.Certificate.OrderID = "account-1", "order-1"
	r.Certificate.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "*.example.com"}, {Type: bulkhead.IP, Value: "127.0.0.1"}}
	r.Certificate.Replaces = ref(99)
	seqs, errs, err := s.Reserve(ctx, []bulkhead.Reservation{r})
	equal(t, settled(t, seqs, errs, err, 1), []int64{1})

	want := r.Certificate
	want.IntentSeq = 1
	got, noDER, err := s.Certificate(ctx, ref(1))
	ok(t, err)
	equal(t, got, want)
	equal(t, noDER, nil)
	_, err = s.CertificateDER(ctx, ref(1))
	wantKind(t, err, bulkhead.KindNotFound)
	_, _, err = s.CertificateByOrder(ctx, "order-1")
	wantKind(t, err, bulkhead.KindNotFound)

	equal(t, complete(t, s, 1), []int64{2})
	want.State, want.Fingerprint, want.OutcomeSeq = bulkhead.Issued, bulkhead.Digest(der(1)), 2
	got, gotDER, err := s.Certificate(ctx, ref(1))
	ok(t, err)
	equal(t, got, want)
	equal(t, gotDER, der(1))
	equal(t, value(s.CertificateDER(ctx, ref(1)))(t), der(1))
	got, gotDER, err = s.CertificateByOrder(ctx, "order-1")
	ok(t, err)
	equal(t, got, want)
	equal(t, gotDER, der(1))
	_, _, err = s.CertificateByOrder(ctx, "")
	wantKind(t, err, bulkhead.KindNotFound)

	leaves := checkEvidence(t, s)
	equal(t, leaves, []bulkhead.Evidence{r.Intent, completion(1).Outcome})

	ok(t, s.MarkReplaced(ctx, ref(1), ref(2)))
	ok(t, s.MarkReplaced(ctx, ref(1), ref(3)))
	got, _, err = s.Certificate(ctx, ref(1))
	ok(t, err)
	equal(t, got.ReplacedBy, ref(2))
	wantKind(t, s.MarkReplaced(ctx, ref(5), ref(6)), bulkhead.KindNotFound)
	_, _, err = s.Certificate(ctx, ref(5))
	wantKind(t, err, bulkhead.KindNotFound)
}

func testIssueRefusals(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	ok(t, s.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: digest("key", 3), BlockedAt: at(0), Reason: "stolen", Actor: "operator:a"}, event("block")))
	reserve(t, s, 1)

	items := each([]int{1, 2, 3, 4, 2, 5}, reservation)
	items[3].Intent.Detail = string(make([]byte, 5000))
	seqs, errs, err := s.Reserve(ctx, items)
	ok(t, err)
	equal(t, seqs, []int64{0, 3, 0, 0, 0, 4})
	wantKind(t, errs[0], bulkhead.KindConflict)
	ok(t, errs[1])
	wantKind(t, errs[2], bulkhead.KindBadPublicKey)
	if errs[3] == nil {
		t.Fatal("an intent that cannot be encoded was kept")
	}
	wantKind(t, errs[4], bulkhead.KindConflict)
	ok(t, errs[5])
	equal(t, len(checkEvidence(t, s)), 4)
	_, _, err = s.Certificate(ctx, ref(3))
	wantKind(t, err, bulkhead.KindNotFound)

	// The same serial of another issuer is another certificate.
	twin := reservation(1)
	twin.Certificate.Issuer, twin.Intent.Authority = "issuing-rsa", "issuing-rsa"
	seqs, errs, err = s.Reserve(ctx, []bulkhead.Reservation{twin, {Intent: event("no serial")}})
	ok(t, err)
	ok(t, errs[0])
	wantKind(t, errs[1], bulkhead.KindMalformed)
	equal(t, seqs, []int64{5, 0})

	for range 2 {
		seqs, errs, err = s.Reserve(ctx, nil)
		settled(t, seqs, errs, err, 0)
	}
	seqs, errs, err = s.Reserve(ctx, each([]int{1}, reservation))
	ok(t, err)
	wantKind(t, errs[0], bulkhead.KindConflict)
	equal(t, seqs[0], 0)
	equal(t, len(checkEvidence(t, s)), 5)
}

func testIssueTwice(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	reserve(t, s, 1, 2)
	equal(t, complete(t, s, 2, 1), []int64{3, 4})
	equal(t, complete(t, s, 1), []int64{4})
	equal(t, complete(t, s, 2, 2), []int64{3, 3})

	other := completion(1)
	other.DER = der(7)
	items := []bulkhead.Completion{other, completion(9), {CertificateRef: ref(1), Outcome: event("no DER")}}
	seqs, errs, err := s.Complete(ctx, items)
	ok(t, err)
	equal(t, seqs, []int64{0, 0, 0})
	wantKind(t, errs[0], bulkhead.KindConflict)
	wantKind(t, errs[1], bulkhead.KindNotFound)
	wantKind(t, errs[2], bulkhead.KindMalformed)
	equal(t, value(s.CertificateDER(ctx, ref(1)))(t), der(1))
	equal(t, len(checkEvidence(t, s)), 4)

	// Twice in one batch, once durable.
	reserve(t, s, 3)
	equal(t, complete(t, s, 3, 3), []int64{6, 6})
	equal(t, len(checkEvidence(t, s)), 6)

	// A revoked certificate is still completed.
	revoke(t, s, "change-1", bulkhead.Superseded, at(5), 3)
	equal(t, complete(t, s, 3), []int64{6})
	equal(t, state(t, s, 3), bulkhead.Revoked)
}

func testAbandon(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	reserve(t, s, 1, 2, 3)
	complete(t, s, 2)
	rows := value(s.OpenReservations(ctx, at(100), 10))(t)
	equal(t, len(rows), 2)
	equal(t, rows[0].Fingerprint, digest("tbs", 1))
	equal(t, rows[0].CertificateRef, ref(1))
	equal(t, rows[1].IntentSeq, 3)
	equal(t, len(value(s.OpenReservations(ctx, at(100), 1))(t)), 1)
	equal(t, len(value(s.OpenReservations(ctx, at(3), 10))(t)), 1) // number 3 was reserved at minute 3

	refs := []bulkhead.CertificateRef{ref(1), ref(2), ref(8), ref(3), ref(3)}
	ev := []bulkhead.Evidence{event("1"), event("2"), event("8"), event("3"), event("3 again")}
	wantKind(t, s.Abandon(ctx, refs, ev[:2]), bulkhead.KindMalformed)
	ok(t, s.Abandon(ctx, refs, ev))
	ok(t, s.Abandon(ctx, refs, ev))
	leaves := checkEvidence(t, s)
	equal(t, len(leaves), 6)
	equal(t, []string{leaves[4].Detail, leaves[5].Detail}, []string{"1", "3"})
	equal(t, state(t, s, 1), bulkhead.Abandoned)
	equal(t, state(t, s, 2), bulkhead.Issued)
	equal(t, len(value(s.OpenReservations(ctx, at(100), 10))(t)), 0)

	_, errs, err := s.Complete(ctx, each([]int{1}, completion))
	ok(t, err)
	wantKind(t, errs[0], bulkhead.KindConflict)
	_, errs, err = s.Reserve(ctx, each([]int{1}, reservation)) // the serial is dead for ever
	ok(t, err)
	wantKind(t, errs[0], bulkhead.KindConflict)
}

func testLargeBatch(t *testing.T, open Open) {
	s := open(t, nil)
	ns := numbers(0, 1300)
	seqs := reserve(t, s, ns...)
	for i, seq := range seqs {
		equal(t, seq, int64(i+1))
	}
	slices.Reverse(ns)
	complete(t, s, ns...)
	got := value(s.Statuses(t.Context(), issuer, each(ns, serial)))(t)
	equal(t, len(got), len(ns))
	for _, v := range got {
		equal(t, v.State, bulkhead.Issued)
	}
	equal(t, len(checkEvidence(t, s)), 2600)
}
