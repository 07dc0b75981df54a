package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) hierarchyImport() *cobra.Command {
	var in console.CeremonyRequest
	var newRoot string
	var dry bool
	c := &cobra.Command{Use: "import BUNDLE", Short: "bring in what a ceremony signed, or the record of a rehearsal", Args: exactly(1, "the bundle that bulkhead-root wrote"), RunE: func(c *cobra.Command, args []string) error {
		body, err := os.ReadFile(args[0])
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", args[0]).WithHint("give the bundle that bulkhead-root wrote").WithCause(err)
		}
		in.Bundle = string(body)
		if newRoot != "" {
			if in.NewRoot, err = bulkhead.ParseHash(strings.ToLower(newRoot)); err != nil {
				return err
			}
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/ceremonies", in)
		}
		var v console.ImportView
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/ceremonies", in, &v); err != nil {
			return err
		}
		return a.showImport(v)
	}}
	dryRunFlag(c, &dry)
	c.Flags().StringVar(&newRoot, "new-root", "", "SHA-256 of a root that the house does not know yet, from the paper record")
	return c
}

func (a *app) showImport(v console.ImportView) error {
	var b strings.Builder
	switch {
	case v.Already:
		fmt.Fprintf(&b, "The ceremony %q was imported before; nothing changed.\n", v.Title)
	case v.Rehearsal:
		fmt.Fprintf(&b, "The rehearsal %q is on record; it took %s.\n", v.Title, time.Duration(v.Seconds)*time.Second)
	default:
		fmt.Fprintf(&b, "The ceremony %q is in the record.\n", v.Title)
		for _, id := range v.Authorities {
			fmt.Fprintf(&b, "  authority %s\n", id)
		}
		for _, id := range v.Standbys {
			fmt.Fprintf(&b, "  a stand-by of %s lies ready\n", id)
		}
		for _, id := range v.Destroyed {
			fmt.Fprintf(&b, "  the key of %s is destroyed\n", id)
		}
		fmt.Fprintf(&b, "  CRLs %d, OCSP delegates %d, certificates %d\n", v.CRLs, v.Delegates, v.Certificates)
	}
	fmt.Fprintf(&b, "transcript  %s", v.Transcript)
	if err := a.show(v, "%s", b.String()); err != nil {
		return err
	}
	if v.Next != "" {
		a.say("change %s waits for this ceremony no more\nnext: %s", v.Change, v.Next)
	}
	return nil
}

func (a *app) changeCeremonyFile() *cobra.Command {
	var out, root string
	c := &cobra.Command{Use: "ceremony-file ID", Short: "write the plan of the ceremony that a change waits for", Args: exactly(1, "the id of a change"), RunE: func(c *cobra.Command, args []string) error {
		return a.ceremonyFile(c, out, url.Values{"change": {args[0]}, "root": {root}})
	}}
	c.Flags().StringVar(&out, "out", "", "write the plan here, and the transcript before it beside it (default: change-ID.yaml)")
	c.Flags().StringVar(&root, "root", "", "whose key signs, where a change needs several")
	return c
}

func (a *app) hierarchyCeremonyFile() *cobra.Command {
	var out, root, standby string
	c := &cobra.Command{Use: "ceremony-file", Short: "write the plan of the yearly ceremony, or of one that makes a stand-by", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return a.ceremonyFile(c, out, url.Values{"root": {root}, "standby": {standby}})
	}}
	c.Flags().StringVar(&out, "out", "", "write the plan here, and the transcript before it beside it (default: ceremony.yaml)")
	c.Flags().StringVar(&root, "root", "", "whose key signs (default: the only one)")
	c.Flags().StringVar(&standby, "standby", "", "authority that gets a stand-by under the root")
	return c
}

