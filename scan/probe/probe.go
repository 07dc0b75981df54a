// Package probe takes one bounded look at one TLS endpoint: does it return memory to strangers (CVE-2014-0160), which
// protocol versions does it speak, and which certificates does it serve.
//
// The look speaks TLS at the record level and stops before any key is exchanged, so that it works with whatever suite a
// server insists on. To a server that negotiates heartbeat it sends one heartbeat that claims one byte more than it
// holds, waits a moment, and sends a well-formed one. The fault is proved by an answer that holds the byte that was not
// sent. A fixed server discards the first and answers the second at once, which proves the opposite without waiting
// for a time-out.
//
// Invariant: a verdict other than unreachable or inconclusive rests on bytes that the server sent in answer; silence
// proves nothing. What comes back in a heartbeat is measured and dropped as it arrives. Memory, bytes, connections and
// time of a look are bounded whatever the server does.
//
// Refuses: to overstate by more than one byte; to store or show the payload of an answer; SSL 2; to resolve or choose
// addresses (the caller's Dial is handed exactly the endpoint's address); to say "safe".
package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
)

// Dial connects to exactly this address or fails. Guards against forbidden destinations live behind it.
type Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// Config says how to look. Dial and Now are required; zero values take the defaults.
type Config struct {
	Dial    Dial
	Now     func() time.Time
	Timeout time.Duration       // one step: a dial, a STARTTLS dialogue, a server's flight, the heartbeats; 5 s
	Total   time.Duration       // one look with all its connections; 20 s
	Pause   time.Duration       // between the malformed and the well-formed heartbeat; 50 ms
	Keys    *keycheck.Rules     // by which keys are called weak; nil takes keycheck.AnyRSASize with every curve
	Known   []*x509.Certificate // authorities by which missing intermediates are found; may be empty
}

// Prober looks. It keeps nothing between looks but what it found out about keys, and is safe for concurrent use.
type Prober struct {
	cfg  Config
	keys memo
}

// New checks the configuration.
func New(cfg Config) (*Prober, error) {
	if cfg.Dial == nil || cfg.Now == nil {
		return nil, errors.New("probe: Dial and Now are required")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Total <= 0 {
		cfg.Total = 20 * time.Second
	}
	if cfg.Pause <= 0 {
		cfg.Pause = 50 * time.Millisecond
	}
	if cfg.Keys == nil {
		r := keycheck.AnyRSASize()
		r.P521, r.Ed25519 = true, true
		cfg.Keys = &r
	}
	return &Prober{cfg: cfg}, nil
}

// Verdict looks for CVE-2014-0160 and no further: one connection to a server that negotiates heartbeat, one for each
// version to another. The look always has a verdict and a reason; there is no error.
func (p *Prober) Verdict(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look {
	return p.look(ctx, ep, false)
}

// Look is Verdict with the certificates, the stapled answer, TLS 1.3 and the weak suites of the server.
func (p *Prober) Look(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look {
	return p.look(ctx, ep, true)
}

func (p *Prober) look(ctx context.Context, ep bulkhead.Endpoint, whole bool) bulkhead.Look {
	start := p.cfg.Now()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Total)
	defer cancel()
	l := &look{cfg: &p.cfg, keys: &p.keys, ctx: ctx, end: start.Add(p.cfg.Total), whole: whole, keep: whole}
	l.out.Endpoint, l.out.At = ep, start
	switch {
	case !ep.Address.IsValid() || ep.Port == 0:
		l.conclude(bulkhead.ReasonBadEndpoint, "an address and a port are needed")
	case ep.STARTTLS != bulkhead.NoSTARTTLS && dialogues[ep.STARTTLS] == nil:
		l.conclude(bulkhead.ReasonBadEndpoint, fmt.Sprintf("there is no dialogue for STARTTLS over %q; known are %v", ep.STARTTLS, bulkhead.STARTTLSProtocols))
	default:
		l.verdict()
		if whole && l.out.Verdict != bulkhead.Unreachable && ctx.Err() == nil {
			l.rest()
		}
	}
	l.out.Versions = l.report()
	l.out.Took = p.cfg.Now().Sub(start)
	return l.out
}
