package regress

import (
	"errors"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/retention"
	"bulkhead/run"
	"bulkhead/watch"
)

// TestPruned: what ended long ago goes from the record and leaves everything else as it was: evidence octet for octet,
// fsck clean, live certificates answered for, and no alarm about a serial that was issued once.
func TestPruned(t *testing.T) {
	h := newHouse(t)
	live := h.issue("live.prune.test")
	old := h.ended(h.now().Add(-retention.Least - 48*time.Hour))
	evidence := h.evidence()
	day := h.now().Add(-retention.Least)
	plan, err := h.Retention.Plan(t.Context(), day)
	ok(t, err)
	done, err := h.Retention.Prune(t.Context(), "operator:test", day)
	ok(t, err)
	if done.Certificates != 1 || done != plan {
		t.Fatalf("planned %+v, did %+v", plan, done)
	}
	after := h.evidence()
	if len(after) < len(evidence)+1 {
		t.Fatalf("%d rows of evidence, then %d", len(evidence), len(after))
	}
	for i, row := range evidence {
		if string(row.Leaf) != string(after[i].Leaf) || row.Chain != after[i].Chain {
			t.Fatalf("row %d of evidence changed", i+1)
		}
	}
	_, _, err = h.Store.Certificate(t.Context(), old)
	wantKind(t, err, bulkhead.KindNotFound)
	h.want(live, "good")
	d1 := watch.UnassignedSerial{Store: h.Store}
	if a, err := d1.Judge(t.Context(), watch.Sighting{Kind: watch.UnassignedAsked, Issuer: issuing, Serial: old.Serial, At: h.now()}); a != nil || err != nil {
		t.Errorf("D1 alarms about a pruned serial: %+v %v", a, err)
	}
	never := old
	never.Issuer = other
	if a, err := d1.Judge(t.Context(), watch.Sighting{Kind: watch.UnassignedAsked, Issuer: never.Issuer, Serial: never.Serial, At: h.now()}); a == nil || err != nil {
		t.Errorf("D1 is silent about a serial that was never issued: %v", err)
	}
	h.serve()
	h.wantClean()
}

// wantClean waits until fsck finds nothing: rows are covered by a checkpoint in about a second.
func (h *house) wantClean() {
	t := h.t
	t.Helper()
	var bad []console.Finding
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		found, err := run.Fsck(t.Context(), h.dir)
		ok(t, err)
		bad = slices.DeleteFunc(found, func(f console.Finding) bool { return f.Level == "ok" })
		if len(bad) == 0 {
			return
		}
	}
	t.Errorf("fsck: %+v", bad)
}

func (h *house) evidence() []bulkhead.EvidenceRow {
	h.t.Helper()
	rows, err := h.Store.EvidenceAfter(h.t.Context(), 0, 100_000)
	ok(h.t, err)
	return rows
}

// ended puts a certificate that ended at end into the record, with its evidence, as the signer would.
func (h *house) ended(end time.Time) bulkhead.CertificateRef {
	h.t.Helper()
	ctx := h.t.Context()
	d := bulkhead.Digest([]byte("a certificate of long ago"))
	d[0] = 1
	serial, err := bulkhead.SerialFromBytes(d[:16])
	ok(h.t, err)
	a, err := h.Store.Authority(ctx, issuing)
	ok(h.t, err)
	ref := bulkhead.CertificateRef{Issuer: issuing, Serial: serial}
	ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now().UTC().Truncate(time.Millisecond), Actor: "role:signer", Authority: issuing, Serial: serial,
		KeyHash: d, Signer: bulkhead.Digest(a.SPKI), Digest: d}
	_, errs, err := h.Store.Reserve(ctx, []bulkhead.Reservation{{Intent: ev, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate,
		State: bulkhead.Reserved, Profile: "tls-server", KeyHash: d, NotBefore: end.Add(-24 * time.Hour), NotAfter: end, ReservedAt: end.Add(-24 * time.Hour)}}})
	ok(h.t, errors.Join(append(errs, err)...))
	der := []byte("not looked into")
	ev.Kind, ev.Link, ev.Digest = bulkhead.EvCertificateOutcome, d, bulkhead.Digest(der)
	_, errs, err = h.Store.Complete(ctx, []bulkhead.Completion{{CertificateRef: ref, DER: der, Outcome: ev}})
	ok(h.t, errors.Join(append(errs, err)...))
	return ref
}
