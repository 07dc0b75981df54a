package status_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// settle brings everything up to date as a process that starts now would, and waits for refreshes.
func (h *house) settle() { h.t.Helper(); ok(h.t, h.status.Start(context.Background())) }

// numbers are the CRL numbers and dates of an authority by shard.
func (h *house) numbers(id bulkhead.AuthorityID) (numbers []int64, dates []time.Time) {
	for _, c := range h.head().Issuer(id).CRLs {
		numbers, dates = append(numbers, c.Number), append(dates, c.ThisUpdate)
	}
	return numbers, dates
}

// TestClockStepsBack: within the backdate dates stand still, beyond it nothing is signed, and what waited goes out
// when the clock is right again.
func TestClockStepsBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 3)
	h.move(time.Hour)
	h.revoke(refs[0])
	before := h.head()
	first, _ := h.answer(refs[0])
	h.move(-30 * time.Second)
	h.revoke(refs[1])
	second, _ := h.answer(refs[1])
	after := h.head()
	if second.ThisUpdate.Before(first.ThisUpdate) || after.At.Before(before.At) {
		t.Errorf("thisUpdate went from %s to %s, the head from %s to %s", first.ThisUpdate, second.ThisUpdate, before.At, after.At)
	}
	if err := after.Follows(before); err != nil {
		t.Error(err)
	}
	h.move(-10 * time.Minute)
	h.tick()
	id, err := h.status.RevokeCertificates(t.Context(), "test", "in the past", items(bulkhead.Superseded, refs[2]))
	wantKind(t, err, bulkhead.KindUnavailable, "the clock says")
	if h.head().Sequence != after.Sequence || h.state(refs[2]) != bulkhead.Issued {
		t.Error("something was signed by a clock that is behind")
	}
	h.move(11 * time.Minute)
	h.tick()
	if h.state(refs[2]) != bulkhead.Revoked || h.change(id).State != bulkhead.ChangeSettled {
		t.Errorf("the change waits still: %s", h.change(id).State)
	}
	if err := h.head().Follows(after); err != nil {
		t.Error(err)
	}
	h.agree()
}

// TestDeltas: answers for new certificates and revocations stack up and are merged; the newest answer wins, and only
// changes move an epoch.
func TestDeltas(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.MaxDeltas = 3 })
	epoch0 := h.head().Issuer(caA).Epoch
	var all []bulkhead.CertificateRef
	revoked := map[bulkhead.CertificateRef]bool{}
	for i := range 12 {
		all = append(all, h.issue(caA, 3)...)
		if i%3 == 2 {
			h.move(time.Minute)
			h.revoke(all[i])
			revoked[all[i]] = true
			h.tick()
		}
		if n := len(h.head().Issuer(caA).Packs); n > 4 {
			t.Fatalf("%d packs after %d rounds", n, i+1)
		}
	}
	for _, r := range all {
		e, found := h.answer(r)
		if !found || e.Revoked != revoked[r] {
			t.Errorf("%s: found %v, revoked %v", r, found, e.Revoked)
		}
	}
	if got := h.head().Issuer(caA); got.Epoch != epoch0+4 || got.Generation == 0 {
		t.Errorf("epoch %d.%d, want %d", got.Epoch, got.Generation, epoch0+4)
	}
	if got := h.head().Issuer(caB); got.Epoch != 0 {
		t.Errorf("the other authority is at epoch %d", got.Epoch)
	}
	h.agree()
}

