package crl

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"testing"
	"time"
)

const million = 1_000_000

// BenchmarkWriteMillion reports, beside the time, how many times longer it takes than SHA-256 over the same octets; with
// the encoded entries kept, and streamed in three passes.
func BenchmarkWriteMillion(b *testing.B) {
	p := newParty(b, ecKey(b, elliptic.P256()))
	list := make([]Entry, 0, million)
	for e := range numbered(million)() {
		list = append(list, e)
	}
	der := makeCRL(b, p, p.info(), of(list...))
	for name, keep := range map[string]int64{"kept": keepLimit, "streamed": 0} {
		b.Run(name, func(b *testing.B) {
			out := bytes.NewBuffer(make([]byte, 0, len(der)+16))
			b.SetBytes(int64(len(der)))
			b.ReportAllocs()
			var hashing time.Duration
			for b.Loop() {
				out.Reset()
				if _, err := write(out, p.info(), of(list...), p.signAny, keep); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				start := time.Now()
				sha256.Sum256(der)
				hashing += time.Since(start)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(hashing), "x-sha256")
		})
	}
}

func BenchmarkParseMillion(b *testing.B) {
	p := newParty(b, ecKey(b, elliptic.P256()))
	der := makeCRL(b, p, p.info(), numbered(million))
	b.SetBytes(int64(len(der)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(der, func(Entry) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
