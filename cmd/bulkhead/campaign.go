package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) campaign() *cobra.Command {
	c := &cobra.Command{Use: "campaign", Short: "mass replacement: plan, start, status, items, pause, resume, look, import, close, list",
		Long: "A campaign replaces the certificates of an incident: own estate first, then everybody within what an hour can hold,\nand revokes each old one at a date that its holder can see. See doc/campaigns.md."}
	c.AddCommand(a.campaignPlan(), a.campaignStart(), a.campaignStatus(), a.campaignItems(), a.campaignWhy("pause", "stop after the chunk in hand; one person may, and the clocks go on"),
		a.campaignWhy("resume", "go on with the plan that was approved"), a.campaignWhy("close", "close a campaign that is done"), a.campaignImport(), a.campaignLook(), a.campaignList())
	return c
}

func (a *app) campaignPlan() *cobra.Command {
	var in console.PlanCampaignRequest
	var finish string
	var patch, newKey, installed, tickets, keep bool
	var capacity bulkhead.CampaignCapacity
	c := &cobra.Command{Use: "plan", Short: "plan the replacement of an incident's certificates; shows it, and keeps it with --keep", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		if in.Incident == "" {
			return bulkhead.NewFault(bulkhead.KindUsage, "which incident?").WithHint("--incident ID; see: bulkhead incident list")
		}
		if finish != "" {
			t, err := time.Parse(time.RFC3339, finish)
			if err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "--finish-by %q is not a time", finish).WithHint("like 2026-01-02T15:04:05Z")
			}
			in.FinishBy = t
		}
		f := c.Flags()
		if f.Changed("patch") || f.Changed("new-key") || f.Changed("installed") {
			in.Needs = &bulkhead.CampaignNeeds{Patch: patch, NewKey: newKey, Installed: installed}
		}
		if f.Changed("tickets") {
			in.Tickets = &tickets
		}
		if f.Changed("signatures") || f.Changed("validations") || f.Changed("notices") {
			in.Capacity = &capacity
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		const path = "/api/v1/campaigns"
		if !keep {
			if err := a.rehearse(c.Context(), cl, http.MethodPost, path, in); err != nil {
				return err
			}
			a.say("next: the same with --keep")
			return nil
		}
		var v console.CampaignView
		if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
			return err
		}
		return a.show(v, "%s\nnext: bulkhead campaign start %s", campaignText(v), v.ID)
	}}
	f := c.Flags()
	f.StringVar(&in.Incident, "incident", "", "id of the incident")
	f.StringVar(&finish, "finish-by", "", "when it must be done; default the deadline. Later opens a record of the delay")
	f.BoolVar(&patch, "patch", false, "want a passing look at every endpoint before a replacement counts")
	f.BoolVar(&newKey, "new-key", false, "refuse every key of the campaign for ever")
	f.BoolVar(&installed, "installed", false, "see the replacement at every endpoint before the old one is revoked")
	f.BoolVar(&tickets, "tickets", false, "give each holder a code for a free reissue")
	f.IntVar(&capacity.Signatures, "signatures", 0, "replacements an hour; with any of the three, 0 is no limit")
	f.IntVar(&capacity.Validations, "validations", 0, "validations an hour")
	f.IntVar(&capacity.Notices, "notices", 0, "accounts told an hour")
	f.BoolVar(&keep, "keep", false, "keep the plan, so that it can be approved")
	return c
}

