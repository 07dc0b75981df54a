package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/importer/stepca"
	"bulkhead/run"
)

func (a *app) importCA() *cobra.Command {
	var o run.ImportOptions
	var name string
	var steps []string
	c := &cobra.Command{Use: "import [PATH…]", Short: "put the certificates of another authority beside our own, to look at", Args: cobra.ArbitraryArgs,
		Long: "Reads openssl's index.txt, files and folders with certificates (PEM, DER), CRLs, JSON of OpenBao and Vault, and step-ca's\ndatabase. The authority becomes foreign: its certificates are listed, previewed and counted in incidents; nothing is published for it. Each piece of\nthe input that is not taken is reported with its line. Given again, what is known stays and new revocations are taken.",
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir, o.Authority, o.Paths = a.opts.Dir, bulkhead.AuthorityID(name), args
			for _, path := range steps {
				source, err := stepca.Open(path, a.opts.Dir)
				if err != nil {
					return err
				}
				o.Sources = append(o.Sources, source)
			}
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
	c.Flags().StringArrayVar(&steps, "step-db", nil, "database of step-ca, not in use: the folder of badger, or a dump of its tables by pg_dump or mysqldump")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would change, and change nothing")
	return c
}
