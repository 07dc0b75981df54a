package status_test

import (
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// TestOpenChange: a change that comes in parts is what one that comes at once is, takes each certificate once, and nobody
// can go on with it before its preview.
func TestOpenChange(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = 2 })
	refs := h.issue(caA, 5)
	other := h.issue(caB, 1)
	ctx := t.Context()
	c, err := h.status.Open(ctx, "operator:anna", "a long list")
	ok(t, err)
	_, err = h.status.PreviewSoon(ctx, "operator:anna", c.ID, time.Minute)
	wantKind(t, err, bulkhead.KindMalformed, "at least one")
	add := func(refs ...bulkhead.CertificateRef) int {
		t.Helper()
		c, err := h.status.Add(ctx, "operator:anna", c.ID, items(bulkhead.Superseded, refs...))
		ok(t, err)
		return c.Count
	}
	if n := add(refs[0], refs[1], refs[0]); n != 2 {
		t.Errorf("%d certificates", n)
	}
	if n := add(refs[1], refs[2], other[0]); n != 4 {
		t.Errorf("%d certificates", n)
	}
	if n := add(refs[1], refs[2]); n != 4 { // sent again
		t.Errorf("%d certificates", n)
	}
	never := bulkhead.CertificateRef{Issuer: caA, Serial: other[0].Serial}
	for kind, try := range map[bulkhead.Kind]func() error{
		bulkhead.KindNotFound: func() error {
			_, err := h.status.Add(ctx, "operator:anna", c.ID, items(bulkhead.Superseded, refs[3], never))
			return err
		},
		bulkhead.KindForbidden: func() error {
			_, err := h.status.Add(ctx, "operator:bert", c.ID, items(bulkhead.Superseded, refs[3]))
			return err
		},
		bulkhead.KindBadRevocationReason: func() error {
			_, err := h.status.Add(ctx, "operator:anna", c.ID, items(bulkhead.CertificateHold, refs[3]))
			return err
		},
		bulkhead.KindConflict: func() error { return h.status.Approve(ctx, c.ID, bulkhead.Digest(nil), "operator:anna") },
	} {
		wantKind(t, try(), kind, "")
	}
	if n := h.change(c.ID).Count; n != 4 {
		t.Errorf("%d certificates after refusals", n)
	}
	got, err := h.status.PreviewSoon(ctx, "operator:anna", c.ID, time.Minute)
	ok(t, err)
	if got.State != bulkhead.ChangePreviewed || got.Count != 4 {
		t.Fatalf("%+v", got)
	}
	_, err = h.status.Add(ctx, "operator:anna", c.ID, items(bulkhead.Superseded, refs[3]))
	wantKind(t, err, bulkhead.KindConflict, "takes no more")
	wantKind(t, h.status.ActivateByOne(ctx, "operator:anna", c.ID, got.PreviewHash), bulkhead.KindGate, "take two people")
	ok(t, h.status.Approve(ctx, c.ID, got.PreviewHash, "request:1"))
	ok(t, h.status.Activate(ctx, c.ID))
	for i, r := range append(refs, other...) {
		if want := i < 3 || i == 5; (h.state(r) == bulkhead.Revoked) != want {
			t.Errorf("%s is %s", r, h.state(r))
		}
	}
	h.agree()
}

// TestOpenChangeInterrupted: what a client is filling goes on with the next process; once nobody comes back to it, it is
// ended, and nothing of it ever counts.
func TestOpenChangeInterrupted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 1)
	c, err := h.status.Open(t.Context(), "operator:anna", "a long list")
	ok(t, err)
	_, err = h.status.Add(t.Context(), "operator:anna", c.ID, items(bulkhead.Superseded, refs...))
	ok(t, err)
	h.status = h.restart()
	h.settle()
	if got, err := h.status.Add(t.Context(), "operator:anna", c.ID, items(bulkhead.Superseded, refs...)); err != nil || got.Count != 1 {
		t.Errorf("%d certificates, %v", got.Count, err)
	}
	h.move(2 * time.Hour)
	h.settle()
	if got := h.change(c.ID); got.State != bulkhead.ChangeRefused {
		t.Errorf("it is %s", got.State)
	}
	if h.state(refs[0]) != bulkhead.Issued {
		t.Error("its certificate is revoked")
	}
	_, err = h.status.Add(t.Context(), "operator:anna", c.ID, items(bulkhead.Superseded, refs...))
	wantKind(t, err, bulkhead.KindConflict, "takes no more")
}

// TestPlanScope: a query becomes a change of exactly what is in use.
func TestPlanScope(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 4)
	h.issue(caB, 2)
	expired := h.issue(caA, 1, func(c *bulkhead.Certificate) { c.NotAfter = h.now().Add(time.Minute) })
	h.revoke(refs[0])
	h.move(2 * time.Minute)
	ctx := t.Context()
	scope := bulkhead.Scope{Issuers: []bulkhead.AuthorityID{caA}}
	c, err := h.status.PlanScope(ctx, "operator:anna", "all of it", scope, bulkhead.Superseded, time.Minute)
	ok(t, err)
	if c.State != bulkhead.ChangePreviewed || c.Count != 3 {
		t.Fatalf("%s with %d certificates", c.State, c.Count)
	}
	list, err := h.store.ChangeItems(ctx, c.ID, bulkhead.CertificateRef{}, 10)
	ok(t, err)
	for _, it := range list {
		if it.Issuer != caA || it.Serial == expired[0].Serial || it.Serial == refs[0].Serial || it.Reason != bulkhead.Superseded {
			t.Errorf("%+v", it)
		}
	}
	for word, try := range map[string]bulkhead.Scope{
		"nothing to revoke": {Issuers: []bulkhead.AuthorityID{"nobody"}},
		"names issuers":     {},
	} {
		_, err := h.status.PlanScope(ctx, "operator:anna", "none", try, bulkhead.Superseded, time.Minute)
		if err == nil {
			t.Fatal("planned")
		}
		wantKind(t, err, bulkhead.KindOf(err), word)
	}
	_, err = h.status.PlanScope(ctx, "operator:anna", "none", scope, bulkhead.CertificateHold, time.Minute)
	wantKind(t, err, bulkhead.KindBadRevocationReason, "7.2.2")
}
