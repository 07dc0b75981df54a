package signer_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/signer"
)

// seal asks for the last signatures of the authority's key.
func (h *house) seal(uri string, until time.Time) ([]bulkhead.Prepared, error) {
	return h.signer.Seal(h.t.Context(), signer.SealRequest{Authority: ecdsaCA, KeyURI: uri, Until: until,
		Number: func(ctx context.Context, shard int) (int64, error) { return h.store.NextCRLNumber(ctx, ecdsaCA, shard) }})
}

// TestSeal: a key that still serves is not sealed and not destroyed. One on its way out leaves CRLs of every shard and
// delegates without a gap, each CRL with what is due on it then, each within BR 7.2; then it is gone, for this process too.
func TestSeal(t *testing.T) {
	h := newHouse(t)
	c := h.issue("gone.example.test")
	h.revoke("change", bulkhead.ChangeItem{CertificateRef: c.Certificate.CertificateRef, Reason: bulkhead.Superseded, RevokedAt: h.now().Truncate(time.Second)})
	a := mustAuthority(t, h, ecdsaCA)
	uri, until := a.KeyURI, h.now().Add(60*dayTime)
	for _, state := range []bulkhead.AuthorityState{bulkhead.AuthorityActive, bulkhead.AuthorityRevoked} {
		a.State = state // the record names the key in both
		ok(t, h.store.PutAuthority(t.Context(), a))
		_, err := h.seal(uri, until)
		wantKind(t, err, bulkhead.KindConflict, "still serves")
		wantKind(t, h.signer.DestroyKey(t.Context(), ecdsaCA, uri), bulkhead.KindConflict, "still serves")
	}
	a.KeyURI = ""
	ok(t, h.store.PutAuthority(t.Context(), a))
	_, err := h.seal(h.head, until)
	wantKind(t, err, bulkhead.KindConflict, "not the key of its certificate")
	wantKind(t, h.signer.DestroyKey(t.Context(), ecdsaCA, h.head), bulkhead.KindConflict, "not that of authority")

	crls, err := h.seal(uri, until)
	ok(t, err)
	last := map[int]bulkhead.Prepared{}
	for _, p := range crls {
		if before, again := last[p.Shard]; again && (p.NotBefore.Sub(before.NotBefore) > 5*dayTime || p.CRLNumber <= before.CRLNumber) {
			t.Errorf("shard %d: CRL %d at %s follows CRL %d at %s", p.Shard, p.CRLNumber, p.NotBefore, before.CRLNumber, before.NotBefore)
		}
		if p.NotAfter.Sub(p.NotBefore) > 10*dayTime {
			t.Errorf("CRL %d lives %s (BR 7.2)", p.CRLNumber, p.NotAfter.Sub(p.NotBefore))
		}
		last[p.Shard] = p
		listed := false
		parsed, err := crl.Parse(p.DER, func(e crl.Entry) error { listed = listed || e.Serial == c.Certificate.Serial; return nil })
		ok(t, err)
		ok(t, parsed.Verify(h.certs[ecdsaCA]))
		if due := p.Shard == c.Certificate.Shard && !p.NotBefore.Add(-bulkhead.AfterTheEnd).After(c.Certificate.NotAfter); listed != due {
			t.Errorf("CRL %d of shard %d at %s: listed is %v", p.CRLNumber, p.Shard, p.NotBefore, listed)
		}
	}
	if len(last) != max(a.Shards, 1) {
		t.Errorf("%d shards of %d", len(last), a.Shards)
	}
	for shard, p := range last {
		if p.NotAfter.Before(until.Add(bulkhead.AfterTheEnd)) {
			t.Errorf("shard %d is sealed until %s only", shard, p.NotAfter)
		}
	}
	delegates, err := h.store.Delegates(t.Context(), ecdsaCA)
	ok(t, err)
	for at := h.now(); at.Before(until.Add(bulkhead.AfterTheEnd)); at = at.Add(dayTime) {
		found := false
		for _, d := range delegates {
			found = found || !at.Before(d.NotBefore) && at.Add(dayTime).Before(d.NotAfter)
		}
		if !found {
			t.Errorf("no delegate can answer at %s for a day", at)
		}
	}
	n := len(delegates)
	_, err = h.seal(uri, until) // once more after a crash: delegates are there
	ok(t, err)
	if delegates, err = h.store.Delegates(t.Context(), ecdsaCA); err != nil || len(delegates) != n {
		t.Errorf("%d delegates, then %d, %v", n, len(delegates), err)
	}

	ok(t, h.signer.DestroyKey(t.Context(), ecdsaCA, uri))
	ok(t, h.signer.DestroyKey(t.Context(), ecdsaCA, uri))
	a.State = bulkhead.AuthorityDestroyed
	ok(t, h.store.PutAuthority(t.Context(), a))
	_, err = h.signer.SignCRL(t.Context(), bulkhead.CRLRequest{Authority: ecdsaCA, Number: 1 << 30, ThisUpdate: h.now(), NextUpdate: h.now().Add(time.Hour)}, io.Discard)
	wantKind(t, err, bulkhead.KindUnavailable, "destroyed")
	for range 4 {
		got, err := h.answers("", c.Certificate.Serial)
		ok(t, err)
		if len(got.Answers) != 1 || bytes.Equal(got.Responder, nil) {
			t.Errorf("%+v", got)
		}
		h.move(14 * dayTime)
	}
}
