package dcv

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
	"bulkhead/enroll"
)

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// zone is an in-test DNS server on loopback: records in zone-file text by "name type", and names that fail.
type zone struct {
	addr string

	mu      sync.Mutex
	records map[string][]string
	rcodes  map[string]int
	asked   map[string]int
	rotate  map[string][]string // one record a question, in turn
	byUDP   int                 // questions
	from    map[string]bool     // who asked over TCP
}

func newZone(t *testing.T, records ...string) *zone {
	t.Helper()
	z := &zone{records: map[string][]string{}, rcodes: map[string]int{}, asked: map[string]int{}, rotate: map[string][]string{}, from: map[string]bool{}}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		k := key(rr.Header().Name, rr.Header().Rrtype)
		z.records[k] = append(z.records[k], text)
	}
	pc, ln := samePort(t, func() (net.PacketConn, error) { return net.ListenPacket("udp", "127.0.0.1:0") },
		func(first net.Addr) (net.Listener, error) { return net.Listen("tcp", first.String()) })
	z.addr = pc.LocalAddr().String()
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: ln, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

func key(name string, qtype uint16) string {
	return strings.ToLower(dns.Fqdn(name)) + " " + dns.TypeToString[qtype]
}

func (z *zone) fail(name string, qtype uint16, rcode int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcodes[key(name, qtype)] = rcode
}

// set replaces the records of a name; turns answers one of them a question, in turn.
func (z *zone) set(name string, qtype uint16, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[key(name, qtype)] = records
}

func (z *zone) turns(name string, qtype uint16, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rotate[key(name, qtype)] = records
}

func (z *zone) count(name string, qtype uint16) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[key(name, qtype)]
}

func (z *zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := r.Question[0]
	k := key(q.Name, q.Qtype)
	n := z.asked[k]
	z.asked[k]++
	m := new(dns.Msg)
	m.SetReply(r)
	m.Rcode = z.rcodes[k]
	texts := z.records[k]
	if len(texts) == 0 {
		texts = z.records[key(q.Name, dns.TypeCNAME)]
	}
	if turn := z.rotate[k]; len(turn) > 0 {
		texts = turn[n%len(turn) : n%len(turn)+1]
	}
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
		z.byUDP++
		m.Truncate(udpSize)
	} else {
		z.from[w.RemoteAddr().String()] = true
	}
	_ = w.WriteMsg(m)
}

// validator makes one that may dial loopback, with the times of a busy machine.
func validator(t *testing.T, change func(*Config)) *Validator {
	t.Helper()
	cfg := Config{AllowPrivate: true, CAAIdentities: []string{"ca.bulkhead.test"}, Timeout: 20 * time.Second, Total: time.Minute,
		Now: func() time.Time { return testNow }}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func dnsName(name string) bulkhead.Identifier {
	return bulkhead.Identifier{Type: bulkhead.DNS, Value: name}
}

// wantFault checks kind and a part of the detail.
func wantFault(t *testing.T, err error, kind bulkhead.Kind, part string) {
	t.Helper()
	if bulkhead.KindOf(err) != kind || err != nil && !strings.Contains(err.Error(), part) {
		t.Fatalf("got %v, want %s with %q", err, kind, part)
	}
}

func mustSet(t *testing.T, entries ...string) enroll.NameSet {
	t.Helper()
	s, err := enroll.ParseNameSet(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// samePort opens two sockets on one port. Another process may hold the port of the second: then another pair is tried.
func samePort[A interface {
	comparable
	Close() error
}](t testing.TB, first func() (A, error), second func(net.Addr) (net.Listener, error)) (A, net.Listener) {
	t.Helper()
	var err error
	for range 20 {
		a, e := first()
		if e != nil {
			t.Fatal(e)
		}
		var at net.Addr
		switch x := any(a).(type) {
		case net.Listener:
			at = x.Addr()
		case net.PacketConn:
			at = x.LocalAddr()
		}
		var b net.Listener
		if b, err = second(at); err == nil {
			return a, b
		}
		_ = a.Close()
	}
	t.Fatal(err)
	panic("unreachable")
}
