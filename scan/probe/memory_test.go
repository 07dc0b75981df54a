package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"bulkhead"
)

// maxLookMemory is what one look may hold while it is under way, certificates not counted.
const maxLookMemory = 64 << 10

// TestMemoryOfAVerdict counts everything that a look allocates from its first to its last byte, against servers that
// send as much as they can.
func TestMemoryOfAVerdict(t *testing.T) {
	endless := func(p []byte) []byte { return bytes.Repeat(p, maxFlight/len(p)+2) }
	answer := append([]byte{24, 3, 3, 0x3f, 0xfc, 2, 0x3f, 0xe9}, make([]byte, malformedClaim+heartbeatPadding)...)
	big := append([]byte{22, 3, 3, 0, 4, 11, 0xff, 0xff, 0xff}, endless(append([]byte{22, 3, 3, 0x40, 0}, make([]byte, 1<<14)...))...)
	start := append([]byte{22, 3, 3, 0, 49}, serverHello[5:54]...)
	for name, c := range map[string]struct {
		says   [][]byte // after the hello, after the malformed heartbeat
		reason bulkhead.LookReason
	}{
		"vulnerable":          {[][]byte{serverHello, answer}, bulkhead.ReasonOverread},
		"endless certificate": {[][]byte{append(start, big...)}, bulkhead.ReasonTooMuch},
		"endless warnings":    {[][]byte{endless([]byte{21, 3, 1, 0, 2, 1, 90})}, bulkhead.ReasonTooMuch},
		"endless answers":     {[][]byte{serverHello, endless([]byte{24, 3, 3, 0, 4, 2, 0, 1, 9})}, bulkhead.ReasonTooMuch},
	} {
		says := c.says
		p, err := New(Config{Now: time.Now, Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
			return &hearing{says: says}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ep := bulkhead.Endpoint{Host: "a", Address: netip.IPv6LinkLocalAllNodes(), Port: 1}
		p.Verdict(context.Background(), ep) // what is made once
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		look := p.Verdict(context.Background(), ep)
		runtime.ReadMemStats(&after)
		if look.Reason != c.reason {
			t.Errorf("%s: %s (%s)", name, look.Reason, look.Detail)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > maxLookMemory {
			t.Errorf("%s: a look allocates %d bytes", name, n)
		}
	}
}

// hearing is a connection that says something each time it heard something.
type hearing struct {
	script
	says [][]byte
	now  []byte
}

func (h *hearing) Write(p []byte) (int, error) {
	if len(h.says) > 0 {
		h.now, h.says = h.says[0], h.says[1:]
	}
	return len(p), nil
}

func (h *hearing) Read(p []byte) (int, error) {
	if len(h.now) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.now)
	h.now = h.now[n:]
	return n, nil
}

// TestMemoryInFlight holds many whole looks at the place where they hold most and weighs them: half-way through a
// record of the standard library's handshake.
func TestMemoryInFlight(t *testing.T) {
	const count = 64
	release := make(chan struct{})
	var stuck sync.WaitGroup
	stuck.Add(count)
	p, err := New(Config{Now: time.Now, Timeout: time.Minute, Total: time.Minute, Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
		return &stopping{hearing: hearing{says: [][]byte{append([]byte{22, 3, 3, 0x40, 0}, make([]byte, 16_000)...)}}, stuck: stuck.Done, release: release}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	weigh := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	warm, err := New(Config{Now: time.Now, Dial: func(context.Context, netip.AddrPort) (net.Conn, error) { return &hearing{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	warm.Look(context.Background(), bulkhead.Endpoint{Host: "a", Address: netip.IPv6LinkLocalAllNodes(), Port: 1}) // what is made once
	before := weigh()
	var done sync.WaitGroup
	for range count {
		done.Go(func() {
			l := &look{cfg: &p.cfg, ctx: context.Background(), end: time.Now().Add(time.Minute), whole: true}
			l.out.Endpoint = bulkhead.Endpoint{Host: "a", Address: netip.IPv6LinkLocalAllNodes(), Port: 1}
			_ = l.modern(tls.VersionTLS10)
		})
	}
	stuck.Wait()
	after := weigh()
	close(release)
	done.Wait()
	if each := (after - before) / count; after > before && each > maxLookMemory {
		t.Errorf("a look in flight holds %d bytes", each)
	} else {
		t.Logf("a look in flight holds %d bytes", each)
	}
}

type stopping struct {
	hearing
	stuck   func()
	release chan struct{}
}

func (s *stopping) Read(p []byte) (int, error) {
	if len(s.now) > 0 {
		return s.hearing.Read(p)
	}
	s.stuck()
	<-s.release
	return 0, io.EOF
}
