package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// mostLooks is how many certificates one command looks at: a look takes seconds where nobody answers.
const mostLooks = 1000

func (a *app) campaignLook() *cobra.Command {
	var file string
	var after int64
	var limit int
	c := &cobra.Command{Use: "look [ID]", Short: "look at the endpoints of a campaign, or of --serials, now",
		Long: "Looks at every node of the certificates of a campaign whose next step is seen from outside, in the order of the plan, and moves them as far as what is seen carries. " +
			"One command looks at up to --limit of them and says where to go on; with --serials it looks at those of a file. The desk looks by itself, too, some in each round.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (file != "") {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s takes the id of a campaign, or --serials FILE", c.CommandPath()).WithHint(c.CommandPath() + " --help")
			}
			if limit < 1 || limit > mostLooks || after < 0 {
				return bulkhead.Faultf(bulkhead.KindUsage, "--limit is 1 to %d, and --after a position", mostLooks).WithHint(c.CommandPath() + " --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			look := func(issuer string) any { return console.LookRequest{Issuer: issuer} }
			if file != "" {
				serials, err := readSerials(file)
				if err != nil {
					return err
				}
				return a.each(c, serials, "look", look)
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			serials, next, err := toLookAt(after, limit, func(after int64) (v console.CampaignItemList, err error) {
				q := url.Values{"product": {"tls"}, "after": {fmt.Sprint(after)}, "limit": {"1000"}}
				err = cl.Do(c.Context(), http.MethodGet, "/api/v1/campaigns/"+url.PathEscape(args[0])+"/items?"+q.Encode(), nil, &v)
				return v, err
			})
			if err != nil {
				return err
			}
			if next > 0 {
				a.say("more are to be looked at afterwards: bulkhead campaign look %s --after %d", args[0], next)
			}
			return a.each(c, serials, "look", look)
		}}
	f := c.Flags()
	f.StringVar(&file, "serials", "", "file with ISSUER,SERIAL a line, instead of a campaign")
	f.Int64Var(&after, "after", 0, "position after which to go on")
	f.IntVar(&limit, "limit", 100, fmt.Sprintf("certificates, 1 to %d", mostLooks))
	return c
}

// seenFromOutside reports whether the next step of an item is seen at its endpoints.
func seenFromOutside(s bulkhead.ItemState) bool {
	return s == bulkhead.ItemNotified || s == bulkhead.ItemReopened || s == bulkhead.ItemReissued
}

// toLookAt goes through a campaign after a position until it has so many certificates to look at; next is where to go on, 0 when
// there are no more.
func toLookAt(after int64, limit int, page func(after int64) (console.CampaignItemList, error)) (out []console.ChangeItem, next int64, err error) {
	for {
		list, err := page(after)
		if err != nil {
			return nil, 0, err
		}
		for _, it := range list.Items {
			if !seenFromOutside(it.State) {
				continue
			}
			if len(out) == limit {
				return out, after, nil
			}
			out, after = append(out, console.ChangeItem{Issuer: it.Issuer, Serial: it.Serial}), it.Position
		}
		if list.Next == 0 {
			return out, 0, nil
		}
		after = list.Next
	}
}
