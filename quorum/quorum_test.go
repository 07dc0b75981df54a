package quorum_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/quorum"
	"bulkhead/store/sqlite"
)

// room is a quorum on a real store with three operators whose keys are at hand.
type room struct {
	t     *testing.T
	q     *quorum.Quorum
	store *sqlite.Store
	keys  []ed25519.PrivateKey
	now   time.Time
	ran   int
	fail  error
}

func newRoom(t *testing.T) *room {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "q.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r := &room{t: t, store: s, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	r.q, err = quorum.New(quorum.Config{Store: s, Now: func() time.Time { return r.now },
		Execute: map[string]quorum.Executor{"test.act": func(context.Context, bulkhead.ApprovalRequest) error { r.ran++; return r.fail }}})
	if err != nil {
		t.Fatal(err)
	}
	var ops []bulkhead.Operator
	for _, name := range []string{"ada", "grace", "joan"} {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r.keys = append(r.keys, key)
		ops = append(ops, bulkhead.Operator{Name: name, PublicKey: pub})
	}
	if err := r.q.Bootstrap(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *room) propose(action string, payload any) bulkhead.ApprovalRequest {
	r.t.Helper()
	req, err := r.q.Propose(r.t.Context(), action, payload, "operator:ada", "a test")
	if err != nil {
		r.t.Fatal(err)
	}
	return req
}

func (r *room) approve(id string, key ed25519.PrivateKey, req bulkhead.ApprovalRequest) (bulkhead.ApprovalRequest, error) {
	return r.q.Approve(r.t.Context(), id, bulkhead.Digest(key.Public().(ed25519.PublicKey)), quorum.SignApproval(key, req))
}

func (r *room) refuses(err error, kind bulkhead.Kind, says string) {
	r.t.Helper()
	if bulkhead.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
		r.t.Errorf("%v, want %s saying %q", err, kind, says)
	}
}

// TestTwoMustAgree: nothing runs before two different operators signed exactly what was shown, and then it runs once.
func TestTwoMustAgree(t *testing.T) {
	r := newRoom(t)
	req := r.propose("test.act", map[string]string{"what": "this"})
	got, err := r.approve(req.ID, r.keys[0], req)
	if err != nil || got.State != bulkhead.RequestOpen || r.ran != 0 {
		t.Fatalf("after one approval: %s, ran %d: %v", got.State, r.ran, err)
	}
	_, err = r.approve(req.ID, r.keys[0], req)
	r.refuses(err, bulkhead.KindGate, "")
	other := req
	other.Payload = []byte(`{"what":"that"}`)
	_, err = r.approve(req.ID, r.keys[1], other)
	r.refuses(err, bulkhead.KindUnauthorized, "not over what")
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	_, err = r.approve(req.ID, stranger, req)
	r.refuses(err, bulkhead.KindForbidden, "no operator in office")
	if r.ran != 0 {
		t.Fatal("it ran without a quorum")
	}
	got, err = r.approve(req.ID, r.keys[1], req)
	if err != nil || got.State != bulkhead.RequestExecuted || r.ran != 1 {
		t.Fatalf("after two approvals: %s, ran %d: %v", got.State, r.ran, err)
	}
	_, err = r.approve(req.ID, r.keys[2], req)
	r.refuses(err, bulkhead.KindConflict, "executed")
	if r.ran != 1 {
		t.Error("it ran twice")
	}
}

// TestExpiredRequest: a request that waited too long cannot be approved.
func TestExpiredRequest(t *testing.T) {
	r := newRoom(t)
	req := r.propose("test.act", nil)
	r.now = r.now.Add(8 * 24 * time.Hour)
	_, err := r.approve(req.ID, r.keys[0], req)
	r.refuses(err, bulkhead.KindConflict, "expired")
}

// TestInterrupted: an approved action whose part was away stays approved and runs again at Resume; one that is refused
// for good ends.
func TestInterrupted(t *testing.T) {
	r := newRoom(t)
	req := r.propose("test.act", nil)
	r.fail = bulkhead.NewFault(bulkhead.KindUnavailable, "away")
	_, _ = r.approve(req.ID, r.keys[0], req)
	got, err := r.approve(req.ID, r.keys[1], req)
	r.refuses(err, bulkhead.KindUnavailable, "away")
	if got.State != bulkhead.RequestApproved {
		t.Fatalf("state %s", got.State)
	}
	r.fail = nil
	if err := r.q.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.q.Request(t.Context(), req.ID); got.State != bulkhead.RequestExecuted || r.ran != 2 {
		t.Errorf("after Resume: %s, ran %d", got.State, r.ran)
	}
	req = r.propose("test.act", nil)
	r.fail = bulkhead.NewFault(bulkhead.KindGate, "no")
	_, _ = r.approve(req.ID, r.keys[0], req)
	_, err = r.approve(req.ID, r.keys[2], req)
	r.refuses(err, bulkhead.KindGate, "no")
	if got, _ := r.q.Request(t.Context(), req.ID); got.State != bulkhead.RequestRefused {
		t.Errorf("a refused action is %s", got.State)
	}
}

