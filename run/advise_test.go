package run

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/scan/probe/probetest"
)

// TestAdvice fills the five steps in by real looks: nothing known, vulnerable, patched with the old key, and revoked. What was
// not seen is never called done.
func TestAdvice(t *testing.T) {
	w := newWorld(t)
	x := adviser{w.h}
	states := func() (out string) {
		t.Helper()
		v, err := x.Advise(t.Context(), w.live, "en")
		w.ok(err)
		for _, s := range v.Steps {
			out += s.State + ", "
		}
		return strings.TrimSuffix(out, ", ")
	}
	if words, err := x.Words(t.Context(), w.live); err != nil || words != nil {
		t.Errorf("nobody looked, and the letter says %v, %v", words, err)
	}
	if got := states(); got != "not known, not known, not known, not known, not known" {
		t.Error(got)
	}
	served := w.served(w.live, w.key)
	faulty := probetest.Vulnerable
	faulty.Chain = served.Certificate
	s, err := probetest.Listen(faulty, "127.0.0.1:0")
	w.ok(err)
	t.Cleanup(s.Close)
	e := w.h.eyes(true)
	e.names = book{netip.MustParseAddr("127.0.0.1")}
	look := func() {
		t.Helper()
		_, err := endpointLooks{e: e, ports: []uint16{s.Addr().Port()}}.Look(t.Context(), bulkhead.CampaignItem{CertificateRef: w.live}, true)
		w.ok(err)
	}
	look()
	if got := states(); got != "to do, to do, to do, not known, not known" {
		t.Error(got)
	}
	leaf := bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: w.now(), Actor: "test"}
	c, _, err := w.h.store.Certificate(t.Context(), w.live)
	w.ok(err)
	leaf.KeyHash = c.KeyHash
	w.ok(w.h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: c.KeyHash, BlockedAt: w.now(), Reason: "leaked", Actor: "test"}, leaf))
	fixed := probetest.Patched
	fixed.Chain = served.Certificate
	s.Swap(fixed)
	time.Sleep(1100 * time.Millisecond) // looks are kept to the second
	look()
	if got := states(); got != "done, to do, to do, to do, not known" {
		t.Error(got)
	}
	words, err := x.Words(t.Context(), w.live)
	w.ok(err)
	if !strings.Contains(words["en"], "[done] 1. Patch") || !strings.Contains(words["en"], "OLD key") || !strings.Contains(words["ja"], "以前と同じ鍵") {
		t.Errorf("%v", words)
	}
	w.revoke(w.live)
	if got := states(); !strings.HasSuffix(got, ", done") {
		t.Error(got)
	}
}
