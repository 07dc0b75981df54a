package storetest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"bulkhead"
)

// incidentStore is what the incident desk asks of the record.
type incidentStore interface {
	CreateIncident(ctx context.Context, i bulkhead.Incident, ev ...bulkhead.Evidence) error
	Incident(ctx context.Context, id string) (bulkhead.Incident, error)
	Incidents(ctx context.Context, limit int, states ...bulkhead.IncidentState) ([]bulkhead.Incident, error)
	MoveIncident(ctx context.Context, i bulkhead.Incident, expect bulkhead.IncidentState, ev ...bulkhead.Evidence) error
	CountScope(ctx context.Context, id string, scope bulkhead.Scope, c bulkhead.ScopeCount, leaf func(before, now bulkhead.ScopeCount) bulkhead.Evidence) (bulkhead.ScopeCount, error)
	ScopeCounts(ctx context.Context, id string) ([]bulkhead.ScopeCount, error)
	IncidentItems(ctx context.Context, id, account string, heldOnly bool, after int64, limit int) ([]bulkhead.IncidentItem, error)
	AccountIncidents(ctx context.Context, account string) ([]bulkhead.Incident, error)
	TallyIncident(ctx context.Context, id string, now time.Time) (bulkhead.IncidentTally, error)
	HoldItem(ctx context.Context, id string, ref bulkhead.CertificateRef, why, by string, at time.Time, ev ...bulkhead.Evidence) error
	ReleaseItem(ctx context.Context, id string, ref bulkhead.CertificateRef, ev ...bulkhead.Evidence) error
	EvidenceOfKinds(ctx context.Context, seq int64, kinds []bulkhead.EvidenceKind, limit int) ([]bulkhead.EvidenceRow, error)
}

// campaignStore is what campaigns and tickets ask of the record.
type campaignStore interface {
	PlanCampaign(ctx context.Context, c bulkhead.Campaign, expect int64, items iter.Seq[bulkhead.CampaignItem], jobs []bulkhead.CampaignJob, ev ...bulkhead.Evidence) error
	Campaign(ctx context.Context, id string) (bulkhead.Campaign, error)
	Campaigns(ctx context.Context, limit int, states ...bulkhead.CampaignState) ([]bulkhead.Campaign, error)
	MoveCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState, ev ...bulkhead.Evidence) error
	StartCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState, leaf func(fresh int64, keys bulkhead.Hash) bulkhead.Evidence, ev ...bulkhead.Evidence) error
	CampaignItems(ctx context.Context, id string, f bulkhead.CampaignItemFilter) ([]bulkhead.CampaignItem, error)
	CampaignWork(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignWork, error)
	MembershipOf(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Campaign, bulkhead.CampaignItem, error)
	OpenItemsOf(ctx context.Context, campaign, account, name string) ([]bulkhead.CampaignItem, error)
	ItemSteps(ctx context.Context, id string, intentSeq int64) ([]bulkhead.ItemStep, error)
	MoveItems(ctx context.Context, id string, moves []bulkhead.ItemMove, job *bulkhead.CampaignJob, ev ...bulkhead.Evidence) error
	NoteItem(ctx context.Context, id string, n bulkhead.ItemMove) error
	ClaimJob(ctx context.Context, holder string, now, lease time.Time) (bulkhead.CampaignJob, bool, error)
	KeepJob(ctx context.Context, j bulkhead.CampaignJob) error
	CampaignJobs(ctx context.Context, id string, limit int) ([]bulkhead.CampaignJob, error)
	TallyCampaign(ctx context.Context, id string, now time.Time) (bulkhead.CampaignTally, error)
	CampaignsOfKey(ctx context.Context, key bulkhead.Hash) ([]bulkhead.Campaign, error)
	KnownKeys(ctx context.Context, id string, keys ...bulkhead.Hash) ([]bulkhead.Hash, error)
	AddAttempt(ctx context.Context, a bulkhead.CampaignAttempt, ev ...bulkhead.Evidence) error
	IssuedAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.Certificate, error)
	SameKeyReissues(ctx context.Context, id string, limit int) ([]bulkhead.CampaignItem, error)
	ChangeOutside(ctx context.Context, change, campaign string) (bulkhead.CertificateRef, bool, error)

	CreateTickets(ctx context.Context, tickets []bulkhead.Ticket, ev ...bulkhead.Evidence) (fresh int64, err error)
	TicketByCode(ctx context.Context, code bulkhead.Hash) (bulkhead.Ticket, error)
	Tickets(ctx context.Context, account, campaign string, limit int) ([]bulkhead.Ticket, error)
	ClaimTicket(ctx context.Context, id string, request bulkhead.Hash, at time.Time) error
	ReleaseTicket(ctx context.Context, id string, request bulkhead.Hash) error
	RedeemTicket(ctx context.Context, id string, request bulkhead.Hash, used bulkhead.CertificateRef, at time.Time, ev ...bulkhead.Evidence) error
}

