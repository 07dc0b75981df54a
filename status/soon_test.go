package status_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// TestPlanSoon: a preview that takes long goes on without its caller, and says what any other would; one that fails then ends
// its change with the reason; one that is quick is there at once.
func TestPlanSoon(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 3)
	quick, err := h.status.PlanSoon(t.Context(), "operator:anna", "quick", items(bulkhead.Superseded, refs[0]), time.Minute)
	ok(t, err)
	if quick.State != bulkhead.ChangePreviewed || quick.PreviewHash.IsZero() {
		t.Errorf("a quick preview: %+v", quick)
	}

	release := make(chan struct{})
	h.door.shadow = func(string, *bulkhead.ShadowAnswer) { <-release }
	caller, gone := context.WithCancel(t.Context())
	slow, err := h.status.PlanSoon(caller, "operator:anna", "slow", items(bulkhead.Superseded, refs[1]), time.Millisecond)
	ok(t, err)
	gone() // with its request
	if slow.State != bulkhead.ChangePlanned || h.change(slow.ID).State != bulkhead.ChangePlanned {
		t.Errorf("a slow preview: %+v", slow)
	}
	wantKind(t, h.status.ActivateByOne(t.Context(), "operator:anna", slow.ID, slow.PreviewHash), bulkhead.KindConflict, "planned")
	close(release)
	if c := h.until(slow.ID, bulkhead.ChangePreviewed); c.PreviewHash.IsZero() {
		t.Errorf("%+v", c)
	} else {
		ok(t, h.status.ActivateByOne(t.Context(), "operator:anna", slow.ID, c.PreviewHash))
	}

	fail := make(chan struct{})
	h.door.shadow = func(string, *bulkhead.ShadowAnswer) { <-fail }
	broken, err := h.status.PlanSoon(t.Context(), "operator:anna", "broken", items(bulkhead.Superseded, refs[2]), time.Millisecond)
	ok(t, err)
	hit := h.plantFault(fault{store: "MoveChange", nth: 1})
	close(fail)
	c := h.until(broken.ID, bulkhead.ChangeRefused)
	if !hit() || !strings.Contains(c.Problem, "preview could not be made") {
		t.Errorf("a preview that failed: %+v", c)
	}
	h.agree()
}

// until waits for a state of a change.
func (h *house) until(id string, want bulkhead.ChangeState) bulkhead.Change {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c := h.change(id)
		if c.State == want {
			return c
		}
		if time.Now().After(end) {
			h.t.Fatalf("the change is %s, not %s", c.State, want)
		}
	}
}
