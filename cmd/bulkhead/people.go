package main

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
	"bulkhead/run/client"
)

// get fetches one document and prints it, as JSON or by the text function.
func get[T any](a *app, c *cobra.Command, path string, text func(T) string) error {
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	var v T
	if err := cl.Do(c.Context(), http.MethodGet, path, nil, &v); err != nil {
		return err
	}
	return a.show(v, "%s", text(v))
}

// table lines up rows of tab-separated cells.
func table(header string, rows []string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	_ = w.Flush() // a strings.Builder does not fail
	return strings.TrimRight(b.String(), "\n")
}

func (a *app) operator() *cobra.Command {
	c := &cobra.Command{Use: "operator", Short: "operators: list, add, remove, review, invite, keys, key-drop"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "list operators", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/operators", func(v map[string][]console.OperatorView) string {
			var rows []string
			for _, o := range v["operators"] {
				state := "in office"
				if o.RemovedAt != nil {
					state = "left " + o.RemovedAt.Format("2006-01-02")
				}
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", o.Name, state, strings.Join(o.Roles, ","), o.KeySHA256))
			}
			return table("NAME\tSTATE\tROLES\tKEY SHA-256", rows)
		})
	}})
	var pubFile, reason string
	var dry bool
	var roles []string
	add := &cobra.Command{Use: "add NAME", Short: "propose an operator; takes a quorum", Args: exactly(1, "a name"), RunE: func(c *cobra.Command, args []string) error {
		body, err := os.ReadFile(pubFile)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "the public key %q cannot be read", pubFile).WithHint("openssl genpkey -algorithm ed25519 -out KEY && openssl pkey -in KEY -pubout -out KEY.pub").WithCause(err)
		}
		pub, err := quorum.ParsePublicKey(body)
		if err != nil {
			return err
		}
		return a.propose(c, http.MethodPost, "/api/v1/operators", console.OperatorRequest{Name: args[0], PublicKey: pub, Roles: roles, Reason: reason}, dry)
	}}
	add.Flags().StringSliceVar(&roles, "role", nil, "admin (default), issuer-admin, revoker or auditor; may be given more than once")
	add.Flags().StringVar(&pubFile, "public-key", "", "PEM file with the operator's Ed25519 public key")
	remove := &cobra.Command{Use: "remove NAME", Short: "propose that an operator leaves; takes a quorum", Args: exactly(1, "a name"), RunE: func(c *cobra.Command, args []string) error {
		return a.propose(c, http.MethodDelete, "/api/v1/operators/"+url.PathEscape(args[0])+"?reason="+url.QueryEscape(reason), nil, dry)
	}}
	for _, x := range []*cobra.Command{add, remove} {
		x.Flags().StringVar(&reason, "reason", "", "why, for the record")
		dryRunFlag(x, &dry)
		c.AddCommand(x)
	}
	review := &cobra.Command{Use: "review NAME", Short: "confirm that another operator should still be one; every three months", Args: exactly(1, "a name"), RunE: func(c *cobra.Command, args []string) error {
		return confirmed(a, c, "/api/v1/operators/"+url.PathEscape(args[0])+"/review", nil, !dry, func(console.OperatorList) string { return "confirmed: " + args[0] })
	}}
	dryRunFlag(review, &dry)
	c.AddCommand(review)
	c.AddCommand(a.operatorKeys()...)
	return c
}

// propose opens a request for approval and says how to approve it, or says what would happen.
func (a *app) propose(c *cobra.Command, method, path string, in any, dry bool) error {
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	if dry {
		return a.rehearse(c.Context(), cl, method, path, in)
	}
	var v console.ApprovalView
	if err := cl.Do(c.Context(), method, path, in, &v); err != nil {
		return err
	}
	return a.show(v, "request %s waits for %d approvals: %s\nnext: bulkhead approve %s --key FILE   (once per operator)", v.ID, v.Needed, v.Action, v.ID)
}

