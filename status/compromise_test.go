package status_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// plantMany puts n certificates that hold a key into the record, in batches.
func (h *house) plantMany(issuer bulkhead.AuthorityID, key bulkhead.Hash, n int) {
	h.t.Helper()
	for part := range slices.Chunk(slices.Collect(func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}), 500) {
		var reservations []bulkhead.Reservation
		var completions []bulkhead.Completion
		for _, i := range part {
			c := h.row(issuer, func(c *bulkhead.Certificate) { c.KeyHash, c.AccountID = key, fmt.Sprint("account-", i%7) })
			c.State, c.ReservedAt = bulkhead.Reserved, h.now()
			der := []byte("certificate " + c.Serial.String())
			ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now(), Actor: "test", Authority: c.Issuer, Serial: c.Serial, KeyHash: key, Digest: bulkhead.Digest(der)}
			reservations = append(reservations, bulkhead.Reservation{Certificate: c, Intent: ev})
			ev.Kind, ev.Link, ev.Digest = bulkhead.EvCertificateOutcome, ev.Digest, bulkhead.Digest(der)
			completions = append(completions, bulkhead.Completion{CertificateRef: c.CertificateRef, DER: der, Outcome: ev})
		}
		_, errs, err := h.store.Reserve(context.Background(), reservations)
		ok(h.t, err)
		for _, e := range errs {
			ok(h.t, e)
		}
		_, errs, err = h.store.Complete(context.Background(), completions)
		ok(h.t, err)
		for _, e := range errs {
			ok(h.t, e)
		}
	}
}

func compromise(key bulkhead.Hash) bulkhead.Compromise {
	return bulkhead.Compromise{KeyHash: key, Actor: "operator:a", Reason: "the key is on a paste site"}
}

// TestCompromise: one person's word blocks the key at once and revokes everything in force that holds it, under any
// issuer and for any account, with reason 1 and in one change that its record names; nothing else is touched. Asked
// again it finds what became durable meanwhile.
func TestCompromise(t *testing.T) {
	h := newHouse(t)
	key := bulkhead.Digest([]byte("leaked"))
	h.plantMany(caA, key, 15) // more than one person may revoke otherwise
	h.plantMany(caB, key, 3)
	other := h.issue(caA, 2)
	expired := h.issue(caA, 1, func(c *bulkhead.Certificate) {
		c.KeyHash, c.NotBefore, c.NotAfter = key, h.now().Add(-48*time.Hour), h.now().Add(-24*time.Hour)
	})
	before := h.issue(caA, 1, func(c *bulkhead.Certificate) { c.KeyHash = key })
	h.revoke(before...) // for another reason: it is upgraded
	h.tick()
	c, err := h.status.Compromise(context.Background(), compromise(key))
	ok(t, err)
	if c.Revoked != 19 || len(c.Changes) != 1 || !c.SettledAt.IsZero() {
		t.Fatalf("%+v", c)
	}
	ok(t, h.status.PursueCompromises(context.Background()))
	c, left, err := h.status.KeyCompromise(context.Background(), key)
	ok(t, err)
	if left != 0 || c.SettledAt.IsZero() || len(c.Changes) != 1 {
		t.Fatalf("%d left of %+v", left, c)
	}
	rows, err := h.store.CertificatesByKey(context.Background(), key, h.now())
	ok(t, err)
	for _, r := range rows {
		if r.State != bulkhead.Revoked || r.Reason != bulkhead.KeyCompromise {
			t.Errorf("%s is %s for %s", r.CertificateRef, r.State, r.Reason)
		}
	}
	if len(rows) != 19 || h.state(other[0]) != bulkhead.Issued || h.state(expired[0]) != bulkhead.Issued {
		t.Errorf("%d rows; others are %s, expired ones %s", len(rows), h.state(other[0]), h.state(expired[0]))
	}
	h.agree()
	// A signature that was under way at the block becomes durable afterwards.
	late := h.row(caB, func(c *bulkhead.Certificate) { c.KeyHash = bulkhead.Digest([]byte("second")) })
	ev := h.reserve(late, []byte("late"))
	_, err = h.status.Compromise(context.Background(), compromise(late.KeyHash))
	ok(t, err)
	ok(t, h.status.PursueCompromises(context.Background()))
	ev.Kind, ev.Link, ev.Digest = bulkhead.EvCertificateOutcome, ev.Digest, bulkhead.Digest([]byte("late"))
	_, errs, err := h.store.Complete(context.Background(), []bulkhead.Completion{{CertificateRef: late.CertificateRef, DER: []byte("late"), Outcome: ev}})
	ok(t, err)
	ok(t, errs[0])
	ok(t, h.status.PursueCompromises(context.Background()))
	if h.state(late.CertificateRef) != bulkhead.Revoked {
		t.Error("what became durable after the block is in force")
	}
}

// TestCompromiseRefusals: no key, no reason, and the key of an authority change nothing.
func TestCompromiseRefusals(t *testing.T) {
	h := newHouse(t)
	key := bulkhead.Digest(h.authority(caA).SPKI)
	for _, c := range []struct {
		of   bulkhead.Compromise
		kind bulkhead.Kind
	}{{bulkhead.Compromise{Reason: "x"}, bulkhead.KindUsage}, {bulkhead.Compromise{KeyHash: bulkhead.Digest([]byte("k"))}, bulkhead.KindUsage}, {compromise(key), bulkhead.KindGate}} {
		_, err := h.status.Compromise(context.Background(), c.of)
		wantKind(t, err, c.kind, "")
	}
	blocked, err := h.store.BlockedKeys(context.Background(), key)
	ok(t, err)
	if len(blocked) != 0 {
		t.Error("the key of an authority is blocked")
	}
}

