package scan

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/scan/probe"
)

// listener counts connections on a loopback address.
func listener(t *testing.T, at string) (netip.AddrPort, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort(), &n
}

// TestGuardDials: the same address is refused and taken by who wrote it; nothing is sent to one that is refused.
func TestGuardDials(t *testing.T) {
	at, hits := listener(t, "127.0.0.1:0")
	dial := func(g *Guard, a string) error {
		c, err := g.Dial(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(a), at.Port()))
		if err == nil {
			c.Close()
		}
		return err
	}
	public := NewGuard(false)
	for _, a := range []string{"127.0.0.1", "::ffff:127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1", "fd00:ec2::254", "0.0.0.0", "::"} {
		if err := dial(public, a); err == nil || !strings.Contains(err.Error(), "never dialled") && !strings.Contains(err.Error(), "private") {
			t.Errorf("%s: %v", a, err)
		}
	}
	if hits.Load() != 0 {
		t.Fatalf("%d connections were made", hits.Load())
	}
	own := NewGuard(false, netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("169.254.0.0/16"))
	if err := dial(own, "127.0.0.1"); err != nil {
		t.Error(err)
	}
	for _, a := range []string{"127.0.0.2", "169.254.169.254"} {
		if dial(own, a) == nil {
			t.Errorf("%s was dialled", a)
		}
	}
	if err := dial(NewGuard(true), "127.0.0.1"); err != nil {
		t.Error(err)
	}
	if NewGuard(true).Check(netip.MustParseAddr("169.254.169.254")) == nil {
		t.Error("a metadata service may be dialled")
	}
}

// turncoat is a name that is public at first, and this machine from then on.
type turncoat struct{ asked atomic.Int32 }

func (n *turncoat) Addresses(context.Context, string) ([]netip.Addr, error) {
	if n.asked.Add(1) == 1 {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("169.254.169.254")}, nil
}

// TestRebinding: a name is asked once, what is dialled is what was judged, and the second answer reaches nothing.
func TestRebinding(t *testing.T) {
	at, hits := listener(t, "127.0.0.1:0")
	var dialled []netip.Addr
	g := NewGuard(false)
	p, err := probe.New(probe.Config{Now: time.Now, Timeout: time.Second, Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		dialled = append(dialled, to.Addr()) // one target, one look at a time
		if err := g.Check(to.Addr()); err != nil {
			return nil, err
		}
		return nil, context.DeadlineExceeded // 192.0.2.1 is documentation space: this test stays on this machine
	}})
	if err != nil {
		t.Fatal(err)
	}
	names := &turncoat{}
	target, err := ParseTarget("rebind.test", at.Port())
	if err != nil {
		t.Fatal(err)
	}
	for round, want := range []int{1, 3} {
		dialled = nil
		got, err := Sweep(t.Context(), Config{Looker: p, Names: names, Now: time.Now, Retries: -1, Concurrency: 1}, []Target{target})
		if err != nil || len(got) != 1 || len(got[0].Endpoints) != want || got[0].Verdict != bulkhead.Unreachable || int(names.asked.Load()) != round+1 {
			t.Fatalf("round %d: %+v, %v, asked %d", round, got, err, names.asked.Load())
		}
		for i, e := range got[0].Endpoints {
			if e.Reason != bulkhead.ReasonDialDenied || dialled[i] != e.Endpoint.Address {
				t.Errorf("round %d: %s %s, dialled %v", round, e.Endpoint.Address, e.Reason, dialled)
			}
		}
	}
	if hits.Load() != 0 {
		t.Errorf("%d connections reached this machine", hits.Load())
	}
}