func (a *app) approve() *cobra.Command {
	var keyFile string
	var list, dry, proof bool
	c := &cobra.Command{Use: "approve ID", Short: "approve a request with an operator key", Args: atMost(1, "the id of a request, or none"), RunE: func(c *cobra.Command, args []string) error {
		if list || len(args) == 0 {
			return get(a, c, "/api/v1/approvals", func(v map[string][]console.ApprovalView) string {
				var rows []string
				for _, r := range v["approvals"] {
					rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d of %d\t%s\t%s", r.ID, r.Action, r.State, len(r.Approvals), r.Needed, r.Actor, r.Reason))
				}
				return table("ID\tACTION\tSTATE\tAPPROVALS\tASKED BY\tREASON", rows)
			})
		}
		if proof {
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			var v console.ApprovalProof
			if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/approvals/"+url.PathEscape(args[0])+"/proof", nil, &v); err != nil {
				return err
			}
			return a.print(v)
		}
		return a.sign(c, args[0], keyFile, dry)
	}}
	c.Flags().BoolVar(&proof, "proof", false, "print the request with its signatures, for bulkhead-verify approval")
	c.Flags().StringVar(&keyFile, "key", "", "operator key that approves")
	c.Flags().BoolVar(&list, "list", false, "list requests")
	dryRunFlag(c, &dry)
	return c
}

// sign shows the request, recomputes its digest from what is shown, and signs that.
func (a *app) sign(c *cobra.Command, id, keyFile string, dry bool) error {
	if keyFile == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "approve needs the key that approves").WithHint("bulkhead approve " + id + " --key FILE")
	}
	key, err := client.ReadKey(keyFile)
	if err != nil {
		return err
	}
	opts := a.opts
	if opts.Token == "" && opts.OperatorKey == "" {
		opts.OperatorKey = keyFile
	}
	cl, err := client.New(opts)
	if err != nil {
		return err
	}
	var v console.ApprovalView
	if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/approvals/"+url.PathEscape(id), nil, &v); err != nil {
		return err
	}
	shown := string(v.Payload)
	if v.Action == console.ActionChangeProfile {
		shown = shownProfile(v.Payload)
	}
	a.say("%s, asked by %s: %s\n  %s", v.Action, v.Actor, v.Reason, shown)
	sig := quorum.SignApproval(key, bulkhead.ApprovalRequest{ID: v.ID, Action: v.Action, Payload: v.Payload})
	in := console.ApproveRequest{KeySHA256: bulkhead.Digest(key.Public().(ed25519.PublicKey)), Signature: sig}
	if dry {
		return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/approvals/"+url.PathEscape(id), in)
	}
	if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/approvals/"+url.PathEscape(id), in, &v); err != nil {
		return err
	}
	if v.State == bulkhead.RequestOpen {
		return a.show(v, "approved %s: %d of %d", v.ID, len(v.Approvals), v.Needed)
	}
	return a.show(v, "approved %s: %d of %d, %s", v.ID, len(v.Approvals), v.Needed, v.State)
}

func (a *app) account() *cobra.Command {
	c := &cobra.Command{Use: "account", Aliases: []string{"accounts"}, Short: "accounts: add, show, contacts, suspend, resume, roll, token, reset-credentials"}
	var dry bool
	var in console.NewAccountRequest
	add := &cobra.Command{Use: "add", Short: "make an API account and print its token once", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/accounts", in)
		}
		var v console.NewAccountResponse
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/accounts", in, &v); err != nil {
			return err
		}
		return a.show(v, "account  %s\ntoken    %s\nThe token is shown once. Use it as BULKHEAD_TOKEN or in a file named by BULKHEAD_TOKEN_FILE.", v.ID, v.Token)
	}}
	add.Flags().BoolVar(&in.OwnNames, "own-names", false, "its token orders the house's own names without a further word (API, EST)")
	contactFlag(add, &in.Contacts)
	dryRunFlag(add, &dry)
	c.AddCommand(add)
	c.AddCommand(a.accountVerbs()...)
	return c
}