// TestCompromiseOfMany: one key on many certificates is revoked in chunks, and a revocation by somebody else goes
// through between two of them. A restart in the middle goes on with what is left.
func TestCompromiseOfMany(t *testing.T) {
	n := 1200
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		n = 100_000
	}
	if v := os.Getenv("BULKHEAD_COMPROMISED"); v != "" {
		_, err := fmt.Sscan(v, &n)
		ok(t, err)
	}
	h := newHouse(t)
	key := bulkhead.Digest([]byte("leaked"))
	h.plantMany(caA, key, n)
	others := h.issue(caA, 3)
	h.tick()
	begun := time.Now()
	c, err := h.status.Compromise(context.Background(), compromise(key))
	ok(t, err)
	blocked := time.Since(begun)
	if c.Revoked >= n {
		t.Fatalf("%d of %d in the first chunk", c.Revoked, n)
	}
	h.status = h.restart() // a process that died between two chunks
	ok(t, h.status.Start(context.Background()))
	done := make(chan error)
	go func() { done <- h.status.PursueCompromises(context.Background()) }()
	var worst time.Duration
	for _, ref := range others {
		asked := time.Now()
		_, err := h.status.RevokeCertificates(context.Background(), "another", "meanwhile", items(bulkhead.Superseded, ref))
		ok(t, err)
		worst = max(worst, time.Since(asked))
	}
	ok(t, <-done)
	c, left, err := h.status.KeyCompromise(context.Background(), key)
	ok(t, err)
	t.Logf("%d certificates on one key: first chunk after %s, all after %s in %d changes; a revocation by somebody else meanwhile took at most %s", n, blocked, time.Since(begun), len(c.Changes), worst)
	if c.Revoked != n || left != 0 || c.SettledAt.IsZero() || len(c.Changes) != (n+999)/1000 {
		t.Errorf("%d of %d revoked, %d left, %d changes", c.Revoked, n, left, len(c.Changes))
	}
	rows, err := h.store.CertificatesByKey(context.Background(), key, h.now())
	ok(t, err)
	for _, r := range rows {
		if r.State != bulkhead.Revoked || r.Reason != bulkhead.KeyCompromise {
			t.Fatalf("%s is %s for %s", r.CertificateRef, r.State, r.Reason)
		}
	}
}

// TestCompromiseBesideForeign: a key that is also on certificates of an imported authority, which only that one can revoke, and of an
// authority whose key waits for nobody here. Ours are revoked at once all the same, other keys are not held up by what is left, and after a
// quarter of an hour people are told of it, once, with the time by which it must be done (BR 4.9.1.1: 24 h). Nobody is where nothing is left.
func TestCompromiseBesideForeign(t *testing.T) {
	var alarms []bulkhead.Alarm
	h := newHouse(t)
	s, err := status.New(status.Config{Store: h.store, Signer: h.door, Objects: h.objects, HeadVerifier: h.verifier, Now: h.now, Alarm: func(_ context.Context, a bulkhead.Alarm) { alarms = append(alarms, a) }})
	ok(t, err)
	foreign := h.authority(caA)
	foreign.ID, foreign.State, foreign.KeyURI, foreign.CreatedAt = "foreign", bulkhead.AuthorityForeign, "", h.now()
	ok(t, h.store.PutAuthority(t.Context(), foreign))
	key, other := bulkhead.Digest([]byte("leaked")), bulkhead.Digest([]byte("leaked, too"))
	theirs := h.row(caA, func(c *bulkhead.Certificate) { c.Issuer, c.KeyHash = "foreign", key }) // first by its issue
	ev := h.reserve(theirs, []byte("theirs"))
	ev.Kind, ev.Link, ev.Digest = bulkhead.EvCertificateOutcome, ev.Digest, bulkhead.Digest([]byte("theirs"))
	_, errs, err := h.store.Complete(t.Context(), []bulkhead.Completion{{CertificateRef: theirs.CertificateRef, DER: []byte("theirs"), Outcome: ev}})
	ok(t, err)
	ok(t, errs[0])
	h.plantMany(caA, key, 3)
	h.tick()
	c, err := s.Compromise(t.Context(), compromise(key))
	ok(t, err)
	if c.Revoked != 3 {
		t.Fatalf("%d of ours are revoked beside one of somebody else's: %+v", c.Revoked, c)
	}
	wantKind(t, s.PursueCompromises(t.Context()), bulkhead.KindGate, "only those can revoke them")
	if c, left, err := s.KeyCompromise(t.Context(), key); err != nil || left != 1 || !c.SettledAt.IsZero() || len(alarms) != 0 {
		t.Fatalf("%d left of %+v, %d alarms: %v", left, c, len(alarms), err)
	}
	h.plantMany(caB, other, 2)
	h.tick()
	_, err = s.Compromise(t.Context(), compromise(other))
	ok(t, err)
	h.move(16 * time.Minute)
	for range 2 {
		wantKind(t, s.PursueCompromises(t.Context()), bulkhead.KindGate, "")
	}
	if c, left, err := s.KeyCompromise(t.Context(), other); err != nil || left != 0 || c.SettledAt.IsZero() {
		t.Errorf("the other key: %d left of %+v: %v", left, c, err)
	}
	if len(alarms) != 1 || alarms[0].Detector != "D13" || !strings.Contains(alarms[0].Message, key.String()) || !strings.Contains(alarms[0].Message, h.change(c.Changes[0]).CreatedAt.Add(24*time.Hour).UTC().Format("2006-01-02")) {
		t.Errorf("%+v", alarms)
	}
}