func openIncident(id string) bulkhead.Incident {
	return bulkhead.Incident{ID: id, Kind: bulkhead.GeneralIncident, State: bulkhead.IncidentOpen, Title: "a bad day", Source: bulkhead.SourceReport, Cause: "key compromised",
		Reason: bulkhead.KeyCompromise, AwareAt: at(0), OpenedAt: at(1), Actor: "operator:a", Duties: []bulkhead.Duty{{Role: "lead", Person: "Ann"}},
		Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuer}}, Deadlines: []bulkhead.Deadline{{Object: "subscriber", Row: "REV-24H", Due: at(1440)}}}
}

func countLeaf(_, now bulkhead.ScopeCount) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvIncidentScope, At: start, Actor: "operator:a", Ref: now.Incident, Count: now.Items, Digest: now.Digest}
}

// testIncidents: a scope is counted again, holds survive it, and the counts before stay.
func testIncidents(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	i := openIncident("i1")
	ok(t, s.CreateIncident(ctx, i, event("opened")))
	wantKind(t, s.CreateIncident(ctx, i), bulkhead.KindConflict)
	equal(t, value(s.Incident(ctx, "i1"))(t), i)
	for n := range 6 {
		put(t, s, n, func(c *bulkhead.Certificate) {
			c.AccountID = fmt.Sprintf("a%d", n%2)
			c.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("n%d.example.com", n)}}
			if n == 5 {
				c.NotAfter = at(5)
			}
		})
	}
	revoke(t, s, "c", bulkhead.Superseded, at(1), 4)
	count := func(scope bulkhead.Scope, why string) bulkhead.ScopeCount {
		t.Helper()
		return value(s.CountScope(ctx, "i1", scope, bulkhead.ScopeCount{At: at(10), Why: why, Actor: "operator:a"}, countLeaf))(t)
	}
	first := count(i.Scope, "first")
	if first.Number != 1 || first.Items != 6 || first.Live != 4 || first.LogIndex < 1 {
		t.Fatalf("%+v", first)
	}
	if again := count(i.Scope, "again"); again != first {
		t.Fatalf("the same certificates make a new count: %+v", again)
	}
	ok(t, s.HoldItem(ctx, "i1", ref(0), "court order", "operator:a", at(3), event("held")))
	wantKind(t, s.HoldItem(ctx, "i1", ref(0), "court order", "operator:a", at(3)), bulkhead.KindConflict)
	wantKind(t, s.HoldItem(ctx, "i1", ref(77), "court order", "operator:a", at(3)), bulkhead.KindNotFound)
	second := count(bulkhead.Scope{Certificates: []bulkhead.CertificateRef{ref(2), ref(3), ref(50)}, Accounts: []string{"a1", "a7"}}, "only a1's")
	if second.Number != 2 || second.Items != 1 {
		t.Fatalf("%+v", second)
	}
	if held := value(s.IncidentItems(ctx, "i1", "", true, 0, 10))(t); len(held) != 1 || held[0].HeldWhy != "court order" || held[0].Certificate.Serial != serial(0) {
		t.Fatalf("held %+v", held)
	}
	if n := count(bulkhead.Scope{Names: []string{".example.com"}}, "names").Items; n != 6 {
		t.Fatalf("%d by suffix", n)
	}
	if n := count(bulkhead.Scope{Names: []string{"n3.example.com", "n4.example.com"}, Keys: []bulkhead.Hash{digest("key", 3), digest("key", 1)}}, "name and key").Items; n != 1 {
		t.Fatalf("%d by name and key", n)
	}
	if n := count(bulkhead.Scope{IssuedFrom: at(2), IssuedBefore: at(4)}, "time").Items; n != 2 {
		t.Fatalf("%d by time", n)
	}
	count(i.Scope, "all again")
	if got := value(s.ScopeCounts(ctx, "i1"))(t); len(got) != 6 || got[0] != first || got[5].Items != 6 {
		t.Fatalf("counts %+v", got)
	}
	tally := value(s.TallyIncident(ctx, "i1", at(10)))(t)
	if tally.Total != 6 || tally.Live != 4 || tally.Revoked != 1 || tally.Expired != 1 || tally.Held != 1 || tally.LiveByProfile["tls-server"] != 4 {
		t.Fatalf("tally %+v", tally)
	}
	lowest, highest, err := s.PlanSpan(ctx, "i1")
	ok(t, err)
	plannable := func(after, through int64) (out []bulkhead.IncidentItem) {
		for it, err := range s.ItemsToPlan(ctx, "i1", at(10), after, through) {
			ok(t, err)
			out = append(out, *it)
			out[len(out)-1].Certificate.Names = slices.Clone(it.Certificate.Names)
		}
		return out
	}
	toPlan := plannable(lowest-1, highest)
	if len(toPlan) != 4 || toPlan[0].HeldWhy != "court order" || toPlan[1].Certificate.AccountID != "a1" || toPlan[1].Certificate.Names[0].Value != "n1.example.com" || toPlan[1].Certificate.KeyHash != digest("key", 1) {
		t.Fatalf("to plan: %+v", toPlan)
	}
	equal(t, len(plannable(toPlan[2].Certificate.IntentSeq, highest)), 1)
	equal(t, len(plannable(0, toPlan[2].Certificate.IntentSeq)), 3)
	if a, b, err := s.PlanSpan(ctx, "none"); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Fatalf("%d to %d of no incident: %v", a, b, err)
	}
	if own := value(s.IncidentItems(ctx, "i1", "a1", false, 0, 10))(t); len(own) != 3 || own[0].Certificate.AccountID != "a1" {
		t.Fatalf("of a1: %+v", own)
	}
	if got := value(s.AccountIncidents(ctx, "a1"))(t); len(got) != 1 || len(value(s.AccountIncidents(ctx, "a9"))(t)) != 0 {
		t.Fatalf("incidents of a1: %+v", got)
	}
	ok(t, s.ReleaseItem(ctx, "i1", ref(0), event("released")))
	rows := value(s.EvidenceOfKinds(ctx, 0, []bulkhead.EvidenceKind{bulkhead.EvIncidentScope}, 100))(t)
	if len(rows) != 6 || rows[0].Seq-1 != first.LogIndex {
		t.Fatalf("%d leaves of the kind", len(rows))
	}
	late := openIncident("d1")
	late.Kind, late.Parent = bulkhead.DelayedRevocation, "i1"
	ok(t, s.CreateIncident(ctx, late))
	late.ID = "d2"
	wantKind(t, s.CreateIncident(ctx, late), bulkhead.KindConflict)
	i.State, i.ClosedAt, i.Closing = bulkhead.IncidentClosed, at(9), "done"
	ok(t, s.MoveIncident(ctx, i, bulkhead.IncidentOpen, event("closed")))
	wantKind(t, s.MoveIncident(ctx, i, bulkhead.IncidentOpen), bulkhead.KindConflict)
	equal(t, len(value(s.Incidents(ctx, 10, bulkhead.IncidentOpen))(t)), 1)
	checkEvidence(t, s)
}

