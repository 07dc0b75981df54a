package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// accountVerbs are what people decide about accounts and what opens them.
func (a *app) accountVerbs() []*cobra.Command {
	show := &cobra.Command{Use: "show ID", Short: "show an account", Args: exactly(1, "the id of an account"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/accounts/"+url.PathEscape(args[0]), accountText)
	}}
	return []*cobra.Command{show, a.accountContacts(), a.resetCredentials(), a.accountSuspend(), a.accountResume(), a.accountRoll(), a.accountToken()}
}

func accountText(v console.AccountView) string {
	told := "nobody: it has no contact"
	if len(v.Contacts) > 0 {
		told = strings.ReplaceAll(strings.Join(v.Contacts, ", "), "mailto:", "")
	}
	text := fmt.Sprintf("account  %s\nstate    %s\nkind     %s\npartner  %s\nmade by  %s\ncreated  %s\ntold     %s", v.ID, v.State, v.Kind, v.Partner, v.Creator, v.CreatedAt.Format("2006-01-02 15:04:05 UTC"), told)
	if v.RollDue != nil {
		text += "\nits key must be changed before it orders, since " + v.RollDue.Format("2006-01-02 15:04:05 UTC")
	}
	return text
}

// confirmed posts what takes a reason and --yes; without --yes it says what would happen.
func confirmed[T any](a *app, c *cobra.Command, path string, in any, yes bool, text func(T) string) error {
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	if !yes {
		if err := a.rehearse(c.Context(), cl, http.MethodPost, path, in); err != nil {
			return err
		}
		a.say("next: the same with --yes")
		return nil
	}
	var v T
	if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
		return err
	}
	return a.show(v, "%s", text(v))
}

func (a *app) resetCredentials() *cobra.Command {
	var in console.ResetRequest
	var yes bool
	c := &cobra.Command{Use: "reset-credentials", Short: "kill every API token, external account key and partner token; says what would happen unless --yes", Args: exactly(0, "no arguments"),
		Long: "Kills every API token, every external account key that has made no account, and every token of a person at a\nregistration partner: the next use is refused. Each is in evidence. Interrupted, it goes on where it was when called again.\nACME accounts hold keys of their own: have those changed with bulkhead account roll --all.\nNew tokens: bulkhead account token ID, bulkhead eab add, bulkhead partner person add.",
		RunE: func(c *cobra.Command, _ []string) error {
			return confirmed(a, c, "/api/v1/credentials/reset", in, yes, func(v console.ResetResponse) string {
				return fmt.Sprintf("dead: %d API tokens, %d external account keys, %d tokens of people at partners\nnext: bulkhead account roll --all --reason TEXT, for the keys of ACME accounts", v.Tokens, v.ExternalKeys, v.PartnerTokens)
			})
		}}
	c.Flags().BoolVar(&in.All, "all", false, "all of them")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}

func (a *app) accountSuspend() *cobra.Command {
	var in console.ReasonRequest
	var dry bool
	c := &cobra.Command{Use: "suspend ID", Short: "keep an account out at once; one person", Args: exactly(1, "the id of an account"), RunE: func(c *cobra.Command, args []string) error {
		return confirmed(a, c, "/api/v1/accounts/"+url.PathEscape(args[0])+"/suspension", in, !dry, func(v console.AccountView) string {
			return accountText(v) + "\nnext: bulkhead account resume " + v.ID + " --reason TEXT   (takes two operators)"
		})
	}}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) accountResume() *cobra.Command {
	var in console.ReasonRequest
	var dry bool
	c := &cobra.Command{Use: "resume ID", Short: "ask two operators to let a suspended account in; exit code 3 until they have approved", Args: exactly(1, "the id of an account"), RunE: func(c *cobra.Command, args []string) error {
		return a.proposeAndWait(c, "/api/v1/accounts/"+url.PathEscape(args[0])+"/resumption", in, dry)
	}}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

// proposeAndWait opens a request for approval; nothing has happened yet, and the exit code says so.
func (a *app) proposeAndWait(c *cobra.Command, path string, in any, dry bool) error {
	err := a.propose(c, http.MethodPost, path, in, dry)
	if err == nil && !dry {
		a.code = exitRefused
	}
	return err
}

func (a *app) accountRoll() *cobra.Command {
	var in console.ResetRequest
	var dry bool
	c := &cobra.Command{Use: "roll [ID]", Short: "make an ACME account, or all, change its key before it orders again", Args: atMost(1, "the id of an account, or --all"), RunE: func(c *cobra.Command, args []string) error {
		if (len(args) == 1) == in.All {
			return bulkhead.NewFault(bulkhead.KindUsage, "roll takes the id of an account, or --all").WithHint("bulkhead account roll --all --reason TEXT")
		}
		if in.All {
			return confirmed(a, c, "/api/v1/credentials/roll", in, !dry, func(v console.RollResponse) string {
				return fmt.Sprintf("%d ACME accounts must change their keys before they order again", v.Accounts)
			})
		}
		return confirmed(a, c, "/api/v1/accounts/"+url.PathEscape(args[0])+"/roll", console.ReasonRequest{Reason: in.Reason}, !dry, accountText)
	}}
	c.Flags().BoolVar(&in.All, "all", false, "every ACME account")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) accountToken() *cobra.Command {
	var dry bool
	c := &cobra.Command{Use: "token ID", Short: "give an API account another token; the one before is dead", Args: exactly(1, "the id of an account"), RunE: func(c *cobra.Command, args []string) error {
		return confirmed(a, c, "/api/v1/accounts/"+url.PathEscape(args[0])+"/token", nil, !dry, func(v console.NewAccountResponse) string {
			return fmt.Sprintf("account  %s\ntoken    %s\nThe token is shown once. Use it as BULKHEAD_TOKEN or in a file named by BULKHEAD_TOKEN_FILE.", v.ID, v.Token)
		})
	}}
	dryRunFlag(c, &dry)
	return c
}

func contactFlag(c *cobra.Command, contacts *[]string) {
	c.Flags().StringArrayVar(contacts, "contact", nil, "mail `ADDRESS` at which its holder is told of incidents; may be repeated")
}

func (a *app) accountContacts() *cobra.Command {
	var in console.ContactsRequest
	var dry bool
	c := &cobra.Command{Use: "contacts ID", Short: "replace the mail addresses at which its holder is told of incidents; none without --contact", Args: exactly(1, "the id of an account"), RunE: func(c *cobra.Command, args []string) error {
		return confirmed(a, c, "/api/v1/accounts/"+url.PathEscape(args[0])+"/contacts", in, !dry, accountText)
	}}
	contactFlag(c, &in.Contacts)
	dryRunFlag(c, &dry)
	return c
}
