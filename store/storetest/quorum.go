package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"bulkhead"
)

func testQuorum(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := bulkhead.Operator{Name: "alice", PublicKey: []byte("key a"), Roles: []string{"admin", "auditor"}, AddedAt: at(1)}
	b := bulkhead.Operator{Name: "bob", PublicKey: []byte("key b"), AddedAt: at(1)}
	ok(t, s.PutOperator(ctx, b, event("bob")))
	ok(t, s.PutOperator(ctx, a, event("alice")))
	equal(t, value(s.Operators(ctx))(t), []bulkhead.Operator{a, b})
	b.RemovedAt = at(9)
	ok(t, s.PutOperator(ctx, b, event("bob leaves")))
	equal(t, value(s.Operators(ctx))(t), []bulkhead.Operator{a, b})

	r := bulkhead.ApprovalRequest{ID: "r-1", Action: "change.activate", Payload: []byte(`{}`), Digest: digest("request", 1),
		Needed: 2, State: bulkhead.RequestOpen, Actor: "operator:alice", Reason: "why", CreatedAt: at(1), ExpiresAt: at(50)}
	ok(t, s.CreateRequest(ctx, r, event("request")))
	wantKind(t, s.CreateRequest(ctx, r, event("again")), bulkhead.KindConflict)
	equal(t, value(s.Request(ctx, "r-1"))(t), r)
	_, err := s.Request(ctx, "x")
	wantKind(t, err, bulkhead.KindNotFound)

	p1 := bulkhead.Approval{RequestID: "r-1", Operator: "bob", KeyHash: digest("op", 1), Signature: []byte("s1"), At: at(2)}
	p2 := bulkhead.Approval{RequestID: "r-1", Operator: "alice", KeyHash: digest("op", 2), Signature: []byte("s2"), At: at(3)}
	ok(t, s.AddApproval(ctx, p1, event("bob approves")))
	wantKind(t, s.AddApproval(ctx, p1, event("bob again")), bulkhead.KindConflict)
	ok(t, s.AddApproval(ctx, p2, event("alice approves")))
	wantKind(t, s.AddApproval(ctx, bulkhead.Approval{RequestID: "x", Operator: "bob"}, event("none")), bulkhead.KindNotFound)
	r.Approvals = []bulkhead.Approval{p1, p2}
	equal(t, value(s.Request(ctx, "r-1"))(t), r)

	second := bulkhead.ApprovalRequest{ID: "r-2", Action: "operator.add", State: bulkhead.RequestOpen, CreatedAt: at(4), ExpiresAt: at(5),
		Approvals: []bulkhead.Approval{{RequestID: "r-2", Operator: "alice", At: at(4)}}}
	ok(t, s.CreateRequest(ctx, second))
	equal(t, value(s.Requests(ctx, 10))(t), []bulkhead.ApprovalRequest{second, r})
	equal(t, value(s.Requests(ctx, 1))(t), []bulkhead.ApprovalRequest{second})
	equal(t, value(s.ActionRequests(ctx, "operator.add", "change.activate"))(t), []bulkhead.ApprovalRequest{r, second})
	equal(t, value(s.ActionRequests(ctx, "operator.add"))(t), []bulkhead.ApprovalRequest{second})
	ok(t, s.MoveRequest(ctx, "r-1", bulkhead.RequestOpen, bulkhead.RequestApproved, event("approved")))
	wantKind(t, s.MoveRequest(ctx, "r-1", bulkhead.RequestOpen, bulkhead.RequestApproved, event("late")), bulkhead.KindConflict)
	wantKind(t, s.MoveRequest(ctx, "x", bulkhead.RequestOpen, bulkhead.RequestApproved), bulkhead.KindNotFound)
	r.State = bulkhead.RequestApproved
	equal(t, value(s.Requests(ctx, 10, bulkhead.RequestApproved, bulkhead.RequestExecuted))(t), []bulkhead.ApprovalRequest{r})
	equal(t, len(checkEvidence(t, s)), 7)

	// Nothing is executed twice, however many try.
	errs := race(8, func(int) error {
		return s.MoveRequest(ctx, "r-1", bulkhead.RequestApproved, bulkhead.RequestExecuted, event("executed"))
	})
	oneWins(t, errs, bulkhead.KindConflict)
	equal(t, len(checkEvidence(t, s)), 8)
}

func testAlarms(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := bulkhead.Alarm{Detector: "D1", Key: "serial 5", Severity: bulkhead.Critical, Message: "asked for an unassigned serial",
		Runbook: "doc/runbooks/d1.md", FirstAt: at(1), LastAt: at(1), Count: 1}
	equal(t, value(s.RaiseAlarm(ctx, a, event("alarm")))(t), true)
	again := a
	again.FirstAt, again.LastAt, again.Count = at(5), at(5), 0
	equal(t, value(s.RaiseAlarm(ctx, again, event("again")))(t), false)
	again.LastAt, again.Count = at(3), 4 // seen earlier, told later
	equal(t, value(s.RaiseAlarm(ctx, again, event("again")))(t), false)
	a.LastAt, a.Count = at(5), 6
	b := a
	b.Detector, b.LastAt = "D2", at(4)
	equal(t, value(s.RaiseAlarm(ctx, b, event("other")))(t), true)
	all := value(s.Alarms(ctx, 10))(t)
	a.ID, b.ID = all[0].ID, all[1].ID
	equal(t, all, []bulkhead.Alarm{a, b})
	equal(t, value(s.Alarms(ctx, 1))(t), []bulkhead.Alarm{a})
	equal(t, len(checkEvidence(t, s)), 2)

	// The first of many at once is fresh. Several rounds: the later ones find the connections made.
	const rounds = 6
	for round := range rounds {
		c := a
		c.Key = fmt.Sprint("raced ", round)
		var fresh atomic.Int32
		for _, err := range race(8, func(int) error {
			f, err := s.RaiseAlarm(ctx, c, event("raced"))
			if f {
				fresh.Add(1)
			}
			return err
		}) {
			ok(t, err)
		}
		equal(t, fresh.Load(), 1)
	}
	equal(t, len(checkEvidence(t, s)), 2+rounds)
}
