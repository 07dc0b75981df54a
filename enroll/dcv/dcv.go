// Package dcv looks at the world for enrolment: domain control validation by http-01 and dns-01 (RFC 8555 section 8),
// tls-alpn-01 (RFC 8737), addresses (RFC 8738), and CAA (RFC 8659, RFC 8657).
//
// Invariant: a name is resolved once per connection, every address is checked against policy, and exactly a checked
// address is dialled; the socket checks again. What is read from strangers is bounded in bytes, time and redirects.
//
// Refuses: link-local, multicast and metadata addresses always, loopback and private ones unless configured; a proxy;
// redirects to other ports than the configured ones; to read a DNS failure as permission, save for the house's own
// names, where it is recorded as an exemption with its reason.
package dcv

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// Config says how to look. CAAIdentities and Now are required; zero ports and times take the defaults.
type Config struct {
	// Resolver is HOST:PORT of the DNS resolver to ask for everything. Empty means the system's: then special-use
	// names (RFC 6761 and kin) are resolved like any program of this machine does, /etc/hosts first, and have no CAA.
	Resolver string
	HTTPPort int // http-01; 80
	TLSPort  int // tls-alpn-01, and https redirects; 443
	// AllowPrivate lets validation dial loopback and private addresses. It belongs to private hierarchies only.
	AllowPrivate bool
	// OwnNames are those whose CAA lookup may fail without being a denial; empty means enroll.DefaultOwnNames.
	OwnNames enroll.NameSet
	// CAAIdentities are the issuer domain names by which CAA records name us.
	CAAIdentities []string
	Timeout       time.Duration // one dial, one exchange; 5 s
	Total         time.Duration // one challenge; 20 s
	Now           func() time.Time
	Log           *slog.Logger // nil discards
}

// Validator implements enroll.Validator. It is safe for concurrent use and keeps no state between calls: no cache of
// ours stands between the world and a decision.
type Validator struct {
	cfg        Config
	dns        *resolver
	identities []string
	log        *slog.Logger
}

var _ enroll.Validator = (*Validator)(nil)

// New checks the configuration. The system's resolver configuration is read when it is first needed.
func New(cfg Config) (*Validator, error) {
	if cfg.Now == nil {
		return nil, errors.New("dcv: Now is required")
	}
	if len(cfg.CAAIdentities) == 0 {
		return nil, errors.New("dcv: at least one CAA identity is required")
	}
	if cfg.Resolver != "" {
		if _, _, err := net.SplitHostPort(cfg.Resolver); err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "the resolver %q is not HOST:PORT", cfg.Resolver).WithHint("for example --resolver 127.0.0.1:53")
		}
	}
	for _, p := range []*int{&cfg.HTTPPort, &cfg.TLSPort} {
		if *p < 0 || *p > 65535 {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "%d is not a port", *p)
		}
	}
	setDefault(&cfg.HTTPPort, 80)
	setDefault(&cfg.TLSPort, 443)
	setDefault(&cfg.Timeout, 5*time.Second)
	setDefault(&cfg.Total, 20*time.Second)
	if cfg.OwnNames.IsEmpty() {
		cfg.OwnNames = enroll.DefaultOwnNames()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	v := &Validator{cfg: cfg, dns: &resolver{server: cfg.Resolver, timeout: cfg.Timeout}, log: cfg.Log}
	for _, n := range cfg.CAAIdentities {
		v.identities = append(v.identities, strings.ToLower(strings.TrimSuffix(strings.TrimSpace(n), ".")))
	}
	return v, nil
}

func setDefault[T int | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// Validate performs one challenge, once. A refusal is a Fault of kind connection, dns, tls, unauthorized or
// incorrectResponse whose detail names what was seen.
func (v *Validator) Validate(ctx context.Context, id bulkhead.Identifier, m bulkhead.Method, token, keyAuthorization string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Total)
	defer cancel()
	if err := id.Check(); err != nil {
		return "", err
	}
	switch {
	case id.Type != bulkhead.DNS && id.Type != bulkhead.IP, id.Type == bulkhead.IP && m == bulkhead.DNS01, id.Wildcard():
		return "", bulkhead.Faultf(bulkhead.KindUnsupportedIdentifier, "%s cannot validate %s %q", m, id.Type, id.Value)
	case m == bulkhead.HTTP01:
		return v.http01(ctx, id, token, keyAuthorization)
	case m == bulkhead.DNS01:
		return v.dns01(ctx, id, keyAuthorization)
	case m == bulkhead.TLSALPN01:
		return v.tlsALPN01(ctx, id, keyAuthorization)
	}
	return "", bulkhead.Faultf(bulkhead.KindMalformed, "%q is not a method that looks at the world", m)
}

// addresses resolves a host once and returns the addresses that policy lets us dial, at most three.
func (v *Validator) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var all []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		all = []netip.Addr{a}
	} else if all, err = v.lookupHost(ctx, host); err != nil {
		return nil, err
	}
	const most = 3
	var out []netip.Addr
	var refused error
	for _, a := range all {
		if err := v.checkAddress(a); err != nil {
			refused = err
			continue
		}
		if len(out) < most {
			out = append(out, a.Unmap())
		}
	}
	if len(out) == 0 && refused != nil {
		return nil, bulkhead.Faultf(bulkhead.KindConnection, "%s: %v", host, refused)
	}
	if len(out) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindDNS, "%s has no address", host)
	}
	return out, nil
}

func (v *Validator) lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	special := specialUse(host)
	if v.cfg.Resolver != "" || special == "" {
		return v.dns.addresses(ctx, host)
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 section 6.3
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindDNS, "%s (%s, asked of this machine): %v", host, special, err)
	}
	return all, nil
}

// reserved are the special-use names, and where they are reserved.
var reserved = map[string]string{
	"localhost": "RFC 6761", "test": "RFC 6761", "invalid": "RFC 6761", "example": "RFC 6761", "local": "RFC 6762",
	"home.arpa": "RFC 8375", "alt": "RFC 9476", "onion": "RFC 7686", "internal": "ICANN 2024",
}

// specialUse names the reservation under which a name has no public DNS, "" when there is none.
func specialUse(name string) string {
	for at := strings.TrimSuffix(name, "."); at != ""; _, at, _ = strings.Cut(at, ".") {
		if source, ok := reserved[at]; ok {
			return "special-use name ." + at + ", " + source
		}
	}
	return ""
}
