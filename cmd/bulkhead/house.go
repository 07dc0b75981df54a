package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) hierarchy() *cobra.Command {
	c := &cobra.Command{Use: "hierarchy", Short: "authorities: show, add, rotate, accept, import, standby, retire, destroy-key"}
	c.AddCommand(a.hierarchyShow(), a.hierarchyAdd(), a.hierarchyRotate(), a.hierarchyAccept(), a.hierarchyCRLURLs(), a.hierarchyAudit(), a.hierarchyEffect(),
		a.hierarchyImport(), a.hierarchyCeremonyFile(), a.hierarchyStandby(), a.hierarchyRetire(), a.hierarchyDestroyKey())
	return c
}

func (a *app) hierarchyShow() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "show the tree of authorities", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/authorities", func(v map[string][]console.AuthorityView) string {
			var b strings.Builder
			printTree(&b, v["authorities"], "", "")
			return strings.TrimRight(b.String(), "\n")
		})
	}}
}

func printTree(b *strings.Builder, all []console.AuthorityView, parent bulkhead.AuthorityID, indent string) {
	known := map[bulkhead.AuthorityID]bool{}
	for _, x := range all {
		known[x.ID] = true
	}
	for _, x := range all {
		top := parent == "" && (x.Parent == "" || !known[x.Parent] || x.State == bulkhead.AuthorityPending)
		if !top && (x.Parent != parent || parent == "" || x.State == bulkhead.AuthorityPending) {
			continue
		}
		key := "key offline"
		if x.Online {
			key = "key in the signer"
		}
		if x.State == bulkhead.AuthorityDestroyed {
			key = "key destroyed"
		}
		if x.State == bulkhead.AuthorityForeign {
			key = "key elsewhere, answers elsewhere"
		}
		if x.State == bulkhead.AuthorityForeignServed {
			key = "key elsewhere, answered here too"
		}
		more := ""
		if x.Successor != "" {
			more = ", succeeded by " + string(x.Successor)
		}
		fmt.Fprintf(b, "%s%s  %s, %s, %s%s\n", indent, x.ID, x.Kind, x.State, key, more)
		printTree(b, all, x.ID, indent+"  ")
	}
}

// grow is the flags of add and rotate.
type grow struct {
	algorithm, commonName, rootDir, rootPassphraseFile, csrOut, usage string
	permit, exclude                                                   []string
	days                                                              int
	dry                                                               bool
}

func (g *grow) flags(c *cobra.Command) {
	c.Flags().StringVar(&g.algorithm, "key-type", "p256", "p256, p384, rsa2048, rsa3072 or rsa4096")
	c.Flags().StringVar(&g.commonName, "common-name", "", "common name of the new authority")
	c.Flags().StringVar(&g.rootDir, "root-dir", "", "folder with the root key: sign at once, on this machine, outside the server")
	c.Flags().StringVar(&g.rootPassphraseFile, "root-passphrase-file", "", "file with the passphrase of the root key, when it has one")
	c.Flags().StringVar(&g.csrOut, "csr-out", "", "write the certificate request here (default: standard output)")
	c.Flags().StringSliceVar(&g.permit, "permit", nil, "with --root-dir: certify only these (name constraints): a domain, an address range, for smime a mail host")
	c.Flags().StringSliceVar(&g.exclude, "exclude", nil, "with --root-dir: never certify these")
	c.Flags().IntVar(&g.days, "days", 5*365, "validity, with --root-dir")
	dryRunFlag(c, &g.dry)
}

func (a *app) hierarchyAdd() *cobra.Command {
	var g grow
	c := &cobra.Command{Use: "add NAME", Short: "a new issuing authority: key and CSR, for our root or an enterprise root", Args: exactly(1, "a name"), RunE: func(c *cobra.Command, args []string) error {
		return a.grow(c, g, args[0], "")
	}}
	g.flags(c)
	c.Flags().StringVar(&g.usage, "usage", "tls", "what it certifies: tls, smime or code-signing; one authority, one usage")
	return c
}

func (a *app) hierarchyRotate() *cobra.Command {
	var g grow
	var name string
	c := &cobra.Command{Use: "rotate AUTHORITY", Short: "a successor with a new key; the old one goes on answering", Args: exactly(1, "an authority"), RunE: func(c *cobra.Command, args []string) error {
		if name == "" {
			name = successorName(args[0])
		}
		return a.grow(c, g, name, args[0])
	}}
	g.flags(c)
	c.Flags().StringVar(&name, "name", "", "name of the successor (default: the old name and a number)")
	return c
}

// successorName counts up a trailing number: issuing-p256 → issuing-p256-g2 → issuing-p256-g3.
func successorName(old string) string {
	base, n := old, 2
	if i := strings.LastIndex(old, "-g"); i > 0 {
		var k int
		if _, err := fmt.Sscanf(old[i+2:], "%d", &k); err == nil {
			base, n = old[:i], k+1
		}
	}
	return fmt.Sprintf("%s-g%d", base, n)
}