// TestRefresh revokes while a refresh at half-life is signing: the revocation stays on top of the refreshed base.
func TestRefresh(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 20)
	h.issue(caB, 1)
	h.tick()
	old, _ := h.answer(refs[0])
	before := h.head().Issuer(caA)
	h.tick()
	if got := h.head().Issuer(caA); got.Generation != before.Generation {
		t.Error("something was refreshed before its half-life")
	}
	h.move(12*time.Hour + time.Minute)
	signed, release := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	h.door.answers = func(req *bulkhead.AnswerRequest, call func() (bulkhead.AnswerBatch, error)) (bulkhead.AnswerBatch, error) {
		b, err := call()
		if req.Authority == caA && req.Change == "" {
			if held.CompareAndSwap(false, true) {
				close(signed)
				<-release
			}
		}
		return b, err
	}
	h.tick()
	<-signed // good has been signed for all of them, and is not yet public
	h.move(time.Second)
	h.revoke(refs[7])
	fresh := h.issue(caA, 1)[0]
	close(release)
	h.settle()
	for i, r := range refs {
		e, found := h.answer(r)
		if !found || e.Revoked != (i == 7) || !e.ThisUpdate.After(old.ThisUpdate) {
			t.Errorf("%s: found %v, revoked %v, as of %s", r, found, e.Revoked, e.ThisUpdate)
		}
	}
	if _, found := h.answer(fresh); !found {
		t.Error("the answer of a certificate issued meanwhile was lost")
	}
	got := h.head().Issuer(caA)
	if got.Epoch != before.Epoch+1 {
		t.Errorf("epoch %d after %d: only the change moves it", got.Epoch, before.Epoch)
	}
	h.agree()
	w := h.world()
	w.refresh()
	if s := w.ask(refs[7]); s.ocsp[0][:7] != "revoked" || s.listed == "" {
		t.Errorf("the world hears %v", s)
	}
}

// TestRefreshFails: answers that cannot be refreshed stand, and the refresh is tried again before they end.
func TestRefreshFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := h.issue(caA, 1)[0]
	h.move(12*time.Hour + time.Minute)
	h.door.answers = func(*bulkhead.AnswerRequest, func() (bulkhead.AnswerBatch, error)) (bulkhead.AnswerBatch, error) {
		return bulkhead.AnswerBatch{}, errors.New("signer is gone")
	}
	h.settle()
	old, _ := h.answer(r)
	*h.door = door{Signer: h.signer}
	h.move(time.Minute)
	h.settle()
	if e, _ := h.answer(r); !e.ThisUpdate.After(old.ThisUpdate) {
		t.Error("not tried again")
	}
}

// TestCRLHalfLife: every shard gets a new CRL at half of its life, and not before.
func TestCRLHalfLife(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	n0, d0 := h.numbers(caA)
	h.move(3 * day)
	h.settle()
	if n, _ := h.numbers(caA); fmt.Sprint(n) != fmt.Sprint(n0) {
		t.Errorf("numbers %v after %v: too early", n, n0)
	}
	h.move(13 * time.Hour)
	h.settle()
	n1, d1 := h.numbers(caA)
	for i := range n0 {
		if n1[i] != n0[i]+1 || !d1[i].After(d0[i]) {
			t.Errorf("shard %d: number %d after %d, %s after %s", i, n1[i], n0[i], d1[i], d0[i])
		}
	}
	h.agree()
}

// TestPreparedCRLs: the CRLs that the root signed in advance turn over by date, and never back.
func TestPreparedCRLs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	prepared, err := h.store.Prepared(t.Context(), rootCA)
	ok(t, err)
	var last int64
	seen := map[int64]bool{}
	for range 14 {
		h.settle()
		n, d := h.numbers(rootCA)
		if len(n) != 1 || n[0] < last || d[0].After(h.now()) {
			t.Fatalf("numbers %v after %d, dates %v", n, last, d)
		}
		if end := h.head().Issuer(rootCA).CRLs[0].NextUpdate; end.Before(h.now()) {
			t.Errorf("the root's CRL ended at %s", end)
		}
		last = n[0]
		seen[last] = true
		h.agree()
		h.move(25 * day)
	}
	crls := 0
	for _, p := range prepared {
		if p.Kind == bulkhead.PreparedCRL && p.NotBefore.Before(h.now().Add(-25*day)) {
			crls++
		}
	}
	if len(seen) != crls || crls < 3 {
		t.Errorf("%d of %d prepared CRLs were published", len(seen), crls)
	}
	h.move(-200 * day)
	h.tick() // logged for the authorities that would have to sign; the root's CRL stays
	if n, _ := h.numbers(rootCA); n[0] != last {
		t.Errorf("the root's CRL went from %d to %d", last, n[0])
	}
}

