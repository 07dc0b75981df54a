package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

func (a *app) audit() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "prove what this house did, and give it to a stranger: prove"}
	c.AddCommand(a.auditProve())
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
				if err := writeWhole(out, append(body, '\n')); err != nil {
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

// writeWhole writes a file whole or not at all.
func writeWhole(path string, body []byte) error {
	wrong := bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", path).WithHint("name a file in a folder that exists and is yours")
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return wrong.WithCause(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(body)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return wrong.WithCause(err)
	}
	return nil
}
