package firstlight

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"bulkhead/internal/heldport"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// common is the house that tests share which leave others' certificates alone, and the small internet around it.
var common struct {
	once  sync.Once
	world *world
	net   *internet
}

// shared returns the shared house and its internet.
func shared(t testing.TB) (*house, *internet) {
	t.Helper()
	common.once.Do(func() {
		n := newInternet(t)
		h := &house{t: t, world: &world{bin: program(t, "bulkhead"), dir: filepath.Join(scratch, "shared"),
			flags: append([]string{"--listen", heldport.For(t).String(), "--status-listen", heldport.For(t).String(), "--metrics-listen", heldport.For(t).String()}, n.flags()...)}}
		h.up()
		common.world, common.net = h.world, n
	})
	if common.world == nil {
		t.Fatal("the shared house did not start")
	}
	return &house{t: t, world: common.world}, common.net
}

// internet is a DNS server, and servers that answer challenges on 127.0.0.1. It lives as long as the process.
type internet struct {
	resolver          string
	httpPort, tlsPort int

	mu      sync.Mutex
	records map[string][]dns.RR // "name. TYPE"
	broken  map[string]bool     // "name. TYPE" answered with SERVFAIL
	files   map[string]string   // path → body, http-01
	certs   map[string]*tls.Certificate
}

func newInternet(t testing.TB) *internet {
	t.Helper()
	n := &internet{records: map[string][]dns.RR{}, broken: map[string]bool{}, files: map[string]string{}, certs: map[string]*tls.Certificate{}}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	n.httpPort = web.Addr().(*net.TCPAddr).Port
	go http.Serve(web, n) //nolint:errcheck,gosec // it ends with the process
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"acme-tls/1"}, MinVersion: tls.VersionTLS12, GetCertificate: n.certificate})
	ok(t, err)
	n.tlsPort = secure.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			c, err := secure.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); _ = c.Close() }()
		}
	}()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	ok(t, err)
	n.resolver = udp.LocalAddr().String()
	tcp, err := net.Listen("tcp", n.resolver)
	ok(t, err)
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: n}, {Listener: tcp, Handler: dns.HandlerFunc(n.ServeDNS)}} {
		go s.ActivateAndServe() //nolint:errcheck // it ends with the process
	}
	return n
}

// flags point a house at this internet.
func (n *internet) flags() []string {
	return []string{"--resolver", n.resolver, "--validate-http-port", strconv.Itoa(n.httpPort), "--validate-tls-port", strconv.Itoa(n.tlsPort)}
}

// add puts records in zone-file form.
func (n *internet) add(t testing.TB, lines ...string) {
	t.Helper()
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		ok(t, err)
		n.mu.Lock()
		k := key(rr.Header().Name, rr.Header().Rrtype)
		n.records[k] = append(n.records[k], rr)
		n.mu.Unlock()
	}
}

// host makes names that resolve to an address.
func (n *internet) host(t testing.TB, ip string, names ...string) {
	t.Helper()
	for _, name := range names {
		n.add(t, fmt.Sprintf("%s. 5 IN A %s", name, ip))
	}
}

// fail answers a question with SERVFAIL.
func (n *internet) fail(name string, qtype uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken[key(name+".", qtype)] = true
}

func key(name string, qtype uint16) string {
	return dns.CanonicalName(name) + " " + dns.TypeToString[qtype]
}

// ServeDNS implements dns.Handler.
func (n *internet) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) == 1 {
		k := key(q.Question[0].Name, q.Question[0].Qtype)
		n.mu.Lock()
		m.Answer = append(m.Answer, n.records[k]...)
		if n.broken[k] {
			m.Rcode = dns.RcodeServerFailure
		}
		n.mu.Unlock()
	}
	_ = w.WriteMsg(m)
}

// ServeHTTP serves http-01 files.
func (n *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	body, found := n.files[r.URL.Path]
	n.mu.Unlock()
	if !found {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(body))
}

func (n *internet) put(path, body string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.files[path] = body
}

func (n *internet) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.certs[strings.ToLower(h.ServerName)]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no %s here", h.ServerName)
}

// solvers answer acmez's challenges on this internet.
func (n *internet) solvers(challenge string) map[string]acmez.Solver {
	return map[string]acmez.Solver{challenge: solver{n, challenge}}
}

type solver struct {
	*internet
	challenge string
}

// Present implements acmez.Solver.
func (s solver) Present(_ context.Context, c acme.Challenge) error {
	switch s.challenge {
	case acme.ChallengeTypeHTTP01:
		s.put(c.HTTP01ResourcePath(), c.KeyAuthorization)
	case acme.ChallengeTypeDNS01:
		rr, err := dns.NewRR(fmt.Sprintf("%s. 5 IN TXT %q", c.DNS01TXTRecordName(), c.DNS01KeyAuthorization()))
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		k := key(rr.Header().Name, dns.TypeTXT)
		s.records[k] = append(s.records[k], rr)
	case acme.ChallengeTypeTLSALPN01:
		cert, err := acmez.TLSALPN01ChallengeCert(c)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.certs[c.Identifier.Value] = cert
	}
	return nil
}

// CleanUp implements acmez.Solver.
func (s solver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, key(c.DNS01TXTRecordName()+".", dns.TypeTXT))
	return nil
}