func (a *app) ceremonyFile(c *cobra.Command, out string, query url.Values) error {
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	var v console.CeremonyFileView
	if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/ceremonies/plan?"+query.Encode(), nil, &v); err != nil {
		return err
	}
	if out == "" {
		if out = "ceremony.yaml"; query.Get("change") != "" {
			out = "change-" + query.Get("change") + ".yaml"
		}
	}
	previous := strings.TrimSuffix(out, ".yaml") + ".previous.json"
	for path, text := range map[string]string{out: v.YAML, previous: v.Previous} {
		if text == "" {
			continue
		}
		if err := writeNew(path, text); err != nil {
			return err
		}
	}
	if err := a.show(map[string]any{"plan": out, "previous": previous, "hash": v.Hash, "root": v.Root, "words": v.Words}, "%s\n\nhash  %s\nplan  %s", strings.Join(v.Words, "\n"), v.Hash, out); err != nil {
		return err
	}
	a.say("next: carry %s and %s to the offline machine; there: bulkhead-root plan %s, then bulkhead-root run (doc/ceremony.md)", out, previous, out)
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return bulkhead.Faultf(bulkhead.KindConflict, "%s exists and is not overwritten", path).WithHint("--out FILE")
	}
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", path).WithHint("--out FILE").WithCause(err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func (a *app) keys() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "private keys: list"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "where every private key lives, what it is for, and who keeps it", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/keys", func(v console.KeyList) string {
			var rows []string
			for _, k := range v.Keys {
				online := "offline"
				if k.Online {
					online = "online"
				}
				since := "-"
				if k.Since != nil {
					since = k.Since.Format(time.DateOnly)
				}
				rows = append(rows, strings.Join([]string{k.Use, online, k.Algorithm, k.Where, k.Custodian, since, k.URI}, "\t"))
			}
			return table("KEY OF\tSTATE\tKIND\tLIVES IN\tKEPT BY\tSINCE\tURI", rows)
		})
	}})
	return c
}

func (a *app) hierarchyStandby() *cobra.Command {
	c := &cobra.Command{Use: "standby", Short: "stand-by chains: list, add, activate"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "stand-bys by authority, and authorities without one", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/standbys", func(v console.StandbyList) string {
			var rows []string
			for _, s := range v.Standbys {
				end, sha := "-", "-"
				if s.NotAfter != nil {
					end, sha = s.NotAfter.Format(time.DateOnly), s.SHA256.String()[:16]
				}
				state := s.State
				if s.OfferedUntil != nil {
					state += " until " + s.OfferedUntil.Format(time.RFC3339)
				}
				rows = append(rows, strings.Join([]string{string(s.Authority), state, orDash(string(s.Under)), orDash(string(s.Served)), end, sha}, "\t"))
			}
			return table("AUTHORITY\tSTAND-BY\tUNDER\tSERVED UNDER\tENDS\tSHA-256", rows)
		})
	}}, a.standbyAdd(), a.standbyActivate())
	return c
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) standbyAdd() *cobra.Command {
	var dry bool
	c := &cobra.Command{Use: "add AUTHORITY CHAIN", Short: "take a stand-by that another house's root signed", Args: exactly(2, "an authority and a PEM file: the certificate, then those above it, the root last"), RunE: func(c *cobra.Command, args []string) error {
		certs, err := readPEM(args[1])
		if err != nil {
			return err
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path, in := "/api/v1/authorities/"+url.PathEscape(args[0])+"/standby", console.AcceptAuthorityRequest{Certificate: certs[0], Chain: certs[1:]}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
		}
		var v console.StandbyView
		if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
			return err
		}
		return a.show(v, "a stand-by of %s lies ready; it is served to nobody until: bulkhead hierarchy standby activate %s", v.Authority, v.Authority)
	}}
	dryRunFlag(c, &dry)
	return c
}

func (a *app) standbyActivate() *cobra.Command {
	var sha, offer string
	var dry bool
	c := &cobra.Command{Use: "activate AUTHORITY", Short: "serve an authority under its stand-by's root, at once and without a ceremony", Args: exactly(1, "an authority"),
		Long: "The chain over ACME, the AIA object, the API and everything issued from now on switch together. One person may: no status changes,\n" +
			"nothing is signed, and the same command switches back.",
		RunE: func(c *cobra.Command, args []string) error {
			var in console.ActivateStandbyRequest
			var err error
			if sha != "" {
				if in.SHA256, err = bulkhead.ParseHash(sha); err != nil {
					return err
				}
			}
			if offer != "" {
				if in.OfferOld, err = time.Parse(time.RFC3339, offer); err != nil {
					return bulkhead.Faultf(bulkhead.KindUsage, "--offer-old-until %q is no time", offer).WithHint("--offer-old-until 2026-12-01T00:00:00Z").WithCause(err)
				}
			}
			var v console.StandbyView
			if shown, err := a.post(c.Context(), dry, "/api/v1/authorities/"+url.PathEscape(args[0])+"/standby/activation", in, &v); shown || err != nil {
				return err
			}
			return a.show(v, "%s is served under %s now; the chain under %s lies ready in its place", v.Authority, orDash(string(v.Served)), orDash(string(v.Under)))
		}}
	c.Flags().StringVar(&sha, "sha256", "", "which stand-by, where there are several")
	c.Flags().StringVar(&offer, "offer-old-until", "", "offer the chain served before as an alternate until then (RFC 3339; default: no more)")
	dryRunFlag(c, &dry)
	return c
}
