package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

func (a *app) hierarchyEffect() *cobra.Command {
	var revoke, trust []string
	var at string
	c := &cobra.Command{Use: "effect FILE|DIR…", Short: "say who would lose which paths if certificates were revoked; needs no server",
		Example: "  bulkhead hierarchy effect chains/ --revoke cross.pem --trust r1.pem --trust r2.pem", Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || len(revoke) == 0 {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s takes files or directories with certificates, or - for standard input, and --revoke FILE", c.CommandPath()).WithHint(c.CommandPath() + " --help")
			}
			return nil
		}}
	c.RunE = func(c *cobra.Command, args []string) error {
		when := time.Now()
		if at != "" {
			var err error
			if when, err = time.Parse(time.DateOnly, at); err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "--at %q is not a day like 2016-10-13", at)
			}
		}
		r, err := run.EffectOnFiles(c.Context(), args, revoke, trust, a.in, when)
		if err != nil {
			return err
		}
		answers := "1 answer changes"
		if n := len(r.Answers); n != 1 {
			answers = fmt.Sprintf("%d answers change", n)
		}
		if err := a.show(r, "%s\n%s%d inputs were not read as certificates", answers, r, len(r.Unparsed)); err != nil {
			return err
		}
		if r.Loses() {
			return errFindings
		}
		return nil
	}
	c.Flags().StringArrayVar(&revoke, "revoke", nil, "file with certificates to revoke; may be repeated")
	c.Flags().StringArrayVar(&trust, "trust", nil, "file with the anchors of one kind of client; may be repeated (default: each root alone, and all)")
	c.Flags().StringVar(&at, "at", "", "the day at which paths are valid (default: now)")
	return c
}
