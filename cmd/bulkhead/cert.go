package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) cert() *cobra.Command {
	c := &cobra.Command{Use: "cert", Short: "certificates: list, show, export, renew, revoke"}
	c.AddCommand(a.certList(), a.certShow(), a.certExport(), a.certRenew(), a.certRevoke(), a.certAdvice())
	return c
}

// inventoryFlags are the filters of the search, as the API names them with "_".
var inventoryFlags = [][2]string{
	{"q", "part of a name or of the subject, in any case"}, {"name", "only with this name; .example.test for all below it"}, {"serial", "only with this serial number"},
	{"key", "only with this key (SHA-256 of the SubjectPublicKeyInfo)"}, {"issuer", "only of this authority"}, {"profile", "only of this profile"}, {"account", "only of this account"},
	{"state", "valid, expired, issued, revoked, reserved or abandoned"}, {"kind", "leaf, ca, delegate or infra"},
	{"issued-after", "at this time or later (RFC 3339, or a day like 2026-01-02)"}, {"issued-before", "before this time"},
	{"expires-after", "at this time or later"}, {"expires-before", "before this time"}, {"expires-by", "at this time or earlier"},
	{"after", "cursor of the page before"}, {"limit", "rows of a page, 1 to 1000 (default 100)"},
}

func (a *app) certList() *cobra.Command {
	q := map[string]*string{}
	var all bool
	c := &cobra.Command{Use: "list", Short: "search certificates, newest first", Args: exactly(0, "no arguments"),
		Example: "  bulkhead cert list --q example --state valid\n  bulkhead cert list --expires-before 2026-12-01 --all --json"}
	for _, f := range inventoryFlags {
		q[strings.ReplaceAll(f[0], "-", "_")] = c.Flags().String(f[0], "", f[1])
	}
	c.Flags().BoolVar(&all, "all", false, "every page, not only one")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := url.Values{}
		for k, p := range q {
			if *p != "" {
				v.Set(k, *p)
			}
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		page, err := pages(c.Context(), cl, v, all)
		switch {
		case err != nil:
			return err
		case a.json:
			return a.print(page)
		}
		return a.listed(page)
	}
	return c
}

// pages reads one page, or all. A search for text may give an empty page before the last: then the next one is read.
func pages(ctx context.Context, cl *client.Client, q url.Values, all bool) (console.CertificateList, error) {
	out := console.CertificateList{Certificates: []console.CertificateView{}}
	for {
		var page console.CertificateList
		if err := cl.Do(ctx, http.MethodGet, "/api/v1/certificates?"+q.Encode(), nil, &page); err != nil {
			return out, err
		}
		out.Certificates, out.Next = append(out.Certificates, page.Certificates...), page.Next
		if page.Next == "" || !all && len(out.Certificates) > 0 {
			return out, nil
		}
		q.Set("after", page.Next)
	}
}