func campaignText(v console.CampaignView) string {
	var b strings.Builder
	fmt.Fprintf(&b, "campaign  %s is %s: %d certificates of incident %s\nplan      %s (generation %d)\n", v.ID, strings.ToUpper(string(v.State)), v.Items, v.Incident, v.PlanHash, v.Generation)
	if !v.Deadline.IsZero() {
		fmt.Fprintf(&b, "deadline  %s UTC, %s; the clock revokes what is left at %s\n", v.Deadline.Format(utcFormat), left(v.Deadline), v.ForceAt.Format(utcFormat))
	}
	var plan console.PlanView
	if json.Unmarshal(v.Plan, &plan) == nil {
		for _, w := range plan.Waves {
			fmt.Fprintf(&b, "wave %d    %s: %d\n", w.Wave, w.Name, w.Items)
		}
		if plan.Unplaced > 0 {
			fmt.Fprintf(&b, "THE CAPACITY DOES NOT REACH for %d of them\n", plan.Unplaced)
		}
	}
	p := v.Progress
	if p == nil {
		return strings.TrimRight(b.String(), "\n")
	}
	sum := int64(0)
	for _, s := range bulkhead.ItemStates {
		if n := p.ByState[s]; n > 0 {
			fmt.Fprintf(&b, "  %-12s %d\n", s, n)
			sum += n
		}
	}
	fmt.Fprintf(&b, "  %-12s %d\n", "total", sum)
	fmt.Fprintf(&b, "own estate %d of %d replaced; overdue %d; same-key attempts %d; on hold %d; tickets %d, used %d\n", p.OwnReplaced, p.OwnTotal, p.Overdue, p.SameKeyAttempts, p.ByState[bulkhead.ItemHeld], p.Tickets, p.TicketsUsed)
	if o := v.OwnEstate; o != nil && o.Look != nil {
		fmt.Fprintf(&b, "own endpoints, looked at %s: %d serve, %d not clean\n", o.Look.At.Format("2006-01-02 15:04 MST"), o.Look.Endpoints, len(o.Look.Wrong))
		for _, w := range o.Look.Wrong {
			fmt.Fprintf(&b, "  first: %s\n", w)
		}
	}
	if n := p.ByState[bulkhead.ItemHeld]; n > 0 {
		fmt.Fprintf(&b, "%d on legal hold: their holders get no letter. Tell them by hand where the order lets you: bulkhead campaign items %s --state held\n", n, v.ID)
	}
	for _, t := range v.Troubles {
		fmt.Fprintf(&b, "waits: %s\n", t)
	}
	if at := toldLater(v, plan, time.Now()); !at.IsZero() {
		fmt.Fprintf(&b, "the own estate is done, and the next are told from %s UTC only; to tell them from now on: bulkhead campaign plan --incident %s --keep\n", at.Format(utcFormat), v.Incident)
	}
	return strings.TrimRight(b.String(), "\n")
}

// toldLater is when the next wave is told, where the own estate, for which it waits, is done already; zero where nobody waits.
func toldLater(v console.CampaignView, plan console.PlanView, now time.Time) (first time.Time) {
	if v.State != bulkhead.CampaignRunning || v.OwnEstate == nil || !v.OwnEstate.Clean || v.OwnEstate.Certificates == 0 {
		return first
	}
	for _, w := range plan.Waves {
		if w.FirstNotice.After(now) && (first.IsZero() || w.FirstNotice.Before(first)) {
			first = w.FirstNotice
		}
	}
	return first
}

func (a *app) campaignStart() *cobra.Command {
	var hash, why string
	var dry bool
	c := &cobra.Command{Use: "start ID", Short: "ask two operators to approve the plan; exit code 3 until they have", Args: exactly(1, "the id of a campaign"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/campaigns/" + url.PathEscape(args[0])
		var v console.CampaignView
		if err := cl.Do(c.Context(), http.MethodGet, path, nil, &v); err != nil {
			return err
		}
		in := console.StartCampaignRequest{PlanHash: v.PlanHash, Why: why}
		if hash != "" {
			if in.PlanHash, err = bulkhead.ParseHash(hash); err != nil {
				return err
			}
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, path+"/start", in)
		}
		var out console.StartCampaignResponse
		if err := cl.Do(c.Context(), http.MethodPost, path+"/start", in, &out); err != nil {
			return err
		}
		if out.Approval != nil {
			a.code = exitRefused // nothing has started: that is for two people
			return a.show(out, "request %s waits for %d approvals of plan %s\nnext: bulkhead approve %s --key FILE   (once per operator)", out.Approval.ID, out.Approval.Needed, in.PlanHash, out.Approval.ID)
		}
		return a.show(out, "%s\nnext: bulkhead campaign status %s", campaignText(out.Campaign), args[0])
	}}
	c.Flags().StringVar(&hash, "plan", "", "hash of the plan that was seen (default: the newest)")
	c.Flags().StringVar(&why, "why", "", "free text for those who approve")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) campaignStatus() *cobra.Command {
	return &cobra.Command{Use: "status ID", Short: "how far it has come; the steps sum to the total", Args: exactly(1, "the id of a campaign"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/campaigns/"+url.PathEscape(args[0]), campaignText)
	}}
}

func (a *app) campaignList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list campaigns, newest first", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/campaigns", func(v console.CampaignList) string {
			var rows []string
			for _, x := range v.Campaigns {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d\t%s", x.ID, x.State, x.Incident, x.Items, x.ForceAt.Format(utcFormat)))
			}
			if len(rows) == 0 {
				return "no campaigns"
			}
			return table("ID\tSTATE\tINCIDENT\tITEMS\tREVOKED AT THE LATEST (UTC)", rows)
		})
	}}
}

