package main

import (
	"net/url"

	"github.com/spf13/cobra"

	"bulkhead/console"
)

func (a *app) hierarchyRetire() *cobra.Command {
	var in console.ReasonRequest
	var dry bool
	c := &cobra.Command{Use: "retire ID", Short: "ask two operators to retire an authority: it issues no more, for good, and goes on answering; exit code 3 until they have approved",
		Args: exactly(1, "the id of an authority: bulkhead hierarchy show"), RunE: func(c *cobra.Command, args []string) error {
			return a.proposeAndWait(c, "/api/v1/authorities/"+url.PathEscape(args[0])+"/retirement", in, dry)
		}}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) hierarchyDestroyKey() *cobra.Command {
	var in console.DestructionRequest
	var dry bool
	c := &cobra.Command{Use: "destroy-key ID", Short: "ask two operators to destroy the key of a revoked authority; exit code 3 until they have approved",
		Long: "Asks two operators to destroy the online key of an authority that is revoked. Their signatures under the request, which names\nthe key and where it is, are the witnesses'. Before the key goes, what its authority will owe is signed: the CRLs of every shard and\nOCSP delegates until the last certificate below it has ended. It is all served in its time; nothing can be signed any more.\nA key that is offline is destroyed at a ceremony.",
		Args: exactly(1, "the id of an authority: bulkhead hierarchy show"), RunE: func(c *cobra.Command, args []string) error {
			return a.proposeAndWait(c, "/api/v1/authorities/"+url.PathEscape(args[0])+"/destruction", in, dry)
		}}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	c.Flags().BoolVar(&in.AcceptGood, "accept-good", false, "even while certificates below it are in force, which no CRL can name afterwards")
	dryRunFlag(c, &dry)
	return c
}
