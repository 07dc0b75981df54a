package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"bulkhead/headroom"
	"bulkhead/pki/ocsp"
	"bulkhead/publish"
)

// The servers of BenchmarkServe are processes of their own, so that what they cost can be told from what the clients
// cost: this test binary, with serverEnv set to what it is to serve.
const serverEnv = "BULKHEAD_BENCH_SERVER"

func TestMain(m *testing.M) {
	if task := os.Getenv(serverEnv); task != "" {
		if err := serveTask(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// task says what a server serves: the published directory, or a fixed body.
type task struct {
	Dir, Verifier string
	Now           time.Time
	Size          int
}

// usage is what a server says of itself.
type usage struct {
	CPU  time.Duration
	Heap uint64 // after a collection
}

// serveTask prints its address, then one usage for each line it is sent, and ends with its standard input.
func serveTask(text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	handler, err := t.handler()
	if err != nil {
		return err
	}
	if t.Dir != "" {
		headroom.Keep(headroom.Room) // as the programs do
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with the process
	fmt.Println(l.Addr())
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			return err
		}
		x := usage{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano())}
		if in.Text() == "heap" {
			var after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&after)
			x.Heap = after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
		}
		if err := out.Encode(x); err != nil {
			return err
		}
	}
	return in.Err()
}

func (t task) handler() (http.Handler, error) {
	if t.Dir == "" {
		return bareHandler(t.Size, t.Now), nil
	}
	dir, err := publish.NewDir(t.Dir)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(t.Verifier)
	if err != nil {
		return nil, err
	}
	e, err := New(Config{Source: dir, HeadVerifier: verifier, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if err := e.Refresh(context.Background()); err != nil {
		return nil, err
	}
	go func() { _ = e.Run(context.Background()) }() // as the programs do; ends with the process
	return e.Handler(), nil
}

// bareHandler is the reference: it writes a fixed body under the headers of an OCSP answer.
func bareHandler(size int, now time.Time) http.Handler {
	fixed := bytes.Repeat([]byte{0x30}, size)
	values := map[string][]string{"Content-Type": typeOCSP, "Etag": {`"0123456789abcdef0123456789abcdef"`}, "Last-Modified": {httpTime(now)},
		"Expires": {httpTime(now)}, "Cache-Control": {"public, max-age=287998, no-transform, must-revalidate"}}
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		h := rw.Header()
		for k, v := range values {
			h[k] = v
		}
		_, _ = rw.Write(fixed)
	})
}

// server is a process of ours with 32 connections to it.
type server struct {
	addr  string
	in    io.WriteCloser
	out   *bufio.Reader
	conns []net.Conn
	reads []*bufio.Reader
}

const conns = 32

func startServer(b *testing.B, t task) *server {
	b.Helper()
	cmd := exec.Command(must(os.Executable())(b), "-test.run=^$")
	cmd.Env = append(os.Environ(), serverEnv+"="+string(must(json.Marshal(t))(b)))
	cmd.Stderr = os.Stderr
	in := must(cmd.StdinPipe())(b)
	out := must(cmd.StdoutPipe())(b)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	s := &server{in: in, out: bufio.NewReader(out)}
	b.Cleanup(func() {
		for _, c := range s.conns {
			c.Close()
		}
		in.Close()
		_ = cmd.Wait() // it ends with its standard input
	})
	s.addr = strings.TrimSpace(must(s.out.ReadString('\n'))(b))
	for range conns {
		c := must(net.Dial("tcp", s.addr))(b)
		s.conns, s.reads = append(s.conns, c), append(s.reads, bufio.NewReaderSize(c, 8<<10))
	}
	return s
}

func (s *server) usage(b *testing.B, what string) (u usage) {
	b.Helper()
	if _, err := io.WriteString(s.in, what+"\n"); err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(must(s.out.ReadBytes('\n'))(b), &u); err != nil {
		b.Fatal(err)
	}
	return u
}

// result of one round: requests a second, 99th percentile in microseconds, and CPU microseconds of the server per request.
type result struct{ rate, p99, cpu float64 }

// load asks over all connections until d has passed.
func (s *server) load(b *testing.B, requests [][]byte, d time.Duration) result {
	b.Helper()
	cpu := s.usage(b, "cpu").CPU
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for c := range conns {
		wg.Go(func() {
			var took []time.Duration
			for i := mathrand.IntN(len(requests)); time.Since(start) < d; i++ {
				t0 := time.Now()
				if _, err := s.conns[c].Write(requests[i%len(requests)]); err != nil {
					b.Error(err)
					return
				}
				if err := skipResponse(s.reads[c]); err != nil {
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
	return result{rate: n / elapsed.Seconds(), p99: float64(all[len(all)*99/100].Microseconds()), cpu: float64((s.usage(b, "cpu").CPU - cpu).Nanoseconds()) / 1000 / n}
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

// BenchmarkServe compares the edge, with the room that the programs give the collector, with a bare net/http handler of
// Go's defaults that writes a fixed body of 300 octets under the same headers: a process each, 1 M certificates, random
// serials, 32 keep-alive connections, short alternating rounds. The figures: median requests a second, and medians of the
// ratios of neighbouring rounds (rate, p99, the server's CPU per request); the same against a bare handler whose body is as
// long as our answers; heap of the edge for each certificate.
func BenchmarkServe(b *testing.B) {
	const certificates, rounds, round = 1_000_000, 25, 200 * time.Millisecond
	w := newWorld(b)
	a := newAuthority(b, "a", "A", newKey(b))
	serials := bigPack(b, w, a, certificates)
	w.publish()
	size := len(w.refreshed().askFor(b, must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, serials[1])}, nil))(b)))
	edge := startServer(b, task{Dir: w.root, Verifier: w.vkey})
	bare, sameSize := startServer(b, task{Size: 300, Now: w.clock()}), startServer(b, task{Size: size, Now: w.clock()})
	b.Logf("an answer has %d octets; heap per certificate: %.2f octets", size, float64(edge.usage(b, "heap").Heap)/certificates)

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
				var rate, ref, x, p99, cpu, xs, cpus []float64
				for range rounds {
					r, o, q := bare.load(b, requests, round), edge.load(b, requests, round), sameSize.load(b, requests, round)
					rate, ref = append(rate, o.rate), append(ref, r.rate)
					x, p99, cpu = append(x, o.rate/r.rate), append(p99, o.p99/r.p99), append(cpu, o.cpu/r.cpu)
					xs, cpus = append(xs, o.rate/q.rate), append(cpus, o.cpu/q.cpu)
				}
				b.ReportMetric(median(rate), "req/s")
				b.ReportMetric(median(ref), "bare-req/s")
				b.ReportMetric(median(x), "x-bare")
				b.ReportMetric(median(p99), "p99-x-bare")
				b.ReportMetric(median(cpu), "cpu-x-bare")
				b.ReportMetric(median(xs), "x-same-size")
				b.ReportMetric(median(cpus), "cpu-x-same-size")
			}
		})
	}
}
