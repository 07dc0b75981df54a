package enroll_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"

	"bulkhead/enroll/dcv"
	"bulkhead/internal/heldport"
)

const siteZone = "site.example."

// zone is a DNS server on loopback for one zone: every name has the address 127.0.0.1, TXT records come by dynamic
// update (RFC 2136) or from a test, nothing else is there.
type zone struct {
	addr string

	mu  sync.Mutex
	txt map[string][]string
}

func newZone(t testing.TB) *zone {
	t.Helper()
	z := &zone{txt: map[string][]string{}}
	pc, ln := bothPorts(t)
	z.addr = pc.LocalAddr().String()
	accept := func(h dns.Header) dns.MsgAcceptAction { // the default refuses updates
		if h.Bits&(1<<15) != 0 {
			return dns.MsgIgnore
		}
		return dns.MsgAccept
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z, MsgAcceptFunc: accept}, {Listener: ln, Handler: z, MsgAcceptFunc: accept}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

// bothPorts takes one port number for UDP and TCP; another number when somebody has its TCP side.
func bothPorts(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		ok(t, err)
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
	}
	t.Fatal("no port number is free for both UDP and TCP")
	return nil, nil
}

func (z *zone) add(name, text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name = dns.CanonicalName(name)
	z.txt[name] = append(z.txt[name], text)
}

func (z *zone) remove(name, text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name = dns.CanonicalName(name)
	z.txt[name] = slices.DeleteFunc(z.txt[name], func(t string) bool { return text == "" || t == text })
}

func (z *zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	if r.Opcode == dns.OpcodeUpdate {
		for _, rr := range r.Ns {
			switch rr := rr.(type) {
			case *dns.TXT:
				if rr.Hdr.Class == dns.ClassNONE {
					z.remove(rr.Hdr.Name, strings.Join(rr.Txt, ""))
				} else {
					z.add(rr.Hdr.Name, strings.Join(rr.Txt, ""))
				}
			case *dns.ANY:
				z.remove(rr.Hdr.Name, "")
			}
		}
		_ = w.WriteMsg(m)
		return
	}
	q := r.Question[0]
	name := dns.CanonicalName(q.Name)
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 1}
	switch {
	case q.Qtype == dns.TypeSOA && name == siteZone:
		m.Answer = append(m.Answer, &dns.SOA{Hdr: header, Ns: "ns." + siteZone, Mbox: "root." + siteZone, Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 1})
	case q.Qtype == dns.TypeNS && name == siteZone:
		m.Answer = append(m.Answer, &dns.NS{Hdr: header, Ns: "ns." + siteZone})
	case q.Qtype == dns.TypeA && dns.IsSubDomain(siteZone, name):
		m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
	case q.Qtype == dns.TypeTXT:
		z.mu.Lock()
		for _, text := range z.txt[name] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header, Txt: []string{text}})
		}
		z.mu.Unlock()
	}
	_ = w.WriteMsg(m)
}

// AppendRecords and DeleteRecords make the zone a provider of libdns, for certmagic.
func (z *zone) AppendRecords(_ context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	for _, r := range recs {
		z.add(libdns.AbsoluteName(r.RR().Name, zone), r.RR().Data)
	}
	return recs, nil
}

// DeleteRecords implements libdns.RecordDeleter.
func (z *zone) DeleteRecords(_ context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	for _, r := range recs {
		z.remove(libdns.AbsoluteName(r.RR().Name, zone), r.RR().Data)
	}
	return recs, nil
}

// site is a world in which clients answer challenges themselves, on ports of their own, for names below site.example.
type site struct {
	*world
	zone              *zone
	httpPort, tlsPort int
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{world: newWorld(t), zone: newZone(t), httpPort: int(heldport.For(t).Port()), tlsPort: int(heldport.For(t).Port())}
	v, err := dcv.New(dcv.Config{AllowPrivate: true, Resolver: s.zone.addr, HTTPPort: s.httpPort, TLSPort: s.tlsPort, CAAIdentities: []string{"ca.test"},
		Timeout: 20 * time.Second, Now: time.Now})
	ok(t, err)
	s.cfg.Validator = v
	s.svc = s.service()
	s.serve()
	return s
}

// serveTLS shows one certificate under acme-tls/1 on the site's TLS port.
func (s *site) serveTLS(t testing.TB, cert *tls.Certificate) {
	t.Helper()
	ln, err := tls.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tlsPort)), &tls.Config{NextProtos: []string{"acme-tls/1"}, Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	ok(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); _ = c.Close() }()
		}
	}()
}

// serveHTTP answers one path on the site's port.
func (s *site) serveHTTP(t testing.TB, path, answer string) {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.httpPort)))
	ok(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(answer))
	})}
	go server.Serve(ln) //nolint:errcheck // it says that it was closed
	t.Cleanup(func() { _ = server.Close() })
}
