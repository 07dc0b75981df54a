package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

func (a *app) audit() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "prove what this house did, and give it to a stranger: prove, bundle"}
	c.AddCommand(a.auditProve(), a.auditBundle())
	return c
}

func (a *app) auditProve() *cobra.Command {
	var o run.ProveOptions
	var issuer, out string
	c := &cobra.Command{Use: "prove", Short: "hold keys, log, record and what is public against each other: six negatives", Args: exactly(0, "no arguments"),
		Long: "Counts every signature of an authority's keys by the evidence log, by the counter beside it, by the record and by what is public, and says of\n" +
			"each of six questions what was looked at, what was found and what is not covered: rogue certificates, customers' data, the root's key,\n" +
			"the infrastructure, the issuing keys, registration. It reads the data directory, opens no key and may run beside the house.\n" +
			"Exit 3 when something does not reconcile.",
		RunE: func(c *cobra.Command, _ []string) error {
			o.Dir, o.Issuer, o.Now = a.opts.Dir, bulkhead.AuthorityID(issuer), time.Now()
			report, err := run.Prove(c.Context(), o)
			if err != nil {
				return err
			}
			if out != "" {
				body, err := json.MarshalIndent(report, "", "  ")
				if err != nil {
					return err
				}
				if err := writeWhole(out, append(body, '\n'), 0o600); err != nil {
					return err
				}
			}
			if err := a.show(report, "%s", report.Text()); err != nil {
				return err
			}
			if !report.OK {
				return errFindings
			}
			return nil
		}}
	c.Flags().StringVar(&issuer, "issuer", "", "the authority whose keys are looked at")
	c.Flags().BoolVar(&o.All, "all", false, "every authority, and the keys of the house itself")
	c.Flags().StringVar(&o.Certificates, "certificates", "", "a file or folder with certificates from outside (PEM or DER): each that our key signed must be in the log")
	c.Flags().StringVar(&out, "out", "", "also write the report as JSON to this file")
	return c
}

func (a *app) auditBundle() *cobra.Command {
	var o run.ProveOptions
	var out string
	c := &cobra.Command{Use: "bundle", Short: "write what a stranger needs to verify this house with bulkhead-verify alone", Args: exactly(0, "no arguments"),
		Long: "Writes one file with the evidence log, its checkpoint, the digest of every certificate, the ceremonies' transcripts and the proof of\n" +
			"bulkhead audit prove --all. An auditor verifies it with bulkhead-verify bundle on a host that has nothing else; see doc/auditor.md.\n" +
			"It holds no certificate and no secret. Exit 3 when the proof did not reconcile; the bundle is written nevertheless.",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return bulkhead.NewFault(bulkhead.KindUsage, "--out is required").WithHint("bulkhead audit bundle --out house.bundle")
			}
			o.Dir, o.Now = a.opts.Dir, time.Now()
			r, err := run.Bundle(c.Context(), o, out)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%s: %d leaves, %d certificates, %d transcripts\nsha256 %s\n", r.File, r.Leaves, r.Certificates, r.Transcripts, r.SHA256)
			if r.Uncovered > 0 {
				text += fmt.Sprintf("%d rows are not yet under a checkpoint, so a stranger cannot verify them: make the bundle while the house runs\n", r.Uncovered)
			}
			if err := a.show(r, "%s", text+"\n"+r.Proof.Text()); err != nil {
				return err
			}
			if !r.Proof.OK || r.Uncovered > 0 {
				return errFindings
			}
			return nil
		}}
	c.Flags().StringVar(&out, "out", "", "the bundle's file (required)")
	c.Flags().StringVar(&o.Certificates, "certificates", "", "a file or folder with certificates from outside, for the proof")
	return c
}

// writeWhole writes a file whole or not at all, and durably.
func writeWhole(path string, body []byte, mode os.FileMode) error {
	wrong := bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", path).WithHint("name a file in a folder that exists and is yours")
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return wrong.WithCause(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(body)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return wrong.WithCause(err)
	}
	return nil
}
