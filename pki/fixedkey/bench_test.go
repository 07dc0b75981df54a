package fixedkey

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
)

// BenchmarkCheckAll checks thousands of different signatures, one by one with the standard library and with tables, and in groups
// of 64 with narrow and wide tables.
func BenchmarkCheckAll(b *testing.B) {
	key := newKey(b, elliptic.P256())
	all := make([]Signed, 4096)
	for n := range all {
		message := make([]byte, 400) // as long as what a certificate signs
		if _, err := rand.Read(message); err != nil {
			b.Fatal(err)
		}
		all[n] = Signed{Algorithm: x509.ECDSAWithSHA256, Signed: message, Signature: sign(b, key, message)}
	}
	singly := func(check func(x509.SignatureAlgorithm, []byte, []byte) error) func(*testing.B, []Signed) {
		return func(b *testing.B, part []Signed) {
			for _, s := range part {
				if err := check(s.Algorithm, s.Signed, s.Signature); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	grouped := func(i *Issuer) func(*testing.B, []Signed) {
		return func(b *testing.B, part []Signed) {
			for _, err := range i.CheckAll(part) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	fixed, wide := issuer(key), issuer(key)
	wide.grouped.Store(wideAfter)
	fixed.widening.Store(true) // it stays narrow
	fixed.tables()
	wide.tables()
	for _, way := range []struct {
		name  string
		check func(*testing.B, []Signed)
	}{{"x509", singly(fixed.standard)}, {"one", singly(fixed.CheckSignature)}, {"narrow", grouped(fixed)}, {"wide", grouped(wide)}} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				way.check(b, all[n:n+64])
				n = (n + 64) % len(all)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/64, "µs/signature")
		})
	}
}

// BenchmarkTables is what making the tables of a key costs.
func BenchmarkTables(b *testing.B) {
	q := point(certificate(newKey(b, elliptic.P256())))
	for what, width := range map[string]int{"narrow": narrow, "wide": wide} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if tableOf(q, width) == nil {
					b.Fatal("no table")
				}
			}
		})
	}
}
