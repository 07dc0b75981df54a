package signer_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/signer"
)

func TestTokenIsSingleUse(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	copied := *token
	got, err := h.signer.Sign(t.Context(), token)
	ok(t, err)
	for _, again := range []*signer.Token{token, &copied} {
		_, err = h.signer.Sign(t.Context(), again)
		wantKind(t, err, bulkhead.KindForbidden, "used")
	}
	if !bytes.Equal(parse(t, got.DER).SerialNumber.Bytes(), token.Certificate().Serial.Bytes()) {
		t.Error("the certificate has another serial than its token")
	}
	if n := h.audit()[h.signerHash(ecdsaCA)].Signatures(); n != 1 {
		t.Errorf("%d signatures, want 1", n)
	}
}

func TestTokenOfManyCallersAtOnce(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	var good atomic.Int32
	together(8, func(int) {
		if _, err := h.signer.Sign(context.Background(), token); err == nil {
			good.Add(1)
		}
	})
	if good.Load() != 1 {
		t.Errorf("a token was good %d times", good.Load())
	}
	h.audit()
}

func TestForeignAndEmptyTokens(t *testing.T) {
	h := newHouse(t)
	other := h.newSigner()
	token, err := other.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	for _, x := range []*signer.Token{token, nil, {}} {
		_, err = h.signer.Sign(t.Context(), x)
		wantKind(t, err, bulkhead.KindForbidden, "did not make")
	}
	_, err = other.Sign(t.Context(), token) // and it is still good where it belongs
	ok(t, err)
}

func TestTokenGrowsOld(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	h.move(3 * time.Minute)
	_, err = h.signer.Sign(t.Context(), token)
	wantKind(t, err, bulkhead.KindConflict, "too old")
	if rows := h.rows(); rows[bulkhead.Abandoned] != 1 {
		t.Errorf("rows %v, want one abandoned", rows)
	}
	h.audit()
}

// TestBlockedBetweenPrepareAndSign: the reservation's own transaction refuses a blocked key, Sign asks once more, and a
// certificate that lost the last race is not handed out.
func TestBlockedBetweenPrepareAndSign(t *testing.T) {
	h := newHouse(t)
	block := func(hash bulkhead.Hash) {
		ok(t, h.store.BlockKey(context.Background(), bulkhead.BlockedKey{KeyHash: hash, BlockedAt: h.now(), Reason: "stolen", Actor: "operator:a"}))
	}
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	block(token.Certificate().KeyHash)
	_, err = h.signer.Sign(t.Context(), token)
	wantKind(t, err, bulkhead.KindBadPublicKey, "blocked")
	if rows := h.rows(); rows[bulkhead.Abandoned] != 1 || rows[bulkhead.Issued] != 0 {
		t.Errorf("rows %v, want one abandoned", rows)
	}

	// Blocked after Prepare looked and before Reserve commits: its transaction refuses.
	req := h.request("b.example.test")
	late := &lateBlock{Store: h.store, at: "Reserve", block: block}
	s := h.newSigner(func(c *signer.Config) { c.Store = late })
	_, err = s.Prepare(t.Context(), req)
	wantKind(t, err, bulkhead.KindBadPublicKey, "blocked")

	// Blocked after Sign looked and before Complete commits: durable, not handed out.
	late.at = "Complete"
	got, err := s.Issue(t.Context(), h.request("c.example.test"))
	wantKind(t, err, bulkhead.KindBadPublicKey, "blocked")
	if got.DER != nil {
		t.Error("a certificate for a blocked key was handed out")
	}
	h.audit()
}

// lateBlock is the real store, with a key blocked by somebody else just before one of its commits.
type lateBlock struct {
	signer.Store
	at    string
	block func(bulkhead.Hash)
	key   bulkhead.Hash
}

