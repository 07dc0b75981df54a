package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/pki/policy"
)

// policyRow is a row of the table as programs read it.
type policyRow struct {
	ID      string     `json:"id"`
	Rule    string     `json:"rule"`
	Value   string     `json:"value"`
	From    *time.Time `json:"from,omitempty"` // absent when it was always so
	To      *time.Time `json:"to,omitempty"`   // first instant no longer in force
	Source  string     `json:"source"`
	Applies string     `json:"applies_to"`
}

func (a *app) policy() *cobra.Command {
	var at string
	var all bool
	c := &cobra.Command{Use: "policy [ID…]", Short: "the numbers of the Baseline Requirements and root programs that the house goes by, by date", Args: cobra.ArbitraryArgs,
		Long: "Prints the rows in force on a day, or all of them with their days: lifetimes, reuse of validation, deadlines, status intervals, perspectives.\n" +
			"Every check of the house takes its number from here.",
		Example: "  bulkhead policy\n  bulkhead policy --at 2029-03-15 LIFE-MAX DCV-REUSE\n  bulkhead policy --all",
		RunE: func(c *cobra.Command, args []string) error {
			day := time.Now().UTC()
			if at != "" {
				var err error
				if day, err = time.Parse(time.DateOnly, at); err != nil {
					return bulkhead.Faultf(bulkhead.KindUsage, "--at %s is no day", at).WithHint("write 2027-03-15")
				}
			}
			rows, err := policyRows(args, day, all)
			if err != nil {
				return err
			}
			if a.json {
				return a.print(rows)
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Value, r.Rule+" ("+r.Applies+")", r.days(), r.Source)
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&at, "at", "", "day, such as 2027-03-15 (default: today)")
	c.Flags().BoolVar(&all, "all", false, "rows that are over or still to come, too")
	return c
}

// policyRows are the rows of ids, or of all, in force on a day.
func policyRows(ids []string, day time.Time, all bool) ([]policyRow, error) {
	out := []policyRow{}
	table := policy.Rows()
	for _, id := range ids {
		if !slices.ContainsFunc(table, func(r policy.Row) bool { return strings.EqualFold(r.ID, id) }) {
			return nil, bulkhead.Faultf(bulkhead.KindNotFound, "the table has no row %s", id).WithHint("bulkhead policy --all")
		}
	}
	for _, r := range table {
		if len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(r.ID, id) }) || !all && !r.InForce(day) {
			continue
		}
		row := policyRow{ID: r.ID, Rule: r.Rule, Value: r.Value.String(), Source: r.Source, Applies: r.AppliesTo}
		if !r.From.IsZero() {
			row.From = &r.From
		}
		if !r.To.IsZero() {
			row.To = &r.To
		}
		out = append(out, row)
	}
	return out, nil
}

// days are the days between which a row is in force, both included.
func (r policyRow) days() string {
	switch {
	case r.From == nil && r.To == nil:
		return "always"
	case r.To == nil:
		return "since " + r.From.Format(time.DateOnly)
	case r.From == nil:
		return "until " + r.To.Add(-time.Second).Format(time.DateOnly)
	default:
		return r.From.Format(time.DateOnly) + " to " + r.To.Add(-time.Second).Format(time.DateOnly)
	}
}