// testScopeByValidation: certificates are found by the validations under their orders, by method and time, also when the
// authorisation is worth nothing any more.
func testScopeByValidation(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	ok(t, s.CreateAccount(ctx, account("a", "thumb-a")))
	methods := []bulkhead.Method{bulkhead.HTTP01, bulkhead.TLSALPN01, bulkhead.TLSALPN01}
	for n, m := range methods {
		az := bulkhead.Authorization{ID: fmt.Sprintf("z%d", n), AccountID: "a", Identifier: bulkhead.Identifier{Type: bulkhead.DNS, Value: fmt.Sprintf("v%d.example.com", n)},
			State: bulkhead.AuthorizationPending, ExpiresAt: at(9000), CreatedAt: at(0)}
		o := bulkhead.Order{ID: fmt.Sprintf("o%d", n), AccountID: "a", State: bulkhead.OrderPending, Identifiers: []bulkhead.Identifier{az.Identifier}, Authorizations: []string{az.ID},
			Profile: "tls-server", Authority: issuer, ExpiresAt: at(9000), CreatedAt: at(0)}
		ok(t, s.CreateOrder(ctx, o, []bulkhead.Authorization{az}))
		az.State = bulkhead.AuthorizationValid
		v := bulkhead.Validation{ID: fmt.Sprintf("v%d", n), AuthorizationID: az.ID, AccountID: "a", Identifier: az.Identifier, Method: m, At: at(n * 10), ReuseUntil: at(9000)}
		ok(t, s.UpdateAuthorization(ctx, az, bulkhead.AuthorizationPending, &v))
		put(t, s, n, func(c *bulkhead.Certificate) { c.AccountID, c.OrderID = "a", o.ID })
	}
	i := openIncident("i1")
	ok(t, s.CreateIncident(ctx, i))
	for _, c := range []struct {
		v    bulkhead.ValidationScope
		want int64
	}{
		{bulkhead.ValidationScope{Method: bulkhead.TLSALPN01}, 2}, {bulkhead.ValidationScope{Method: bulkhead.TLSALPN01, Since: at(15)}, 1},
		{bulkhead.ValidationScope{Until: at(11)}, 2}, {bulkhead.ValidationScope{Name: ".example.com"}, 3}, {bulkhead.ValidationScope{Name: "v1.example.com", Method: bulkhead.HTTP01}, 0},
	} {
		got := value(s.CountScope(ctx, "i1", bulkhead.Scope{Validation: &c.v}, bulkhead.ScopeCount{At: at(20)}, countLeaf))(t)
		if got.Items != c.want {
			t.Errorf("%+v selects %d, want %d", c.v, got.Items, c.want)
		}
	}
}

