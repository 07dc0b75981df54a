package signer_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/headroom"
	"bulkhead/pki/profile"
)

// effort is wall and processor time.
type effort struct{ wall, cpu time.Duration }

// spread runs n calls of f over 32 callers and adds what they took.
func (e *effort) spread(n int, f func(i int)) {
	var next atomic.Int64
	wall, cpu := time.Now(), processor()
	together(32, func(int) {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	})
	e.wall += time.Since(wall)
	e.cpu += processor() - cpu
}

// processor is the time that this process has used so far.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIssue32 issues from 32 callers over SQLite with fsync, and beside it, in the same run, does what no CA can do
// without: check the CSR and x509.CreateCertificate. Rounds alternate, so that a busy machine slows both. It reports both
// rates, their ratio, processor time for each, and commits per certificate.
func BenchmarkIssue32(b *testing.B) {
	headroom.Keep(headroom.Room) // as the programs do; the reference has it too
	h := newHouse(b)
	const orders = 64 // an order may be used more than once here: the signer reads its evidence each time all the same
	reqs := make([]bulkhead.CertificateRequest, orders)
	for i := range reqs {
		reqs[i] = h.request(fmt.Sprintf("n%d.example.test", i))
	}
	var p *profile.Profile
	for _, x := range profile.Builtin() {
		if x.Name == "tls-server" {
			p = x
		}
	}
	issuerKey, err := h.ring.Open(b.Context(), must(h.store.Authority(b.Context(), ecdsaCA)).KeyURI)
	ok(b, err)
	issue := func(i int) {
		if _, err := h.signer.Issue(context.Background(), reqs[i%orders]); err != nil {
			b.Error(err)
		}
	}
	plain := func(i int) {
		req := reqs[i%orders]
		csr, err := x509.ParseCertificateRequest(req.CSR)
		if err == nil {
			err = csr.CheckSignature()
		}
		var serial [16]byte
		rand.Read(serial[:])
		serial[0] = 1
		tmpl := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial[:]), DNSNames: []string{req.Names[0].Value}, NotBefore: time.Now(),
			NotAfter: time.Now().Add(p.Validity), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: p.EKUs, BasicConstraintsValid: true}
		if err == nil {
			_, err = x509.CreateCertificate(rand.Reader, tmpl, h.certs[ecdsaCA], csr.PublicKey, issuerKey)
		}
		if err != nil {
			b.Error(err)
		}
	}
	issue(0) // keys are opened and the throw-away key is made
	before, _ := h.store.Commits()
	var issued, bare effort
	b.ResetTimer()
	for left := b.N; left > 0; left -= 500 {
		issued.spread(min(left, 500), issue)
		b.StopTimer()
		bare.spread(min(left, 500), plain)
		b.StartTimer()
	}
	n := float64(b.N)
	b.ReportMetric(n/issued.wall.Seconds(), "certs/s")
	b.ReportMetric(n/bare.wall.Seconds(), "bare/s")
	b.ReportMetric(float64(bare.wall)/float64(issued.wall), "ratio")
	b.ReportMetric(issued.cpu.Seconds()*1e6/n, "cpu-us/cert")
	b.ReportMetric(bare.cpu.Seconds()*1e6/n, "bare-cpu-us")
	after, _ := h.store.Commits()
	b.ReportMetric(float64(after-before)/n, "commits/cert")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
