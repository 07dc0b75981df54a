package main

import (
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

func (a *app) caches() *cobra.Command {
	c := &cobra.Command{Use: "caches", Short: "caches in front of the edges: plan, lint, purge, verify, drain"}
	c.AddCommand(a.cachesPlan(), a.cachesLint(), a.cachesPurge(), a.cachesVerify(), a.cachesDrain())
	return c
}

// withCaches opens the published state of the data directory for one command.
func (a *app) withCaches(f func(v *run.CacheView) error) error {
	v, err := run.OpenCaches(a.opts.Dir)
	if err != nil {
		return err
	}
	defer v.Close()
	return f(v)
}

// moment reads a time with its zone.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04 Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, bulkhead.Faultf(bulkhead.KindUsage, "--%s: %q is not a time with its offset", flag, text).WithHint("--" + flag + " 2016-10-13T20:20:00+09:00")
}

func (a *app) cachesPlan() *cobra.Command {
	var at, validity, corrected, purged string
	c := &cobra.Command{Use: "plan", Short: "when the last wrong answer dies, in each tier and everywhere", Args: exactly(0, "no arguments"),
		Long: "Says when the last wrong answer dies: at its nextUpdate, because no purge reaches a client. Purging shortens the server\ntiers. Without --at and --validity it takes the answers that are published. It talks to nobody.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCaches(func(v *run.CacheView) error {
				in, err := v.Assume(at, validity, corrected, purged, moment)
				if err != nil {
					return err
				}
				p, err := v.Plan(c.Context(), in)
				if err != nil {
					return err
				}
				return a.show(p, "%s", p.String())
			})
		}}
	c.Flags().StringVar(&at, "at", "", "when the last wrong answer was signed, with its offset: 2016-10-13T20:20:00+09:00")
	c.Flags().StringVar(&validity, "validity", "", "validity of that answer (default: as configured)")
	c.Flags().StringVar(&corrected, "corrected", "", "when the right answers were published (default: --at)")
	c.Flags().StringVar(&purged, "purged", "", "when the server tiers are purged (default: at once)")
	return c
}

func (a *app) cachesLint() *cobra.Command {
	return &cobra.Command{Use: "lint", Short: "find tiers that will hurt: a cache that keeps longer than the one in front expects", Args: exactly(0, "no arguments"), RunE: func(*cobra.Command, []string) error {
		return a.withCaches(func(v *run.CacheView) error {
			fs := v.Lint()
			var rows []string
			for _, f := range fs {
				rows = append(rows, f.Level+"\t"+f.Tier+"\t"+f.Rule+"\t"+f.Detail, "\t\t\tnext: "+f.Next)
			}
			text := "no findings"
			if len(fs) > 0 {
				text = table("LEVEL\tTIER\tRULE\tDETAIL", rows)
			}
			if err := a.show(map[string]any{"findings": fs}, "%s", text); err != nil {
				return err
			}
			if len(fs) > 0 {
				return errFindings
			}
			return nil
		})
	}}
}

// selection is the flags that say what is purged or verified.
type selection struct {
	change, issuer, serial string
	all                    bool
}

func (s *selection) flags(c *cobra.Command, all string) {
	c.Flags().StringVar(&s.change, "change", "", "the certificates of this change")
	c.Flags().StringVar(&s.issuer, "issuer", "", "with --serial: the issuing authority of one certificate")
	c.Flags().StringVar(&s.serial, "serial", "", "with --issuer: the serial of one certificate")
	c.Flags().BoolVar(&s.all, "all", false, all)
}

func (s *selection) read() (run.CacheSelection, error) {
	out := run.CacheSelection{Change: s.change, All: s.all}
	if (s.issuer == "") != (s.serial == "") {
		return out, bulkhead.NewFault(bulkhead.KindUsage, "--issuer and --serial go together").WithHint("a serial means nothing without its issuer")
	}
	if s.issuer != "" {
		serial, err := bulkhead.ParseSerial(s.serial)
		if err != nil {
			return out, err
		}
		out.Ref = bulkhead.CertificateRef{Issuer: bulkhead.AuthorityID(s.issuer), Serial: serial}
		return out, out.Ref.Issuer.Check()
	}
	return out, nil
}

func (a *app) cacheLog() *slog.Logger {
	return run.NewLogger(a.err, run.Log{Level: "info", Format: "text"})
}

func (a *app) cachesPurge() *cobra.Command {
	var s selection
	c := &cobra.Command{Use: "purge", Short: "purge every tier from the origin outwards, after publication", Args: exactly(0, "no arguments"),
		Long: "Purges each node of each server tier, from the origin outwards: OCSP by GET in every form that clients write, by POST, for\nSHA-1 and SHA-256 CertIDs, and the CRLs concerned. It refuses before the change is public and every edge serves it.\nAccepted is not clean: bulkhead caches verify. Exit 4 when a node did not accept.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCaches(func(v *run.CacheView) error {
				sel, err := s.read()
				if err != nil {
					return err
				}
				p, err := v.Purge(c.Context(), sel, a.cacheLog())
				if err != nil {
					return err
				}
				if !p.Accepted || p.Moved != 0 {
					a.code = exitPartly
				}
				return a.show(p, "%s", p.String())
			})
		}}
	s.flags(c, "everything that is published")
	return c
}

func (a *app) cachesVerify() *cobra.Command {
	var s selection
	c := &cobra.Command{Use: "verify", Short: "fetch through every node of every tier and compare with the newest answers", Args: exactly(0, "no arguments"),
		Long: "Exit 0 only when every node of every tier serves the newest answers; 3 when one serves an older or a different one; 4\nwhen one could not be asked.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCaches(func(v *run.CacheView) error {
				sel, err := s.read()
				if err != nil {
					return err
				}
				r, err := v.Verify(c.Context(), sel, a.cacheLog())
				if err != nil {
					return err
				}
				switch {
				case r.Stale:
					a.code = exitRefused
				case !r.Complete:
					a.code = exitPartly
				}
				return a.show(r, "%s", r.String())
			})
		}}
	s.flags(c, "every CRL, and every answer or a sample of the newest")
	return c
}

func (a *app) cachesDrain() *cobra.Command {
	var to, before string
	c := &cobra.Command{Use: "drain", Short: "how to shorten validity ahead of a risky change, and when the change is safe", Args: exactly(0, "no arguments"),
		Long: "Says the earliest time at which every answer with today's validity has expired, and what to set. It changes nothing: the\nvalidity of a running house is set in its configuration and taken at the next start. Exit 3 when that is too late for --before.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCaches(func(v *run.CacheView) error {
				lower, err := run.ParseDuration(to)
				if err != nil {
					return err
				}
				deadline, err := moment("before", before)
				if err != nil {
					return err
				}
				d, err := v.Drain(c.Context(), time.Now().UTC().Truncate(time.Second), lower, deadline)
				if err != nil {
					return err
				}
				if !d.Safe {
					a.code = exitRefused
				}
				return a.show(d, "%s", d.String())
			})
		}}
	c.Flags().StringVar(&to, "to", "8h", "validity of answers from now on")
	c.Flags().StringVar(&before, "before", "", "time of the change, with its offset")
	return c
}
