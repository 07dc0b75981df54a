package run

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/console/check"
	"bulkhead/scan"
	"bulkhead/scan/probe"
	"bulkhead/watch"
)

// Check is the public analyser at /check/.
type Check struct {
	// Off takes the page away.
	Off bool `yaml:"off,omitempty"`
	// AllowPrivate lets strangers have loopback and private addresses looked at, at every port: for tests and closed networks.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
	// Ports besides those at which TLS is usually spoken.
	Ports []int `yaml:"ports,omitempty"`
	// Keep is how long a result can be shared.
	Keep Duration `yaml:"keep"`
	// PerSource and PerTarget are looks an hour, of one asker and at one host.
	PerSource int `yaml:"per_source"`
	PerTarget int `yaml:"per_target"`
}

func defaultCheck() Check {
	return Check{Keep: Duration(7 * 24 * time.Hour), PerSource: 600, PerTarget: 360}
}

func (c Check) check() error {
	if d := time.Duration(c.Keep); d < time.Hour || d > 90*24*time.Hour {
		return wrong("check.keep", "%s is not within 1h and 90d", d)
	}
	if c.PerSource < 1 || c.PerTarget < 1 || c.PerSource > 1_000_000 || c.PerTarget > 1_000_000 {
		return wrong("check.per_source", "looks an hour are 1 to 1000000, also per_target")
	}
	for _, p := range c.Ports {
		if p < 1 || p > 65535 {
			return wrong("check.ports", "%d is not a port", p)
		}
	}
	return nil
}

// checkPorts are those at which strangers may have a host looked at: a checker is no port scanner.
var checkPorts = []int{21, 25, 110, 143, 389, 443, 465, 587, 636, 853, 989, 990, 993, 995, 5222, 5223, 5432, 8443}

// checkAddresses of one host are looked at for a stranger.
const checkAddresses = 4

// eyes look at endpoints for the house: for strangers, for campaigns.
type eyes struct {
	h       *House
	names   scan.Names
	private bool
	ports   []int // nil allows every port
}

func (h *House) eyes(private bool) eyes {
	return eyes{h: h, names: scan.NewResolver(h.cfg.Resolver), private: private}
}

// analyser is the handler of the public page.
func (h *House) analyser() (http.Handler, error) {
	e := h.eyes(h.cfg.Analyser.AllowPrivate)
	if !e.private {
		e.ports = append(slices.Clone(checkPorts), h.cfg.Analyser.Ports...)
	}
	limit := func(hourly, most int) check.RateLimit {
		return check.RateLimit{Burst: max(1, min(most, hourly)), Hourly: hourly}
	}
	return check.New(check.Config{Looker: e, Store: h.store, Limits: h.store, Now: h.now, Log: h.log.With(slog.String("role", "check")), House: h.cfg.Organization,
		Keep: time.Duration(h.cfg.Analyser.Keep), Source: limit(h.cfg.Analyser.PerSource, 10), Target: limit(h.cfg.Analyser.PerTarget, 3)})
}

// target reads what a stranger wrote.
func (e eyes) target(text string) (scan.Target, error) {
	t, err := scan.ParseTarget(text, 443)
	if err != nil {
		return t, err
	}
	if t.Block.IsValid() {
		return t, bulkhead.NewFault(bulkhead.KindUsage, "a block of addresses is no host")
	}
	if e.ports != nil && !slices.Contains(e.ports, int(t.Port)) {
		return t, bulkhead.Faultf(bulkhead.KindForbidden, "port %d is none of those at which TLS is usually spoken", t.Port)
	}
	return t, nil
}

// Host implements check.Looker.
func (e eyes) Host(text string) (string, error) {
	t, err := e.target(text)
	return t.Host, err
}

// book answers with the addresses that were judged.
type book []netip.Addr

// Addresses implements scan.Names.
func (b book) Addresses(context.Context, string) ([]netip.Addr, error) { return b, nil }

