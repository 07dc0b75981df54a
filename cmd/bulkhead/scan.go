package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/scan"
)

// scanOutput is which of the outputs standard output gets.
type scanOutput struct{ lines, sarif bool }

func (a *app) scan() *cobra.Command {
	o := run.ScanOptions{In: a.in}
	var ports []uint
	var out scanOutput
	var inventory, record bool
	var tiers []string
	c := &cobra.Command{
		Use: "scan TARGET…", Short: "look for Heartbleed (CVE-2014-0160) and wrong certificates at endpoints", Args: cobra.ArbitraryArgs,
		Long: "Looks at every address of each target. A target is a name, an address, HOST:PORT, or SCHEME://HOST[:PORT] where the scheme\n" +
			"says what is spoken before TLS: smtp, submission, imap, pop3, ftp, ldap, xmpp, postgres; https, smtps, imaps, pop3s,\n" +
			"ldaps and ftps speak TLS at once. A block of addresses needs --authorisation: a YAML list of block, by and until.\n\n" +
			"Names that lead to private addresses are refused without --allow-private; an address that is written as such is dialled.\n\n" +
			"Exit codes: 3 something is vulnerable (or critical, with --whole), else 4 something was not seen, 5 nothing was reached, else 0.",
		Example: "  bulkhead scan www.example.com 192.0.2.1:8443 smtp://mail.example.com\n  bulkhead scan --file hosts.txt --state run.jsonl --json > report.json\n" +
			"  bulkhead scan 192.0.2.0/24 --authorisation letter.yaml\n  bulkhead scan --inventory --whole --record",
		RunE: func(c *cobra.Command, args []string) error {
			o.Targets, o.Ports, o.More = args, nil, nil
			for _, p := range ports {
				if p < 1 || p > 65535 {
					return bulkhead.Faultf(bulkhead.KindUsage, "--port %d is no port", p)
				}
				o.Ports = append(o.Ports, uint16(p))
			}
			if (out.lines || out.sarif) && a.json || out.lines && out.sarif {
				return bulkhead.NewFault(bulkhead.KindUsage, "--json, --jsonl and --sarif exclude one another")
			}
			if inventory {
				more, err := a.issued(c.Context(), o.Ports, func(console.CertificateView) bool { return true })
				if err != nil {
					return err
				}
				o.More = more
			}
			var err error
			if o.Tiers, err = scanTiers(tiers); err != nil {
				return err
			}
			if record {
				o.Keep = a.keepLooks
			}
			return a.runScan(c, o, out)
		},
	}
	c.AddCommand(a.scanOwnEstate(), a.scanHistory(), a.scanVersion())
	f := c.Flags()
	f.BoolVar(&inventory, "inventory", false, "every name of every valid certificate of this house, from its API")
	f.BoolVar(&record, "record", false, "keep what is seen in the house's history, and say what changed since the looks before")
	f.StringVar(&o.Before, "before", "", "output of an earlier run (--json, --jsonl or --state): says which keys are still the same")
	f.StringSliceVar(&o.Files, "file", nil, "file of targets, one a line, # begins a comment; - reads standard input")
	f.UintSliceVar(&ports, "port", []uint{443}, "port of targets that name none; several are all looked at")
	f.StringVar(&o.Authorisation, "authorisation", "", "file that says who allowed which blocks of addresses, until when")
	f.BoolVar(&o.AllowPrivate, "allow-private", false, "names may lead to loopback and private addresses")
	f.BoolVar(&o.Whole, "whole", false, "certificates, status by OCSP and CRL, CAA and weak suites, too")
	f.StringVar(&o.Resolver, "resolver", "", "DNS resolver HOST:PORT (default: the system's)")
	f.DurationVar(&o.Timeout, "timeout", 5*time.Second, "one step of a look; a look takes at most four times as long")
	f.IntVar(&o.Concurrency, "concurrency", 64, "looks at the same time, 1 to 1024")
	f.IntVar(&o.PerHost, "per-host", 2, "of them at one address that is not this machine's, 1 to 64")
	f.IntVar(&o.Retries, "retries", 1, "further looks where one could not tell, 0 to 10")
	f.StringVar(&o.StateFile, "state", "", "file that remembers what was done: a run that was stopped goes on")
	f.StringVar(&o.CAFile, "authorities", "", "PEM file of authorities by which a missing intermediate is known")
	f.StringSliceVar(&tiers, "tier", nil, "NAME=http://HOST:PORT of a cache through which status is asked for as well, with --whole")
	f.StringSliceVar(&o.CAA, "caa-identity", nil, "name by which CAA records permit the authorities of --authorities, with --whole")
	f.BoolVar(&out.lines, "jsonl", false, "one JSON document a target, as they are done")
	f.BoolVar(&out.sarif, "sarif", false, "a SARIF 2.1.0 document")
	return c
}

// scanTiers reads NAME=URL.
func scanTiers(all []string) (out []run.ScanTier, err error) {
	for _, text := range all {
		name, base, ok := strings.Cut(text, "=")
		if !ok || name == "" || !strings.HasPrefix(base, "http://") {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "--tier %s is not NAME=http://HOST:PORT", text)
		}
		out = append(out, run.ScanTier{Name: name, Base: base})
	}
	return out, nil
}

