package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) issuance() *cobra.Command {
	c := &cobra.Command{Use: "issuance", Short: "stop, resume, status: whether certificates are issued at all"}
	c.AddCommand(a.issuanceStop(), a.issuanceResume(), a.issuanceStatus())
	return c
}

func (a *app) issuanceStop() *cobra.Command {
	var in console.StopRequest
	var dry bool
	c := &cobra.Command{Use: "stop", Short: "stop issuance at once; one person, no proof", Args: exactly(0, "no arguments"),
		Long: "Stops the issue of subscribers' certificates, all of it or one scope, on every entry point and in the signer itself.\nOCSP, CRLs, revocation, evidence and the house's own certificates go on. Orders that are being processed wait and get\ntheir certificates after the stop. To end it takes two people: bulkhead issuance resume.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			const path = "/api/v1/issuance/stops"
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
			}
			var v console.StopView
			if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
				return err
			}
			return a.show(v, "issuance is stopped: %s\nsince   %s\nstop    %s\nOCSP, CRLs and revocation go on.\nnext: bulkhead issuance resume %s --reason TEXT   (takes two operators)", scope(v), v.At.Format("2006-01-02 15:04:05 UTC"), v.ID, v.ID)
		}}
	f := c.Flags()
	f.BoolVar(&in.All, "all", false, "everything")
	f.StringVar(&in.Issuer, "issuer", "", "one issuing authority")
	f.StringVar(&in.Profile, "profile", "", "one certificate profile")
	f.StringVar(&in.RA, "ra", "", "one registration partner")
	f.StringVar(&in.Account, "account", "", "one account")
	f.StringVar(&in.Method, "method", "", "one validation method: http-01, dns-01, tls-alpn-01 or operator-approval")
	f.StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func scope(v console.StopView) string { return strings.TrimSpace(string(v.Kind) + " " + v.Value) }

func (a *app) issuanceResume() *cobra.Command {
	var reason string
	var dry bool
	c := &cobra.Command{Use: "resume ID", Short: "ask two operators to end a stop; exit code 3 until they have approved", Args: exactly(1, "the id of a stop: bulkhead issuance status"),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.propose(c, http.MethodPost, "/api/v1/issuance/stops/"+url.PathEscape(args[0])+"/resumption", console.ResumeRequest{Reason: reason}, dry)
			if err == nil && !dry {
				a.code = exitRefused // nothing has resumed: that is for two people
			}
			return err
		}}
	c.Flags().StringVar(&reason, "reason", "", "why issuance may go on, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) issuanceStatus() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "what is stopped, and what was", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/issuance", func(v console.IssuanceView) string {
			text := "nothing is stopped"
			switch {
			case v.All:
				text = "ALL ISSUANCE IS STOPPED; status and revocation go on"
			case v.Stopped:
				text = "issuance is stopped in part"
			}
			var rows []string
			for _, x := range append(v.Stops, v.Ended...) {
				ended := "in force"
				if x.EndedAt != nil {
					ended = x.EndedAt.Format("2006-01-02 15:04:05")
				}
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", x.ID, scope(x), x.At.Format("2006-01-02 15:04:05"), ended, x.Actor, x.Reason))
			}
			if len(rows) == 0 {
				return text
			}
			return text + "\n" + table("ID\tSCOPE\tSTOPPED (UTC)\tENDED (UTC)\tBY\tREASON", rows)
		})
	}}
}
