package edge

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// sink is a ResponseWriter that keeps nothing, so that what is counted is ours.
type sink struct {
	h    http.Header
	n    int
	code int
}

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }
func (s *sink) WriteHeader(code int)        { s.code = code }

type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// TestAllocations: a request costs no allocation of ours, whatever its form and outcome. (The blocks from which ETag
// texts are cut count as one allocation in 256 requests.)
func TestAllocations(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	var answers []answer
	for n := range int64(50) {
		answers = append(answers, w.good(n+1))
	}
	w.add(a, answers...)
	w.add(a, w.revoked(7))
	w.publish()
	e := w.refreshed()
	etag := func() string {
		rec := httptest.NewRecorder()
		e.serve(rec, httptest.NewRequest(http.MethodGet, getPath(a.request(t, ocsp.SHA1, 9)), nil))
		return rec.Header().Get("ETag")
	}()
	s := &sink{h: http.Header{}}
	for name, c := range map[string]struct {
		method, target string
		body           []byte
		match          string
		code           int
	}{
		"GET":            {"GET", getPath(a.request(t, ocsp.SHA1, 9)), nil, "", 0},
		"GET revoked":    {"GET", getPath(a.request(t, ocsp.SHA256, 7)), nil, "", 0},
		"HEAD":           {"HEAD", getPath(a.request(t, ocsp.SHA1, 9)), nil, "", 0},
		"GET 304":        {"GET", getPath(a.request(t, ocsp.SHA1, 9)), nil, etag, 304},
		"POST":           {"POST", "/ocsp/", a.request(t, ocsp.SHA1, 9), "", 0},
		"GET unassigned": {"GET", getPath(a.request(t, ocsp.SHA1, 999)), nil, "", 0},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		if c.match != "" {
			r.Header.Set("If-None-Match", c.match)
		}
		rd := body{bytes.NewReader(c.body)}
		n := testing.AllocsPerRun(2000, func() {
			rd.Reset(c.body)
			r.Body, r.ContentLength = rd, int64(len(c.body))
			s.code, s.n = 0, 0
			clear(s.h)
			e.serve(s, r)
		})
		if n > spareAllocations {
			t.Errorf("%s: %v allocations", name, n)
		}
		if s.code != c.code {
			t.Errorf("%s: HTTP %d", name, s.code)
		}
	}
}

// bigPack holds n answers with real response data and one signature used again: the edge verifies none, and n
// signatures would take minutes.
func bigPack(b *testing.B, w *world, a *authority, n int) (serials []bulkhead.Serial) {
	b.Helper()
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for range n {
		var k [16]byte
		binary.BigEndian.PutUint64(k[:], rng.Uint64()>>1|1<<62)
		binary.BigEndian.PutUint64(k[8:], rng.Uint64())
		serials = append(serials, must(bulkhead.SerialFromBytes(k[:]))(b))
	}
	slices.SortFunc(serials, bulkhead.Serial.Compare)
	sum := sha256.Sum256([]byte("any"))
	sig := must(ecdsa.SignASN1(rand.Reader, a.delegate, sum[:]))(b)
	var buf bytes.Buffer
	pw := must(pack.NewWriter(&buf, a.issuer))(b)
	r := must(pw.AddResponder(a.respCert.Raw))(b)
	now := w.clock()
	for i, s := range serials {
		x := ocsp.Single{Serial: s, State: ocsp.Good, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(80 * time.Hour)}
		if i%10 == 0 {
			x.State, x.RevokedAt = ocsp.Revoked, now.Add(-2*time.Hour)
		}
		tbs := must(ocsp.BuildTBSFor(a.issuer, a.respHash, x.ThisUpdate, x, ocsp.SHA1))(b)
		if err := pw.Add(pack.Entry{Serial: s, TBS: tbs, Signature: sig, Responder: r, ThisUpdate: x.ThisUpdate, NextUpdate: x.NextUpdate, Revoked: i%10 == 0}); err != nil {
			b.Fatal(err)
		}
	}
	ref := mustFinish(b, pw, &buf)
	ref.Name = "packs/a/big"
	if err := w.dir.Put(b.Context(), publish.Object{Name: ref.Name, Body: bytes.NewReader(buf.Bytes())}); err != nil {
		b.Fatal(err)
	}
	w.issuer(a).Packs = []pack.ObjectRef{ref}
	return serials
}

