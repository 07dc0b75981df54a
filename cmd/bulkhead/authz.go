package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) authz() *cobra.Command {
	c := &cobra.Command{Use: "authz", Short: "authorisations: revoke"}
	c.AddCommand(a.authzRevoke())
	return c
}

func (a *app) authzRevoke() *cobra.Command {
	var in console.RevokeAuthorizationsRequest
	var method string
	var yes bool
	c := &cobra.Command{Use: "revoke", Short: "revoke validations that turned out to be worth nothing; shows the count unless --yes", Args: exactly(0, "no arguments"),
		Long: "Selects valid authorisations by method, name, account and time of validation, and makes them revoked: open orders\non them end, the signer does not see their validations any more. Certificates that were issued stay.\nWithout --yes it counts and changes nothing.",
		RunE: func(c *cobra.Command, _ []string) error {
			in.Method = bulkhead.Method(method)
			for _, t := range []*string{&in.Since, &in.Until} {
				if err := sinceThen(t); err != nil {
					return err
				}
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			const path = "/api/v1/authorizations/revoke"
			if !yes {
				if err := a.rehearse(c.Context(), cl, http.MethodPost, path, in); err != nil {
					return err
				}
				a.say("next: the same with --yes --reason TEXT")
				return nil
			}
			var v console.RevokeAuthorizationsResponse
			if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
				return err
			}
			return a.show(v, "revoked %d authorisations; %d open orders ended; %d certificates rest on them", v.Revoked, v.OpenOrders, v.Certificates)
		}}
	f := c.Flags()
	f.StringVar(&method, "method", "", "http-01, dns-01, tls-alpn-01 or operator-approval")
	f.StringVar(&in.Name, "name", "", "exact name, or .SUFFIX for everything below")
	f.StringVar(&in.Account, "account", "", "account id")
	f.StringVar(&in.Since, "since", "", "validated at this time or later: 2026-01-02T15:04:05Z, or 36h, 7d ago")
	f.StringVar(&in.Until, "until", "", "validated before this time: 2026-01-02T15:04:05Z, or 36h, 7d ago")
	f.StringVar(&in.Reason, "reason", "", "why, for the record; needed with --yes")
	f.BoolVar(&in.All, "all", false, "all of them, when nothing else selects")
	f.BoolVar(&yes, "yes", false, "do it")
	return c
}

// sinceThen turns "36h" or "7d" into the time that long ago.
func sinceThen(text *string) error {
	if *text == "" {
		return nil
	}
	if _, err := time.Parse(time.RFC3339, *text); err == nil {
		return nil
	}
	d, err := run.ParseDuration(*text)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%q is neither a time nor a duration", *text).WithHint("write 2026-01-02T15:04:05Z, 36h or 7d")
	}
	*text = time.Now().UTC().Add(-d).Format(time.RFC3339)
	return nil
}
