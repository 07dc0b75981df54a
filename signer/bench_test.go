package signer_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
)

// spread runs n calls of f over 32 callers and returns calls per second.
func spread(n int, f func(i int)) float64 {
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		}()
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds()
}

// BenchmarkIssue32 issues from 32 callers over SQLite with fsync, and beside it, in the same run, does what no CA can do
// without: check the CSR and x509.CreateCertificate. It reports both rates, their ratio and commits per certificate.
func BenchmarkIssue32(b *testing.B) {
	h := newHouse(b)
	const orders = 64 // an order may be used more than once here: the signer reads its evidence each time all the same
	reqs := make([]bulkhead.CertificateRequest, orders)
	for i := range reqs {
		reqs[i] = h.request(fmt.Sprintf("n%d.example.test", i))
	}
	var commits atomic.Int64
	h.onCommit(func(_ string, commit func() error) error { commits.Add(1); return commit() })
	var p *profile.Profile
	for _, x := range profile.Builtin() {
		if x.Name == "tls-server" {
			p = x
		}
	}
	issuerKey, err := h.ring.Open(b.Context(), must(h.store.Authority(b.Context(), ecdsaCA)).KeyURI)
	ok(b, err)
	b.ResetTimer()
	issued := spread(b.N, func(i int) {
		if _, err := h.signer.Issue(context.Background(), reqs[i%orders]); err != nil {
			b.Error(err)
		}
	})
	b.StopTimer()
	bare := spread(b.N, func(i int) {
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
	})
	b.ReportMetric(issued, "certs/s")
	b.ReportMetric(bare, "bare/s")
	b.ReportMetric(issued/bare, "ratio")
	b.ReportMetric(float64(commits.Load())/float64(b.N), "commits/cert")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
