package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

func (a *app) importCA() *cobra.Command {
	var o run.ImportOptions
	var name string
	c := &cobra.Command{Use: "import [PATH…]", Short: "put the certificates of another authority beside our own, to look at", Args: cobra.ArbitraryArgs,
		Long: "Reads openssl's index.txt and files and folders with certificates (PEM, DER), CRLs, and JSON of OpenBao and Vault. The authority\nbecomes foreign: its certificates are listed, previewed and counted in incidents; nothing is published for it. Each piece of\nthe input that is not taken is reported with its line. Given again, what is known stays and new revocations are taken.",
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir, o.Authority, o.Paths = a.opts.Dir, bulkhead.AuthorityID(name), args
			r, err := run.Import(c.Context(), o)
			if err != nil {
				return err
			}
			for _, p := range r.Problems {
				a.say("not taken: %s, line %d: %s", p.File, p.Line, p.Reason)
			}
			would := ""
			if r.DryRun {
				would = "dry run, nothing was changed: "
			}
			if err := a.show(r, "%s%s", would, fmt.Sprintf("%s has %d certificates in the input, %d of them revoked\n%d new, %d newly revoked, %d known before, %d pieces not taken\nnext: bulkhead cert list --issuer %s",
				r.Authority, r.Certificates, r.Revoked, r.New, r.NewlyRevoked, r.Known, len(r.Problems), r.Authority)); err != nil {
				return err
			}
			if len(r.Problems) > 0 {
				a.code = exitPartly
			}
			return nil
		}}
	c.Flags().StringVar(&name, "name", "", "name of the authority here, like old-ca")
	c.Flags().StringVar(&o.CA, "ca", "", "PEM file with its certificate, then those above it")
	c.Flags().StringVar(&o.Index, "index", "", "openssl's index.txt")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would change, and change nothing")
	return c
}