func campaignItem(n int, ordinal int64, intent int64) bulkhead.CampaignItem {
	return bulkhead.CampaignItem{CertificateRef: ref(n), IntentSeq: intent, Ordinal: ordinal, Wave: 1, State: bulkhead.ItemPlanned, Product: "tls", AccountID: "a", OrderID: "o", Name: "www.example.com",
		KeyHash: digest("key", n), NotifyAt: at(1), WindowStart: at(2), WindowEnd: at(3), RevokeAt: at(4), Deadline: at(1440), NotAfter: at(1000)}
}

// testCampaigns: a plan follows exactly one other, items move by the state expected of them, work is fenced by the plan,
// and the keys of a campaign are blocked with its start.
func testCampaigns(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	var items []bulkhead.CampaignItem
	for n := range 4 {
		put(t, s, n, func(c *bulkhead.Certificate) { c.AccountID = "a" })
		c, _, err := s.Certificate(ctx, ref(n))
		ok(t, err)
		items = append(items, campaignItem(n, int64(n+1), c.IntentSeq))
	}
	c := bulkhead.Campaign{ID: "k1", Incident: "i1", State: bulkhead.CampaignPlanned, Generation: 1, PlanHash: digest("plan", 1), Plan: []byte("{}"), Needs: bulkhead.CampaignNeeds{NewKey: true},
		Tickets: true, Reason: bulkhead.KeyCompromise, Items: 4, Deadline: at(1440), ForceAt: at(1400), Actor: "operator:a", CreatedAt: at(0)}
	jobs := []bulkhead.CampaignJob{{Kind: bulkhead.JobNotify, First: 1, Last: 4, DueAt: at(1)}, {Kind: bulkhead.JobRevoke, First: 1, Last: 4, DueAt: at(4)}}
	ok(t, s.PlanCampaign(ctx, c, 0, slices.Values(items), jobs, event("planned")))
	wantKind(t, s.PlanCampaign(ctx, c, 0, slices.Values(items), jobs), bulkhead.KindConflict)
	equal(t, value(s.Campaign(ctx, "k1"))(t), c)
	equal(t, value(s.CampaignItems(ctx, "k1", bulkhead.CampaignItemFilter{First: 2, Last: 3}))(t), items[1:3])
	if _, found, err := s.ClaimJob(ctx, "w", at(100), at(101)); err != nil || found {
		t.Fatalf("work of a campaign that did not start: %v %v", found, err)
	}
	_, _, err := s.MembershipOf(ctx, ref(1))
	wantKind(t, err, bulkhead.KindNotFound)

	c.State, c.StartedAt, c.Approval = bulkhead.CampaignRunning, at(1), "r1"
	leaf := func(fresh int64, keys bulkhead.Hash) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: bulkhead.EvCampaignKeys, At: start, Ref: "k1", Count: fresh, Digest: keys}
	}
	ok(t, s.StartCampaign(ctx, c, bulkhead.CampaignPlanned, leaf, event("started")))
	wantKind(t, s.StartCampaign(ctx, c, bulkhead.CampaignPlanned, leaf), bulkhead.KindConflict)
	equal(t, len(value(s.BlockedKeys(ctx, digest("key", 0), digest("key", 3), digest("key", 9)))(t)), 2)
	equal(t, len(value(s.KnownKeys(ctx, "k1", digest("key", 0), digest("key", 9)))(t)), 1)
	equal(t, len(value(s.CampaignsOfKey(ctx, digest("key", 0)))(t)), 1)
	_, errs, err := s.Reserve(ctx, []bulkhead.Reservation{func() bulkhead.Reservation {
		r := reservation(20)
		r.Certificate.KeyHash, r.Intent.KeyHash = digest("key", 0), digest("key", 0)
		return r
	}()})
	ok(t, err)
	if errs[0] == nil {
		t.Fatal("a key of the campaign was reserved again")
	}
	campaignWork(t, s, items)
	campaignReplan(t, s, c, items, jobs)
	checkEvidence(t, s)
}

