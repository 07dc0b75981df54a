package storetest

import (
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"bulkhead"
)

// campaignRoundStore is what one round of a campaign asks of the record, beside its work.
type campaignRoundStore interface {
	Replacing(ctx context.Context, id string, certs []bulkhead.Certificate) (map[int64]bool, error)
	EarlyItems(ctx context.Context, id string, after int64, limit int) ([]bulkhead.CampaignItem, error)
	OwnProgress(ctx context.Context, id string) (total, replaced int64, err error)
	WindowOf(ctx context.Context, ref bulkhead.CertificateRef) (c bulkhead.Campaign, it bulkhead.CampaignItem, revoked, found bool, err error)
	ItemsToPlan(ctx context.Context, id string, now time.Time, after, through int64) iter.Seq2[*bulkhead.IncidentItem, error]
	PlanSpan(ctx context.Context, id string) (first, last int64, err error)
	ItemsToTell(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignItem, error)
	HoldJob(ctx context.Context, j bulkhead.CampaignJob) error
}

// testCampaignRound: what a round looks for is found, by account, name and age, and nothing else is; many items move by
// one step together or not at all.
func testCampaignRound(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const n = 600 // more than one statement holds
	var items []bulkhead.CampaignItem
	for i := range n {
		it := campaignItem(i, int64(i+1), int64(i+1))
		it.Own = i < 2
		if i == 3 {
			it.Name, it.AccountID = "other.example.com", "b"
		}
		items = append(items, it)
	}
	c := bulkhead.Campaign{ID: "k1", Incident: "i1", State: bulkhead.CampaignRunning, Generation: 1, PlanHash: digest("plan", 1), Plan: []byte("{}"), Items: n, StartedAt: at(1), CreatedAt: at(0)}
	ok(t, s.PlanCampaign(ctx, c, 0, slices.Values(items), nil))
	own := func(total, replaced int64) {
		t.Helper()
		if a, b, err := s.OwnProgress(ctx, "k1"); err != nil || a != total || b != replaced {
			t.Fatalf("%d of %d of the own estate, want %d of %d: %v", b, a, replaced, total, err)
		}
	}
	own(2, 0)
	var moves []bulkhead.ItemMove
	for _, it := range items {
		moves = append(moves, bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: bulkhead.ItemPlanned, To: bulkhead.ItemNotified, At: at(2), Detail: "told"})
	}
	stray := append(slices.Clone(moves), bulkhead.ItemMove{IntentSeq: n + 1, From: bulkhead.ItemPlanned, To: bulkhead.ItemNotified, At: at(2), Detail: "told"})
	wantKind(t, s.MoveItems(ctx, "k1", stray, nil, event("one too many")), bulkhead.KindConflict)
	equal(t, value(s.TallyCampaign(ctx, "k1", at(2)))(t).ByState[bulkhead.ItemPlanned], int64(n))
	ok(t, s.MoveItems(ctx, "k1", moves, nil, event("all")))
	equal(t, value(s.TallyCampaign(ctx, "k1", at(2)))(t).ByState[bulkhead.ItemNotified], int64(n))
	for _, i := range []int64{1, 512, 513, n} {
		steps := value(s.ItemSteps(ctx, "k1", i))(t)
		if len(steps) != 1 || steps[0].State != bulkhead.ItemNotified || steps[0].Detail != "told" {
			t.Fatalf("item %d went through %+v", i, steps)
		}
	}
	two := []bulkhead.ItemMove{{IntentSeq: 1, From: bulkhead.ItemNotified, To: bulkhead.ItemPatched, At: at(3), Detail: "seen"}, {IntentSeq: 1, From: bulkhead.ItemPatched, To: bulkhead.ItemReissued, At: at(3), Detail: "replaced", Replacement: ref(9), Leaf: 1}}
	ok(t, s.MoveItems(ctx, "k1", two, nil, event("patched"), event("reissued")))
	equal(t, len(value(s.ItemSteps(ctx, "k1", 1))(t)), 3)
	own(2, 1)

	equal(t, len(value(s.EarlyItems(ctx, "k1", 0, 10))(t)), 0)
	ok(t, s.NoteItem(ctx, "k1", bulkhead.ItemMove{IntentSeq: 7, Replacement: ref(8)}))
	if early := value(s.EarlyItems(ctx, "k1", 0, 10))(t); len(early) != 1 || early[0].IntentSeq != 7 {
		t.Fatalf("%+v", early)
	}
	equal(t, len(value(s.EarlyItems(ctx, "k1", 7, 10))(t)), 0)

	cert := func(seq int64, account string, names ...string) bulkhead.Certificate {
		x := bulkhead.Certificate{IntentSeq: seq, AccountID: account}
		for _, name := range names {
			x.Names = append(x.Names, bulkhead.Identifier{Type: bulkhead.DNS, Value: name})
		}
		return x
	}
	found := value(s.Replacing(ctx, "k1", []bulkhead.Certificate{cert(1001, "b", "z.example.com", "other.example.com"), cert(1002, "a", "other.example.com"), cert(1003, "b", "www.example.com"),
		cert(4, "b", "other.example.com"), cert(1005, "", "www.example.com"), cert(1006, "a", "www.example.com")}))(t)
	equal(t, found, map[int64]bool{1001: true, 1006: true}) // 4 is the item itself
	equal(t, len(value(s.Replacing(ctx, "none", []bulkhead.Certificate{cert(1006, "a", "www.example.com")}))(t)), 0)

	equal(t, value(s.OpenItemCounts(ctx, "k1", []string{"a", "b", "c"}))(t), map[string]int64{"a": n - 1, "b": 1})
	ok(t, s.NoteAccount(ctx, "k1", "b", "came back", event("came back")))
	equal(t, value(s.OpenItemsOf(ctx, "k1", "b", "other.example.com"))(t)[0].Detail, "came back")
	equal(t, value(s.OpenItemsOf(ctx, "k1", "a", "www.example.com"))(t)[1].Detail, "told")
}