// result of one round: requests a second, 99th percentile, and CPU microseconds a request of client and server.
type result struct{ rate, p99, cpu float64 }

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load runs requests over keep-alive connections until d has passed.
func load(b *testing.B, addr string, requests [][]byte, conns int, d time.Duration) result {
	b.Helper()
	cpu := cpuTime(b)
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for c := range conns {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			rd := bufio.NewReaderSize(conn, 8<<10)
			var took []time.Duration
			for i := c * 7919; time.Since(start) < d; i++ {
				t0 := time.Now()
				if _, err := conn.Write(requests[i%len(requests)]); err != nil {
					b.Error(err)
					return
				}
				if err := skipResponse(rd); err != nil {
					b.Error(err)
					return
				}
				took = append(took, time.Since(t0))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if len(all) == 0 {
		b.Fatal("no request was answered")
	}
	slices.Sort(all)
	n := float64(len(all))
	return result{rate: n / elapsed.Seconds(), p99: float64(all[len(all)*99/100].Microseconds()), cpu: float64((cpuTime(b) - cpu).Microseconds()) / n}
}

// skipResponse reads one response and is as cheap as may be: the client shares the cores.
func skipResponse(rd *bufio.Reader) error {
	line, err := rd.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("response %q", line)
	}
	length := 0
	for {
		line, err := rd.ReadSlice('\n')
		if err != nil {
			return err
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
	}
	if length == 0 {
		return io.ErrUnexpectedEOF
	}
	_, err = rd.Discard(length)
	return err
}

// BenchmarkServe compares the edge with a bare net/http handler that writes a fixed body of 300 octets under the same
// headers, in short alternating rounds on the same machine, client included. The figures: median requests a second, the
// medians of the ratios of neighbouring rounds (rate, p99, CPU of client and server), and heap octets for each certificate.
func BenchmarkServe(b *testing.B) {
	const certificates, conns, rounds, round = 1_000_000, 32, 15, 300 * time.Millisecond
	var before, after runtime.MemStats
	w := newWorld(b)
	a := newAuthority(b, "a", "A", newKey(b))
	serials := bigPack(b, w, a, certificates)
	w.publish()
	runtime.GC()
	runtime.ReadMemStats(&before)
	e := w.refreshed()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("heap per certificate: %.2f octets", (float64(after.HeapAlloc)-float64(before.HeapAlloc))/certificates)
	edge := serve(b, e)

	size := len(e.askFor(b, must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, serials[1])}, nil))(b)))
	bare, sameSize := bareServer(b, w, 300), bareServer(b, w, size)

	rng := mathrand.New(mathrand.NewPCG(3, 4))
	gets, posts := make([][]byte, 100_000), make([][]byte, 100_000)
	for i := range gets {
		s := serials[rng.IntN(len(serials))]
		der := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, s)}, nil))(b)
		gets[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: status.test\r\n\r\n", getPath(der))
		posts[i] = fmt.Appendf(nil, "POST /ocsp/ HTTP/1.1\r\nHost: status.test\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n%s", len(der), der)
	}
	for name, requests := range map[string][][]byte{"GET": gets, "POST": posts} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var rate, ref, ratio, ratio99, cpu, same []float64
				for range rounds {
					q := load(b, sameSize.Listener.Addr().String(), requests, conns, round)
					r := load(b, bare.Listener.Addr().String(), requests, conns, round)
					o := load(b, edge.Listener.Addr().String(), requests, conns, round)
					rate, ref, ratio = append(rate, o.rate), append(ref, r.rate), append(ratio, o.rate/r.rate)
					ratio99, cpu, same = append(ratio99, o.p99/r.p99), append(cpu, o.cpu/r.cpu), append(same, o.cpu/q.cpu)
				}
				b.ReportMetric(median(rate), "req/s")
				b.ReportMetric(median(ref), "bare-req/s")
				b.ReportMetric(median(ratio), "x-bare")
				b.ReportMetric(median(ratio99), "p99-x-bare")
				b.ReportMetric(median(cpu), "cpu-x-bare")
				b.ReportMetric(median(same), "cpu-x-bare-same-size")
			}
		})
	}
}

// bareServer is the reference: a handler that writes a fixed body under the headers of an OCSP answer.
func bareServer(b *testing.B, w *world, size int) *httptest.Server {
	b.Helper()
	fixed := bytes.Repeat([]byte{0x30}, size)
	values := map[string][]string{"Content-Type": typeOCSP, "Etag": {`"0123456789abcdef0123456789abcdef"`}, "Last-Modified": {httpTime(w.clock())},
		"Expires": {httpTime(w.clock())}, "Cache-Control": {"public, max-age=287998, no-transform, must-revalidate"}}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		for k, v := range values {
			h[k] = v
		}
		_, _ = rw.Write(fixed)
	}))
	b.Cleanup(srv.Close)
	return srv
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkHandler is what a request costs between net/http's call and its return.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b)
	a := newAuthority(b, "a", "A", newKey(b))
	serials := bigPack(b, w, a, 200_000)
	w.publish()
	e := w.refreshed()
	var gets []*http.Request
	var bodies [][]byte
	for i := range 20_000 {
		der := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, serials[i*10%len(serials)])}, nil))(b)
		bodies = append(bodies, der)
		gets = append(gets, httptest.NewRequest(http.MethodGet, getPath(der), nil))
	}
	s := &sink{h: http.Header{}}
	b.Run("GET", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			clear(s.h)
			e.serve(s, gets[i%len(gets)])
		}
	})
	b.Run("POST", func(b *testing.B) {
		post := httptest.NewRequest(http.MethodPost, "/ocsp/", nil)
		rd := body{bytes.NewReader(nil)}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			clear(s.h)
			rd.Reset(bodies[i%len(bodies)])
			post.Body, post.ContentLength = rd, int64(len(bodies[i%len(bodies)]))
			e.serve(s, post)
		}
	})
}