// within refuses a number out of its range.
func within(name string, v, least, most int) error {
	if v < least || v > most {
		return bulkhead.Faultf(bulkhead.KindUsage, "--%s %d is not within %d and %d", name, v, least, most)
	}
	return nil
}

func (a *app) runScan(c *cobra.Command, o run.ScanOptions, out scanOutput) error {
	if err := errors.Join(within("concurrency", o.Concurrency, 1, 1024), within("per-host", o.PerHost, 1, 64), within("retries", o.Retries, 0, 10)); err != nil {
		return err
	}
	if o.Timeout < 100*time.Millisecond || o.Timeout > time.Minute {
		return bulkhead.Faultf(bulkhead.KindUsage, "--timeout %s is not within 100ms and 1m", o.Timeout)
	}
	if o.Retries == 0 {
		o.Retries = -1
	}
	bar := newProgress(a.err, "scan")
	lines := json.NewEncoder(a.out)
	lines.SetEscapeHTML(false)
	human := !a.json && !out.lines && !out.sarif
	o.Started = func(targets, known int) {
		if known > 0 {
			a.say("%d targets are done, from %s", known, o.StateFile)
		}
		bar.start(targets)
	}
	o.Each = func(r scan.Result) {
		bar.clear()
		switch {
		case out.lines:
			_ = lines.Encode(r) // a reader that is gone ends the program by its signal
		case human:
			writeResult(a.out, r)
		}
		bar.step(r.Verdict == bulkhead.Vulnerable)
	}
	results, err := run.Scan(c.Context(), o)
	bar.clear()
	s := scan.Summarize(results)
	if err != nil && c.Context().Err() == nil {
		return err
	}
	stopped := err != nil
	a.code = scanCode(s, stopped)
	switch {
	case a.json:
		err = a.print(map[string]any{"targets": results, "summary": s, "complete": !stopped})
	case out.sarif:
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(scan.SARIF(results, buildVersion()))
	default:
		err = nil
	}
	if human {
		if o.Keep != nil {
			writeHistory(a.out, results)
		}
		a.scanWords(s)
	}
	if stopped {
		a.say("stopped: %d targets were done.", s.Targets)
		if o.StateFile != "" {
			a.say("next: the same command goes on where it was")
		}
	}
	return err
}

// scanCode is the exit code: the worst news first.
func scanCode(s scan.Summary, stopped bool) int {
	switch {
	case s.Verdict[bulkhead.Vulnerable]+s.Critical > 0:
		return exitRefused
	case stopped:
		return exitPartly
	case s.Targets > 0 && s.Reached() == 0:
		return exitUnreachable
	case s.Seen() < s.Targets:
		return exitPartly
	}
	return exitDone
}

// scanWords says in words how it ends.
func (a *app) scanWords(s scan.Summary) {
	var parts []string
	for _, v := range bulkhead.Verdicts {
		if n := s.Verdict[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(v), "_", " ")))
		}
	}
	a.say("%d targets: %s.", s.Targets, strings.Join(parts, ", "))
	if s.Verdict[bulkhead.Vulnerable] > 0 {
		a.say("next: patch, restart, make new keys, replace the certificates, revoke the old ones. In this order.")
	}
	if n := s.Targets - s.Seen(); n > 0 {
		a.say("%d could not be told. That is no all-clear.", n)
	}
	if s.Refused > 0 {
		a.say("%d addresses were not dialled: names of the house's own network need --allow-private.", s.Refused)
	}
}

func writeResult(w io.Writer, r scan.Result) {
	fmt.Fprintf(w, "%-14s %s: %s\n", strings.ToUpper(strings.ReplaceAll(string(r.Verdict), "_", " ")), r.Target, r.Detail)
	for _, e := range r.Endpoints {
		if len(r.Endpoints) > 1 || len(e.Findings)+len(e.Status) > 0 {
			fmt.Fprintf(w, "    %s  %s: %s\n", e.Endpoint.AddrPort(), strings.ReplaceAll(string(e.Verdict), "_", " "), e.Detail)
		}
		for _, f := range e.Findings {
			fmt.Fprintf(w, "    %s: %s (%s)\n", f.Severity, f.Message, f.Rule)
		}
		writeFacts(w, e)
	}
}

// writeFacts says what others say of the certificate.
func writeFacts(w io.Writer, e scan.Endpoint) {
	for _, s := range e.Status {
		tier, ours := "", ""
		if s.Tier != "" {
			tier = " through " + s.Tier
		}
		if s.Ours {
			ours = ", ours"
		}
		switch s.State {
		case bulkhead.StatusUnavailable:
			fmt.Fprintf(w, "    status by %s%s: no valid answer: %s\n", s.Via, tier, s.Detail)
		case bulkhead.StatusRevoked:
			fmt.Fprintf(w, "    status by %s%s: REVOKED on %s%s\n", s.Via, tier, s.RevokedAt.Format(time.DateOnly), ours)
		default:
			fmt.Fprintf(w, "    status by %s%s: %s, fresh until %s%s\n", s.Via, tier, s.State, s.NextUpdate.Format("2006-01-02 15:04 MST"), ours)
		}
	}
	if c := e.CAA; c != nil {
		fmt.Fprintf(w, "    CAA of %s: %s\n", c.Name, strings.TrimSpace(c.Records+" "+c.Detail))
	}
}
