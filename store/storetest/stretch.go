package storetest

import (
	"slices"
	"testing"

	"bulkhead"
)

// Campaigns runs what the suite has of campaigns on one engine, each on a database of its own.
func Campaigns(t *testing.T, fresh Fresh) {
	for _, test := range []func(*testing.T, Open){testCampaigns, testCampaignRound, testCampaignStretch, testIncidents, testTickets, testTelling} {
		test(t, fresh(t))
	}
}

// testCampaignStretch: a stretch of the plan moves as a whole and exactly, or not at all; only in the work of the job that it
// is of; and a lease is made longer only by who holds it.
func testCampaignStretch(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const n = 40
	var items []bulkhead.CampaignItem
	for i := range n {
		items = append(items, campaignItem(i, int64(i+1), int64(1000-i)))
	}
	c := bulkhead.Campaign{ID: "k1", Incident: "i1", State: bulkhead.CampaignRunning, Generation: 1, PlanHash: digest("plan", 1), Plan: []byte("{}"), Items: n, StartedAt: at(1), CreatedAt: at(0)}
	ok(t, s.PlanCampaign(ctx, c, 0, slices.Values(items), []bulkhead.CampaignJob{{Kind: bulkhead.JobNotify, First: 1, Last: n - 1, DueAt: at(1)}}))
	j, found, err := s.ClaimJob(ctx, "w1", at(1), at(3))
	if err != nil || !found {
		t.Fatalf("%v %v", found, err)
	}
	told := value(s.ItemsToTell(ctx, "k1", 2, 3))(t)
	want := items[1]
	if len(told) != 2 || told[0].CertificateRef != want.CertificateRef || told[0].Ordinal != 2 || told[0].IntentSeq != want.IntentSeq || told[0].AccountID != "a" || !told[0].NotifyAt.Equal(at(1)) || told[0].Wave != 1 {
		t.Fatalf("%+v", told)
	}
	if work := value(s.CampaignWork(ctx, "k1", 2, 2))(t); len(work) != 1 || work[0].Ordinal != 2 || work[0].IntentSeq != want.IntentSeq {
		t.Fatalf("%+v", work)
	}

	move := func(first, last int64) bulkhead.ItemMove {
		return bulkhead.ItemMove{First: first, Last: last, From: bulkhead.ItemPlanned, To: bulkhead.ItemNotified, At: at(2), Detail: "told"}
	}
	wantKind(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{move(1, 5)}, nil, event("nobody's")), bulkhead.KindMalformed)
	wantKind(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{move(5, 4)}, &j, event("backwards")), bulkhead.KindMalformed)
	wantKind(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{move(1, n)}, &j, event("of another job")), bulkhead.KindMalformed)
	ok(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{move(1, 5), move(7, 7), {IntentSeq: items[n-1].IntentSeq, From: bulkhead.ItemPlanned, To: bulkhead.ItemNotified, At: at(2), Detail: "told"}}, &j, event("some")))
	wantKind(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{move(8, 9), move(5, 6)}, &j, event("one is told")), bulkhead.KindConflict)
	var got []int64
	for _, it := range value(s.CampaignItems(ctx, "k1", bulkhead.CampaignItemFilter{States: []bulkhead.ItemState{bulkhead.ItemNotified}}))(t) {
		got = append(got, it.Ordinal)
	}
	equal(t, got, []int64{1, 2, 3, 4, 5, 7, n})
	if steps := value(s.ItemSteps(ctx, "k1", items[4].IntentSeq))(t); len(steps) != 1 || steps[0].Detail != "told" {
		t.Fatalf("%+v", steps)
	}

	if known := value(s.KnownKeys(ctx, "k1", digest("key", 0)))(t); len(known) != 0 || len(value(s.CampaignsOfKey(ctx, digest("key", 0)))(t)) != 0 {
		t.Fatal("a campaign that asks for no new keys refuses one")
	}

	j.LeaseUntil = at(10)
	ok(t, s.HoldJob(ctx, j))
	if _, found, err := s.ClaimJob(ctx, "w2", at(9), at(20)); err != nil || found {
		t.Fatalf("a job whose lease was made longer was given out: %v", err)
	}
	other := j
	other.Holder, other.LeaseUntil = "w2", at(100)
	ok(t, s.HoldJob(ctx, other)) // not its own
	j.LeaseUntil = at(5)
	ok(t, s.HoldJob(ctx, j)) // never shorter
	if _, found, err := s.ClaimJob(ctx, "w2", at(9), at(20)); err != nil || found {
		t.Fatalf("a lease was made shorter: %v", err)
	}
	if got, found, err := s.ClaimJob(ctx, "w2", at(10), at(20)); err != nil || !found || got.ID != j.ID {
		t.Fatalf("%+v %v %v", got, found, err)
	}
	ok(t, s.HoldJob(ctx, j)) // nor that of who took over
	checkEvidence(t, s)
}
