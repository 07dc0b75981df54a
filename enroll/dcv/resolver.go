package dcv

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
)

const (
	maxCNAMEs    = 8    // further than any sane zone goes
	udpSize      = 1232 // DNS flag day 2020: no fragments
	maxAnswers   = 100  // records looked at
	maxAddresses = 16

	resolvConf    = "/etc/resolv.conf"
	resolvConfAge = 5 * time.Second // as often as Go's own resolver reads it
)

// resolver asks one configured server, or those of /etc/resolv.conf, without a cache.
type resolver struct {
	server  string // HOST:PORT; "" means the system's
	timeout time.Duration
	lines   sync.Map // server → *line

	mu     sync.Mutex
	system []string  // servers of resolvConf
	readAt time.Time // when they were read
}

func (r *resolver) servers() ([]string, error) {
	if r.server != "" {
		return []string{r.server}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.readAt) > resolvConfAge {
		conf, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil || len(conf.Servers) == 0 {
			return nil, bulkhead.NewFault(bulkhead.KindDNS, "this machine has no DNS resolver configured").WithHint("name one with --resolver HOST:PORT").WithCause(err)
		}
		r.system, r.readAt = nil, now
		for _, s := range conf.Servers {
			r.system = append(r.system, net.JoinHostPort(s, conf.Port))
		}
	}
	return r.system, nil
}

// lookup asks for records of one type and follows CNAMEs. It returns the records (of that type only), the names the
// CNAMEs led through, and a KindDNS fault for anything but NOERROR and NXDOMAIN: a failure is never "no records".
func (r *resolver) lookup(ctx context.Context, name string, qtype uint16) (records []dns.RR, chain []string, err error) {
	return r.conclude(ctx, name, qtype, nil)
}

// conclude is lookup; its first question may have been asked already.
func (r *resolver) conclude(ctx context.Context, name string, qtype uint16, first *asked) (records []dns.RR, chain []string, err error) {
	target := dns.CanonicalName(name)
	seen := map[string]bool{}
	for range maxCNAMEs + 1 {
		if seen[target] {
			return nil, chain, bulkhead.Faultf(bulkhead.KindDNS, "%s: the CNAMEs go round in circles", name)
		}
		seen[target] = true
		answer, err := r.exchange(ctx, target, qtype, first)
		first = nil
		if err != nil {
			return nil, chain, err
		}
		start := len(chain)
		target, chain, err = followCNAMEs(answer, target, chain)
		if err != nil {
			return nil, chain, err
		}
		for _, rr := range answer {
			if rr.Header().Rrtype == qtype && dns.CanonicalName(rr.Header().Name) == target {
				records = append(records, rr)
			}
		}
		if len(records) > 0 || len(chain) == start {
			return records, chain, nil
		}
	}
	return nil, chain, bulkhead.Faultf(bulkhead.KindDNS, "%s: more than %d CNAMEs", name, maxCNAMEs)
}

// followCNAMEs walks the aliases that one answer holds.
func followCNAMEs(answer []dns.RR, target string, chain []string) (string, []string, error) {
	for len(chain) <= maxCNAMEs {
		next := ""
		for _, rr := range answer {
			if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == target {
				next = dns.CanonicalName(c.Target)
			}
		}
		if next == "" {
			return target, chain, nil
		}
		target = next
		chain = append(chain, strings.TrimSuffix(next, "."))
	}
	return "", chain, bulkhead.Faultf(bulkhead.KindDNS, "%s: more than %d CNAMEs", target, maxCNAMEs)
}

// newQuestion has no number yet: over a kept connection it gets one there, over UDP by send.
func newQuestion(name string, qtype uint16) *dns.Msg {
	m := &dns.Msg{Question: []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}}}
	m.RecursionDesired = true
	return m.SetEdns0(udpSize, false)
}

// wanted is a lookup to be.
type wanted struct {
	name  string
	qtype uint16
}

// lookups is lookup for several at the same time. Each function gives one of them; done forgets those that nobody asked for.
// Over a kept connection the questions leave in one piece and nothing more is done until somebody waits; without one each
// lookup has a goroutine.
func (r *resolver) lookups(ctx context.Context, all ...wanted) (results []func() ([]dns.RR, error), done func()) {
	results = make([]func() ([]dns.RR, error), len(all))
	begun := r.begin(ctx, all)
	for i, w := range all {
		if begun != nil {
			results[i] = func() ([]dns.RR, error) {
				records, _, err := r.conclude(ctx, w.name, w.qtype, begun[i])
				return records, err
			}
			continue
		}
		type answer struct {
			records []dns.RR
			err     error
		}
		came := make(chan answer, 1)
		go func() {
			records, _, err := r.lookup(ctx, w.name, w.qtype)
			came <- answer{records, err}
		}()
		results[i] = func() ([]dns.RR, error) { x := <-came; return x.records, x.err }
	}
	return results, func() {
		for _, a := range begun {
			a.forget()
		}
	}
}

