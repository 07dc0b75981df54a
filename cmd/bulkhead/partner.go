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

func (a *app) partner() *cobra.Command {
	c := &cobra.Command{Use: "partner", Short: "registration partners: add, list, show, limit, suspend, resume, log, person, approve, customer"}
	c.AddCommand(a.partnerAdd(), a.partnerLimit(), a.partnerSuspend(), a.partnerResume(), a.partnerLog(), a.partnerPerson(), a.partnerApprove(), a.partnerCustomer(),
		&cobra.Command{Use: "list", Short: "list registration partners", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/api/v1/partners", func(v console.PartnerList) string {
				var rows []string
				for _, p := range v.Partners {
					rows = append(rows, fmt.Sprintf("%s\t%s\t%d of %d\t%d of %d\t%s\t%s", p.ID, p.State, p.UsedHour, p.Scope.PerHour, p.UsedDay, p.Scope.PerDay, p.Scope.Hours, strings.Join(p.Scope.Names, " ")))
				}
				return table("ID\tSTATE\tTHIS HOUR\tTODAY\tHOURS (UTC)\tNAMES", rows)
			})
		}},
		&cobra.Command{Use: "show [ID]", Short: "show a partner with its people; without ID, by a partner's token, one's own", Args: atMost(1, "the name of a partner, or none"), RunE: func(c *cobra.Command, args []string) error {
			path := "/api/v1/partner"
			if len(args) == 1 {
				path = "/api/v1/partners/" + url.PathEscape(args[0])
			}
			return get(a, c, path, partnerText)
		}})
	return c
}

func partnerText(p console.PartnerView) string {
	text := fmt.Sprintf("partner   %s   %s\nstate     %s\nnames     %s\nprofiles  %s\nvolume    %d of %d this hour, %d of %d today\nhours     %s UTC", p.ID, p.Title, p.State,
		strings.Join(p.Scope.Names, " "), strings.Join(p.Scope.Profiles, " "), p.UsedHour, p.Scope.PerHour, p.UsedDay, p.Scope.PerDay, p.Scope.Hours)
	for _, x := range p.People {
		state := "has a token since " + x.CreatedAt.Format("2006-01-02")
		if x.RevokedAt != nil {
			state = "token dead since " + x.RevokedAt.Format("2006-01-02 15:04:05 UTC")
		}
		text += "\nperson    " + x.Name + ": " + state
	}
	return text
}

func scopeFlags(c *cobra.Command, s *console.ScopeView) {
	f := c.Flags()
	f.StringSliceVar(&s.Names, "names", nil, "suffixes of names, like example.com,example.net; * for every name")
	f.StringSliceVar(&s.Profiles, "profiles", nil, "certificate profiles")
	f.IntVar(&s.PerHour, "per-hour", 0, "certificates in one hour of the clock")
	f.IntVar(&s.PerDay, "per-day", 0, "certificates in one day, UTC")
	f.StringVar(&s.Hours, "hours", "", "when it may order, UTC, like 08:00-18:00; empty at any time")
}

