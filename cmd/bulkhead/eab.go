package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) eab() *cobra.Command {
	c := &cobra.Command{Use: "eab", Short: "external account keys: add, list, revoke",
		Long: "External account keys (RFC 8555 section 7.3.4) let an operator decide who may make an ACME account: each makes one.\nSet acme.external_account_required to want one from every new account."}
	c.AddCommand(a.eabAdd(), a.eabList(), a.eabRevoke())
	return c
}

func (a *app) eabAdd() *cobra.Command {
	var in console.ExternalKeyRequest
	var expires string
	var dry bool
	c := &cobra.Command{Use: "add", Short: "make a key and print its MAC key once", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		if expires != "" {
			d, err := run.ParseDuration(expires)
			if err != nil {
				return err
			}
			in.ExpiresIn = d.String()
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/eab", in)
		}
		var v console.ExternalKeyResponse
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/eab", in, &v); err != nil {
			return err
		}
		return a.show(v, "kid       %s\nhmac-key  %s\nThe MAC key is shown once. certbot: --eab-kid %s --eab-hmac-key KEY; lego: --eab --kid %s --hmac KEY", v.Key.KID, v.HMACKey, v.Key.KID, v.Key.KID)
	}}
	c.Flags().StringVar(&in.Note, "note", "", "for whom, for the record")
	c.Flags().StringVar(&expires, "expires", "", "how long it can make an account, like 30d (default: for ever)")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) eabList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list keys, newest first", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/eab", func(v console.ExternalKeyList) string {
			var rows []string
			for _, k := range v.Keys {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", k.KID, k.State, k.Account, k.CreatedAt.Format("2006-01-02"), k.Note))
			}
			if len(rows) == 0 {
				return "no external account keys"
			}
			return table("KID\tSTATE\tACCOUNT\tMADE\tNOTE", rows)
		})
	}}
}

func (a *app) eabRevoke() *cobra.Command {
	var withAccount, dry bool
	c := &cobra.Command{Use: "revoke KID", Short: "end a key", Args: exactly(1, "the kid of a key"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/eab/" + url.PathEscape(args[0]) + fmt.Sprintf("?with_account=%t", withAccount)
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodDelete, path, nil)
		}
		var v console.ExternalKeyView
		if err := cl.Do(c.Context(), http.MethodDelete, path, nil, &v); err != nil {
			return err
		}
		if withAccount && v.Account != "" {
			return a.show(v, "revoked %s and account %s", v.KID, v.Account)
		}
		return a.show(v, "revoked %s", v.KID)
	}}
	c.Flags().BoolVar(&withAccount, "with-account", false, "revoke the account that was made with it, too")
	dryRunFlag(c, &dry)
	return c
}
