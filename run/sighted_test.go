package run

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"bulkhead"
)

// TestSighted plants what a log may show: a certificate that our key signed behind our back is D2, a blocked key that came back is
// D12; a certificate of ours, our authorities and delegates, strangers' certificates and nonsense are silent.
func TestSighted(t *testing.T) {
	w := newWorld(t)
	c, der, err := w.h.store.Certificate(t.Context(), w.live)
	w.ok(err)
	all, err := w.h.store.Authorities(t.Context())
	w.ok(err)
	ders := [][]byte{der, []byte("nonsense")}
	var issuer bulkhead.Authority
	for _, a := range all {
		if a.ID == c.Issuer {
			issuer = a
		}
		ders = append(ders, a.Certificate)
		delegates, err := w.h.store.Delegates(t.Context(), a.ID)
		w.ok(err)
		for _, d := range delegates {
			ders = append(ders, d.Certificate)
		}
	}
	parent, err := x509.ParseCertificate(issuer.Certificate)
	w.ok(err)
	forge := func(key any, by any, above *x509.Certificate, from time.Time) []byte {
		t.Helper()
		out, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1 << 50), Subject: pkix.Name{CommonName: "evil.test"}, NotBefore: from, NotAfter: w.now().Add(time.Hour)}, above, key, by)
		w.ok(err)
		return out
	}
	alone := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: parent.Subject, NotBefore: w.now(), NotAfter: w.now().Add(time.Hour)}
	ders = append(ders, forge(w.key.Public(), w.key, alone, w.now())) // bears our name, and no signature of ours
	sight := func(ders ...[]byte) (verdicts map[bulkhead.SightedReason]int, blocked int) {
		t.Helper()
		got, err := sighted{w.h}.Sight(t.Context(), "ct: test", ders)
		w.ok(err)
		verdicts = map[bulkhead.SightedReason]int{}
		for i, v := range got {
			if verdicts[v.Verdict]++; v.Blocked {
				blocked++
			}
			if v.SHA256 != bulkhead.Digest(ders[i]) {
				t.Error("not in the order of the request")
			}
		}
		return verdicts, blocked
	}
	alarms := func(detector string) int {
		t.Helper()
		list, err := w.h.store.Alarms(t.Context(), 100)
		w.ok(err)
		n := 0
		for _, a := range list {
			if a.Detector == detector {
				n++
			}
		}
		return n
	}
	got, blocked := sight(ders...)
	if got[bulkhead.SightedUnknown] != 0 || got[bulkhead.SightedForeign] != 1 || got[bulkhead.SightedUnreadable] != 1 || got[bulkhead.SightedKnown] != len(ders)-2 || blocked != 0 || alarms("D2")+alarms("D12") != 0 {
		t.Fatalf("%v of %d, %d blocked, %d D2, %d D12", got, len(ders), blocked, alarms("D2"), alarms("D12"))
	}
	signer, err := w.h.ring.Open(t.Context(), issuer.KeyURI)
	w.ok(err)
	rogue := forge(w.key.Public(), signer, parent, w.now())
	if got, _ := sight(rogue); got[bulkhead.SightedUnknown] != 1 || alarms("D2") != 1 {
		t.Errorf("a certificate that our key signed behind our back: %v, %d alarms", got, alarms("D2"))
	}
	w.ok(w.h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: c.KeyHash, BlockedAt: w.now(), Reason: "leaked", Actor: "test"},
		bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: w.now(), Actor: "test", KeyHash: c.KeyHash}))
	if _, blocked := sight(der, forge(w.key.Public(), w.key, alone, w.now().Add(-48*time.Hour))); blocked != 0 || alarms("D12") != 0 {
		t.Errorf("certificates from before the block: %d, %d alarms", blocked, alarms("D12"))
	}
	if _, blocked := sight(forge(w.key.Public(), w.key, alone, w.now().Add(time.Minute))); blocked != 1 || alarms("D12") != 1 {
		t.Errorf("the key came back: %d, %d alarms", blocked, alarms("D12"))
	}
}
