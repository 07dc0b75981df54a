package dcv

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// countedConn counts what is written to it.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// over makes a resolver ask over a connection that counts.
func over(t *testing.T, r *resolver) *countedConn {
	t.Helper()
	conn, err := net.Dial("tcp", r.server)
	if err != nil {
		t.Fatal(err)
	}
	c := &countedConn{Conn: conn}
	r.line(r.server).open = converse(c)
	return c
}

func open(r *resolver) int {
	c := r.line(r.server).open
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// TestLineAsksTogether: the questions of one look leave in one piece: both for addresses, and those of four names for CAA.
func TestLineAsksTogether(t *testing.T) {
	z := newZone(t, "a.b.c.host.test. 60 IN A 127.0.0.1", "a.b.c.host.test. 60 IN AAAA ::1", `c.host.test. 60 IN CAA 0 issue "ca.bulkhead.test"`)
	v := validator(t, func(c *Config) { c.Resolver = z.addr })
	conn := over(t, v.dns)
	if got, err := v.dns.addresses(t.Context(), "a.b.c.host.test"); err != nil || len(got) != 2 || !got[0].Is6() {
		t.Fatal(got, err)
	}
	if n := conn.writes.Load(); n != 1 {
		t.Errorf("both kinds of address were asked for in %d pieces", n)
	}
	at, records, err := v.climb(t.Context(), "a.b.c.host.test")
	if err != nil || at != "c.host.test" || len(records) != 1 {
		t.Fatal(at, records, err)
	}
	if n := conn.writes.Load(); n != 2 {
		t.Errorf("CAA of four names was asked for in %d pieces", n-1)
	}
	if n := open(v.dns); n != 0 {
		t.Errorf("%d questions stay open", n)
	}
	for _, name := range []string{"a.b.c.host.test", "b.c.host.test", "c.host.test"} {
		if z.count(name, dns.TypeCAA) != 1 {
			t.Errorf("CAA of %s was asked for %d times", name, z.count(name, dns.TypeCAA))
		}
	}
}

// TestAnswerAboveIsNotAwaited: nobody waits for the answer of a name above the relevant one, and its question does not stay
// open for ever.
func TestAnswerAboveIsNotAwaited(t *testing.T) {
	r := overTCP(t, func(c net.Conn, q *dns.Msg) {
		if q.Question[0].Name != "www.host.test." {
			return
		}
		m := new(dns.Msg).SetReply(q)
		rr, err := dns.NewRR(`www.host.test. 60 IN CAA 0 issue "ca.bulkhead.test"`)
		if err != nil {
			t.Error(err)
		}
		m.Answer = []dns.RR{rr}
		octets, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		say(c, octets)
	})
	r.timeout = time.Hour
	v := validator(t, nil)
	v.dns = r
	if at, records, err := v.climb(t.Context(), "www.host.test"); err != nil || at != "www.host.test" || len(records) != 1 {
		t.Fatal(at, records, err)
	}
	if n := open(r); n != 0 {
		t.Errorf("%d questions stay open", n)
	}
}

// TestAlreadyAsked: a question that was asked with others and whose connection ends before the answer is asked again over a new
// one, and one that is answered badly is asked as often as any other.
func TestAlreadyAsked(t *testing.T) {
	z := newZone(t, "host.test. 60 IN A 127.0.0.1")
	z.fail("host.test", dns.TypeAAAA, dns.RcodeServerFailure)
	r := resolverAt(z.addr)
	over(t, r)
	results, done := r.lookups(t.Context(), wanted{"host.test", dns.TypeAAAA}, wanted{"host.test", dns.TypeA})
	defer done()
	r.line(z.addr).open.end()
	if got, err := results[1](); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	_, err := results[0]()
	wantFault(t, err, "dns", "SERVFAIL")
	before := z.count("host.test", dns.TypeAAAA)
	results, done = r.lookups(t.Context(), wanted{"host.test", dns.TypeAAAA})
	defer done()
	_, err = results[0]()
	wantFault(t, err, "dns", "SERVFAIL")
	if n := z.count("host.test", dns.TypeAAAA) - before; n != 2 {
		t.Errorf("a question with a bad answer was asked %d times", n)
	}
}

// TestRequestCost holds what asking over HTTP takes besides the connection.
func TestRequestCost(t *testing.T) {
	h, err := validator(t, nil).parseHop("http://www.site.test/.well-known/acme-challenge/" + testToken)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() { _ = h.request() }); n > 3 {
		t.Errorf("%.0f allocations for a request", n)
	}
}

func TestSpecialUse(t *testing.T) {
	for name, want := range map[string]string{"a.b.test": ".test, RFC 6761", "localhost": ".localhost, RFC 6761", "nas.home.arpa.": ".home.arpa, RFC 8375",
		"arpa": "", "a.arpa": "", "latest": "", "test.example.com": "", "": ""} {
		if got := specialUse(name); !strings.HasSuffix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q", name, got)
		}
	}
	if n := testing.AllocsPerRun(20, func() { specialUse("www.a.b.example.com") }); n > 0 {
		t.Errorf("%.0f allocations for a name that is not special", n)
	}
}
