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
	var request string
	c := &cobra.Command{Use: "import [PATH…]", Short: "put the certificates of another authority beside our own, to look at", Args: cobra.ArbitraryArgs,
		Long: "Reads openssl's index.txt, files and folders with certificates (PEM, DER), CRLs, JSON of OpenBao and Vault, and step-ca's\ndatabase. The authority becomes foreign: its certificates are listed, previewed and counted in incidents; nothing is\npublished for it, unless it signs an OCSP delegate for a key of this house. Each piece of the input that is not taken is\nreported with its line. Given again, what is known stays and new revocations are taken.",
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir, o.Authority, o.Paths = a.opts.Dir, bulkhead.AuthorityID(name), args
			if request != "" {
				if len(args)+len(steps) > 0 || o.Index != "" || o.Delegate != "" {
					return bulkhead.NewFault(bulkhead.KindUsage, "--ocsp-request stands alone").WithHint("bulkhead import --name " + name + " --ocsp-request " + request)
				}
				if err := run.ImportRequest(c.Context(), o, request); err != nil {
					return err
				}
				return a.show(map[string]string{"authority": name, "request": request}, "the key was made and stays here; the request for its certificate is in %s\nhave %s sign it as an OCSP delegate (doc/import.md has the extensions), then: bulkhead import --name %s --ca CA.pem --ocsp-delegate CERT.pem CRL.pem", request, name, name)
			}
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
			would, here := "", ""
			if r.Served {
				here = "\nits status is published here"
				if r.CRL > 0 {
					here += fmt.Sprintf(", with the CRL number %d that it signed", r.CRL)
				}
			}
			if r.Released+r.Restated > 0 {
				here += fmt.Sprintf("\n%d were held and are good again, %d were held and are revoked for another reason now", r.Released, r.Restated)
			}
			if r.Blocked > 0 {
				here += fmt.Sprintf("\n%d keys that it revoked for keyCompromise are blocked: none of them is certified here", r.Blocked)
			}
			for _, x := range r.Exposed {
				here += fmt.Sprintf("\n%d certificates in force of this house hold one of them, and were not revoked; decide at once: bulkhead compromise key --spki %s --reason TEXT", x.Certificates, x.Key)
			}
			if r.DryRun {
				would = "dry run, nothing was changed: "
			}
			if err := a.show(r, "%s%s", would, fmt.Sprintf("%s has %d certificates in the input, %d of them revoked\n%d new, %d newly revoked, %d known before, %d pieces not taken%s\nnext: bulkhead cert list --issuer %s",
				r.Authority, r.Certificates, r.Revoked, r.New, r.NewlyRevoked, r.Known, len(r.Problems), here, r.Authority)); err != nil {
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
	c.Flags().StringVar(&request, "ocsp-request", "", "make a key here and write the request for an OCSP delegate into this file: the authority signs it")
	c.Flags().StringVar(&o.Delegate, "ocsp-delegate", "", "PEM file with the OCSP delegate that the authority signed: from now on its status is published here too")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would change, and change nothing")
	return c
}
