package probe_test

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/scan/probe/probetest"
)

const (
	benchLooks  = 1000
	benchFlight = 100
)

// many does benchLooks looks, benchFlight at a time, spread over the endpoints.
func many(look func(i int)) spent {
	begin, cpu := time.Now(), used()
	work := make(chan int)
	var wg sync.WaitGroup
	for range benchFlight {
		wg.Go(func() {
			for i := range work {
				look(i)
			}
		})
	}
	for i := range benchLooks {
		work <- i
	}
	close(work)
	wg.Wait()
	return spent{time.Since(begin), used() - cpu}
}

// spent is time on the clock, and time of the processor for both sides: what a busy machine does not distort.
type spent struct{ clock, cpu time.Duration }

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLooks looks at 1,000 endpoints, 100 in flight. The reference in the same run is a bare handshake of crypto/tls
// with the same servers; for servers with heartbeat it is the look at the same servers without.
func BenchmarkLooks(b *testing.B) {
	f := relatives()
	var current []bulkhead.Endpoint
	for range 50 {
		current = append(current, serveGo(b, &tls.Config{Certificates: []tls.Certificate{f.certificate(f.leaf, f.middle)}}))
	}
	old := func(k probetest.Behaviour) (list []bulkhead.Endpoint) {
		k.Suites, k.Sign = []uint16{0xc02f, 0xc014}, true
		for range 50 {
			list = append(list, serve(b, k))
		}
		return list
	}
	absent, fixed, faulty := old(probetest.NotSupported), old(probetest.Patched), old(probetest.Vulnerable)
	p := prober(b, nil)
	verdicts := func(list []bulkhead.Endpoint, want bulkhead.Verdict) spent {
		return many(func(i int) {
			if got := p.Verdict(context.Background(), list[i%len(list)]); got.Verdict != want {
				b.Errorf("%s (%s), want %s", got.Verdict, got.Detail, want)
			}
		})
	}
	handshakes := func() spent {
		return many(func(i int) {
			c, err := tls.Dial("tcp", current[i%len(current)].AddrPort().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				b.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	for _, m := range []struct {
		name      string
		run       func() spent
		reference func() spent
	}{
		{"without-heartbeat/handshake", func() spent { return verdicts(current, bulkhead.NotSupported) }, handshakes},
		{"whole/handshake", func() spent {
			return many(func(i int) { p.Look(context.Background(), current[i%len(current)]) })
		}, handshakes},
		{"patched/without-heartbeat", func() spent { return verdicts(fixed, bulkhead.Patched) }, func() spent { return verdicts(absent, bulkhead.NotSupported) }},
		{"vulnerable/without-heartbeat", func() spent { return verdicts(faulty, bulkhead.Vulnerable) }, func() spent { return verdicts(absent, bulkhead.NotSupported) }},
		{"patched/handshake", func() spent { return verdicts(fixed, bulkhead.Patched) }, handshakes},
		{"vulnerable/handshake", func() spent { return verdicts(faulty, bulkhead.Vulnerable) }, handshakes},
	} {
		b.Run(m.name, func(b *testing.B) {
			var ratios, cpus []float64
			var took spent
			for range b.N {
				reference := m.reference()
				took = m.run()
				ratios = append(ratios, float64(took.clock)/float64(reference.clock))
				cpus = append(cpus, float64(took.cpu)/float64(reference.cpu))
			}
			slices.Sort(ratios)
			slices.Sort(cpus)
			b.ReportMetric(cpus[len(cpus)/2], "cpu/reference")
			b.ReportMetric(ratios[len(ratios)/2], "x/reference")
			b.ReportMetric(benchLooks/took.clock.Seconds(), "looks/s")
		})
	}
}
