package run

import (
	"fmt"
	"testing"

	"bulkhead"
	"bulkhead/watch/outside"
)

// TestSignatureCounters is D3, planted past every rule: a counter that went ahead of evidence, was set back, or is gone, and
// leaves that were taken away. Nothing is said while they agree, also where the house signs all the time, where leaves are
// counted in parts, and where the record is older than its counters; the same trouble is one alarm.
func TestSignatureCounters(t *testing.T) {
	w := newWorld(t)
	key := bulkhead.Digest(w.authority(w.live.Issuer).SPKI)
	silent := func(what string, r *outside.Reconciler) {
		t.Helper()
		r.Tick(t.Context())
		w.want(what, nil)
	}
	r := w.reconciler(nil)
	silent("before", r)
	head, _, err := w.h.store.EvidenceHead(t.Context())
	w.ok(err)
	if n := r.State().Counted; n != head {
		t.Errorf("counted through %d of %d", n, head)
	}
	w.issue("more.test")
	w.publish()
	silent("more was signed", r)

	said := []string{string(w.live.Issuer), key.String()}
	for _, c := range []struct{ name, plant, undo, alarm, word string }{
		{"ahead", `UPDATE signature_counters SET announced = announced + 1, made = made + 1 WHERE key_hash = ?`, `UPDATE signature_counters SET announced = announced - 1, made = made - 1 WHERE key_hash = ?`,
			"D3/ahead," + key.String(), "more often than evidence explains"},
		{"behind", `UPDATE signature_counters SET made = made - 1 WHERE key_hash = ?`, `UPDATE signature_counters SET made = made + 1 WHERE key_hash = ?`, "D3/behind," + key.String(), "was set back"},
		{"gone", `UPDATE signature_counters SET since = -since WHERE key_hash = ?`, `UPDATE signature_counters SET since = -since WHERE key_hash = ?`, "D3/gone," + key.String(), "is gone"},
	} {
		w.plant(c.plant, key[:])
		for name, r := range map[string]*outside.Reconciler{c.name: r, c.name + ", a watch that begins later": w.reconciler(nil)} {
			r.Tick(t.Context())
			w.want(name, map[string][]string{c.alarm: append([]string{c.word}, said...)})
		}
		w.plant(c.undo, key[:])
		silent("mended: "+c.name, r)
	}

	// In the record it is one alarm, critical, however often it is seen.
	w.plant(`UPDATE signature_counters SET made = made + 3 WHERE key_hash = ?`, key[:])
	real, err := outside.NewReconciler(outside.ReconcilerConfig{Record: w.h.store, Public: newPublication(w.h), Raise: w.h.watch.Raise, Now: w.now})
	w.ok(err)
	for range 3 {
		real.Tick(t.Context())
	}
	list, err := w.h.store.AlarmsOf(t.Context(), "D3", 10)
	w.ok(err)
	if len(list) != 1 || list[0].Count != 3 || list[0].Severity != bulkhead.Critical {
		t.Errorf("%+v", list)
	}
	w.plant(`UPDATE signature_counters SET made = made - 3 WHERE key_hash = ?`, key[:])

	// A counter that is younger than the record stands for what came after it.
	w.plant(`DELETE FROM signature_counters WHERE key_hash = ?`, key[:])
	young, _ := w.issue("young.test")
	w.publish()
	silent("a record that is older than its counters", w.reconciler(nil))
	r.Tick(t.Context())
	w.want("a counter that was made anew while somebody watched", map[string][]string{"D3/behind," + key.String(): said})

	// The leaf of a signature is taken away.
	row, _, err := w.h.store.Certificate(t.Context(), young)
	w.ok(err)
	w.plant(`DELETE FROM evidence WHERE seq = ?`, row.OutcomeSeq)
	w.reconciler(nil).Tick(t.Context())
	got := w.alarms()
	if _, ok := got[fmt.Sprintf("D4/leaf,%d", row.OutcomeSeq-1)]; !ok {
		t.Errorf("a leaf is gone: %v", keysOf(got))
	}
	if _, ok := got["D3/ahead,"+key.String()]; !ok {
		t.Errorf("a signature without its leaf: %v", keysOf(got))
	}
}

func (w *world) authority(id bulkhead.AuthorityID) bulkhead.Authority {
	w.Helper()
	a, err := w.h.store.Authority(w.Context(), id)
	w.ok(err)
	return a
}

// TestCountersInParts: a record with more leaves than one tick counts is compared all the same, and not before all are counted.
func TestCountersInParts(t *testing.T) {
	w := newWorld(t)
	head, _, err := w.h.store.EvidenceHead(t.Context())
	w.ok(err)
	key := bulkhead.Digest(w.authority(w.live.Issuer).SPKI)
	w.plant(`UPDATE signature_counters SET made = made + 1 WHERE key_hash = ?`, key[:])
	r, err := outside.NewReconciler(outside.ReconcilerConfig{Record: w.h.store, Public: newPublication(w.h), Raise: w.raise, Now: w.now, Leaves: 10})
	w.ok(err)
	ticks := 0
	for ; r.State().Counted < head && ticks < 1000; ticks++ {
		w.want("not all are counted", nil)
		r.Tick(t.Context())
	}
	w.want("all are counted", map[string][]string{"D3/ahead,": nil})
	if ticks < 2 {
		t.Errorf("%d leaves in %d ticks", head, ticks)
	}
}