func campaignWork(t *testing.T, s Store, items []bulkhead.CampaignItem) {
	t.Helper()
	ctx := t.Context()
	j, found, err := s.ClaimJob(ctx, "w1", at(1), at(3))
	if err != nil || !found || j.Kind != bulkhead.JobNotify {
		t.Fatalf("%+v %v %v", j, found, err)
	}
	if _, found, _ := s.ClaimJob(ctx, "w2", at(2), at(3)); found {
		t.Fatal("a leased job was given out again")
	}
	moves := make([]bulkhead.ItemMove, 0, len(items))
	for _, it := range items {
		moves = append(moves, bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: bulkhead.ItemPlanned, To: bulkhead.ItemNotified, At: at(1), Detail: "told"})
	}
	other, found, err := s.ClaimJob(ctx, "w2", at(3), at(5)) // the lease of w1 ran out
	if err != nil || !found || other.ID != j.ID || other.Tries != 2 {
		t.Fatalf("%+v %v %v", other, found, err)
	}
	j.Done = true
	wantKind(t, s.MoveItems(ctx, "k1", moves, &j, event("late")), bulkhead.KindConflict)
	other.Done = true
	ok(t, s.MoveItems(ctx, "k1", moves, &other, event("notified")))
	wantKind(t, s.MoveItems(ctx, "k1", moves[:1], nil, event("twice")), bulkhead.KindConflict)
	ok(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{{IntentSeq: items[0].IntentSeq, From: bulkhead.ItemNotified, To: bulkhead.ItemReissued, At: at(2), Detail: "replaced", Replacement: ref(9)}}, nil, event("one")))
	campaign, got, err := s.MembershipOf(ctx, items[0].CertificateRef)
	ok(t, err)
	if campaign.ID != "k1" || got.State != bulkhead.ItemReissued || got.Replacement != ref(9) || got.Detail != "replaced" {
		t.Fatalf("%+v", got)
	}
	ok(t, s.MoveItems(ctx, "k1", []bulkhead.ItemMove{{IntentSeq: items[0].IntentSeq, From: bulkhead.ItemReissued, To: bulkhead.ItemReopened, At: at(3), Detail: "same key: again"}}, nil, event("reopened")))
	_, got, err = s.MembershipOf(ctx, items[0].CertificateRef)
	ok(t, err)
	if got.State != bulkhead.ItemReopened || got.Replacement != (bulkhead.CertificateRef{}) {
		t.Fatalf("%+v", got)
	}
	steps := value(s.ItemSteps(ctx, "k1", items[0].IntentSeq))(t)
	if len(steps) != 3 || steps[0].State != bulkhead.ItemNotified || steps[2].LogIndex <= steps[0].LogIndex {
		t.Fatalf("%+v", steps)
	}
	ok(t, s.NoteItem(ctx, "k1", bulkhead.ItemMove{IntentSeq: items[1].IntentSeq, Detail: "seen with the fault", Vulnerable: at(2), Replacement: ref(8)}))
	ok(t, s.AddAttempt(ctx, bulkhead.CampaignAttempt{Campaign: "k1", KeyHash: digest("key", 0), AccountID: "a", At: at(3)}, event("attempt")))
	tally := value(s.TallyCampaign(ctx, "k1", at(2000)))(t)
	if tally.Total != 4 || tally.ByState[bulkhead.ItemNotified] != 3 || tally.ByState[bulkhead.ItemReopened] != 1 || tally.Overdue != 4 || tally.SameKeyAttempts != 1 || tally.ByProduct["tls"] != 4 {
		t.Fatalf("%+v", tally)
	}
	open := value(s.OpenItemsOf(ctx, "k1", "a", "www.example.com"))(t)
	if len(open) != 4 || open[1].Replacement != ref(8) || !open[1].Vulnerable.Equal(at(2)) || open[1].State != bulkhead.ItemNotified {
		t.Fatalf("%+v", open)
	}
}

