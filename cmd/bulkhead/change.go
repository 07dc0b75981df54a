package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"bulkhead/console"
)

func (a *app) change() *cobra.Command {
	c := &cobra.Command{Use: "change", Short: "changes of status: list, show, preview, activate, approve, withdraw, rollback"}
	var dry bool
	approve := &cobra.Command{Use: "approve ID", Short: "ask for the approvals that a larger change takes", Args: exactly(1, "the id of a change"), RunE: func(c *cobra.Command, args []string) error {
		return a.propose(c, http.MethodPost, "/api/v1/changes/"+url.PathEscape(args[0])+"/approval", nil, dry)
	}}
	dryRunFlag(approve, &dry)
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "list changes, newest first", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/api/v1/changes", func(v map[string][]console.ChangeView) string {
				var rows []string
				for _, x := range v["changes"] {
					rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s", x.ID, x.State, x.Count, x.CreatedAt.Format("2006-01-02 15:04:05"), x.Actor, x.Why))
				}
				return table("ID\tSTATE\tITEMS\tCREATED\tBY\tWHY", rows)
			})
		}},
		&cobra.Command{Use: "show ID", Short: "show a change with its preview", Args: exactly(1, "the id of a change"), RunE: func(c *cobra.Command, args []string) error {
			return get(a, c, "/api/v1/changes/"+url.PathEscape(args[0]), func(v console.ChangeView) string {
				return fmt.Sprintf("%schange   %s\nstate    %s\nitems    %d\nby       %s\nwhy      %s\nhead     %d\npreview  %s\n%s%s", problemWords(v), v.ID, v.State, v.Count, v.Actor, v.Why, v.Head, v.PreviewHash, previewWords(v), storyWords(v))
			})
		}},
		approve, a.changePreview(), a.changeCeremonyFile(), a.changeActivate(), a.changeWithdraw(), a.changeRollback(),
	)
	return c
}
