package status_test

import (
	"context"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// meanwhile is a record in which something happens after the head was read and before the rows are.
type meanwhile struct {
	status.Store
	do func()
}

func (m *meanwhile) StatusPage(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, from time.Time, limit int) ([]bulkhead.Status, error) {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Store.StatusPage(ctx, issuer, after, from, limit)
}

// TestCheckBesideWriter: a revocation that goes public while the house is looked at is no disagreement, and hides none.
func TestCheckBesideWriter(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 2)
	check := func() []status.Disagreement {
		t.Helper()
		found, answers, err := status.Check(t.Context(), status.CheckConfig{Store: &meanwhile{h.store, func() { h.revoke(refs[0]) }}, Objects: h.dir, HeadVerifier: h.verifier, Now: h.now})
		ok(t, err)
		if answers == 0 {
			t.Error("nothing was compared")
		}
		return found
	}
	if found := check(); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	h = newHouse(t)
	refs = h.issue(caA, 2)
	h.publish(func(x *headEdit) { x.Issuer(caA).Packs = nil })
	if found := check(); len(found) == 0 {
		t.Error("the second look forgot what was wrong before")
	}
}