func campaignReplan(t *testing.T, s Store, c bulkhead.Campaign, items []bulkhead.CampaignItem, jobs []bulkhead.CampaignJob) {
	t.Helper()
	ctx := t.Context()
	j, found, err := s.ClaimJob(ctx, "w1", at(4), at(5))
	if err != nil || !found || j.Kind != bulkhead.JobRevoke {
		t.Fatalf("%+v %v %v", j, found, err)
	}
	next := c
	next.State, next.Generation, next.ParentHash, next.PlanHash, next.Items = bulkhead.CampaignPlanned, 2, c.PlanHash, digest("plan", 2), 3
	fewer := []bulkhead.CampaignItem{items[2], items[0], items[1]}
	for i := range fewer {
		fewer[i].Ordinal = int64(i + 1)
	}
	wantKind(t, s.PlanCampaign(ctx, next, 7, slices.Values(fewer), jobs), bulkhead.KindConflict)
	ok(t, s.PlanCampaign(ctx, next, 1, slices.Values(fewer), jobs, event("planned again")))
	j.Change = "x"
	wantKind(t, s.KeepJob(ctx, j), bulkhead.KindConflict)
	got := value(s.CampaignItems(ctx, "k1", bulkhead.CampaignItemFilter{}))(t)
	if len(got) != 3 || got[0].IntentSeq != items[2].IntentSeq || got[1].State != bulkhead.ItemReopened || got[2].State != bulkhead.ItemNotified {
		t.Fatalf("%+v", got)
	}
	equal(t, len(value(s.CampaignJobs(ctx, "k1", 10))(t)), 2)
	next.State, next.StartedAt = bulkhead.CampaignRunning, at(5)
	ok(t, s.StartCampaign(ctx, next, bulkhead.CampaignPlanned, nil, event("started again")))
	// A certificate with the key of an item that came after it is the replacement that replaced nothing.
	put(t, s, 30, func(c *bulkhead.Certificate) { c.AccountID = "a" })
	equal(t, len(value(s.SameKeyReissues(ctx, "k1", 10))(t)), 0)
	if rows := value(s.IssuedAfter(ctx, 0, 100))(t); len(rows) != 5 || rows[4].Serial != serial(30) {
		t.Fatalf("%d certificates since", len(rows))
	}
	window := func(n int, found, revoked bool) {
		t.Helper()
		k, it, gone, in, err := s.WindowOf(ctx, ref(n))
		if err != nil || in != found || gone != revoked || found && (!it.WindowStart.Equal(at(2)) || !k.Deadline.Equal(at(1440)) || it.State == "") {
			t.Fatalf("window of %d: %+v %+v revoked %v, found %v: %v", n, k, it, gone, in, err)
		}
	}
	window(0, true, false)
	window(30, false, false)
	revoke(t, s, "inside", bulkhead.Superseded, at(6), 0, 1)
	work := value(s.CampaignWork(ctx, "k1", 1, 2))(t)
	if len(work) != 2 || work[0].CertificateRef != items[2].CertificateRef || work[0].Recorded != bulkhead.Issued || work[0].Kind != bulkhead.LeafCertificate || work[0].NotBefore.IsZero() || work[1].CertificateRef != ref(0) || work[1].State != bulkhead.ItemReopened ||
		work[1].Recorded != bulkhead.Revoked || work[1].Reason != bulkhead.Superseded || !work[1].RevokedAt.Equal(at(6)) || !work[1].RevokeAt.Equal(at(4)) || work[1].Held {
		t.Fatalf("%+v", work)
	}
	window(0, true, true)
	if _, outside, err := s.ChangeOutside(ctx, "inside", "k1"); err != nil || outside {
		t.Fatal("a change within the campaign is outside", err)
	}
	revoke(t, s, "outside", bulkhead.Superseded, at(6), 2, 30)
	if stray, outside, err := s.ChangeOutside(ctx, "outside", "k1"); err != nil || !outside || stray != ref(30) {
		t.Fatal("a stray certificate is not found", stray, err)
	}
	next.State, next.ClosedAt = bulkhead.CampaignClosed, at(9)
	ok(t, s.MoveCampaign(ctx, next, bulkhead.CampaignRunning, event("closed")))
	equal(t, len(value(s.Campaigns(ctx, 10, bulkhead.CampaignRunning))(t)), 0)
}

