package fixedkey

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCheckAll checks thousands of different signatures, one by one with the standard library and with tables, and in groups
// of 64 with narrow and wide tables, and prints the processor time of each way and what the standard library's is to it.
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
	fixed, wide := issuer(key), issuer(key)
	wide.grouped.Store(wideAfter)
	fixed.widening.Store(true) // it stays narrow
	fixed.tables()
	wide.tables()
	one := func(check func(x509.SignatureAlgorithm, []byte, []byte) error) func(part []Signed) []error {
		return func(part []Signed) (errs []error) {
			for _, s := range part {
				errs = append(errs, check(s.Algorithm, s.Signed, s.Signature))
			}
			return errs
		}
	}
	ways := []struct {
		name  string
		check func([]Signed) []error
		took  time.Duration
	}{{name: "x509", check: one(fixed.standard)}, {name: "one", check: one(fixed.CheckSignature)}, {name: "narrow", check: fixed.CheckAll}, {name: "wide", check: wide.CheckAll}}
	n := 0
	for b.Loop() {
		part := all[n:][:64]
		for k := range ways {
			before := processors(b)
			errs := ways[k].check(part)
			ways[k].took += processors(b) - before
			if err := errors.Join(errs...); err != nil {
				b.Fatal(err)
			}
		}
		n = (n + len(part)) % len(all)
	}
	for _, w := range ways {
		b.ReportMetric(float64(w.took.Nanoseconds())/1000/64/float64(b.N), w.name+"-µs")
		b.ReportMetric(float64(ways[0].took)/float64(w.took), "x509/"+w.name)
	}
}

// processors is the time that this process has had.
func processors(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTables is what making the tables of a key costs, in processor time and in verifications by the standard library.
func BenchmarkTables(b *testing.B) {
	key := newKey(b, elliptic.P256())
	q, cert, message := pointOf(key), certificate(key), []byte("message")
	signature := sign(b, key, message)
	took := map[string]time.Duration{}
	timed := func(what string, do func()) {
		before := processors(b)
		do()
		took[what] += processors(b) - before
	}
	for b.Loop() {
		for what, width := range map[string]int{"narrow": narrow, "wide": wide} {
			timed(what, func() {
				if tableOf(q, width) == nil {
					b.Fatal("no table")
				}
			})
		}
		timed("x509", func() {
			for range 100 {
				if err := cert.CheckSignature(x509.ECDSAWithSHA256, message, signature); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, what := range []string{"narrow", "wide"} {
		b.ReportMetric(float64(took[what].Microseconds())/1000/float64(b.N), what+"-ms")
		b.ReportMetric(100*float64(took[what])/float64(took["x509"]), what+"/x509")
	}
}
