package storetest

import (
	"context"
	"testing"
	"time"

	"bulkhead"
)

// tellingStore is what reports and notices ask of the record.
type tellingStore interface {
	PutIncidentField(ctx context.Context, f bulkhead.IncidentField, ev bulkhead.Evidence) (bulkhead.IncidentField, error)
	IncidentFields(ctx context.Context, incident string) ([]bulkhead.IncidentField, error)
	PlanNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice, ev bulkhead.Evidence) (bulkhead.NoticeStep, error)
	NoticeSteps(ctx context.Context, incident string) ([]bulkhead.NoticeStep, error)
	IncidentNotices(ctx context.Context, incident, step string, after int64, limit int, states ...bulkhead.NoticeState) ([]bulkhead.IncidentNotice, error)
	BadNotices(ctx context.Context, after int64, limit int) ([]bulkhead.IncidentNotice, error)
	NoticeByMessage(ctx context.Context, messageID string) (bulkhead.IncidentNotice, error)
	MoveNotices(ctx context.Context, messages []bulkhead.IncidentNotice, expect bulkhead.NoticeState, ev ...bulkhead.Evidence) error
	CountNotices(ctx context.Context, incident string) ([]bulkhead.NoticeCount, error)
	LiveLeaves(ctx context.Context, now time.Time) (map[bulkhead.AuthorityID]int64, error)
	Reach(ctx context.Context, now time.Time) (accounts, reachable int64, err error)
	NoticeAccounts(ctx context.Context, incident, after string, limit int) ([]bulkhead.NoticeAccount, error)
	AddNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice, leaf func(fresh int64) bulkhead.Evidence) (fresh int64, err error)
	NoticesTo(ctx context.Context, incident, step string, accounts []string) ([]bulkhead.IncidentNotice, error)
	OpenNoticeSteps(ctx context.Context, prefix string) ([]bulkhead.NoticeStep, error)
	OpenItemCounts(ctx context.Context, id string, accounts []string) (map[string]int64, error)
	NoteAccount(ctx context.Context, id, account, detail string, ev ...bulkhead.Evidence) error
}

// testTelling: the newest text of a field counts, a step tells each recipient once, and a message moves from the state
// expected of it only.
func testTelling(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	ok(t, s.CreateIncident(ctx, openIncident("i1")))
	f := bulkhead.IncidentField{Incident: "i1", Field: "description", Text: "first", Actor: "operator:a", At: at(1)}
	leaf := event("field")
	first := value(s.PutIncidentField(ctx, f, leaf))(t)
	f.Text, f.At = "second 証明書", at(2)
	second := value(s.PutIncidentField(ctx, f, leaf))(t)
	if first.Number != 1 || second.Number != 2 || second.LogIndex <= first.LogIndex {
		t.Fatalf("%+v %+v", first, second)
	}
	equal(t, value(s.IncidentFields(ctx, "i1"))(t), []bulkhead.IncidentField{second})
	f.Incident = "none"
	_, err := s.PutIncidentField(ctx, f, leaf)
	wantKind(t, err, bulkhead.KindNotFound)

	for n := range 3 {
		put(t, s, n, func(c *bulkhead.Certificate) { c.AccountID = []string{"a1", "a1", "a2"}[n] })
	}
	for _, id := range []string{"a1", "a2", "a3"} {
		ok(t, s.CreateAccount(ctx, bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id, JWK: []byte("{}"), Contacts: []string{"mailto:" + id + "@a.test"}, CreatedAt: at(0)}))
	}
	value(s.CountScope(ctx, "i1", bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuer}}, bulkhead.ScopeCount{At: at(1), Why: "x", Actor: "a"}, countLeaf))(t)
	accounts := value(s.NoticeAccounts(ctx, "i1", "", 10))(t)
	if len(accounts) != 2 || accounts[0].ID != "a1" || accounts[0].Items != 2 || accounts[1].Items != 1 || accounts[0].Contacts[0] != "mailto:a1@a.test" {
		t.Fatalf("%+v", accounts)
	}
	if rest := value(s.NoticeAccounts(ctx, "i1", "a1", 10))(t); len(rest) != 1 {
		t.Fatalf("%+v", rest)
	}

	step := bulkhead.NoticeStep{Incident: "i1", Step: "first", Day: "key-compromise", What: "{}", Do: "{}", Until: at(60), Actor: "operator:a", At: at(3)}
	m := bulkhead.IncidentNotice{Incident: "i1", Step: "first", Channel: bulkhead.NoticeMail, Recipient: "a1@a.test", Account: "a1", Language: "ja", Items: 2, MessageID: "m1", State: bulkhead.NoticePlanned, MovedAt: at(3)}
	none := m
	none.Recipient, none.Account, none.MessageID, none.State = "", "a2", "m2", bulkhead.NoticeNoContact
	step = value(s.PlanNotices(ctx, step, []bulkhead.IncidentNotice{m, m, none}, leaf))(t)
	_, err = s.PlanNotices(ctx, step, []bulkhead.IncidentNotice{m}, leaf)
	wantKind(t, err, bulkhead.KindConflict)
	equal(t, value(s.NoticeSteps(ctx, ""))(t), []bulkhead.NoticeStep{step})
	all := value(s.IncidentNotices(ctx, "i1", "first", 0, 10))(t)
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	m.Seq = all[0].Seq
	equal(t, all[0], m)
	m.State, m.Tries, m.MovedAt, m.Problem = bulkhead.NoticeSending, 1, at(4), "x"
	ok(t, s.MoveNotices(ctx, []bulkhead.IncidentNotice{m}, bulkhead.NoticePlanned))
	wantKind(t, s.MoveNotices(ctx, []bulkhead.IncidentNotice{m}, bulkhead.NoticePlanned, event("y")), bulkhead.KindConflict)
	equal(t, value(s.NoticeByMessage(ctx, "m1"))(t), m)
	_, err = s.NoticeByMessage(ctx, "m9")
	wantKind(t, err, bulkhead.KindNotFound)
	if got := value(s.IncidentNotices(ctx, "i1", "first", 0, 10, bulkhead.NoticePlanned, bulkhead.NoticeSending))(t); len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	if bad := value(s.BadNotices(ctx, 0, 10))(t); len(bad) != 1 || bad[0].Account != "a2" {
		t.Fatalf("%+v", bad)
	}
	equal(t, value(s.CountNotices(ctx, "i1"))(t), []bulkhead.NoticeCount{{Step: "first", Channel: bulkhead.NoticeMail, State: bulkhead.NoticeNoContact, N: 1}, {Step: "first", Channel: bulkhead.NoticeMail, State: bulkhead.NoticeSending, N: 1}})
	equal(t, value(s.LiveLeaves(ctx, at(1)))(t), map[bulkhead.AuthorityID]int64{issuer: 3})
	reach := func(all, good int64) {
		t.Helper()
		if a, g, err := s.Reach(ctx, at(1)); err != nil || a != all || g != good {
			t.Fatalf("%d of %d reachable, not %d of %d: %v", g, a, good, all, err)
		}
	}
	reach(2, 2)
	m.State = bulkhead.NoticeBounced
	ok(t, s.MoveNotices(ctx, []bulkhead.IncidentNotice{m}, bulkhead.NoticeSending, event("bounced")))
	reach(2, 1)
	lettersOf(t, s)
}

