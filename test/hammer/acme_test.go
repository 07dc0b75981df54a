package hammer

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	rounds   = 6               // for each of the two
	length   = 3 * time.Second // of a round
	clients  = 4               // beside Pebble, which deadlocks with many more
	keysEach = 256             // keys of certificates that a client has
)

// BenchmarkACME measures orders of one name over http-01, ours and Pebble's in turns, and then ours alone by the number
// of clients. What an order costs the client (with the DNS and web servers that both are shown) is spent on the same
// processors: with it "bound" says what a server would reach that never waits, and as a ratio to Pebble, what one would
// reach that costs nothing.
func BenchmarkACME(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the client's garbage is nobody's subject
	web := newInternet(b)
	ours, theirs := newField(b, web, startBulkhead(b, web)), newField(b, web, startPebble(b, web))
	for range b.N {
		ours.round(b, clients, length/6)
		theirs.round(b, clients, length/6)
		var a, p []result
		for range rounds {
			a, p = append(a, ours.round(b, clients, length)), append(p, theirs.round(b, clients, length))
		}
		us, them := sum(a), sum(p)
		b.Logf("load %s", load())
		b.Logf("bulkhead, %d clients: %s", clients, us)
		b.Logf("Pebble, %d clients: %s", clients, them)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(us.rate, "certs/s")
		b.ReportMetric(them.rate, "pebble-certs/s")
		b.ReportMetric(us.rate/them.rate, "x-pebble")
		b.ReportMetric(us.quantile(0.5), "p50-ms")
		b.ReportMetric(us.quantile(0.99), "p99-ms")
		b.ReportMetric(them.quantile(0.5), "pebble-p50-ms")
		b.ReportMetric(them.quantile(0.99), "pebble-p99-ms")
		b.ReportMetric(us.cpuEach(), "cpu-us/cert")
		b.ReportMetric(them.cpuEach(), "pebble-cpu-us/cert")
		b.ReportMetric(us.clientEach(), "client-cpu-us/cert")
		b.ReportMetric(us.bound(), "bound-certs/s")
		b.ReportMetric(us.bound()/them.rate, "bound-x-pebble")
		b.Logf("on %d processors: %.0f/s if bulkhead never waited, %.0f/s if it cost nothing, %.0f/s if Pebble never waited", runtime.NumCPU(),
			us.bound(), perSecond(us.clientEach()), them.bound())
		for _, n := range []int{1, 4, 16, 32} {
			r := ours.round(b, n, length*2/3)
			b.Logf("bulkhead, %d clients: %s", n, r)
			b.ReportMetric(r.rate, fmt.Sprintf("certs/s-%d", n))
		}
		b.Logf("load %s", load())
	}
}

// field is a server with its accounts.
type field struct {
	*server
	web   *internet
	accts []*subscriber
	names int
}

func newField(b *testing.B, web *internet, s *server) *field {
	b.Helper()
	f := &field{server: s, web: web}
	for range 32 {
		keys := make([]certKey, keysEach)
		for i := range keys {
			var err error
			keys[i], err = newCertKey()
			ok(b, err)
		}
		a, err := newSubscriber(newWire(s.roots), s.directory, web, keys)
		if err != nil {
			b.Fatalf("%s: %v\n%s", s.name, err, s.tail())
		}
		f.accts = append(f.accts, a)
	}
	return f
}

// result is what one or several rounds gave.
type result struct {
	rate   float64       // certificates a second
	cpu    time.Duration // of the server
	client time.Duration // CPU of this process: clients, DNS server and web server
	taken  []taken
}

// round lets n clients obtain certificates one after the other, each ending the order it is at when time is up.
func (f *field) round(b *testing.B, n int, d time.Duration) result {
	b.Helper()
	var mu sync.Mutex
	var r result
	var failed error
	var wg sync.WaitGroup
	fetched, cpu, client, start := f.web.fetched.Load(), f.cpu(b), ownCPU(b), time.Now()
	f.names++
	for i, a := range f.accts[:n] {
		wg.Go(func() {
			var mine []taken
			var err error
			for k := 0; err == nil && time.Since(start) < d; k++ {
				var t taken
				if t, err = a.obtain(fmt.Sprintf("h%d-%d-%d.example.com", f.names, i, k)); err == nil {
					mine = append(mine, t)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			r.taken, failed = append(r.taken, mine...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		b.Fatalf("%s: %v\n%s", f.name, failed, f.tail())
	}
	r.rate, r.cpu, r.client = float64(len(r.taken))/time.Since(start).Seconds(), f.cpu(b)-cpu, ownCPU(b)-client
	if got := int(f.web.fetched.Load() - fetched); got < len(r.taken) {
		b.Fatalf("%s: %d certificates for %d answers fetched", f.name, len(r.taken), got)
	}
	for i, t := range r.taken {
		if err := covers(t.chain, t.name); err != nil {
			b.Fatalf("%s: %v", f.name, err)
		}
		r.taken[i].chain = nil
	}
	return r
}

// sum joins rounds; the rate is their median.
func sum(rounds []result) result {
	var out result
	var rates []float64
	for _, r := range rounds {
		rates = append(rates, r.rate)
		out.cpu += r.cpu
		out.client += r.client
		out.taken = append(out.taken, r.taken...)
	}
	slices.Sort(rates)
	out.rate = (rates[(len(rates)-1)/2] + rates[len(rates)/2]) / 2
	return out
}

// quantile of how long an order took, in milliseconds.
func (r result) quantile(q float64) float64 {
	all := make([]time.Duration, len(r.taken))
	for i, t := range r.taken {
		all[i] = t.total
	}
	slices.Sort(all)
	return milli(all[int(q*float64(len(all)-1))])
}

// cpuEach is the server's microseconds for a certificate.
func (r result) cpuEach() float64 { return float64(r.cpu.Microseconds()) / float64(len(r.taken)) }

// clientEach is the client's.
func (r result) clientEach() float64 { return float64(r.client.Microseconds()) / float64(len(r.taken)) }

// bound is how many certificates a second all processors would give if nobody ever waited.
func (r result) bound() float64 { return perSecond(r.cpuEach() + r.clientEach()) }

func perSecond(micros float64) float64 { return float64(runtime.NumCPU()) * 1e6 / micros }

// ownCPU is what this process has used, user and system.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	ok(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (r result) String() string {
	var step [steps]time.Duration
	polls := 0
	for _, t := range r.taken {
		for i, d := range t.step {
			step[i] += d
		}
		polls += t.polls
	}
	n := len(r.taken)
	var w strings.Builder
	var whole time.Duration
	for _, t := range r.taken {
		whole += t.total
	}
	fmt.Fprintf(&w, "%.1f certificates/s, p50 %.1f ms, p99 %.1f ms, %.2f polls each; mean %.2f ms, for it CPU of the server %.2f and of the client %.2f; steps:",
		r.rate, r.quantile(0.5), r.quantile(0.99), float64(polls)/float64(n), milli(whole/time.Duration(n)), r.cpuEach()/1000, r.clientEach()/1000)
	for i, d := range step {
		fmt.Fprintf(&w, " %s %.2f", stepNames[i], milli(d/time.Duration(n)))
	}
	return w.String()
}

// load is the machine's load average: other work on it is in every number.
func load() string {
	body, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(body))
}