// TestExpired: answers go on for a day after the end of a certificate; its CRL entry stands on at least one CRL made
// after the end; then both leave.
func TestExpired(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	short := func(c *bulkhead.Certificate) { c.NotAfter = h.now().Add(6 * time.Hour) }
	gone := h.issue(caA, 2, short)
	stays := h.issue(caA, 1)[0]
	end := h.now().Add(6 * time.Hour)
	h.revoke(gone[0], stays)
	onLater := map[int64]bool{}
	for h.now().Before(end.Add(16 * day)) {
		h.settle()
		h.agree()
		_, answered := h.answer(gone[1])
		if late := h.now().Sub(end); !answered && late < day || answered && late > 2*day {
			t.Errorf("%s after the end: answered %v", late, answered)
		}
		row, _, err := h.store.Certificate(t.Context(), gone[0])
		ok(t, err)
		ref := h.head().Issuer(caA).CRLs[row.Shard]
		if _, is := h.listed(caA)[gone[0].Serial]; is && ref.ThisUpdate.After(end) {
			onLater[ref.Number] = true
		} else if !is && len(onLater) == 0 {
			t.Fatalf("%s left the CRL before one made after its end", gone[0])
		}
		h.move(11 * time.Hour)
	}
	if _, is := h.listed(caA)[gone[0].Serial]; is {
		t.Error("an entry stays for ever")
	}
	if _, is := h.listed(caA)[stays.Serial]; !is {
		t.Error("an entry left before its certificate's end")
	}
	if e, found := h.answer(stays); !found || !e.Revoked {
		t.Error("an answer left before its certificate's end")
	}
}

// TestRotation: a retired authority goes on answering, listing and revoking.
func TestRotation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 2)
	a := h.authority(caA)
	a.State, a.Successor = bulkhead.AuthorityRetired, caB
	ok(t, h.store.PutAuthority(t.Context(), a))
	h.issue(caB, 1)
	for range 3 {
		before, _ := h.numbers(caA)
		old, _ := h.answer(refs[0])
		h.move(4 * day)
		h.settle()
		if after, _ := h.numbers(caA); after[0] <= before[0] || after[1] <= before[1] {
			t.Errorf("CRLs of the retired authority: %v after %v", after, before)
		}
		if e, found := h.answer(refs[0]); !found || !e.ThisUpdate.After(old.ThisUpdate) {
			t.Error("answers of the retired authority are not refreshed")
		}
		h.agree()
	}
	h.revoke(refs[1])
	w := h.world()
	w.refresh()
	if got := w.ask(refs[1]); got.listed == "" || got.ocsp[0] == "good" {
		t.Errorf("revoked under a retired authority: %v", got)
	}
	h.agree()
}

// TestTrouble: an authority whose key does not sign keeps no other from its answers, and catches up afterwards.
func TestTrouble(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	broken := errors.New("key is gone")
	h.door.crl = func(req *bulkhead.CRLRequest, call func(io.Writer) (bulkhead.CRLRecord, error), w io.Writer) (bulkhead.CRLRecord, error) {
		if req.Authority == caA {
			return bulkhead.CRLRecord{}, broken
		}
		return call(w)
	}
	h.move(4 * day)
	a, b := h.issue(caA, 1)[0], h.issue(caB, 1)[0]
	if _, found := h.answer(b); !found {
		t.Error("the sound authority has no answer for its new certificate")
	}
	if _, found := h.answer(a); found {
		t.Error("an authority in trouble was published in part")
	}
	*h.door = door{Signer: h.signer}
	h.settle()
	if _, found := h.answer(a); !found {
		t.Error("it did not catch up")
	}
	h.agree()
}