// testTickets: a code serves one request, once.
func testTickets(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	k := bulkhead.Ticket{ID: "t1", Campaign: "k1", Replaces: ref(1), OrderID: "o1", Name: "www.example.com", AccountID: "a", CodeHash: digest("code", 1), Actor: "operator:a", CreatedAt: at(0), ExpiresAt: at(100)}
	twin := k
	twin.ID, twin.CodeHash = "t2", digest("code", 2) // the same item has its ticket already
	equal(t, value(s.CreateTickets(ctx, []bulkhead.Ticket{k, twin}, event("issued")))(t), int64(1))
	before := len(checkEvidence(t, s))
	equal(t, value(s.CreateTickets(ctx, []bulkhead.Ticket{k}, event("issued")))(t), int64(0))
	equal(t, len(checkEvidence(t, s)), before)
	equal(t, value(s.TicketByCode(ctx, digest("code", 1)))(t), k)
	_, err := s.TicketByCode(ctx, digest("code", 2))
	wantKind(t, err, bulkhead.KindNotFound)
	one, two := digest("request", 1), digest("request", 2)
	wantKind(t, s.RedeemTicket(ctx, "t1", one, ref(5), at(1)), bulkhead.KindConflict)
	ok(t, s.ClaimTicket(ctx, "t1", one, at(1)))
	ok(t, s.ClaimTicket(ctx, "t1", one, at(2)))
	wantKind(t, s.ClaimTicket(ctx, "t1", two, at(2)), bulkhead.KindConflict)
	ok(t, s.ReleaseTicket(ctx, "t1", one))
	ok(t, s.ClaimTicket(ctx, "t1", two, at(3)))
	ok(t, s.RedeemTicket(ctx, "t1", two, ref(5), at(4), event("redeemed")))
	ok(t, s.RedeemTicket(ctx, "t1", two, ref(5), at(5), event("redeemed")))
	wantKind(t, s.RedeemTicket(ctx, "t1", two, ref(6), at(5)), bulkhead.KindConflict)
	wantKind(t, s.ClaimTicket(ctx, "t1", two, at(6)), bulkhead.KindConflict)
	if got := value(s.Tickets(ctx, "a", "k1", 10))(t); len(got) != 1 || got[0].Used != ref(5) || !got[0].RedeemedAt.Equal(at(4)) {
		t.Fatalf("%+v", got)
	}
	equal(t, len(value(s.Tickets(ctx, "b", "", 10))(t)), 0)
}
