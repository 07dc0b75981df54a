package edge

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

var population = flag.Int("population", 100_000, "certificates of BenchmarkPopulation")

// populate publishes one base pack of n certificates, each with two answers as the house signs them but for the signatures,
// of which one is used again and again: an edge verifies none, and 20 million would take the better part of an hour.
func populate(b *testing.B, w *world, a *authority, n int) (sample []bulkhead.Serial) {
	b.Helper()
	keys := make([][16]byte, n)
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range keys {
		binary.BigEndian.PutUint64(keys[i][:], rng.Uint64()>>1|1<<62)
		binary.BigEndian.PutUint64(keys[i][8:], rng.Uint64())
	}
	slices.SortFunc(keys, func(x, y [16]byte) int { return bytes.Compare(x[:], y[:]) })
	sum := sha256.Sum256([]byte("any"))
	sig := must(ecdsa.SignASN1(rand.Reader, a.delegate, sum[:]))(b)
	f := must(os.Create(filepath.Join(b.TempDir(), "pack")))(b)
	defer f.Close()
	pw := must(pack.NewWriter(f, a.issuer))(b)
	r := must(pw.AddResponder(a.respCert.Raw))(b)
	now := w.clock()
	for i, k := range keys {
		s := must(bulkhead.SerialFromBytes(k[:]))(b)
		x := ocsp.Single{Serial: s, State: ocsp.Good, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(80 * time.Hour)}
		e := pack.Entry{Serial: s, Signature: sig, Signature256: sig, Responder: r, ThisUpdate: x.ThisUpdate, NextUpdate: x.NextUpdate}
		e.TBS = must(ocsp.BuildTBSFor(a.issuer, a.respHash, x.ThisUpdate, x, ocsp.SHA1))(b)
		e.TBS256 = must(ocsp.BuildTBSFor(a.issuer, a.respHash, x.ThisUpdate, x, ocsp.SHA256))(b)
		if err := pw.Add(e); err != nil {
			b.Fatal(err)
		}
		if i%(n/100+1) == 0 {
			sample = append(sample, s)
		}
	}
	ref := must(pw.Finish())(b)
	ref.Name = "packs/a/base"
	if err := w.dir.Put(b.Context(), publish.Object{Name: ref.Name, Body: f}); err != nil {
		b.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		b.Fatal(err)
	}
	w.issuer(a).Packs = []pack.ObjectRef{ref}
	return sample
}

// uncached gives what the machine has of a file in memory back, so that the next reader reads the disk.
func uncached(b *testing.B, path string) {
	b.Helper()
	f := must(os.Open(path))(b)
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

// readIndex reads the index of a pack once and does nothing with it.
func readIndex(b *testing.B, path string, n int) time.Duration {
	b.Helper()
	began := time.Now()
	f := must(os.Open(path))(b)
	defer f.Close()
	info := must(f.Stat())(b)
	// 28 octets for each certificate, from the offset in the trailer on: see pki/pack.
	var at [8]byte
	_ = must(f.ReadAt(at[:], info.Size()-136+8))(b)
	read := must(io.Copy(io.Discard, struct{ io.Reader }{io.NewSectionReader(f, int64(binary.BigEndian.Uint64(at[:])), int64(28*n))}))(b)
	if read != int64(28*n) {
		b.Fatalf("%d octets of an index of %d", read, 28*n)
	}
	return time.Since(began)
}

// resident is the memory of this process that no file can be asked for again, in octets.
func resident(b *testing.B) int64 {
	b.Helper()
	_, rest, _ := strings.Cut(string(must(os.ReadFile("/proc/self/status"))(b)), "RssAnon:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib << 10
}

// BenchmarkPopulation has an edge with a base of -population certificates.
//
// Start is how long it takes from its start to its first answer, against reading the packs' indexes from disk once, both with
// nothing in the page cache: see TestStartReadsTails. Visible is how long after the switch of
// the head it answers what one revocation changed, beyond its poll interval: the slowest of all.
//
//	go test ./edge -run NONE -bench Population -benchtime 5x -population 10000000 -timeout 1h
func BenchmarkPopulation(b *testing.B) {
	w := newWorld(b)
	a := newAuthority(b, "a", "A", newKey(b))
	sample := populate(b, w, a, *population)
	w.publish()
	cache := b.TempDir()
	use := func(c *Config) { c.CacheDir = cache }
	w.refreshed(use)
	b.Run("Start", func(b *testing.B) { benchmarkStart(b, w, a, sample, use) })
	b.Run("Visible", func(b *testing.B) { benchmarkVisible(b, w, a, sample, use) })
}

// state asks an edge for a certificate.
func state(b *testing.B, e *Edge, a *authority, s bulkhead.Serial) ocsp.State {
	b.Helper()
	rec := httptest.NewRecorder()
	e.serve(rec, httptest.NewRequest(http.MethodGet, getPath(must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, s)}, nil))(b)), nil))
	r, err := ocsp.ParseResponse(rec.Body.Bytes())
	if err != nil || len(r.Singles) == 0 {
		return ocsp.Unknown
	}
	return r.Singles[0].State
}

func benchmarkStart(b *testing.B, w *world, a *authority, sample []bulkhead.Serial, use func(*Config)) {
	path := must(w.dir.LocalPath("packs/a/base"))(b)
	var starts, reads []float64
	anon := resident(b)
	for i := range b.N {
		uncached(b, path)
		reads = append(reads, readIndex(b, path, *population).Seconds())
		uncached(b, path)
		began := time.Now()
		e := w.refreshed(use)
		if state(b, e, a, sample[i%len(sample)]) != ocsp.Good {
			b.Fatal("no answer")
		}
		starts = append(starts, time.Since(began).Seconds())
	}
	b.ReportMetric(median(starts)/median(reads), "x-reading-indexes")
	b.ReportMetric(median(starts)*1000, "ms-start")
	b.ReportMetric(median(reads)*1000, "ms-reading")
	b.ReportMetric(float64(resident(b)-anon)/float64(b.N)/(1<<20), "MiB-anonymous")
	b.ReportMetric(0, "ns/op")
}

func benchmarkVisible(b *testing.B, w *world, a *authority, sample []bulkhead.Serial, use func(*Config)) {
	e := w.edge(use)
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	go func() { done <- e.Run(ctx) }()
	for end := time.Now().Add(10 * time.Minute); state(b, e, a, sample[len(sample)-1]) != ocsp.Good; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("the edge does not serve")
		}
	}
	var took []float64
	for range b.N {
		s := sample[w.objects%(len(sample)-1)]
		x := w.revoked(1)
		x.serial = s
		w.add(a, x)
		w.publish()
		began := time.Now()
		for state(b, e, a, s) != ocsp.Revoked {
			if time.Since(began) > 5*time.Minute {
				b.Fatal("it is not visible")
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(began).Seconds())
	}
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
	slices.Sort(took)
	b.ReportMetric((took[len(took)-1]-DefaultPoll.Seconds())*1000, "ms-beyond-the-interval")
	b.ReportMetric(median(took)*1000, "ms-median")
	b.ReportMetric(0, "ns/op")
}