func (a *app) grow(c *cobra.Command, g grow, name, predecessor string) error {
	if err := run.CheckConstraints(g.usage, g.permit, g.exclude); err != nil {
		return err
	}
	if len(g.permit)+len(g.exclude) > 0 && g.rootDir == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "--permit and --exclude go with --root-dir").WithHint("name constraints are in the certificate: ask whoever signs it for them")
	}
	if g.rootDir != "" {
		if err := run.CheckRoot(c.Context(), g.rootDir, g.rootPassphraseFile); err != nil {
			return err
		}
	}
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	var v console.AuthorityView
	in := console.AddAuthorityRequest{ID: bulkhead.AuthorityID(name), Algorithm: g.algorithm, CommonName: g.commonName, Usage: g.usage, Predecessor: bulkhead.AuthorityID(predecessor)}
	if g.dry {
		return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/authorities", in)
	}
	if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/authorities", in, &v); err != nil {
		return err
	}
	if g.rootDir == "" {
		return a.handOut(g, v)
	}
	cert, chain, err := run.SignSubordinate(c.Context(), run.SubordinateRequest{DataDir: a.opts.Dir, RootDir: g.rootDir, PassphraseFile: g.rootPassphraseFile,
		Name: v.ID, CSR: []byte(v.CSR), Shards: v.Shards, Days: g.days, Permit: g.permit, Exclude: g.exclude})
	if err != nil {
		return err
	}
	return a.accept(c, cl, v.ID, cert, chain)
}

// handOut gives the request to whoever signs it.
func (a *app) handOut(g grow, v console.AuthorityView) error {
	if g.csrOut != "" {
		if err := os.WriteFile(g.csrOut, []byte(v.CSR), 0o644); err != nil {
			return fmt.Errorf("writing the CSR: %w", err)
		}
	} else if !a.json {
		fmt.Fprint(a.out, v.CSR)
	}
	a.say("authority %s waits for its certificate\nnext: have the request signed, then: bulkhead hierarchy accept %s CERT --chain CHAIN", v.ID, v.ID)
	if a.json {
		return a.print(v)
	}
	return nil
}

func (a *app) hierarchyAccept() *cobra.Command {
	var chainFile string
	var dry bool
	c := &cobra.Command{Use: "accept AUTHORITY CERT", Short: "take the certificate of an authority that waits for it", Args: exactly(2, "an authority and a PEM file"), RunE: func(c *cobra.Command, args []string) error {
		cert, err := readPEM(args[1])
		if err != nil {
			return err
		}
		chain := cert[1:]
		if chainFile != "" {
			more, err := readPEM(chainFile)
			if err != nil {
				return err
			}
			chain = append(chain, more...)
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/authorities/"+url.PathEscape(args[0])+"/certificate", console.AcceptAuthorityRequest{Certificate: cert[0], Chain: chain})
		}
		return a.accept(c, cl, bulkhead.AuthorityID(args[0]), cert[0], chain)
	}}
	dryRunFlag(c, &dry)
	c.Flags().StringVar(&chainFile, "chain", "", "PEM file with the certificates above it, nearest first, the root last")
	return c
}

func readPEM(path string) ([]string, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithCause(err)
	}
	var out []string
	for {
		var block *pem.Block
		if block, body = pem.Decode(body); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			out = append(out, string(pem.EncodeToMemory(block)))
		}
	}
	if len(out) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no PEM certificate", path)
	}
	return out, nil
}

func (a *app) accept(c *cobra.Command, cl *client.Client, id bulkhead.AuthorityID, cert string, chain []string) error {
	var v console.AuthorityView
	if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/authorities/"+url.PathEscape(string(id))+"/certificate", console.AcceptAuthorityRequest{Certificate: cert, Chain: chain}, &v); err != nil {
		return err
	}
	return a.show(v, "authority %s is active", v.ID)
}

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "look at the house and say what to do", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		var v map[string][]console.Finding
		if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/doctor", nil, &v); err != nil {
			return err
		}
		return a.findings(v["findings"])
	}}
}

// findings prints findings and ends with exit 3 when there are any that are not ok.
func (a *app) findings(fs []console.Finding) error {
	bad := false
	var rows []string
	for _, f := range fs {
		bad = bad || f.Level != "ok"
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", f.Level, f.Check, f.Detail))
		if f.Next != "" {
			rows = append(rows, "\t\tnext: "+f.Next)
		}
	}
	if err := a.show(map[string]any{"findings": fs}, "%s", table("LEVEL\tCHECK\tDETAIL", rows)); err != nil {
		return err
	}
	if bad {
		return errFindings
	}
	return nil
}

func (a *app) fsck() *cobra.Command {
	return &cobra.Command{Use: "fsck", Short: "check store, evidence and published status against each other", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		fs, err := run.Fsck(c.Context(), a.opts.Dir)
		if err != nil {
			return err
		}
		return a.findings(fs)
	}}
}

func (a *app) config() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "configuration: check"}
	var explain bool
	check := &cobra.Command{Use: "check [FILE]", Short: "check the configuration and the profiles", Args: atMost(1, "one file, or none"), RunE: func(_ *cobra.Command, args []string) error {
		if explain {
			text := run.ExampleConfig()
			return a.show(map[string]string{"defaults": string(text)}, "%s", text)
		}
		if len(args) == 1 {
			body, err := os.ReadFile(args[0])
			if err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", args[0]).WithCause(err)
			}
			if _, err := run.ParseConfig(body); err != nil {
				return err
			}
			return a.show(map[string]string{"file": args[0], "result": "ok"}, "%s: ok", args[0])
		}
		n, err := run.CheckDir(a.opts.Dir)
		if err != nil {
			return err
		}
		return a.show(map[string]any{"file": filepath.Join(a.opts.Dir, run.ConfigFile), "profiles": n, "result": "ok"}, "%s and %d profiles: ok", filepath.Join(a.opts.Dir, run.ConfigFile), n)
	}}
	check.Flags().BoolVar(&explain, "explain", false, "print every key with its default and its meaning")
	c.AddCommand(check)
	return c
}
