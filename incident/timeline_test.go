package incident_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

// TestTimelineStops is S0-4: "was issuance stopped, and why or why not". Stops and resumptions stand in the timeline with who, why and
// when, in UTC and whole seconds, each with the number of its leaf in the log; also those from before the incident was opened, and not
// those of another day.
func TestTimelineStops(t *testing.T) {
	h := newHouse(t)
	house := func(kind bulkhead.EvidenceKind, ref, detail string) int64 {
		seqs, err := h.store.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: kind, At: h.now().Add(345 * time.Millisecond), Actor: "operator:a", Ref: ref, Detail: detail})
		ok(t, err)
		return seqs[0] - 1
	}
	h.many(2, 1)
	house(bulkhead.EvStop, "old", "another day")
	house(bulkhead.EvResume, "old", "another day")
	h.pass(48 * time.Hour)
	type event struct {
		leaf int64
		at   time.Time
		what string
	}
	var want []event
	note := func(kind bulkhead.EvidenceKind, ref, detail string) {
		want = append(want, event{house(kind, ref, detail), h.now(), detail})
	}
	note(bulkhead.EvStop, "s1", "all issuance: a partner's password was stolen")
	h.pass(time.Hour)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	h.pass(time.Hour)
	note(bulkhead.EvResume, "s1", "all issuance: the partner is shut out")
	h.pass(time.Hour)
	entries, err := h.desk.Timeline(t.Context(), i.ID)
	ok(t, err)
	var got []incident.Entry
	for _, e := range entries {
		if e.Element == "issuance-stopped-or-resumed" {
			got = append(got, e)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for n, w := range want {
		if e := got[n]; e.LogIndex != w.leaf || !e.At.Equal(w.at) || e.At.Location() != time.UTC || e.Actor != "operator:a" || !strings.Contains(e.What, w.what) {
			t.Errorf("%+v, want leaf %d at %s: %s", e, w.leaf, w.at, w.what)
		}
	}
}