func (a *app) partnerAdd() *cobra.Command {
	var in console.PartnerRequest
	var dry bool
	c := &cobra.Command{Use: "add ID", Short: "propose a registration partner; takes two operators, exit code 3 until they have approved", Args: exactly(1, "a name"), RunE: func(c *cobra.Command, args []string) error {
		in.ID = args[0]
		return a.proposeAndWait(c, "/api/v1/partners", in, dry)
	}}
	scopeFlags(c, &in.Scope)
	c.Flags().StringVar(&in.Title, "title", "", "what people call it")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) partnerLimit() *cobra.Command {
	var in console.ScopeRequest
	var dry bool
	c := &cobra.Command{Use: "limit ID", Short: "change what a partner may do: narrower at once, wider by two operators", Args: exactly(1, "the name of a partner"),
		Long: "What is not given stays as it is. A scope that permits nothing that the old one did not holds at once; a wider one is\nasked for, and the exit code is 3 until two operators have approved.",
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			path := "/api/v1/partners/" + url.PathEscape(args[0])
			var p console.PartnerView
			if err := cl.Do(c.Context(), http.MethodGet, path, nil, &p); err != nil {
				return err
			}
			for flag, keep := range map[string]func(){"names": func() { in.Scope.Names = p.Scope.Names }, "profiles": func() { in.Scope.Profiles = p.Scope.Profiles },
				"per-hour": func() { in.Scope.PerHour = p.Scope.PerHour }, "per-day": func() { in.Scope.PerDay = p.Scope.PerDay }, "hours": func() { in.Scope.Hours = p.Scope.Hours }} {
				if !c.Flags().Changed(flag) {
					keep()
				}
			}
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, path+"/scope", in)
			}
			var v console.ScopeResponse
			if err := cl.Do(c.Context(), http.MethodPost, path+"/scope", in, &v); err != nil {
				return err
			}
			if v.Approval != nil {
				a.code = exitRefused
				return a.show(v, "that permits more than before: request %s waits for %d approvals\nnext: bulkhead approve %s --key FILE   (once per operator)", v.Approval.ID, v.Approval.Needed, v.Approval.ID)
			}
			return a.show(v, "%s", partnerText(v.Partner))
		}}
	scopeFlags(c, &in.Scope)
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) partnerSuspend() *cobra.Command {
	var in console.ReasonRequest
	var dry bool
	c := &cobra.Command{Use: "suspend ID", Short: "the kill switch: stop a partner's customers and kill its credentials; one person", Args: exactly(1, "the name of a partner"), RunE: func(c *cobra.Command, args []string) error {
		return confirmed(a, c, "/api/v1/partners/"+url.PathEscape(args[0])+"/suspension", in, !dry, func(v console.SuspendedView) string {
			return partnerText(v.Partner) + "\nnext: bulkhead partner log " + v.Partner.ID + "   (everything it ever brought)"
		})
	}}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) partnerResume() *cobra.Command {
	var in console.ReasonRequest
	var dry bool
	c := &cobra.Command{Use: "resume ID", Short: "ask two operators to lift a suspension; exit code 3 until they have approved", Args: exactly(1, "the name of a partner"), RunE: func(c *cobra.Command, args []string) error {
		return a.proposeAndWait(c, "/api/v1/partners/"+url.PathEscape(args[0])+"/resumption", in, dry)
	}}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

// partnerLog goes through all pages: whoever looks after a break-in wants everything.
func (a *app) partnerLog() *cobra.Command {
	return &cobra.Command{Use: "log [ID]", Short: "everything a partner's customers ever ordered; without ID, by a partner's token, one's own", Args: atMost(1, "the name of a partner, or none"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/partner/log?limit=1000"
		if len(args) == 1 {
			path = "/api/v1/partners/" + url.PathEscape(args[0]) + "/log?limit=1000"
		}
		all := console.PartnerLog{Orders: []console.OrderView{}}
		for next := ""; ; {
			var page console.PartnerLog
			p := path
			if next != "" {
				p += "&after=" + url.QueryEscape(next)
			}
			if err := cl.Do(c.Context(), http.MethodGet, p, nil, &page); err != nil {
				return err
			}
			all.Orders = append(all.Orders, page.Orders...)
			if next = page.Next; next == "" {
				break
			}
		}
		var rows []string
		for _, o := range all.Orders {
			var names []string
			for _, n := range o.Names {
				names = append(names, n.Value)
			}
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", o.CreatedAt.Format("2006-01-02 15:04:05"), o.State, o.Account, strings.Join(names, " "), o.Certificate, strings.Join(o.Approvals, " ")))
		}
		return a.show(all, "%s\n%d orders", table("ORDERED (UTC)\tSTATE\tACCOUNT\tNAMES\tCERTIFICATE\tSECOND APPROVAL", rows), len(all.Orders))
	}}
}

func (a *app) partnerPerson() *cobra.Command {
	c := &cobra.Command{Use: "person", Short: "people at a partner: add, remove, key"}
	c.AddCommand(a.partnerPersonKey())
	var dry bool
	add := &cobra.Command{Use: "add PARTNER NAME", Short: "make a token for somebody at a partner, and print it once", Args: exactly(2, "a partner and a person"), RunE: func(c *cobra.Command, args []string) error {
		return confirmed(a, c, "/api/v1/partners/"+url.PathEscape(args[0])+"/people", console.PersonRequest{Name: args[1]}, !dry, func(v console.PersonResponse) string {
			return fmt.Sprintf("person  %s at %s\ntoken   %s\nThe token is shown once.", v.Name, v.Partner, v.Token)
		})
	}}
	remove := &cobra.Command{Use: "remove PARTNER NAME", Short: "kill the token of somebody at a partner", Args: exactly(2, "a partner and a person"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/partners/" + url.PathEscape(args[0]) + "/people/" + url.PathEscape(args[1])
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodDelete, path, nil)
		}
		var v console.PersonView
		if err := cl.Do(c.Context(), http.MethodDelete, path, nil, &v); err != nil {
			return err
		}
		return a.show(v, "the token of %s at %s is dead", args[1], args[0])
	}}
	for _, x := range []*cobra.Command{add, remove} {
		dryRunFlag(x, &dry)
		c.AddCommand(x)
	}
	return c
}

func (a *app) partnerCustomer() *cobra.Command {
	c := &cobra.Command{Use: "customer", Short: "with a partner's token: add, eab, list its customers"}
	var dry bool
	var key console.ExternalKeyRequest
	var told console.ContactsRequest
	add := &cobra.Command{Use: "add", Short: "make an API account for a customer and print its token once", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return confirmed(a, c, "/api/v1/partner/accounts", told, !dry, func(v console.NewAccountResponse) string {
			return fmt.Sprintf("account  %s\ntoken    %s\nThe token is shown once.", v.ID, v.Token)
		})
	}}
	eab := &cobra.Command{Use: "eab", Short: "make a key with which a customer makes one ACME account, and print it once", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return confirmed(a, c, "/api/v1/partner/eab", key, !dry, func(v console.ExternalKeyResponse) string {
			return fmt.Sprintf("kid       %s\nhmac key  %s\nThe key is shown once.", v.Key.KID, v.HMACKey)
		})
	}}
	eab.Flags().StringVar(&key.Note, "note", "", "for whom")
	contactFlag(add, &told.Contacts)
	for _, x := range []*cobra.Command{add, eab} {
		dryRunFlag(x, &dry)
		c.AddCommand(x)
	}
	c.AddCommand(&cobra.Command{Use: "list", Short: "list the partner's customers", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/partner/accounts", func(v console.AccountList) string {
			var rows []string
			for _, x := range v.Accounts {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", x.ID, x.Kind, x.State, x.CreatedAt.Format("2006-01-02"), x.Creator))
			}
			return table("ACCOUNT\tKIND\tSTATE\tCREATED\tMADE BY", rows)
		})
	}})
	return c
}
