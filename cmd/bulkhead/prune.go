package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) prune() *cobra.Command {
	var in console.PruneRequest
	var dry bool
	c := &cobra.Command{Use: "prune", Short: "delete certificates that ended long ago, and what ran out with them", Args: exactly(0, "no arguments"),
		Long: "Deletes certificates that ended before the day, and orders and authorisations that ran out before it and on which\nnothing rests. The day must lie beyond the retention of the configuration. Evidence, blocked keys, validations,\nauthorities' certificates and what stands on a current CRL stay. Interrupted, it goes on where it was when called again.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			const path = "/api/v1/prune"
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
			}
			var v console.PruneResponse
			if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
				return err
			}
			return a.show(v, "deleted %d certificates, %d orders, %d authorisations and %d replies", v.Certificates, v.Orders, v.Authorizations, v.Replies)
		}}
	c.Flags().StringVar(&in.Before, "before", "", "the day, like 2024-01-31")
	dryRunFlag(c, &dry)
	return c
}
