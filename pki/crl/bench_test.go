package crl

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const million = 1_000_000

// BenchmarkWriteMillion reports how many times longer a CRL of a million entries takes than SHA-256 over the same octets,
// the median of neighbouring pairs: from its entry file, which is what the signer has of a shard, and from the entries.
func BenchmarkWriteMillion(b *testing.B) {
	p := newParty(b, ecKey(b, elliptic.P256()))
	list := numbered(million)
	der, in := makeCRL(b, p, p.info(), list...), encoded(b, list...)
	for name, f := range map[string]func(w io.Writer) error{
		"file": func(w io.Writer) error {
			_, err := WriteFile(w, p.info(), bytes.NewReader(in), int64(len(in)), p.sign)
			return err
		},
		"entries": func(w io.Writer) error { _, err := Write(w, p.info(), list, p.sign); return err },
	} {
		b.Run(name, func(b *testing.B) {
			out := bytes.NewBuffer(make([]byte, 0, len(der)+16))
			b.SetBytes(int64(len(der)))
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var ratios, cpu []float64
			for b.Loop() {
				out.Reset()
				start, used := time.Now(), threadTime(b)
				if err := f(out); err != nil {
					b.Fatal(err)
				}
				took, work := time.Since(start), threadTime(b)-used
				b.StopTimer()
				start, used = time.Now(), threadTime(b)
				sha256.Sum256(der)
				ratios, cpu = append(ratios, float64(took)/float64(time.Since(start))), append(cpu, float64(work)/float64(threadTime(b)-used))
				b.StartTimer()
			}
			slices.Sort(ratios)
			slices.Sort(cpu)
			b.ReportMetric(ratios[len(ratios)/2], "x-sha256")
			b.ReportMetric(cpu[len(cpu)/2], "cpu-x-sha256")
		})
	}
}

// threadTime is the processor time of this thread: on a busy machine it says more than the clock.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkParseMillion(b *testing.B) {
	p := newParty(b, ecKey(b, elliptic.P256()))
	der := makeCRL(b, p, p.info(), numbered(million)...)
	b.SetBytes(int64(len(der)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(der, func(Entry) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