func (l *lateBlock) Reserve(ctx context.Context, items []bulkhead.Reservation) ([]int64, []error, error) {
	l.key = items[0].Certificate.KeyHash
	if l.at == "Reserve" {
		l.block(l.key)
	}
	return l.Store.Reserve(ctx, items)
}

func (l *lateBlock) Complete(ctx context.Context, items []bulkhead.Completion) ([]int64, []error, error) {
	if l.at == "Complete" {
		l.block(l.key)
	}
	return l.Store.Complete(ctx, items)
}

// TestSignedIsLinted compares what the linter saw with what was signed: same TBSCertificate, other signature.
func TestSignedIsLinted(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	linted := signer.LintedTBS(token)
	got, err := h.signer.Sign(t.Context(), token)
	ok(t, err)
	cert := parse(t, got.DER)
	if !bytes.Equal(linted, cert.RawTBSCertificate) {
		t.Fatal("what was signed is not what was linted")
	}
	ok(t, cert.CheckSignatureFrom(h.certs[ecdsaCA]))
	// A key that signs something else is noticed before anything leaves.
	wrong := newKey(t)
	if _, err := signer.SignWith(h.signer, wrong, h.certs[ecdsaCA], linted); err == nil {
		t.Error("a signature by another key was accepted")
	}
	if _, err := signer.SignWith(h.signer, wrong, selfMade(t, h, wrong.Public()), linted); err != nil {
		t.Errorf("a right signature was refused: %v", err)
	}
	if _, err := signer.SignWith(h.signer, wrong, h.certs[ecdsaCA], []byte{0x30, 0}); err == nil {
		t.Error("bytes that are no TBSCertificate were signed")
	}
}

func selfMade(t *testing.T, h *house, pub any) *x509.Certificate {
	c := *h.certs[ecdsaCA]
	c.PublicKey = pub
	return &c
}

func TestGivenUpRequests(t *testing.T) {
	h := newHouse(t)
	gone, cancel := context.WithCancel(t.Context())
	req := h.request("a.example.test")
	token, err := h.signer.Prepare(t.Context(), req)
	ok(t, err)
	cancel()
	_, err = h.signer.Sign(gone, token)
	wantKind(t, err, bulkhead.KindUnavailable, "given up")

	// The caller goes away while its commit is under way: the reservation is abandoned, not forgotten.
	gone, cancel = context.WithCancel(t.Context())
	h.onCommit(func(op string, commit func() error) error {
		if op == "Reserve" {
			cancel()
		}
		return commit()
	})
	_, err = h.signer.Issue(gone, h.request("b.example.test"))
	wantKind(t, err, bulkhead.KindUnavailable, "given up")
	// And when it goes away while the outcome commits, the certificate is durable and is returned.
	gone, cancel = context.WithCancel(t.Context())
	h.onCommit(func(op string, commit func() error) error {
		if op == "Complete" {
			cancel()
		}
		return commit()
	})
	_, err = h.signer.Issue(gone, h.request("c.example.test"))
	ok(t, err)
	if rows := h.rows(); rows[bulkhead.Abandoned] != 2 || rows[bulkhead.Issued] != 1 || rows[bulkhead.Reserved] != 0 {
		t.Errorf("rows %v", rows)
	}
	h.audit()
}

func TestClose(t *testing.T) {
	h := newHouse(t)
	token, err := h.signer.Prepare(t.Context(), h.request("a.example.test"))
	ok(t, err)
	req := h.request("b.example.test")
	for range 2 {
		ok(t, h.signer.Close())
	}
	_, err = h.signer.Sign(t.Context(), token)
	wantKind(t, err, bulkhead.KindUnavailable, "shutting down")
	_, err = h.signer.Issue(t.Context(), req)
	wantKind(t, err, bulkhead.KindUnavailable, "shutting down")
}

func TestNewRefuses(t *testing.T) {
	_, err := signer.New(signer.Config{})
	wantKind(t, err, bulkhead.KindUsage, "Store")
}
