package status_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/headroom"
	"bulkhead/status"
)

var revocations = flag.Int("revocations", 10_000, "certificates of BenchmarkRevocation and TestVisible")

// plantAll plants n certificates of an authority. A transaction touches pages all over the indexes of serials and keys: the
// more certificates it has, the less is written for each.
func (h *house) plantAll(issuer bulkhead.AuthorityID, n int) []bulkhead.CertificateRef {
	h.t.Helper()
	shards := h.authority(issuer).Shards
	refs := make([]bulkhead.CertificateRef, 0, n)
	const chunk = 100_000
	for len(refs) < n {
		var reservations []bulkhead.Reservation
		var completions []bulkhead.Completion
		for range min(chunk, n-len(refs)) {
			i := h.serials.Add(1)
			sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
			sum[0] = sum[0]&0x3f | 0x40
			serial, err := bulkhead.SerialFromBytes(sum[:16])
			ok(h.t, err)
			ref := bulkhead.CertificateRef{Issuer: issuer, Serial: serial}
			digest := bulkhead.Digest(sum[:])
			ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now(), Actor: "test", Authority: issuer, Serial: serial, KeyHash: digest, Digest: digest}
			reservations = append(reservations, bulkhead.Reservation{Intent: ev, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, Profile: "tls-server",
				Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("h%d.test", i)}}, KeyHash: digest, NotBefore: h.now().Add(-time.Hour), NotAfter: h.now().Add(47 * day),
				Shard: int(sum[15]) % max(shards, 1), ReservedAt: h.now()}})
			ev.Kind, ev.Link = bulkhead.EvCertificateOutcome, digest
			completions = append(completions, bulkhead.Completion{CertificateRef: ref, DER: []byte("certificate"), Outcome: ev})
			refs = append(refs, ref)
		}
		_, errs, err := h.store.Reserve(h.t.Context(), reservations)
		ok(h.t, err)
		ok(h.t, errs[0])
		_, errs, err = h.store.Complete(h.t.Context(), completions)
		ok(h.t, err)
		ok(h.t, errs[0])
	}
	return refs
}

// rawSigning is how long n digests take to be signed on all processors, and nothing else.
func rawSigning(n int) time.Duration {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	began := time.Now()
	var g sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		g.Go(func() {
			var digest [32]byte
			for i := w; i < n; i += workers {
				binary.BigEndian.PutUint64(digest[:], uint64(i))
				if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
					panic(err)
				}
			}
		})
	}
	g.Wait()
	return time.Since(began)
}

// processorTime is what this process has used of all processors: less than the clock says a busy machine took.
func processorTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// forgetPeak has peakMemory count from now on.
func forgetPeak() {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil {
		panic(err)
	}
}

// peakMemory is the most that was resident, in octets.
func peakMemory() float64 {
	body, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(body), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		panic(err)
	}
	return float64(kib << 10)
}

// BenchmarkRevocation carries one change of -revocations certificates from its approval to an edge that answers, and prints
// how many times as long that took as signing one digest for each of them. Two answers are signed for each certificate,
// deterministically (decision 0042); the reference signs as Go does by itself. It
// also prints the ratio in time of processors, which other work on the machine does not change, and the most memory.
//
//	go test ./status -run NONE -bench Revocation -benchtime 1x -revocations 1000000 -timeout 2h
func BenchmarkRevocation(b *testing.B) {
	headroom.Keep(headroom.Room) // as the programs do; the reference has it too
	for range b.N {
		b.StopTimer()
		h := newHouse(b, func(p *status.Policy) { p.OnePerson = 1 })
		refs := h.plantAll(caA, *revocations)
		h.tick()
		c, err := h.status.Plan(b.Context(), "operator:anna", "speed", items(bulkhead.Superseded, refs...))
		ok(b, err)
		_, hash, err := h.status.Preview(b.Context(), c.ID)
		ok(b, err)
		ok(b, h.status.Approve(b.Context(), c.ID, hash, "request:1"))
		w := h.world()
		w.refresh()
		busy := processorTime()
		raw := rawSigning(len(refs))
		rawBusy := processorTime() - busy
		forgetPeak()
		b.StartTimer()
		began := time.Now()
		busy = processorTime()
		ok(b, h.status.Activate(b.Context(), c.ID))
		w.refresh()
		took := time.Since(began)
		b.StopTimer()
		busy = processorTime() - busy
		for _, i := range []int{0, len(refs) / 2, len(refs) - 1} {
			if got := w.ask(refs[i]); got.ocsp[0] == "good" || got.ocsp[0] != got.ocsp[1] || got.listed == "" {
				b.Fatalf("%s is %v", refs[i], got)
			}
		}
		b.ReportMetric(float64(took)/float64(raw), "x-raw-signing")
		b.ReportMetric(float64(busy)/float64(rawBusy), "x-raw-processor")
		b.ReportMetric(peakMemory()/(1<<20), "MiB-peak")
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(raw.Seconds(), "s-raw-signing")
	}
}