// Check implements check.Looker. The name is asked once; what is judged is what is dialled.
func (e eyes) Check(ctx context.Context, text string) (bulkhead.CheckResult, error) {
	t, err := e.target(text)
	if err != nil {
		return bulkhead.CheckResult{}, err
	}
	names := e.names
	guard := scan.NewGuard(e.private)
	addrs := []netip.Addr{t.Address}
	if !t.Address.IsValid() {
		if addrs, err = e.names.Addresses(ctx, t.Host); err == nil {
			names = book(addrs[:min(len(addrs), checkAddresses)])
		}
	}
	for _, a := range addrs {
		if a.IsValid() && guard.Check(a) != nil {
			return bulkhead.CheckResult{}, bulkhead.Faultf(bulkhead.KindForbidden, "%s has a private or reserved address, which is not looked at for strangers", t.Host)
		}
	}
	rs, err := e.sweep(ctx, bulkhead.PublicLooks, guard, names, []scan.Target{t})
	if err != nil {
		return bulkhead.CheckResult{}, err
	}
	r := rs[0]
	out := bulkhead.CheckResult{Target: t.Text, Host: r.Host, Verdict: r.Verdict, Reason: r.Reason, Detail: r.Detail, At: r.At, Looks: []bulkhead.CheckedLook{}}
	for _, x := range r.Endpoints {
		out.Looks = append(out.Looks, bulkhead.CheckedLook{Look: x.Look, Findings: x.Findings, Status: x.Status, CAA: x.CAA})
	}
	return out, nil
}

// sweep takes whole looks at targets with what the house knows, keeps them in a book of the history, and hands what the wire
// showed to the watch.
func (e eyes) sweep(ctx context.Context, book bulkhead.LookBook, guard *scan.Guard, names scan.Names, targets []scan.Target) ([]scan.Result, error) {
	ours, err := e.h.ourAuthorities(ctx)
	if err != nil {
		return nil, err
	}
	known := make([]*x509.Certificate, 0, len(ours))
	for _, c := range ours {
		known = append(known, c)
	}
	// Connections take real time, whatever the clock of a rehearsal says.
	looker, err := probe.New(probe.Config{Dial: guard.Dial, Now: time.Now, Timeout: 4 * time.Second, Total: 16 * time.Second, Known: known})
	if err != nil {
		return nil, err
	}
	facts, err := e.facts(guard, names, known, book)
	if err != nil {
		return nil, err
	}
	rs, err := scan.Sweep(ctx, scan.Config{Looker: looker, Names: names, Now: time.Now, Whole: true, Retries: -1, Concurrency: 8, Judge: facts.Add}, targets)
	if err != nil {
		return rs, err
	}
	for _, r := range rs {
		for _, x := range r.Endpoints {
			e.h.sawOnWire(ours, x.Look)
		}
	}
	if err := e.h.history.Keep(ctx, book, rs); err != nil { // what was seen is worth more than its history
		e.h.log.WarnContext(ctx, "a look was not kept", slog.String("error", err.Error()))
	}
	return rs, nil
}

// ourAuthorities are the house's own, by id.
func (h *House) ourAuthorities(ctx context.Context) (map[bulkhead.AuthorityID]*x509.Certificate, error) {
	all, err := h.store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	out := map[bulkhead.AuthorityID]*x509.Certificate{}
	for _, a := range all {
		if c, err := x509.ParseCertificate(a.Certificate); err == nil {
			out[a.ID] = c
		}
	}
	return out, nil
}

// sawOnWire makes sightings of a certificate that a server showed: only a signature by a key of ours makes it one of ours, for
// anybody can write our name.
func (h *House) sawOnWire(ours map[bulkhead.AuthorityID]*x509.Certificate, l bulkhead.Look) {
	if l.Chain == nil || len(l.Chain.DER) == 0 {
		return
	}
	leaf, err := x509.ParseCertificate(l.Chain.DER[0])
	if err != nil {
		return
	}
	at := h.now().UTC()
	where := l.Endpoint.Host + " " + l.Endpoint.AddrPort().String()
	key := watch.Sighting{Kind: watch.KeyOnWire, At: at, Key: l.Chain.Key.SPKI, Since: leaf.NotBefore, Detail: where}
	for id, c := range ours {
		if string(c.RawSubject) == string(leaf.RawIssuer) && leaf.CheckSignatureFrom(c) == nil {
			if serial, err := bulkhead.SerialFromBig(leaf.SerialNumber); err == nil {
				key.Issuer, key.Serial, key.Fingerprint = id, serial, bulkhead.Digest(leaf.Raw)
				h.see(watch.Sighting{Kind: watch.CertificateOnWire, Issuer: id, Serial: serial, At: at, Fingerprint: key.Fingerprint, Detail: where})
			}
		}
	}
	h.see(key)
}
