package signer_test

import (
	"testing"
	"time"

	"bulkhead"
)

// TestShadowIsWhatIsSigned: the shadow of a planned change says what is signed once the change is approved, for all
// certificates and for named ones alike; nothing is signed for it, and nothing is said of what was never issued.
func TestShadowIsWhatIsSigned(t *testing.T) {
	h := newHouse(t)
	one, two, three := h.issue("a.example.test"), h.issue("b.example.test"), h.issue("c.example.test")
	token, err := h.signer.Prepare(t.Context(), h.request("d.example.test"))
	ok(t, err)
	reserved, never := token.Certificate().Serial, h.serial()
	h.revoke("first", item(three, bulkhead.Superseded, h.now()))
	list := []bulkhead.ChangeItem{item(one, bulkhead.PrivilegeWithdrawn, h.now()), item(three, bulkhead.KeyCompromise, h.now().Add(-time.Minute))}
	h.change("planned", bulkhead.ChangePlanned, list...)
	h.change("approved", bulkhead.ChangeApproved, list...)
	before := len(h.leaves())
	shadow := func(serials ...bulkhead.Serial) map[bulkhead.Serial]bulkhead.ShadowAnswer {
		out := map[bulkhead.Serial]bulkhead.ShadowAnswer{}
		for a, err := range h.signer.ShadowAnswers(t.Context(), "planned", ecdsaCA, serials) {
			ok(t, err)
			out[a.After.Serial] = a
		}
		return out
	}
	all := shadow()
	named := shadow(one.Certificate.Serial, two.Certificate.Serial, three.Certificate.Serial, reserved, never)
	if len(named) != 3 || len(h.leaves()) != before {
		t.Errorf("%d answers, %d new leaves", len(named), len(h.leaves())-before)
	}
	b, err := h.answers("approved", one.Certificate.Serial, two.Certificate.Serial, three.Certificate.Serial)
	ok(t, err)
	for _, a := range b.Answers {
		if got := named[a.Status.Serial]; got.After != a.Status || all[a.Status.Serial] != got {
			t.Errorf("%s: shadow %+v and %+v, signed %+v", a.Status.Serial, got, all[a.Status.Serial], a.Status)
		}
	}
	if n := named[two.Certificate.Serial]; n.Before != n.After || n.After.State != bulkhead.Issued {
		t.Errorf("not of the change: %+v", n)
	}
	if n := named[one.Certificate.Serial]; n.Before.State != bulkhead.Issued || n.After.Reason != bulkhead.PrivilegeWithdrawn {
		t.Errorf("of the change: %+v", n)
	}
	for range h.signer.ShadowAnswers(t.Context(), "planned", ecdsaCA, nil) {
		break // whoever has seen enough stops
	}
	for _, err := range h.signer.ShadowAnswers(t.Context(), "planned", ecdsaCA, []bulkhead.Serial{never, never}) {
		wantKind(t, err, bulkhead.KindMalformed, "twice")
	}
}