// TestOperators: coming and going takes a quorum, never leaves fewer than it needs, and one key is one person.
func TestOperators(t *testing.T) {
	r := newRoom(t)
	pub, _, _ := ed25519.GenerateKey(rand.Reader)
	for name, c := range map[string]struct {
		action string
		p      quorum.OperatorPayload
		kind   bulkhead.Kind
	}{
		"known key":  {quorum.ActionAddOperator, quorum.OperatorPayload{Name: "eve", PublicKey: r.keys[0].Public().(ed25519.PublicKey)}, bulkhead.KindConflict},
		"known name": {quorum.ActionAddOperator, quorum.OperatorPayload{Name: "ada", PublicKey: pub}, bulkhead.KindConflict},
		"short key":  {quorum.ActionAddOperator, quorum.OperatorPayload{Name: "eve", PublicKey: pub[:31]}, bulkhead.KindMalformed},
		"bad name":   {quorum.ActionAddOperator, quorum.OperatorPayload{Name: "Eve!", PublicKey: pub}, bulkhead.KindMalformed},
		"unknown":    {quorum.ActionRemoveOperator, quorum.OperatorPayload{Name: "eve"}, bulkhead.KindNotFound},
	} {
		if _, err := r.q.Propose(t.Context(), c.action, c.p, "operator:ada", "a test"); bulkhead.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
	}
	if _, err := r.q.Propose(t.Context(), quorum.ActionAddOperator, quorum.OperatorPayload{Name: "eve", PublicKey: pub}, "operator:ada", " "); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("without a reason: %v", err)
	}
	remove := r.propose(quorum.ActionRemoveOperator, quorum.OperatorPayload{Name: "joan"})
	waiting := r.propose("test.act", nil)
	if _, err := r.approve(waiting.ID, r.keys[2], waiting); err != nil {
		t.Fatal(err)
	}
	_, _ = r.approve(remove.ID, r.keys[0], remove)
	if _, err := r.approve(remove.ID, r.keys[1], remove); err != nil {
		t.Fatal(err)
	}
	if got, err := r.approve(waiting.ID, r.keys[0], waiting); err != nil || got.State != bulkhead.RequestOpen || r.ran != 0 {
		t.Errorf("the approval of somebody who left still counts: %s, %v", got.State, err)
	}
	_, err := r.approve(waiting.ID, r.keys[2], waiting)
	r.refuses(err, bulkhead.KindForbidden, "no operator in office")
	_, err = r.q.Propose(t.Context(), quorum.ActionRemoveOperator, quorum.OperatorPayload{Name: "grace"}, "operator:ada", "a test")
	r.refuses(err, bulkhead.KindGate, "a quorum needs 2")
	if err := r.q.Bootstrap(t.Context(), bulkhead.Operator{Name: "eve", PublicKey: pub}); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a second bootstrap: %v", err)
	}
}

// TestGatekeeper: a signed request is good once, for exactly that request, for a minute, from somebody in office.
func TestGatekeeper(t *testing.T) {
	r := newRoom(t)
	g := quorum.NewGatekeeper(r.q)
	body, nonce := []byte(`{"a":1}`), 0
	sign := func(key ed25519.PrivateKey, method, path string, body []byte, at time.Time) string {
		nonce++
		h, err := quorum.SignRequest(key, method, path, body, at, "nonce-of-the-test-"+string(rune('a'+nonce)))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	good := sign(r.keys[0], "POST", "/x?y=1", body, r.now)
	if op, err := g.Authenticate(t.Context(), good, "POST", "/x?y=1", body); err != nil || op.Name != "ada" {
		t.Fatalf("%s: %v", op.Name, err)
	}
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	approval := quorum.Scheme + " " + "e30.AAAA"
	for name, header := range map[string]string{
		"replay":       good,
		"other method": sign(r.keys[0], "GET", "/x?y=1", body, r.now),
		"other path":   sign(r.keys[0], "POST", "/x?y=2", body, r.now),
		"other body":   sign(r.keys[0], "POST", "/x?y=1", []byte(`{"a":2}`), r.now),
		"old":          sign(r.keys[0], "POST", "/x?y=1", body, r.now.Add(-61*time.Second)),
		"early":        sign(r.keys[0], "POST", "/x?y=1", body, r.now.Add(61*time.Second)),
		"stranger":     sign(stranger, "POST", "/x?y=1", body, r.now),
		"nothing":      "",
		"bearer":       "Bearer abc",
		"cut":          good[:len(good)-8],
		"not signed":   approval,
	} {
		_, err := g.Authenticate(t.Context(), header, "POST", "/x?y=1", body)
		if k := bulkhead.KindOf(err); k != bulkhead.KindUnauthorized && k != bulkhead.KindForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzAuthenticate: no header makes the gatekeeper panic or let anybody in.
func FuzzAuthenticate(f *testing.F) {
	for _, s := range []string{"", quorum.Scheme + " .", quorum.Scheme + " e30.e30", quorum.Scheme + " bnVsbA.AA", "Bearer x"} {
		f.Add(s)
	}
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(f.TempDir(), "q.db")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	q, err := quorum.New(quorum.Config{Store: s})
	if err != nil {
		f.Fatal(err)
	}
	g := quorum.NewGatekeeper(q)
	f.Fuzz(func(t *testing.T, header string) {
		if _, err := g.Authenticate(context.Background(), header, "GET", "/", nil); err == nil {
			t.Errorf("%q was let in", header)
		}
	})
}
