package probe_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
	"bulkhead/scan/probe"
	"bulkhead/scan/probe/probetest"
)

func dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", to.String())
}

func prober(t testing.TB, change func(*probe.Config)) *probe.Prober {
	t.Helper()
	cfg := probe.Config{Dial: dial, Now: time.Now}
	if change != nil {
		change(&cfg)
	}
	p, err := probe.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func serve(t testing.TB, b probetest.Behaviour) bulkhead.Endpoint {
	t.Helper()
	s, err := probetest.Listen(b, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return endpoint(s, b)
}

func endpoint(s *probetest.Server, b probetest.Behaviour) bulkhead.Endpoint {
	return bulkhead.Endpoint{Host: s.Addr().Addr().String(), Address: s.Addr().Addr(), Port: s.Addr().Port(), SNI: b.SNI, STARTTLS: b.STARTTLS}
}

// TestEveryBehaviour: each way in which servers behave gets exactly its verdict and its reason.
func TestEveryBehaviour(t *testing.T) {
	p := prober(t, func(c *probe.Config) { c.Timeout, c.Total = 4*time.Second, 16*time.Second })
	seen := map[bulkhead.LookReason]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, b := range probetest.Behaviours() {
		ep := serve(t, b)
		wg.Go(func() {
			got := p.Verdict(context.Background(), ep)
			mu.Lock()
			defer mu.Unlock()
			check(t, b, got)
			seen[got.Reason] = true
		})
	}
	wg.Wait()
	for r, v := range bulkhead.LookReasons {
		if v.Seen() && !seen[r] {
			t.Errorf("no behaviour leads to %s", r)
		}
	}
}

func check(t *testing.T, b probetest.Behaviour, got bulkhead.Look) {
	t.Helper()
	if got.Verdict != b.Verdict || got.Reason != b.Reason {
		t.Errorf("%s: %s (%s: %s), want %s (%s)\n%+v", b.Name, got.Verdict, got.Reason, got.Detail, b.Verdict, b.Reason, got)
	}
	if got.Detail == "" || got.Took <= 0 || (got.Verdict == bulkhead.Vulnerable) != (got.ProofBytes == 1) {
		t.Errorf("%s: detail %q, took %s, %d bytes of proof", b.Name, got.Detail, got.Took, got.ProofBytes)
	}
	if len(got.Versions) != 5 || got.Chain != nil {
		t.Errorf("%s: %d versions, chain %v", b.Name, len(got.Versions), got.Chain != nil)
	}
}

// TestNoFalseVerdicts looks at many endpoints of every kind at the same time: a thousand, or ten thousand with
// BULKHEAD_TORTURE. Checkers that were right one by one have been wrong in parallel.
func TestNoFalseVerdicts(t *testing.T) {
	count, flight := 1000, 100
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		count, flight = 10_000, 200
	}
	var kinds []probetest.Behaviour
	for _, b := range probetest.Behaviours() {
		if !b.TimesOut {
			kinds = append(kinds, b)
		}
	}
	p := prober(t, func(c *probe.Config) { c.Timeout, c.Total = 20*time.Second, 60*time.Second })
	type target struct {
		b  probetest.Behaviour
		at bulkhead.Endpoint
	}
	work := make(chan target)
	var wg sync.WaitGroup
	for range flight {
		wg.Go(func() {
			for w := range work {
				check(t, w.b, p.Verdict(context.Background(), w.at))
			}
		})
	}
	for i := range count {
		b := kinds[i*7919%len(kinds)]
		work <- target{b, serve(t, b)}
	}
	close(work)
	wg.Wait()
}

// TestUnreachable: what cannot be connected to is named for what it is, and nothing is claimed.
func TestUnreachable(t *testing.T) {
	closed := serve(t, probetest.Patched)
	closed.Port = heldport.For(t).Port()
	for _, c := range []struct {
		dial probe.Dial
		at   bulkhead.Endpoint
		want bulkhead.LookReason
	}{
		{dial, closed, bulkhead.ReasonRefused},
		{func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, closed, bulkhead.ReasonConnectTimeout},
		{func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, fmt.Errorf("address is private") }, closed, bulkhead.ReasonDialDenied},
		{dial, bulkhead.Endpoint{Address: closed.Address}, bulkhead.ReasonBadEndpoint},
		{dial, bulkhead.Endpoint{Address: closed.Address, Port: 1, STARTTLS: "gopher"}, bulkhead.ReasonBadEndpoint},
	} {
		p := prober(t, func(cfg *probe.Config) {
			if cfg.Dial = c.dial; c.want == bulkhead.ReasonConnectTimeout {
				cfg.Timeout = 200 * time.Millisecond
			}
		})
		for _, look := range []bulkhead.Look{p.Verdict(context.Background(), c.at), p.Look(context.Background(), c.at)} {
			if look.Reason != c.want || look.Verdict != bulkhead.LookReasons[c.want] || look.Verdict.Seen() {
				t.Errorf("%s: %s %s (%s)", c.want, look.Verdict, look.Reason, look.Detail)
			}
		}
	}
}

// TestCalledOff: a look that is called off ends at once and claims nothing.
func TestCalledOff(t *testing.T) {
	for _, b := range probetest.Behaviours() {
		if b.Name != "silent" && b.Name != "heartbeat-silence" && b.Name != "silent-smtp" {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		begin := time.Now()
		time.AfterFunc(150*time.Millisecond, cancel)
		look := prober(t, func(cfg *probe.Config) { cfg.Timeout, cfg.Total = time.Hour, time.Hour }).Look(ctx, serve(t, b))
		if look.Reason != bulkhead.ReasonCancelled || time.Since(begin) > time.Minute {
			t.Errorf("%s: %s after %s", b.Name, look.Reason, time.Since(begin))
		}
	}
}

// TestDialsExactlyTheAddress: the address that was checked is the address that is dialled, each time, IPv6 included.
func TestDialsExactlyTheAddress(t *testing.T) {
	s, err := probetest.Listen(probetest.NotSupported, "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ep := bulkhead.Endpoint{Host: "wanted.test", Address: s.Addr().Addr(), Port: s.Addr().Port(), SNI: "wanted.test"}
	dialled := 0
	p := prober(t, func(c *probe.Config) {
		c.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			if to != s.Addr() {
				t.Errorf("dialled %s", to)
			}
			dialled++
			return dial(ctx, to)
		}
	})
	look := p.Look(context.Background(), ep)
	if look.Verdict != bulkhead.NotSupported || look.Connections != dialled || dialled < 4 {
		t.Errorf("%s, %d connections, %d dialled", look.Verdict, look.Connections, dialled)
	}
}

// TestSwap: the same endpoint, first faulty and then fixed, as after the update of a server.
func TestSwap(t *testing.T) {
	s, err := probetest.Listen(probetest.Vulnerable, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	p := prober(t, nil)
	check(t, probetest.Vulnerable, p.Verdict(context.Background(), endpoint(s, probetest.Vulnerable)))
	s.Swap(probetest.Patched)
	check(t, probetest.Patched, p.Verdict(context.Background(), endpoint(s, probetest.Patched)))
}
