package storetest

import (
	"context"
	"testing"
	"time"

	"bulkhead"
)

// SignInStore is what sign-in and security keys ask of the record.
type SignInStore interface {
	OperatorRequests(ctx context.Context) ([]bulkhead.ApprovalRequest, error)
	SecurityKeys(ctx context.Context) ([]bulkhead.SecurityKey, error)
	PutSecurityKey(ctx context.Context, k bulkhead.SecurityKey, ev ...bulkhead.Evidence) error
	UseSecurityKey(ctx context.Context, id []byte, count uint32, at time.Time) error
	BeginSession(ctx context.Context, x bulkhead.Session, ev ...bulkhead.Evidence) error
	Session(ctx context.Context, token bulkhead.Hash) (bulkhead.Session, error)
	EndSession(ctx context.Context, token bulkhead.Hash, at time.Time, ev ...bulkhead.Evidence) error
	Invite(ctx context.Context, x bulkhead.Invitation, ev ...bulkhead.Evidence) error
	Invitation(ctx context.Context, token bulkhead.Hash) (bulkhead.Invitation, error)
	UseInvitation(ctx context.Context, token bulkhead.Hash, at time.Time) error
	PutStep(ctx context.Context, x bulkhead.SignInStep, now time.Time) error
	TakeStep(ctx context.Context, id bulkhead.Hash) (bulkhead.SignInStep, error)
}

func testSecurityKeys(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	k := bulkhead.SecurityKey{ID: []byte{1, 2}, Operator: "alice", PublicKey: []byte("spki"), COSE: []byte("cose"), RPID: "ca.example", Origin: "https://ca.example", Label: "blue", AAGUID: make([]byte, 16), AddedAt: at(1)}
	ok(t, s.PutSecurityKey(ctx, k, event("bound")))
	equal(t, value(s.SecurityKeys(ctx))(t), []bulkhead.SecurityKey{k})
	ok(t, s.UseSecurityKey(ctx, k.ID, 0, at(2))) // a key that keeps no counter
	ok(t, s.UseSecurityKey(ctx, k.ID, 0, at(2)))
	ok(t, s.UseSecurityKey(ctx, k.ID, 5, at(3)))
	for _, n := range []uint32{5, 4, 0} {
		wantKind(t, s.UseSecurityKey(ctx, k.ID, n, at(4)), bulkhead.KindConflict)
	}
	k.SignCount, k.UsedAt = 5, at(3)
	equal(t, value(s.SecurityKeys(ctx))(t), []bulkhead.SecurityKey{k})
	k.RemovedAt, k.SignCount = at(9), 0 // the counter of the row stays
	ok(t, s.PutSecurityKey(ctx, k, event("gone")))
	k.SignCount = 5
	equal(t, value(s.SecurityKeys(ctx))(t), []bulkhead.SecurityKey{k})
	wantKind(t, s.UseSecurityKey(ctx, k.ID, 6, at(10)), bulkhead.KindNotFound)
	wantKind(t, s.UseSecurityKey(ctx, []byte{9}, 6, at(10)), bulkhead.KindNotFound)

	// A copy and its original count at the same moment: one of them wins.
	b := k
	b.ID, b.RemovedAt, b.SignCount = []byte{3}, time.Time{}, 0
	ok(t, s.PutSecurityKey(ctx, b))
	oneWins(t, race(4, func(int) error { return s.UseSecurityKey(ctx, b.ID, 7, at(4)) }), bulkhead.KindConflict)

	for i, r := range []bulkhead.ApprovalRequest{
		{ID: "o-1", Action: "operator.add", State: bulkhead.RequestExecuted, CreatedAt: at(1), ExpiresAt: at(2), Approvals: []bulkhead.Approval{{RequestID: "o-1", Operator: "alice", At: at(4)}}},
		{ID: "o-2", Action: "operator.add", State: bulkhead.RequestOpen, CreatedAt: at(1), ExpiresAt: at(2)},
		{ID: "o-3", Action: "change.activate", State: bulkhead.RequestExecuted, CreatedAt: at(1), ExpiresAt: at(2)},
		{ID: "o-4", Action: "operator.key", State: bulkhead.RequestApproved, CreatedAt: at(1), ExpiresAt: at(2)},
	} {
		ok(t, s.CreateRequest(ctx, r))
		if i == 3 {
			got := value(s.OperatorRequests(ctx))(t)
			equal(t, len(got), 2)
			equal(t, got[0].Approvals[0].Operator, "alice")
			equal(t, got[1], r)
		}
	}
}

func testSignIn(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	x := bulkhead.Session{TokenHash: digest("session", 1), Operator: "alice", Method: "oidc", Subject: "alice@example.com", Roles: []string{"auditor"}, BeganAt: at(1), ExpiresAt: at(60)}
	ok(t, s.BeginSession(ctx, x, event("in")))
	wantKind(t, s.BeginSession(ctx, x, event("in")), bulkhead.KindConflict)
	equal(t, value(s.Session(ctx, x.TokenHash))(t), x)
	_, err := s.Session(ctx, digest("session", 2))
	wantKind(t, err, bulkhead.KindNotFound)
	oneWins(t, race(4, func(int) error { return s.EndSession(ctx, x.TokenHash, at(5), event("out")) }), bulkhead.KindConflict)
	x.EndedAt = at(5)
	equal(t, value(s.Session(ctx, x.TokenHash))(t), x)
	later := bulkhead.Session{TokenHash: digest("session", 3), Operator: "bob", Method: "security-key", BeganAt: x.ExpiresAt.Add(25 * time.Hour), ExpiresAt: x.ExpiresAt.Add(26 * time.Hour)}
	ok(t, s.BeginSession(ctx, later))
	_, err = s.Session(ctx, x.TokenHash)
	wantKind(t, err, bulkhead.KindNotFound) // forgotten

	i := bulkhead.Invitation{TokenHash: digest("invitation", 1), Operator: "carol", Roles: []string{"revoker"}, Inviter: "alice", CreatedAt: at(1), ExpiresAt: at(9)}
	ok(t, s.Invite(ctx, i, event("invited")))
	equal(t, value(s.Invitation(ctx, i.TokenHash))(t), i)
	oneWins(t, race(4, func(int) error { return s.UseInvitation(ctx, i.TokenHash, at(3)) }), bulkhead.KindConflict)
	_, err = s.Invitation(ctx, digest("invitation", 2))
	wantKind(t, err, bulkhead.KindNotFound)

	step := bulkhead.SignInStep{ID: digest("step", 1), Kind: "oidc", Body: []byte("b"), ExpiresAt: at(5)}
	ok(t, s.PutStep(ctx, step, at(1)))
	oneWins(t, race(4, func(int) error {
		got, err := s.TakeStep(ctx, step.ID)
		if err == nil {
			equal(t, got, step)
		}
		return err
	}), bulkhead.KindNotFound)
	ok(t, s.PutStep(ctx, step, at(1)))
	other := step
	other.ID, other.ExpiresAt = digest("step", 2), at(20)
	ok(t, s.PutStep(ctx, other, at(6))) // forgets the first
	_, err = s.TakeStep(ctx, step.ID)
	wantKind(t, err, bulkhead.KindNotFound)
}
