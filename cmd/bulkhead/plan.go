package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run/client"
)

// dryRunFlag adds --dry-run to a command that changes something.
func dryRunFlag(c *cobra.Command, dry *bool) {
	c.Flags().BoolVar(dry, "dry-run", false, "say what would happen and change nothing")
}

// rehearse asks what a call would do, and prints it.
func (a *app) rehearse(ctx context.Context, cl *client.Client, method, path string, in any) error {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	var p console.Plan
	if err := cl.Do(ctx, method, path+sep+"dry_run=true", in, &p); err != nil {
		return err
	}
	return a.showPlan(p)
}

// post sends in to path and reads the answer into out; with dry it shows what that would do instead, and shown says so.
func (a *app) post(ctx context.Context, dry bool, path string, in, out any) (shown bool, err error) {
	cl, err := client.New(a.opts)
	if err != nil {
		return false, err
	}
	if dry {
		return true, a.rehearse(ctx, cl, http.MethodPost, path, in)
	}
	return false, cl.Do(ctx, http.MethodPost, path, in, out)
}

func (a *app) showPlan(p console.Plan) error {
	var b strings.Builder
	for _, w := range p.Would {
		b.WriteString("would " + w + "\n")
	}
	for _, n := range p.NotChecked {
		b.WriteString("not checked: " + n + "\n")
	}
	b.WriteString("nothing was changed")
	if p.Change != nil {
		b.WriteString("\nnext: bulkhead change show " + p.Change.ID)
	}
	return a.show(p, "%s", b.String())
}
