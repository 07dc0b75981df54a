package regress

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/run"
)

// TestNewerRevokedBeatsLongerGood: a peer that picks the answer with the later nextUpdate goes on saying "good" for as
// long as an old answer lives, whatever was signed since.
func TestNewerRevokedBeatsLongerGood(t *testing.T) {
	h := newHouse(t, func(c *run.Config) { c.Status.AnswerValidity = run.Duration(10 * 24 * time.Hour) })
	p, kept := h.issue("long.good.test"), h.issue("kept.good.test")
	good, _, err := h.ask(p, http.MethodGet, crypto.SHA1)
	ok(t, err)
	h.stop()
	h.edit("answer_validity: 10d", "answer_validity: 8h0m0s")
	h.start()
	h.look()
	h.revoke(bulkhead.Superseded, p.CertificateRef)
	revoked, _, err := h.ask(p, http.MethodGet, crypto.SHA1)
	ok(t, err)
	if revoked.Status != ocsp.Revoked || !revoked.NextUpdate.Before(good.NextUpdate.Add(-24*time.Hour)) {
		t.Fatalf("the case is not made: good until %s, then %d until %s", good.NextUpdate, revoked.Status, revoked.NextUpdate)
	}
	merged := 0
	for i := range 12 { // many deltas, and merges of them
		h.issue(name(i))
		packs := h.packs()
		if i > 0 && packs < merged {
			merged = -1
		} else if merged >= 0 {
			merged = packs
		}
		h.want(p, "revoked")
		h.want(kept, "good")
	}
	if merged >= 0 {
		t.Errorf("no merge happened: %d packs", merged)
	}
	for range 6 { // refreshes, at the new pace
		h.pass(2 * time.Hour)
		h.want(p, "revoked")
	}
	h.restart()
	h.want(p, "revoked")
	// And when nobody publishes any more, silence: no older answer takes the place of the one that ended.
	h.shift.Add(int64(9 * time.Hour))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		_, res, err := h.ask(p, method, crypto.SHA256)
		if refused, is := err.(ocsp.ResponseError); !is || refused.Status != ocsp.TryLater || res.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s after the end of the answer: %v, %v", method, err, res.header)
		}
	}
	h.look()
	h.want(p, "revoked")
}

// packs counts the packs of the issuer in the public head.
func (h *house) packs() int {
	h.t.Helper()
	is := h.head().Issuer(issuing)
	if is == nil {
		h.t.Fatal("the head does not name the issuer")
	}
	return len(is.Packs)
}

func (h *house) verifier() note.Verifier {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "head.pub"))
	ok(h.t, err)
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	ok(h.t, err)
	return v
}

func (h *house) head() *pack.Head {
	h.t.Helper()
	signed, err := h.Objects.Head(h.t.Context())
	ok(h.t, err)
	head, err := pack.OpenHead(signed, h.verifier())
	ok(h.t, err)
	return head
}
