package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/run/client"
)

// problemWords says first what is wrong with a change.
func problemWords(v console.ChangeView) string {
	text := ""
	if v.Problem != "" {
		text = "PROBLEM: " + v.Problem + "\n"
	}
	if v.DiesAt != nil {
		text += "The last wrong answer dies at " + v.DiesAt.Format(time.RFC3339) + ", whoever holds it.\n"
	}
	if v.Undoes != "" {
		text += "Takes back change " + v.Undoes
		if v.Rule != "" {
			text += "; breaks " + v.Rule + ", see incident " + v.Incident
		}
		text += ".\n"
	}
	return text
}

// storyWords is what became of a change, in order.
func storyWords(v console.ChangeView) string {
	if len(v.Timeline) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\nwhat became of it\n")
	for _, t := range v.Timeline {
		fmt.Fprintf(&b, "  %s  %s (%s)\n", t.At.Format("2006-01-02 15:04:05"), t.What, t.By)
	}
	return strings.TrimRight(b.String(), "\n")
}

func (a *app) changeRollback() *cobra.Command {
	var in console.RollbackRequest
	var dry bool
	c := &cobra.Command{Use: "rollback ID", Short: "take a change back: at once before it is public, after that with two people", Args: exactly(1, "the id of a change"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/changes/" + url.PathEscape(args[0]) + "/rollback"
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
		}
		var v console.RollbackResponse
		if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
			return err
		}
		if v.Approval == nil {
			return a.show(v, "change %s is %s; nothing of it went public", v.Change.ID, v.Change.State)
		}
		if err := a.show(v, "nothing is taken back yet: change %s would make %d certificates say again what they said before change %s.\nIt breaks %s (incident %s) and waits for %d operators, request %s.",
			v.Change.ID, v.Change.Count, v.Change.Undoes, v.Change.Rule, v.Change.Incident, v.Approval.Needed, v.Approval.ID); err != nil {
			return err
		}
		a.say("next: bulkhead approve %s --key FILE   (by two operators)", v.Approval.ID)
		return nil
	}}
	c.Flags().StringVar(&in.Why, "why", "", "free text for the record; required")
	c.Flags().StringVar(&in.Incident, "incident", "", "the incident record that explains it; required once the change is public")
	c.Flags().StringVar(&in.OverrideRule, "override-rule", "", `the rule that is broken, "BR 4.9.13" or "BR 4.10.1"; required once the change is public`)
	dryRunFlag(c, &dry)
	return c
}
