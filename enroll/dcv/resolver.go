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
	resolvConf   = "/etc/resolv.conf"
	maxAddresses = 16
)

// resolver asks one configured server, or those of /etc/resolv.conf, without a cache.
type resolver struct {
	server  string // HOST:PORT; "" means the system's
	timeout time.Duration
	lines   sync.Map // server → *line
}

func (r *resolver) servers() ([]string, error) {
	if r.server != "" {
		return []string{r.server}, nil
	}
	conf, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil || len(conf.Servers) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindDNS, "this machine has no DNS resolver configured").WithHint("name one with --resolver HOST:PORT").WithCause(err)
	}
	var out []string
	for _, s := range conf.Servers {
		out = append(out, net.JoinHostPort(s, conf.Port))
	}
	return out, nil
}

// lookup asks for records of one type and follows CNAMEs. It returns the records (of that type only), the names the
// CNAMEs led through, and a KindDNS fault for anything but NOERROR and NXDOMAIN: a failure is never "no records".
func (r *resolver) lookup(ctx context.Context, name string, qtype uint16) (records []dns.RR, chain []string, err error) {
	target := dns.CanonicalName(name)
	seen := map[string]bool{}
	for range maxCNAMEs + 1 {
		if seen[target] {
			return nil, chain, bulkhead.Faultf(bulkhead.KindDNS, "%s: the CNAMEs go round in circles", name)
		}
		seen[target] = true
		answer, err := r.exchange(ctx, target, qtype)
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

// exchange asks each server twice at most.
func (r *resolver) exchange(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(udpSize, false)
	m.RecursionDesired = true
	what := dns.TypeToString[qtype] + " " + strings.TrimSuffix(name, ".")
	var last error
	for range 2 {
		for _, s := range servers {
			in, err := r.ask(ctx, m, s)
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
func (r *resolver) ask(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	kept, ok := r.lines.Load(server)
	if !ok {
		kept, _ = r.lines.LoadOrStore(server, &line{server: server, timeout: r.timeout})
	}
	in, err := kept.(*line).ask(ctx, m)
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

// send asks over a socket of its own: each question leaves from another port, which a forger would have to guess. A server
// that is named by its address, as most are, needs none of the dialler's search for one.
func (r *resolver) send(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error) {
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
	type answer struct {
		records []dns.RR
		err     error
	}
	six := make(chan answer, 1)
	go func() {
		records, _, err := r.lookup(ctx, host, dns.TypeAAAA)
		six <- answer{records, err}
	}()
	records, _, err := r.lookup(ctx, host, dns.TypeA)
	for _, x := range []answer{<-six, {records, err}} {
		records, err := x.records, x.err
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
