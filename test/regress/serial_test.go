package regress

import (
	"crypto"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/pki/tlog"
)

func parseLeaf(leaf []byte) (bulkhead.Evidence, error) { return tlog.Parse(leaf) }

// TestUnassignedSerialIsNotRevoked: one peer accepted 250,000 revocations of serials that it had never issued, and its
// next CRL listed every one.
func TestUnassignedSerialIsNotRevoked(t *testing.T) {
	h := newHouse(t)
	p := h.issue(name(1))
	before, _ := h.crl(p)
	ghost := randomSerial(t)
	item := bulkhead.ChangeItem{CertificateRef: bulkhead.CertificateRef{Issuer: issuing, Serial: serialOf(t, ghost)}, Reason: bulkhead.Superseded, RevokedAt: h.now()}
	_, err := h.Status.RevokeCertificates(t.Context(), "operator:test", "a ghost", []bulkhead.ChangeItem{item})
	wantKind(t, err, bulkhead.KindNotFound)
	// Nor in the company of one that exists: nothing of such a change happens.
	_, err = h.Status.RevokeCertificates(t.Context(), "operator:test", "a ghost", []bulkhead.ChangeItem{item, {CertificateRef: p.CertificateRef, Reason: bulkhead.Superseded}})
	wantKind(t, err, bulkhead.KindNotFound)
	_, err = h.Status.RevokeCertificates(t.Context(), "operator:test", "another issuer's", []bulkhead.ChangeItem{
		{CertificateRef: bulkhead.CertificateRef{Issuer: other, Serial: p.Serial}, Reason: bulkhead.Superseded}})
	wantKind(t, err, bulkhead.KindNotFound)
	h.look()
	h.want(p, "good")
	if after, _ := h.crl(p); listed(after, ghost) || after.Number.Cmp(before.Number) != 0 {
		t.Errorf("CRL %s became %s", before.Number, after.Number)
	}
	changes, err := h.Status.Changes(t.Context(), 10)
	ok(t, err)
	if len(changes) != 0 {
		t.Errorf("the refused revocations left %d changes", len(changes))
	}
}

// TestNeverGoodForUnassigned: one peer signed "good" for a million random serials.
func TestNeverGoodForUnassigned(t *testing.T) {
	h := newHouse(t)
	h.serve()
	p := h.issue(name(1))
	h.want(p, "good")
	var ghost *big.Int
	for i := range 1000 {
		ghost = randomSerial(t)
		if i%2 == 0 { // a neighbour of one that exists
			ghost = new(big.Int).Add(p.leaf.SerialNumber, big.NewInt(int64(i+1)))
		}
		method := []string{http.MethodGet, http.MethodPost}[i/2%2]
		hash := []crypto.Hash{crypto.SHA1, crypto.SHA256}[i/4%2]
		r, res, err := h.ask(p.at(ghost), method, hash)
		if err == nil {
			t.Fatalf("status %d is signed for serial %x, which nobody assigned", r.Status, ghost)
		}
		if refused, is := err.(ocsp.ResponseError); !is || refused.Status != ocsp.Unauthorized || res.code != http.StatusOK || res.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("serial %x: %d, %v, %q", ghost, res.code, err, res.header.Get("Cache-Control"))
		}
	}
	// More questions at once than the edge keeps are counted and not each told: the last one is asked until it is heard.
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, _, _ = h.ask(p.at(ghost), http.MethodGet, crypto.SHA1)
		alarms, err := h.Store.Alarms(t.Context(), 2000)
		ok(t, err)
		for _, a := range alarms {
			if a.Detector == "D1" && strings.Contains(a.Key, serialOf(t, ghost).String()) {
				return
			}
			if strings.Contains(a.Key, p.Serial.String()) {
				t.Fatalf("an alarm for a serial that was issued: %+v", a)
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no alarm for the last unassigned serial among %d", len(alarms))
		}
	}
}
