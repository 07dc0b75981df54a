package signer_test

import (
	"crypto/sha256"
	"flag"
	"testing"
	"time"

	"bulkhead"
)

var crlEntries = flag.Int("crl-entries", 20_000, "entries of the lists of BenchmarkSignCRL")

// BenchmarkSignCRL signs the CRL of one shard as status has it signed: at its turn, read from the record, and for a change of one
// certificate, from the list before it. It prints how many times longer each takes than SHA-256 over the same octets.
//
//	go test ./signer -run NONE -bench SignCRL -benchtime 10x -crl-entries 1000000 -timeout 1h
func BenchmarkSignCRL(b *testing.B) {
	h := newHouse(b)
	var items []bulkhead.ChangeItem
	at := h.now().UTC().Truncate(time.Second)
	for len(items) < *crlEntries {
		for _, ref := range h.plantMany(min(50_000, *crlEntries-len(items))) {
			items = append(items, bulkhead.ChangeItem{CertificateRef: ref, Reason: bulkhead.KeyCompromise, RevokedAt: at})
		}
	}
	h.revoke("all", items...)
	var one []bulkhead.ChangeItem
	for _, ref := range h.plantMany(1) {
		one = append(one, bulkhead.ChangeItem{CertificateRef: ref, Reason: bulkhead.Superseded, RevokedAt: at})
	}
	h.change("one", bulkhead.ChangeApproved, one...)
	number := int64(0)
	for _, c := range []struct{ name, change string }{{"turn", ""}, {"change", "one"}} {
		b.Run(c.name, func(b *testing.B) {
			var took, reference time.Duration
			der := make(octets, 0, 64**crlEntries+1024)
			for range b.N {
				number++
				der = der[:0]
				began := time.Now()
				_, err := h.signer.SignCRL(b.Context(), bulkhead.CRLRequest{Authority: ecdsaCA, Number: number, Change: c.change, ThisUpdate: h.now(), NextUpdate: h.now().Add(7 * dayTime), Object: "crls/test"}, &der)
				ok(b, err)
				took += time.Since(began)
				b.StopTimer()
				began = time.Now()
				_ = sha256.Sum256(der)
				reference += time.Since(began)
				b.StartTimer()
			}
			b.ReportMetric(float64(took)/float64(reference), "x-sha256")
			b.ReportMetric(took.Seconds()/float64(b.N), "s/list")
		})
	}
}

type octets []byte

func (o *octets) Write(p []byte) (int, error) { *o = append(*o, p...); return len(p), nil }

// plantMany adds issued certificates of shard 0.
func (h *house) plantMany(n int) []bulkhead.CertificateRef {
	rows := make([]bulkhead.Certificate, n)
	refs := make([]bulkhead.CertificateRef, n)
	for i := range rows {
		refs[i] = bulkhead.CertificateRef{Issuer: ecdsaCA, Serial: h.serial()}
		rows[i] = bulkhead.Certificate{CertificateRef: refs[i], KeyHash: bulkhead.Digest([]byte(refs[i].Serial.String())), NotAfter: h.now().Add(47 * dayTime),
			Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: refs[i].Serial.String() + ".test"}}}
	}
	h.plant(rows)
	return refs
}

// plant makes rows issued, each with its leaves.
func (h *house) plant(rows []bulkhead.Certificate) {
	var reservations []bulkhead.Reservation
	var completions []bulkhead.Completion
	for _, row := range rows {
		row.Kind, row.State, row.Profile, row.NotBefore, row.ReservedAt = bulkhead.LeafCertificate, bulkhead.Reserved, "tls-server", h.now().Add(-time.Hour), h.now()
		ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now(), Actor: "test", Authority: row.Issuer, Serial: row.Serial, KeyHash: row.KeyHash}
		reservations = append(reservations, bulkhead.Reservation{Intent: ev, Certificate: row})
		ev.Kind = bulkhead.EvCertificateOutcome
		completions = append(completions, bulkhead.Completion{CertificateRef: row.CertificateRef, DER: []byte("certificate"), Outcome: ev})
	}
	_, errs, err := h.store.Reserve(h.t.Context(), reservations)
	ok(h.t, err)
	ok(h.t, errs[0])
	_, errs, err = h.store.Complete(h.t.Context(), completions)
	ok(h.t, err)
	ok(h.t, errs[0])
}
