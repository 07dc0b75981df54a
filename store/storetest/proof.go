package storetest

import (
	"testing"

	"bulkhead"
)

// testProof: counters move with the leaves and with nothing else, rows come in the order of their intents with what was
// signed, and what is asked for beyond the end is empty.
func testProof(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	head, counters, err := s.SignatureCounters(ctx)
	ok(t, err)
	equal(t, head, int64(0))
	equal(t, len(counters), 0)
	_, err = s.AppendEvidence(ctx, event("nothing signed"))
	ok(t, err)

	key := bulkhead.Digest([]byte("key"))
	items := each([]int{1, 2, 3}, reservation)
	for i := range items {
		items[i].Intent.Signer = key
	}
	items[2].Intent.Signer = bulkhead.Digest([]byte("other key"))
	_, errs, err := s.Reserve(ctx, items)
	ok(t, err)
	for _, err := range errs {
		ok(t, err)
	}
	done := each([]int{1}, completion)
	done[0].Outcome.Signer = key
	_, errs, err = s.Complete(ctx, done)
	ok(t, err)
	ok(t, errs[0])
	// Refused as a whole: the counter stays.
	_, errs, err = s.Reserve(ctx, items[:1])
	ok(t, err)
	wantKind(t, errs[0], bulkhead.KindConflict)
	batch := bulkhead.Evidence{Kind: bulkhead.EvBatchIntent, At: start, Actor: "role:signer", Ref: "batch", Signer: key, Digest: key, Count: 40}
	_, err = s.AppendEvidence(ctx, batch)
	ok(t, err)
	batch.Kind, batch.Link = bulkhead.EvBatchOutcome, key
	_, err = s.AppendEvidence(ctx, batch)
	ok(t, err)

	head, counters, err = s.SignatureCounters(ctx)
	ok(t, err)
	equal(t, head, int64(7))
	equal(t, len(counters), 2)
	got := map[bulkhead.Hash]bulkhead.SignatureCounter{}
	for _, c := range counters {
		got[c.Key] = c
	}
	equal(t, got[key], bulkhead.SignatureCounter{Key: key, Announced: 42, Made: 41, Since: 2})
	equal(t, got[items[2].Intent.Signer], bulkhead.SignatureCounter{Key: items[2].Intent.Signer, Announced: 1, Since: 4})

	want := bulkhead.SignedRow{CertificateRef: ref(1), Kind: items[0].Certificate.Kind, State: bulkhead.Issued, KeyHash: items[0].Certificate.KeyHash, IntentDigest: items[0].Intent.Digest,
		Fingerprint: bulkhead.Digest(der(1)), OrderID: items[0].Certificate.OrderID, AccountID: items[0].Certificate.AccountID, Names: items[0].Certificate.Names, IntentSeq: 2, OutcomeSeq: 5, DER: der(1), Sum: bulkhead.Digest(der(1)), Status: value(s.Statuses(ctx, issuer, []bulkhead.Serial{ref(1).Serial}))(t)[0]}
	for _, c := range []struct {
		from, through int64
		want          []int64
	}{{0, 0, []int64{2, 3, 4}}, {2, 0, []int64{3, 4}}, {0, 2, []int64{2}}, {2, 3, []int64{3}}, {4, 0, nil}} {
		var seqs []int64
		for r, err := range s.SignedRange(ctx, []bulkhead.AuthorityID{"nobody", issuer}, c.from, c.through) {
			ok(t, err)
			if r.IntentSeq == 2 {
				equal(t, *r, want)
			} else {
				equal(t, r.State, bulkhead.Reserved)
				equal(t, r.DER, nil)
				equal(t, r.Sum.IsZero(), true)
			}
			seqs = append(seqs, r.IntentSeq)
		}
		equal(t, seqs, c.want)
	}
	for r, err := range s.SignedRange(ctx, []bulkhead.AuthorityID{issuer}, 0, 0) { // a reader may stop
		ok(t, err)
		equal(t, r.IntentSeq, int64(2))
		break
	}
	for range s.SignedRange(ctx, []bulkhead.AuthorityID{"nobody"}, 0, 0) {
		t.Error("rows of nobody")
	}
	for range s.SignedRange(ctx, nil, 0, 0) {
		t.Error("rows of no authority")
	}
	for _, c := range []struct{ from, through int64 }{{0, 0}, {3, 0}, {0, 4}, {2, 5}, {7, 0}} {
		all := value(s.EvidenceAfter(ctx, c.from, 100))(t)
		for row, err := range s.EvidenceRange(ctx, c.from, c.through) {
			ok(t, err)
			equal(t, *row, all[0])
			all = all[1:]
		}
		equal(t, c.through == 0 && len(all) > 0 || c.through > 0 && (len(all) == 0 || all[0].Seq != c.through+1), false)
	}
	for row, err := range s.EvidenceRange(ctx, 0, 0) {
		ok(t, err)
		equal(t, row.Seq, int64(1))
		break
	}
	equal(t, len(value(s.PrunedAfter(ctx, issuer, bulkhead.Serial{}, 2))(t)), 0)
	equal(t, len(value(s.AlarmsOf(ctx, "D1", 2))(t)), 0)
	fresh := value(s.RaiseAlarm(ctx, bulkhead.Alarm{Detector: "D1", Key: "k", Severity: bulkhead.Critical, FirstAt: start, LastAt: start, Count: 1}, event("alarm")))(t)
	equal(t, fresh, true)
	equal(t, len(value(s.AlarmsOf(ctx, "D1", 2))(t)), 1)
	equal(t, len(value(s.AlarmsOf(ctx, "D2", 2))(t)), 0)
}