// begin asks the first server's first questions of lookups; nil when it takes none in this way.
func (r *resolver) begin(ctx context.Context, all []wanted) []*asked {
	servers, err := r.servers()
	if err != nil {
		return nil
	}
	questions := make([]*dns.Msg, len(all))
	for i, w := range all {
		questions[i] = newQuestion(dns.CanonicalName(w.name), w.qtype)
	}
	begun, err := r.line(servers[0]).begin(ctx, questions...)
	if err != nil {
		return nil
	}
	return begun
}

// exchange asks each server twice at most; the first may have been asked already.
func (r *resolver) exchange(ctx context.Context, name string, qtype uint16, first *asked) ([]dns.RR, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, err
	}
	m := newQuestion(name, qtype)
	what := dns.TypeToString[qtype] + " " + strings.TrimSuffix(name, ".")
	var last error
	for range 2 {
		for _, s := range servers {
			in, err := r.ask(ctx, m, s, first)
			first = nil
			if err != nil {
				last = bulkhead.Faultf(bulkhead.KindDNS, "%s: %s", what, plainNetError(err))
				continue
			}
			if in.Rcode == dns.RcodeSuccess || in.Rcode == dns.RcodeNameError {
				if len(in.Answer) > maxAnswers {
					return nil, bulkhead.Faultf(bulkhead.KindDNS, "%s: the answer has %d records", what, len(in.Answer))
				}
				return in.Answer, nil
			}
			last = bulkhead.Faultf(bulkhead.KindDNS, "%s: the resolver says %s", what, dns.RcodeToString[in.Rcode])
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// ask asks one server: over the connection that is kept to it, or over UDP when it takes no TCP, and then over TCP again
// if the answer is cut.
func (r *resolver) ask(ctx context.Context, m *dns.Msg, server string, already *asked) (*dns.Msg, error) {
	in, err := r.line(server).ask(ctx, m, already)
	if errors.Is(err, errNoLine) {
		if in, err = r.send(ctx, m, "udp", server); err == nil && in.Truncated {
			in, err = r.send(ctx, m, "tcp", server)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case !in.Response || len(in.Question) != 1 || in.Question[0].Qtype != m.Question[0].Qtype ||
		dns.CanonicalName(in.Question[0].Name) != m.Question[0].Name:
		return nil, errors.New("the answer is to another question")
	case in.Truncated:
		return nil, errors.New("the answer is cut even over TCP")
	}
	return in, nil
}

func (r *resolver) line(server string) *line {
	kept, ok := r.lines.Load(server)
	if !ok {
		kept, _ = r.lines.LoadOrStore(server, &line{server: server, timeout: r.timeout})
	}
	return kept.(*line)
}

// send asks over a socket of its own: each question leaves from another port, which a forger would have to guess. A server
// that is named by its address, as most are, needs none of the dialler's search for one.
func (r *resolver) send(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error) {
	m.Id = dns.Id()
	c := dns.Client{Net: network, Timeout: r.timeout, UDPSize: udpSize}
	to, err := netip.ParseAddrPort(server)
	if network != "udp" || err != nil {
		in, _, err := c.ExchangeContext(ctx, m, server)
		return in, err
	}
	socket, err := net.DialUDP(network, nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	in, _, err := c.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: socket})
	return in, err
}

// addresses returns IPv6 before IPv4, asking for both at the same time. One family may fail when the other answers.
func (r *resolver) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var out []netip.Addr
	var failure error
	results, done := r.lookups(ctx, wanted{host, dns.TypeAAAA}, wanted{host, dns.TypeA})
	defer done()
	for _, result := range results {
		records, err := result()
		if err != nil {
			failure = err
			continue
		}
		for _, rr := range records {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A.To4()
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok && len(out) < maxAddresses {
				out = append(out, a.Unmap())
			}
		}
	}
	if len(out) == 0 && failure != nil {
		return nil, failure
	}
	if len(out) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindDNS, "%s has neither an A nor an AAAA record", host)
	}
	return out, nil
}