// lettersOf: messages of a campaign are added to their step as they come, each once, and found by account.
func lettersOf(t *testing.T, s Store) {
	t.Helper()
	ctx := t.Context()
	step := bulkhead.NoticeStep{Incident: "i1", Step: "campaign.k1.1", Day: "ca-incident", What: "{}", Do: "{}", Until: at(60), Actor: "role:incident", At: at(5)}
	message := func(account string) bulkhead.IncidentNotice {
		return bulkhead.IncidentNotice{Incident: "i1", Step: step.Step, Channel: bulkhead.NoticeMail, Recipient: account + "@a.test", Account: account, Language: "ja", Items: 1, MessageID: "c-" + account, State: bulkhead.NoticePlanned, MovedAt: at(5)}
	}
	leaf := func(n int64) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: bulkhead.EvNoticesPlanned, At: at(5), Ref: "i1", Count: n}
	}
	before := len(checkEvidence(t, s))
	for _, c := range []struct {
		accounts []string
		fresh    int64
	}{{[]string{"a1"}, 1}, {[]string{"a1", "a2"}, 1}, {[]string{"a2"}, 0}} {
		var all []bulkhead.IncidentNotice
		for _, a := range c.accounts {
			all = append(all, message(a))
		}
		equal(t, value(s.AddNotices(ctx, step, all, leaf))(t), c.fresh)
	}
	equal(t, len(checkEvidence(t, s))-before, 2)
	_, err := s.AddNotices(ctx, bulkhead.NoticeStep{Incident: "none", Step: "x"}, []bulkhead.IncidentNotice{message("a9")}, leaf)
	wantKind(t, err, bulkhead.KindNotFound)
	got := value(s.NoticesTo(ctx, "i1", step.Step, []string{"a2", "a3"}))(t)
	if len(got) != 1 || got[0].Account != "a2" {
		t.Fatalf("%+v", got)
	}
	open := value(s.OpenNoticeSteps(ctx, "campaign."))(t)
	if len(open) != 1 || open[0].Step != step.Step || open[0].LogIndex == 0 {
		t.Fatalf("%+v", open)
	}
	for _, m := range value(s.IncidentNotices(ctx, "i1", step.Step, 0, 10))(t) {
		m.State = bulkhead.NoticeNotNeeded
		ok(t, s.MoveNotices(ctx, []bulkhead.IncidentNotice{m}, bulkhead.NoticePlanned))
	}
	equal(t, len(value(s.OpenNoticeSteps(ctx, "campaign."))(t)), 0)
}
