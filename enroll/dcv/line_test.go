package dcv

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
)

func resolverAt(server string) *resolver {
	return &resolver{server: server, timeout: 10 * time.Second}
}

// Many ask at once over one connection, each gets its own answer, and nothing leaves over UDP, where it could be forged.
func TestLineCarriesMany(t *testing.T) {
	const askers, each = 20, 5 // fewer than the 128 after which this server ends a connection
	z := newZone(t)
	for i := range askers {
		z.set(fmt.Sprintf("host%d.test", i), dns.TypeA, fmt.Sprintf("host%d.test. 60 IN A 192.0.2.%d", i, i))
	}
	r := resolverAt(z.addr)
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			for range each {
				got, _, err := r.lookup(t.Context(), fmt.Sprintf("host%d.test", i), dns.TypeA)
				if err != nil || len(got) != 1 || got[0].(*dns.A).A.String() != fmt.Sprintf("192.0.2.%d", i) {
					t.Errorf("host%d: %v, %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.byUDP != 0 || len(z.from) != 1 {
		t.Errorf("%d questions over UDP, connections from %v; want 0 and one", z.byUDP, z.from)
	}
}

// A server that ends connections costs no answer.
func TestLineIsBegunAnew(t *testing.T) {
	z := newZone(t, "host.test. 60 IN A 192.0.2.1")
	r := resolverAt(z.addr)
	for i := range 300 { // this server ends a connection after 128
		if got, _, err := r.lookup(t.Context(), "host.test", dns.TypeA); err != nil || len(got) != 1 {
			t.Fatalf("question %d: %v, %v", i, got, err)
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.byUDP != 0 || len(z.from) < 2 {
		t.Errorf("%d questions over UDP, %d connections", z.byUDP, len(z.from))
	}
}

// onlyUDP answers over UDP, and over TCP does what it is told with each connection.
func onlyUDP(t *testing.T, tcp func(net.Conn)) (server string, connections *atomic.Int64) {
	t.Helper()
	pc, ln := samePort(t, func() (net.PacketConn, error) { return net.ListenPacket("udp", "127.0.0.1:0") },
		func(first net.Addr) (net.Listener, error) { return net.Listen("tcp", first.String()) })
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	<-started
	connections = new(atomic.Int64)
	if tcp == nil {
		_ = ln.Close()
	} else {
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				connections.Add(1)
				go tcp(c)
			}
		}()
	}
	t.Cleanup(func() { _ = s.Shutdown(); _ = ln.Close() })
	return pc.LocalAddr().String(), connections
}

// A resolver that takes no TCP, accepts and ends it, or never answers on it, is asked over UDP, and is not asked over TCP
// for each question.
func TestLineFallsBack(t *testing.T) {
	for what, tcp := range map[string]func(net.Conn){
		"refuses": nil,
		"ends":    func(c net.Conn) { _ = c.Close() },
		"silent":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	} {
		t.Run(what, func(t *testing.T) {
			server, connections := onlyUDP(t, tcp)
			r := resolverAt(server)
			r.timeout = time.Second
			for i := range 5 {
				if got, _, err := r.lookup(t.Context(), "host.test", dns.TypeA); err != nil || len(got) != 1 {
					t.Fatalf("question %d: %v, %v", i, got, err)
				}
			}
			if what == "silent" && connections.Load() != 1 {
				t.Errorf("%d connections to a resolver that does not answer on them", connections.Load())
			}
		})
	}
}

// overTCP is a resolver whose answers to what it reads are made by a test.
func overTCP(t *testing.T, answer func(c net.Conn, q *dns.Msg)) *resolver {
	t.Helper()
	server, _ := onlyUDP(t, func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			var size [2]byte
			if _, err := io.ReadFull(in, size[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(body) == nil {
				answer(c, q)
			}
		}
	})
	return resolverAt(server)
}

func say(c net.Conn, octets []byte) {
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(octets))), octets...))
}

func reply(t *testing.T, q *dns.Msg, name string) []byte {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Question[0].Name = name
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 7)}}
	octets, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return octets
}

// An answer that nobody asked for is not heard, one to another question is refused, and one that cannot be read fails its own
// question and no other's.
func TestLineStrangeAnswers(t *testing.T) {
	t.Run("nobody asked", func(t *testing.T) {
		r := overTCP(t, func(c net.Conn, q *dns.Msg) {
			stray := q.Copy()
			stray.Id++
			say(c, reply(t, stray, q.Question[0].Name))
			say(c, reply(t, q, q.Question[0].Name))
		})
		if got, _, err := r.lookup(t.Context(), "host.test", dns.TypeA); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
	})
	t.Run("another question", func(t *testing.T) {
		r := overTCP(t, func(c net.Conn, q *dns.Msg) { say(c, reply(t, q, "other.test.")) })
		_, _, err := r.lookup(t.Context(), "host.test", dns.TypeA)
		wantFault(t, err, bulkhead.KindDNS, "another question")
	})
	t.Run("unreadable", func(t *testing.T) {
		held := make(chan struct{})
		r := overTCP(t, func(c net.Conn, q *dns.Msg) {
			if strings.HasPrefix(q.Question[0].Name, "bad") {
				octets := reply(t, q, q.Question[0].Name)
				say(c, octets[:len(octets)-3])
				return
			}
			octets := reply(t, q, q.Question[0].Name)
			go func() { <-held; say(c, octets) }()
		})
		good := make(chan error, 1)
		go func() {
			got, _, err := r.lookup(t.Context(), "good.test", dns.TypeA)
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%v", got)
			}
			good <- err
		}()
		_, _, err := r.lookup(t.Context(), "bad.test", dns.TypeA)
		if bulkhead.KindOf(err) != bulkhead.KindDNS {
			t.Errorf("an answer that cannot be read: %v", err)
		}
		close(held)
		if err := <-good; err != nil {
			t.Errorf("beside it: %v", err)
		}
	})
	t.Run("out of order", func(t *testing.T) {
		var mu sync.Mutex
		var waiting []func()
		r := overTCP(t, func(c net.Conn, q *dns.Msg) {
			mu.Lock()
			defer mu.Unlock()
			octets := reply(t, q, q.Question[0].Name)
			if waiting = append(waiting, func() { say(c, octets) }); len(waiting) == 3 {
				for _, w := range slices.Backward(waiting) {
					w()
				}
			}
		})
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				name := fmt.Sprintf("host%d.test.", i)
				got, _, err := r.lookup(t.Context(), name, dns.TypeA)
				if err != nil || len(got) != 1 || got[0].Header().Name != name {
					t.Errorf("%s: %v, %v", name, got, err)
				}
			})
		}
		wg.Wait()
	})
}

// A connection that nobody uses is closed.
func TestLineEndsIdle(t *testing.T) {
	z := newZone(t, "host.test. 60 IN A 192.0.2.1")
	r := resolverAt(z.addr)
	if _, _, err := r.lookup(t.Context(), "host.test", dns.TypeA); err != nil {
		t.Fatal(err)
	}
	kept, _ := r.lines.Load(z.addr)
	c := kept.(*line).open
	c.endIdle()
	if !c.ended() {
		t.Fatal("an idle connection is kept")
	}
	if _, _, err := r.lookup(t.Context(), "host.test", dns.TypeA); err != nil {
		t.Fatal(err)
	}
}
