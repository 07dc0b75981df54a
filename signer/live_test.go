package signer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/tlog"
	"bulkhead/signer"
)

// liveDelegate certifies a new key and returns its hash and certificate.
func liveDelegate(t *testing.T, h *house, l *signer.Live) (bulkhead.Hash, *x509.Certificate) {
	t.Helper()
	key := newKey(t)
	c, err := l.CertifyLive(t.Context(), ecdsaCA, csr(t, key, nil))
	ok(t, err)
	return keyHash(t, key.Public()), parse(t, c.DER)
}

// TestLiveWindow: certificate, intent before use, outcome with the count and the root; everything bounded.
func TestLiveWindow(t *testing.T) {
	h := newHouse(t)
	l := signer.NewLive(h.signer)
	key, cert := liveDelegate(t, h, l)
	ok(t, ocsp.CheckDelegate(cert, h.certs[ecdsaCA], h.now()))
	if d := cert.NotAfter.Sub(cert.NotBefore); d > 24*time.Hour {
		t.Errorf("valid for %s", d)
	}
	id, err := l.OpenLiveWindow(t.Context(), key, 3, h.now().Add(time.Minute))
	ok(t, err)
	signatures := []bulkhead.Hash{bulkhead.Digest([]byte("a")), bulkhead.Digest([]byte("b"))}
	err = l.CloseLiveWindow(t.Context(), id, append(signatures, signatures...))
	wantKind(t, err, bulkhead.KindConflict, "allowed 3")
	ok(t, l.CloseLiveWindow(t.Context(), id, signatures))
	wantKind(t, l.CloseLiveWindow(t.Context(), id, signatures), bulkhead.KindNotFound, id)

	all := h.leaves()
	intent, outcome := all[len(all)-2], all[len(all)-1]
	if intent.Kind != bulkhead.EvLiveWindow || intent.Ref != id || intent.Count != 3 || intent.Signer != key || intent.Digest != bulkhead.Digest(cert.Raw) {
		t.Errorf("intent %+v", intent)
	}
	if outcome.Kind != bulkhead.EvLiveOutcome || outcome.Ref != id || outcome.Count != 2 || outcome.Signer != key || outcome.Link != intent.Digest || outcome.Digest != tlog.BatchRoot(signatures) {
		t.Errorf("outcome %+v", outcome)
	}
	h.audit()
	as, err := l.LiveAuthorities(t.Context())
	ok(t, err)
	for _, a := range as {
		if a.ID == rootCA {
			t.Error("an authority whose key is offline has live delegates")
		}
	}
}

func TestLiveRefusals(t *testing.T) {
	h := newHouse(t)
	l := signer.NewLive(h.signer)
	_, err := l.CertifyLive(t.Context(), rootCA, csr(t, newKey(t), nil))
	wantKind(t, err, bulkhead.KindUnavailable, "offline")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ok(t, err)
	_, err = l.CertifyLive(t.Context(), ecdsaCA, csr(t, p384, nil))
	wantKind(t, err, bulkhead.KindBadPublicKey, "P-256")
	_, err = l.CertifyLive(t.Context(), ecdsaCA, csr(t, newKey(t), ids(t, "a.example.test")))
	wantKind(t, err, bulkhead.KindBadCSR, "a.example.test")

	key, cert := liveDelegate(t, h, l)
	soon := h.now().Add(time.Minute)
	_, err = l.OpenLiveWindow(t.Context(), bulkhead.Digest([]byte("other")), 1, soon)
	wantKind(t, err, bulkhead.KindForbidden, "no live delegate")
	for _, c := range []struct {
		limit int
		until time.Time
	}{{0, soon}, {1<<20 + 1, soon}, {1, h.now().Add(-time.Second)}, {1, h.now().Add(2 * time.Hour)}} {
		_, err = l.OpenLiveWindow(t.Context(), key, c.limit, c.until)
		wantKind(t, err, bulkhead.KindMalformed, "window")
	}
	// Evidence cannot be written: no window.
	h.onCommit(func(string, func() error) error { return errors.New("disk full") })
	_, err = l.OpenLiveWindow(t.Context(), key, 1, soon)
	wantKind(t, err, bulkhead.KindUnavailable, "intent")
	h.onCommit(nil)
	id, err := l.OpenLiveWindow(t.Context(), key, 1, soon)
	ok(t, err)
	h.onCommit(func(string, func() error) error { return errors.New("disk full") })
	wantKind(t, l.CloseLiveWindow(t.Context(), id, nil), bulkhead.KindUnavailable, "outcome")
	h.onCommit(nil)
	ok(t, l.CloseLiveWindow(t.Context(), id, nil)) // it can be made up for

	// A blocked key opens nothing and is certified no more.
	ok(t, h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: keycheck.SPKIHash(cert.RawSubjectPublicKeyInfo), BlockedAt: h.now(), Reason: "stolen"}))
	_, err = l.OpenLiveWindow(t.Context(), key, 1, soon)
	wantKind(t, err, bulkhead.KindBadPublicKey, "blocked")

	// Nothing after the delegate's end.
	key, _ = liveDelegate(t, h, l)
	h.move(25 * time.Hour)
	_, err = l.OpenLiveWindow(t.Context(), key, 1, h.now().Add(time.Minute))
	wantKind(t, err, bulkhead.KindMalformed, "delegate")

	a := mustAuthority(t, h, ecdsaCA)
	key, _ = liveDelegate(t, h, l)
	a.State = bulkhead.AuthorityDestroyed
	ok(t, h.store.PutAuthority(t.Context(), a))
	_, err = l.OpenLiveWindow(t.Context(), key, 1, h.now().Add(time.Minute))
	wantKind(t, err, bulkhead.KindConflict, "destroyed")
}