func (a *app) listed(page console.CertificateList) error {
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SERIAL\tISSUER\tSTATE\tNAMES\tUNTIL")
	for _, x := range page.Certificates {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.Serial, x.Issuer, stateOf(x), namesOf(x), x.NotAfter.Format("2006-01-02"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if page.Next != "" {
		a.say("more: add --after %s, or --all", page.Next)
	}
	return nil
}

func stateOf(x console.CertificateView) string {
	if x.State == bulkhead.Issued && x.Expired {
		return "expired"
	}
	return string(x.State)
}

func namesOf(x console.CertificateView) string {
	var n []string
	for _, id := range x.Names {
		n = append(n, id.Value)
	}
	if len(n) == 0 {
		return x.Subject
	}
	if len(n) > 3 {
		return strings.Join(n[:3], ",") + fmt.Sprintf(",… (%d)", len(n))
	}
	return strings.Join(n, ",")
}

// find resolves SERIAL or FILE. A file is matched by the digest of the certificate in it, so that a serial shared by
// two issuers is no question.
func (a *app) find(ctx context.Context, cl *client.Client, arg, issuer string) (console.CertificateView, error) {
	var v console.CertificateView
	body, err := os.ReadFile(arg)
	if err != nil {
		q := ""
		if issuer != "" {
			q = "?issuer=" + url.QueryEscape(issuer)
		}
		if _, perr := bulkhead.ParseSerial(arg); perr != nil {
			return v, bulkhead.Faultf(bulkhead.KindUsage, "%q is neither a file nor a serial number", arg).WithHint("bulkhead cert list")
		}
		return v, cl.Do(ctx, http.MethodGet, "/api/v1/certificates/"+url.PathEscape(arg)+q, nil, &v)
	}
	der := body
	if block, _ := pem.Decode(body); block != nil {
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return v, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no certificate", arg).WithHint("give a PEM or DER certificate, or a serial number").WithCause(err)
	}
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	if err != nil {
		return v, err
	}
	var page console.CertificateList
	if err := cl.Do(ctx, http.MethodGet, "/api/v1/certificates?serial="+serial.String(), nil, &page); err != nil {
		return v, err
	}
	want := bulkhead.Hash(sha256.Sum256(cert.Raw))
	for _, x := range page.Certificates {
		if x.SHA256 == want {
			return v, cl.Do(ctx, http.MethodGet, "/api/v1/certificates/"+serial.String()+"?issuer="+url.QueryEscape(string(x.Issuer)), nil, &v)
		}
	}
	return v, bulkhead.Faultf(bulkhead.KindNotFound, "the certificate in %s was not issued by this house", arg).WithHint("bulkhead cert list")
}

// locate is find with a client of its own.
func (a *app) locate(ctx context.Context, arg, issuer string) (console.CertificateView, error) {
	cl, err := client.New(a.opts)
	if err != nil {
		return console.CertificateView{}, err
	}
	return a.find(ctx, cl, arg, issuer)
}

func (a *app) certShow() *cobra.Command {
	var issuer string
	c := &cobra.Command{Use: "show SERIAL|FILE", Short: "show one certificate", Args: exactly(1, "a serial number or a file"), RunE: func(c *cobra.Command, args []string) error {
		v, err := a.locate(c.Context(), args[0], issuer)
		if err != nil {
			return err
		}
		revoked := ""
		if v.RevokedAt != nil {
			revoked = fmt.Sprintf("revoked      %s, %s\n", v.RevokedAt.Format("2006-01-02 15:04:05 UTC"), v.Reason)
		}
		if v.ReplacedBy != "" {
			revoked += "replaced by  " + v.ReplacedBy + "\n"
		}
		return a.show(v, "serial       %s\nissuer       %s\nstate        %s\n%snames        %s\nprofile      %s\nvalid        %s to %s\nsha256       %s\nkey sha256   %s\nevidence     leaf %d (intent), leaf %d (outcome)\n%s",
			v.Serial, v.Issuer, stateOf(v), revoked, namesOf(v), v.Profile, v.NotBefore.Format("2006-01-02 15:04:05"), v.NotAfter.Format("2006-01-02 15:04:05 UTC"), v.SHA256, v.KeySHA256, v.IntentLeaf, v.OutcomeLeaf, v.PEM)
	}}
	c.Flags().StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	return c
}

func (a *app) certRenew() *cobra.Command {
	var o order
	var issuer string
	c := &cobra.Command{Use: "renew SERIAL|FILE", Short: "a new key and certificate for the same names and profile", Args: exactly(1, "a serial number or a file"), RunE: func(c *cobra.Command, args []string) error {
		v, err := a.locate(c.Context(), args[0], issuer)
		if err != nil {
			return err
		}
		var names []string
		for _, n := range v.Names {
			names = append(names, n.Value)
		}
		o.profile, o.typed = v.Profile, typed(c, args)
		o.replaces = bulkhead.CertificateRef{Issuer: v.Issuer, Serial: v.Serial}.String()
		return a.order(c.Context(), o, names)
	}}
	o.flags(c)
	c.Flags().StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	return c
}

func (a *app) certRevoke() *cobra.Command {
	var issuer, reason, why string
	var dry bool
	c := &cobra.Command{Use: "revoke SERIAL|FILE", Short: "revoke one certificate: change, preview, publish", Args: exactly(1, "a serial number or a file"), RunE: func(c *cobra.Command, args []string) error {
		if _, err := bulkhead.ParseReason(reason); err != nil {
			return err
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		v, err := a.find(c.Context(), cl, args[0], issuer)
		if err != nil {
			return err
		}
		path := "/api/v1/certificates/" + v.Serial.String() + "/revoke"
		in := console.RevokeRequest{Issuer: string(v.Issuer), Reason: reason, Why: why}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
		}
		var res console.RevokeResponse
		if err := cl.Do(c.Context(), http.MethodPost, path, in, &res); err != nil {
			return err
		}
		return a.show(res, "revoked %s of %s (%s): change %s, head %d", v.Serial, v.Issuer, reason, res.Change.ID, res.Change.Head)
	}}
	c.Flags().StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	c.Flags().StringVar(&reason, "reason", "unspecified", "RFC 5280 reason: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	c.Flags().StringVar(&why, "why", "", "free text for the record")
	dryRunFlag(c, &dry)
	return c
}
