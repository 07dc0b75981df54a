//go:build pkcs11

package pkcs11

import (
	"crypto"
	"crypto/sha256"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

// BenchmarkSignRatio signs through the ring's signer and, in the same run, with nothing but the library's own calls in
// sessions that are open and logged in, the key's handle known. "ratio" is the share of the token's own rate; 0.8 is wanted.
func BenchmarkSignRatio(b *testing.B) {
	for _, alg := range []string{"p256", "rsa2048"} {
		b.Run(alg, func(b *testing.B) { signRatio(b, alg) })
	}
}

func signRatio(b *testing.B, alg string) {
	tok, _ := soft(b, "bench")
	_, s, err := tok.Generate("bench", alg)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	mechanism, input := uint(pkcs11.CKM_ECDSA), digest[:]
	if alg == "rsa2048" {
		mechanism, input = pkcs11.CKM_RSA_PKCS, append(append([]byte{}, digestInfo[crypto.SHA256]...), digest[:]...)
	}
	workers := runtime.GOMAXPROCS(0)
	raw := make([]func() error, workers)
	for i := range raw {
		sess, err := tok.session()
		if err != nil {
			b.Fatal(err)
		}
		key, err := tok.privateKey(sess, "bench")
		if err != nil {
			b.Fatal(err)
		}
		raw[i] = func() error {
			if err := tok.ctx.SignInit(sess, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
				return err
			}
			_, err := tok.ctx.Sign(sess, input)
			return err
		}
	}
	ours := func() error {
		_, err := s.Sign(nil, digest[:], crypto.SHA256)
		return err
	}
	// Turns of a few signatures each, one after the other: what disturbs the machine disturbs both.
	const turn = 64
	var direct, through time.Duration
	n := 0
	for b.Loop() {
		direct += together(b, workers, turn, func(i int) func() error { return raw[i] })
		through += together(b, workers, turn, func(int) func() error { return ours })
		n += turn * workers
	}
	b.ReportMetric(float64(n)/direct.Seconds(), "raw/s")
	b.ReportMetric(float64(n)/through.Seconds(), "sign/s")
	b.ReportMetric(direct.Seconds()/through.Seconds(), "ratio")
}

// together has all workers call n times and says how long the slowest took.
func together(b *testing.B, workers, n int, call func(int) func() error) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	start := time.Now()
	for i := range workers {
		f := call(i)
		wg.Go(func() {
			for range n {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
