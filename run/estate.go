package run

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/scan"
)

// estate looks at the house's own endpoints for campaigns: its listener, the sites of the configuration, and the names of the
// certificates of its own.
type estate struct{ endpointLooks }

// ownTarget is one of them. A required one must be seen; at the name of a certificate perhaps nobody serves.
type ownTarget struct {
	scan.Target
	required bool
	old      []bulkhead.Hash // certificates that it must not show any more
}

// LookAtEstate implements incident.Estate. Private addresses are the house's own here.
func (x estate) LookAtEstate(ctx context.Context, own []bulkhead.CampaignItem) (bulkhead.EstateLook, error) {
	all, err := x.targets(ctx, own)
	if err != nil || len(all) == 0 {
		return bulkhead.EstateLook{}, err
	}
	targets := make([]scan.Target, len(all))
	for i, t := range all {
		targets[i] = t.Target
	}
	rs, err := x.e.sweep(ctx, bulkhead.HouseLooks, scan.NewGuard(true, scan.Own(targets)...), x.e.names, targets)
	if err != nil {
		return bulkhead.EstateLook{}, err
	}
	var out bulkhead.EstateLook
	for _, r := range rs {
		i := slices.IndexFunc(all, func(t ownTarget) bool { return t.Text == r.Target })
		judgeOwn(&out, all[i], r)
	}
	return out, nil
}

func (x estate) targets(ctx context.Context, own []bulkhead.CampaignItem) (out []ownTarget, err error) {
	add := func(text string, port uint16, required bool, old ...bulkhead.Hash) error {
		t, err := scan.ParseTarget(text, port)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(out, func(o ownTarget) bool { return o.Text == t.Text }); i >= 0 {
			out[i].required, out[i].old = out[i].required || required, append(out[i].old, old...)
		} else {
			out = append(out, ownTarget{t, required, old})
		}
		return nil
	}
	if x.e.h.address != "" {
		if err := add(x.e.h.address, 443, true); err != nil {
			return nil, err
		}
	}
	for _, s := range x.e.h.cfg.Incident.OwnSites {
		if err := add(s, 443, true); err != nil {
			return nil, err
		}
	}
	for _, it := range own {
		c, _, err := x.e.h.store.Certificate(ctx, it.CertificateRef)
		if err != nil {
			return nil, err
		}
		if c.Kind == bulkhead.InfraCertificate {
			continue // that of the listener, or of a process that only the house talks to
		}
		for _, n := range c.Names {
			if n.Wildcard() || n.Type != bulkhead.DNS && n.Type != bulkhead.IP {
				continue
			}
			for _, p := range x.ports {
				_ = add(n.Value, p, false, c.Fingerprint) // a name that is no host was certified for something else
			}
		}
	}
	return out, nil
}

// judgeOwn says what is wrong at one target. Silence is wrong, too: what was not seen is not known to be clean.
func judgeOwn(out *bulkhead.EstateLook, t ownTarget, r scan.Result) {
	if scan.LeadsNowhere(r) && !t.required {
		out.NotServed = append(out.NotServed, r.Target)
		return
	}
	wrong := func(at, why string) { out.Wrong = append(out.Wrong, strings.TrimSpace(r.Target+" "+at)+": "+why) }
	if len(r.Endpoints) == 0 {
		wrong("", r.Detail)
	}
	served := false
	for _, e := range r.Endpoints {
		at := e.Endpoint.AddrPort().String()
		if e.Reason == bulkhead.ReasonRefused || e.Reason == bulkhead.ReasonNoRoute {
			continue
		}
		served = true
		out.Endpoints++
		if !e.Verdict.Seen() || e.Verdict == bulkhead.Vulnerable {
			wrong(at, fmt.Sprintf("%s: %s", e.Verdict, e.Detail))
		}
		for _, f := range e.Findings {
			if f.Severity == bulkhead.Critical {
				wrong(at, f.Message)
			}
		}
		if e.Chain != nil && len(e.Chain.DER) > 0 && slices.Contains(t.old, bulkhead.Digest(e.Chain.DER[0])) {
			wrong(at, "it still shows the certificate that was replaced")
		}
	}
	switch {
	case served || len(r.Endpoints) == 0:
	case t.required:
		wrong("", "nobody listens")
	default:
		out.NotServed = append(out.NotServed, r.Target)
	}
}
