package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run/client"
)

// operatorKeys are the verbs about operators' security keys.
func (a *app) operatorKeys() []*cobra.Command {
	var dry bool
	var reason string
	var in console.InvitationRequest
	invite := &cobra.Command{Use: "invite NAME", Short: "make a link with which one person registers a security key; the key takes a quorum", Args: exactly(1, "a name"), RunE: func(c *cobra.Command, args []string) error {
		var v console.InvitationResponse
		if shown, err := a.post(c.Context(), dry, "/api/v1/operators/"+url.PathEscape(args[0])+"/invitation", in, &v); shown || err != nil {
			return err
		}
		return a.show(v, "%s\nThe link is shown once and is good once, until %s. Give it to %s alone.\nnext: when the key is registered, bulkhead approve --list", v.Link, v.ExpiresAt.Format("2006-01-02 15:04 UTC"), v.Operator)
	}}
	invite.Flags().StringSliceVar(&in.Roles, "role", nil, "of somebody who is no operator yet: admin (default), issuer-admin, revoker or auditor")
	keys := &cobra.Command{Use: "keys", Short: "list operators' security keys", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/security-keys", func(v console.SecurityKeyList) string {
			var rows []string
			for _, k := range v.Keys {
				state, used := "in use", "never"
				if k.RemovedAt != nil {
					state = "taken away " + k.RemovedAt.Format("2006-01-02")
				}
				if k.UsedAt != nil {
					used = k.UsedAt.Format("2006-01-02")
				}
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", k.Operator, k.Label, state, used, k.Origin, k.KeySHA256))
			}
			return table("OPERATOR\tKEY\tSTATE\tLAST USED\tREGISTERED AT\tSHA-256", rows)
		})
	}}
	drop := &cobra.Command{Use: "key-drop SHA256", Short: "take a security key away, at once and on one person's word", Args: exactly(1, "the SHA-256 of a key"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/security-keys/" + url.PathEscape(args[0]) + "?reason=" + url.QueryEscape(reason)
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodDelete, path, nil)
		}
		var v console.SecurityKeyList
		if err := cl.Do(c.Context(), http.MethodDelete, path, nil, &v); err != nil {
			return err
		}
		return a.show(v, "taken away: %s signs in and approves no more", args[0])
	}}
	drop.Flags().StringVar(&reason, "reason", "", "why, for the record")
	dryRunFlag(invite, &dry)
	dryRunFlag(drop, &dry)
	return []*cobra.Command{invite, keys, drop}
}
