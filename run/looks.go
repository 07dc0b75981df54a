package run

import (
	"context"
	"fmt"
	"strings"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/scan"
)

// endpointLooks lets campaigns see the endpoints of a certificate.
type endpointLooks struct {
	e     eyes
	ports []uint16 // each name at each of them
}

// Look implements incident.Looker: every address and port of every name. A port at which nobody listens is left out where
// another serves; a node that is silent is not.
func (l endpointLooks) Look(ctx context.Context, item bulkhead.CampaignItem, _ bool) ([]incident.EndpointLook, error) {
	c, _, err := l.e.h.store.Certificate(ctx, item.CertificateRef)
	if err != nil {
		return nil, err
	}
	var targets []scan.Target
	for _, n := range c.Names {
		if n.Wildcard() || n.Type != bulkhead.DNS && n.Type != bulkhead.IP {
			continue
		}
		for _, p := range l.ports {
			t, err := scan.ParseTarget(n.Value, p)
			if err != nil {
				return nil, err
			}
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "the certificate names no host that can be looked at (a wildcard says not which)").
			WithHint("bulkhead campaign import --serials FILE --step installed --why TEXT")
	}
	rs, err := l.e.sweep(ctx, bulkhead.HouseLooks, scan.NewGuard(l.e.private, scan.Own(targets)...), l.e.names, targets)
	if err != nil {
		return nil, err
	}
	return endpointsOf(rs), nil
}

// endpointsOf reports nodes: those that serve or may serve, or all when none does.
func endpointsOf(rs []scan.Result) []incident.EndpointLook {
	var serving, closed []incident.EndpointLook
	for _, r := range rs {
		if len(r.Endpoints) == 0 {
			serving = append(serving, incident.EndpointLook{Address: r.Target, Verdict: string(r.Verdict)})
		}
		for _, e := range r.Endpoints {
			x := incident.EndpointLook{Address: fmt.Sprintf("%s %s", r.Host, e.Endpoint.AddrPort()), Verdict: string(e.Verdict)}
			if strings.HasPrefix(x.Address, e.Endpoint.Address.String()+" ") {
				x.Address = e.Endpoint.AddrPort().String()
			}
			if e.Chain != nil && len(e.Chain.DER) > 0 {
				x.Fingerprint, x.Key = bulkhead.Digest(e.Chain.DER[0]), e.Chain.Key.SPKI
			}
			if e.Reason == bulkhead.ReasonRefused {
				closed = append(closed, x)
			} else {
				serving = append(serving, x)
			}
		}
	}
	if len(serving) == 0 {
		return closed
	}
	return serving
}

// lookPorts of the configuration.
func (h *House) lookPorts() []uint16 {
	var out []uint16
	for _, p := range h.cfg.Incident.LookPorts {
		out = append(out, uint16(p)) //nolint:gosec // the configuration was checked
	}
	if len(out) == 0 {
		out = []uint16{443}
	}
	return out
}

// looks implements console.Looks by the house's book of the history.
type looks struct{ h *House }

// KeepLooks implements console.Looks.
func (x looks) KeepLooks(ctx context.Context, all []bulkhead.LookRecord) ([]bulkhead.LookRecord, error) {
	return x.h.history.KeepRecords(ctx, bulkhead.HouseLooks, all)
}

// LooksOf implements console.Looks.
func (x looks) LooksOf(ctx context.Context, host string, limit int) ([]bulkhead.LookRecord, error) {
	return x.h.history.Of(ctx, bulkhead.HouseLooks, host, limit)
}
