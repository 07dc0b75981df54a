package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run/client"
	"bulkhead/scan"
)

// looksAtOnce is how many looks one request keeps.
const looksAtOnce = 500

// keepLooks gives what was seen to the house, and takes from it what the looks before say of it.
func (a *app) keepLooks(ctx context.Context, rs []scan.Result) error {
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	records, of := scan.Records(rs)
	for len(records) > 0 {
		n := min(len(records), looksAtOnce)
		var kept console.LookList
		if err := cl.Do(ctx, http.MethodPost, "/api/v1/looks", console.LookList{Looks: records[:n]}, &kept); err != nil {
			return err
		}
		scan.Learn(of[:n], kept.Looks)
		records, of = records[n:], of[n:]
	}
	return nil
}

// writeHistory says what the house knew of the endpoints.
func writeHistory(w io.Writer, rs []scan.Result) {
	for _, r := range rs {
		for _, e := range r.Endpoints {
			for _, f := range e.Findings {
				if strings.HasPrefix(f.Rule, "key-") && f.Rule != "key-weak" {
					fmt.Fprintf(w, "%s %s\n    %s: %s (%s)\n", r.Target, e.Endpoint.AddrPort(), f.Severity, f.Message, f.Rule)
				}
			}
		}
	}
}

func (a *app) scanHistory() *cobra.Command {
	var limit int
	c := &cobra.Command{Use: "history HOST", Short: "what looks at a host showed, and what changed", Args: exactly(1, "one host, as it was looked at"),
		Long: "Lists what campaigns, the own-estate report and \"scan --record\" saw at every address and port of a host, the newest first: one\n" +
			"entry for as long as looks showed the same.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := within("limit", limit, 1, 1000); err != nil {
				return err
			}
			q := url.Values{"host": {strings.TrimSuffix(args[0], ".")}, "limit": {strconv.Itoa(limit)}}
			return get(a, c, "/api/v1/looks?"+q.Encode(), historyText)
		}}
	c.Flags().IntVar(&limit, "limit", 100, "at most so many entries, 1 to 1000")
	return c
}

func historyText(v console.LookList) string {
	if len(v.Looks) == 0 {
		return "nothing is known of this host\nnext: bulkhead scan HOST --whole --record"
	}
	var b strings.Builder
	for i, l := range v.Looks {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s  %s %s: %s\n    seen %d times, from %s to %s", strings.ToUpper(strings.ReplaceAll(string(l.Verdict), "_", " ")), l.STARTTLS, l.Address, l.Detail, l.Looks,
			l.FirstAt.Format("2006-01-02 15:04"), l.LastAt.Format("2006-01-02 15:04 MST"))
		for _, x := range l.Changed {
			b.WriteString("\n    changed: " + x)
		}
		for _, f := range l.Findings {
			fmt.Fprintf(&b, "\n    %s: %s (%s)", f.Severity, f.Message, f.Rule)
		}
	}
	return b.String()
}
