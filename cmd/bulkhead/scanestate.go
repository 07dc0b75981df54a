package main

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
	"bulkhead/scan"
)

// issued are the hosts of the valid certificates that a caller wants, at each port. A wildcard names no host.
func (a *app) issued(ctx context.Context, ports []uint16, want func(console.CertificateView) bool) ([]scan.Target, error) {
	cl, err := client.New(a.opts)
	if err != nil {
		return nil, err
	}
	page, err := pages(ctx, cl, url.Values{"state": {"valid"}, "limit": {"1000"}}, true)
	if err != nil {
		return nil, err
	}
	var out []scan.Target
	seen := map[string]bool{}
	for _, c := range page.Certificates {
		if !want(c) {
			continue
		}
		for _, n := range c.Names {
			if n.Wildcard() || n.Type != bulkhead.DNS && n.Type != bulkhead.IP {
				continue
			}
			for _, p := range ports {
				t, err := scan.ParseTarget(n.Value, p)
				if err != nil || seen[t.Text] {
					continue // a name that is no host was certified for something else
				}
				seen[t.Text] = true
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// scanOwnEstate looks at the house itself: its sites are first in a campaign, and done before customers are told.
func (a *app) scanOwnEstate() *cobra.Command {
	o := run.ScanOptions{In: a.in, AllowPrivate: true, Whole: true, Concurrency: 16, PerHost: 2, Retries: 1, Timeout: 5 * time.Second}
	var out scanOutput
	c := &cobra.Command{
		Use: "own-estate", Short: "look at the house's own listener and sites", Args: exactly(0, "no arguments"),
		Long: "Looks at the HTTPS listener of the house, at the names of certificates that operators ordered, and at what --file lists,\n" +
			"whole, private addresses included. Exit code 0 means that everything was seen and nothing is wrong: only then tell customers.",
		Example: "  bulkhead scan own-estate --file our-sites.txt --json",
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		ready, err := client.ReadReady(a.opts.Dir)
		if err != nil {
			return err
		}
		u, err := url.Parse(ready.API)
		if err != nil || u.Host == "" {
			return bulkhead.NewFault(bulkhead.KindUnavailable, "the house does not say where it listens").WithHint("bulkhead up --data " + a.opts.Dir)
		}
		o.CAFile, o.Targets, o.Ports = ready.TrustAnchor, []string{"https://" + u.Host}, []uint16{443}
		if u, err := url.Parse(ready.OCSP); err == nil && u.Host != "" {
			o.Tiers = []run.ScanTier{{Name: "the status listener", Base: "http://" + u.Host}}
		}
		if o.More, err = a.issued(c.Context(), o.Ports, func(v console.CertificateView) bool {
			return v.Account == "" && v.Kind == bulkhead.LeafCertificate
		}); err != nil {
			return err
		}
		o.Keep = a.keepLooks
		return a.runScan(c, o, out)
	}
	f := c.Flags()
	f.StringSliceVar(&o.Files, "file", nil, "file of further sites of the house, one a line")
	f.BoolVar(&out.sarif, "sarif", false, "a SARIF 2.1.0 document")
	return c
}
