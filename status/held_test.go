package status_test

import (
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"
)

// TestStartSparesOthers: a status process that starts beside others, on one PostgreSQL database, ends what nobody is at any
// more, and neither what another is previewing nor what a client of another is still filling.
func TestStartSparesOthers(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	open := func() *postgres.Store {
		s, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
		ok(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	h := &house{t: t}
	h.furnish(open())
	h.addRoot()
	h.addIssuing(rootCA, caA, h.csr("a", name("Issuing A")), name("Issuing A"), 2)
	ok(t, h.status.Start(t.Context()))
	refs := h.issue(caA, 3)
	second := open()
	start := func() {
		t.Helper()
		other, err := status.New(status.Config{Store: second, Signer: h.signer, Objects: h.dir, HeadVerifier: h.verifier, Policy: h.policy, Now: h.now})
		ok(t, err)
		ok(t, other.Start(t.Context()))
	}
	ctx := t.Context()

	left, err := h.status.Plan(ctx, "operator:anna", "its process dies here", items(bulkhead.Superseded, refs[0]))
	ok(t, err)
	filled, err := h.status.Open(ctx, "operator:anna", "a long list")
	ok(t, err)
	_, err = h.status.Add(ctx, "operator:anna", filled.ID, items(bulkhead.Superseded, refs[1]))
	ok(t, err)
	h.move(10 * time.Minute)
	release := make(chan struct{})
	h.door.shadow = func(string, *bulkhead.ShadowAnswer) { <-release }
	slow, err := h.status.PlanSoon(ctx, "operator:anna", "its preview takes long", items(bulkhead.Superseded, refs[2]), time.Millisecond)
	ok(t, err)

	start()
	for id, want := range map[string]bulkhead.ChangeState{left.ID: bulkhead.ChangeRefused, filled.ID: bulkhead.ChangePlanned, slow.ID: bulkhead.ChangePlanned} {
		if c := h.change(id); c.State != want {
			t.Errorf("the change %q is %s, not %s", c.Why, c.State, want)
		}
	}
	close(release)
	h.until(slow.ID, bulkhead.ChangePreviewed)
	h.door.shadow = nil
	if c, err := h.status.Add(ctx, "operator:anna", filled.ID, items(bulkhead.Superseded, refs[0])); err != nil || c.Count != 2 {
		t.Errorf("%d certificates, %v", c.Count, err)
	}

	// A part holds a change open; an hour after the last, any status process ends it, without a start.
	h.move(50 * time.Minute)
	_, err = h.status.Add(ctx, "operator:anna", filled.ID, items(bulkhead.Superseded, refs[1]))
	ok(t, err)
	h.move(50 * time.Minute)
	start()
	if c := h.change(filled.ID); c.State != bulkhead.ChangePlanned {
		t.Errorf("a change that was being filled is %s", c.State)
	}
	h.move(11 * time.Minute)
	h.tick()
	if c := h.change(filled.ID); c.State != bulkhead.ChangeRefused {
		t.Errorf("a change that nobody came back to is %s", c.State)
	}
	for _, ref := range refs {
		if s := h.state(ref); s != bulkhead.Issued {
			t.Errorf("%s is %s", ref, s)
		}
	}
	h.agree()
}