func (a *app) campaignItems() *cobra.Command {
	q := url.Values{}
	var state, account, product, serial, issuer string
	var after, limit int
	c := &cobra.Command{Use: "items ID", Short: "its certificates in the order of the plan; --serial shows the history of one", Args: exactly(1, "the id of a campaign"), RunE: func(c *cobra.Command, args []string) error {
		if serial != "" {
			path := "/api/v1/campaign-items/" + url.PathEscape(serial)
			if issuer != "" {
				path += "?issuer=" + url.QueryEscape(issuer)
			}
			return get(a, c, path, func(v console.ItemHistory) string {
				var rows []string
				for _, s := range v.Steps {
					rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s", s.At.Format(utcFormat), s.State, s.Leaf, s.Detail))
				}
				return fmt.Sprintf("%s of %s is %s: %s\n%s", v.Item.Serial, v.Item.Name, v.Item.State, v.Item.Detail, table("UTC\tSTEP\tLEAF\tWHAT", rows))
			})
		}
		for name, v := range map[string]string{"state": state, "account": account, "product": product} {
			if v != "" {
				q.Set(name, v)
			}
		}
		q.Set("after", fmt.Sprint(after))
		q.Set("limit", fmt.Sprint(limit))
		return get(a, c, "/api/v1/campaigns/"+url.PathEscape(args[0])+"/items?"+q.Encode(), func(v console.CampaignItemList) string {
			var rows []string
			for _, it := range v.Items {
				gone := "-"
				if !it.RevokeAt.IsZero() {
					gone = it.RevokeAt.Format(utcFormat)
				}
				rows = append(rows, fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s", it.Position, it.Serial, it.Name, it.Product, it.State, gone, it.Detail))
			}
			text := table("NO.\tSERIAL\tNAME\tPRODUCT\tSTATE\tOLD ONE GOES (UTC)\tLAST", rows)
			if v.Next > 0 {
				text += fmt.Sprintf("\nmore: --after %d", v.Next)
			}
			return text
		})
	}}
	f := c.Flags()
	f.StringVar(&state, "state", "", "only in this state, like reopened")
	f.StringVar(&account, "account", "", "only of this account")
	f.StringVar(&product, "product", "", "tls, smime, code-signing or ca")
	f.StringVar(&serial, "serial", "", "the history of this one")
	f.StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	f.IntVar(&after, "after", 0, "position after which to go on")
	f.IntVar(&limit, "limit", 100, "rows, 1 to 1000")
	return c
}

// campaignWhy is a verb that takes a reason and nothing else.
func (a *app) campaignWhy(verb, short string) *cobra.Command {
	var in console.WhyRequest
	var dry bool
	c := &cobra.Command{Use: verb + " ID", Short: short, Args: exactly(1, "the id of a campaign"), RunE: func(c *cobra.Command, args []string) error {
		var v console.CampaignView
		if shown, err := a.post(c.Context(), dry, "/api/v1/campaigns/"+url.PathEscape(args[0])+"/"+map[string]string{"pause": "pause", "resume": "resume", "close": "closing"}[verb], in, &v); shown || err != nil {
			return err
		}
		return a.show(v, "campaign %s is %s", v.ID, v.State)
	}}
	c.Flags().StringVar(&in.Why, "why", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

// each posts for every serial, tells how it went, and ends with 4 when some failed.
func (a *app) each(c *cobra.Command, serials []console.ChangeItem, verb string, body func(issuer string) any) error {
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	out := struct {
		Done   []console.CampaignItemView `json:"done"`
		Failed []map[string]string        `json:"failed"`
	}{Done: []console.CampaignItemView{}, Failed: []map[string]string{}}
	for _, s := range serials {
		var v console.CampaignItemView
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/campaign-items/"+s.Serial.String()+"/"+verb, body(string(s.Issuer)), &v); err != nil {
			out.Failed = append(out.Failed, map[string]string{"serial": s.Serial.String(), "error": bulkhead.AsFault(err).Detail})
			a.say("%s: %s", s.Serial, bulkhead.AsFault(err).Detail)
			continue
		}
		out.Done = append(out.Done, v)
	}
	if len(out.Failed) > 0 {
		a.code = exitPartly
	}
	return a.show(out, "%d done, %d failed", len(out.Done), len(out.Failed))
}

func (a *app) campaignImport() *cobra.Command {
	var file, step, why string
	c := &cobra.Command{Use: "import --serials FILE", Short: "a person's word for a step that nobody can see from outside", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		serials, err := readSerials(file)
		if err != nil {
			return err
		}
		return a.each(c, serials, "steps", func(issuer string) any {
			return console.ImportRequest{Issuer: issuer, Step: bulkhead.ItemState(step), Why: why}
		})
	}}
	c.Flags().StringVar(&file, "serials", "", "file with ISSUER,SERIAL a line")
	c.Flags().StringVar(&step, "step", "", "notified, patched or installed")
	c.Flags().StringVar(&why, "why", "", "who said so, and how they know")
	return c
}
