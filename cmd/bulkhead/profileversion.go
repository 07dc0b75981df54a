package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) profilePropose() *cobra.Command {
	var reason string
	var dry bool
	c := &cobra.Command{
		Use: "propose FILE", Short: "propose a version of a profile: one approval when it grants no new power, two when it does", Args: exactly(1, "a profile file"),
		Long: "Compares FILE with the profile of the same name that is in force, says what new power it grants, and opens a request for the\n" +
			"approvals that it takes. The last of them puts it into force in every process of the house, without a restart.",
		Example: "  bulkhead profile propose tls-server.yaml --reason \"90 days for the appliances\"\n  bulkhead approve ID --key FILE",
		RunE: func(c *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", args[0]).WithHint("give a profile file; bulkhead profile show NAME prints the one in force").WithCause(err)
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			in := console.ProfileRequest{YAML: string(text), Reason: reason}
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/profiles", in)
			}
			var v console.ProposedProfile
			if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/profiles", in, &v); err != nil {
				return err
			}
			d := run.ProfileDifference{Grants: v.Change.Grants, Withdraws: v.Change.Withdraws, Other: v.Change.Other}
			return a.show(v, "version %d of profile %s\n%s\nrequest %s waits for %d approvals over exactly this (difference %s)\nnext: bulkhead approve %s --key FILE   (once per operator)",
				v.Change.Version, v.Change.Name, differenceText(d), v.Approval.ID, v.Approval.Needed, v.Change.DiffSHA256, v.Approval.ID)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) profileActivate() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use: "activate REQUEST", Short: "put an approved version of a profile into force, or say that it is", Args: exactly(1, "the id of a request"),
		Long: "The last approval puts a version into force by itself. This is for when that was interrupted, and says what is missing otherwise.",
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			in := console.ProfileActivation{Request: args[0]}
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/profiles/activation", in)
			}
			var v console.ApprovalView
			if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/profiles/activation", in, &v); err != nil {
				return err
			}
			return a.show(v, "in force by request %s, signed by %d of %d", v.ID, len(v.Approvals), v.Needed)
		},
	}
	dryRunFlag(c, &dry)
	return c
}

func (a *app) profileVersions() *cobra.Command {
	return &cobra.Command{Use: "versions NAME", Short: "list the versions of a profile that were in force", Args: exactly(1, "the name of a profile"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/profiles/"+url.PathEscape(args[0])+"/versions", func(v console.ProfileVersions) string {
			var rows []string
			for _, x := range v.Versions {
				by := "what the house began with"
				if x.Request != "" {
					by = "request " + x.Request + " (bulkhead approve " + x.Request + " --proof)"
				}
				rows = append(rows, fmt.Sprintf("%d\t%s\t%s", x.Version, x.SHA256, by))
			}
			return table("VERSION\tSHA-256\tBY", rows)
		})
	}}
}

// shownProfile says what a request to change a profile would grant, worked out here from both texts: what the request says of
// itself is another's word.
func shownProfile(payload []byte) string {
	var c struct {
		Name, Before, After string
		Version             int
	}
	if json.Unmarshal(payload, &c) != nil {
		return "it cannot be read: do not sign it"
	}
	d, err := run.DiffProfiles([]byte(c.Before), []byte(c.After))
	if err != nil {
		return "it cannot be compared, do not sign it: " + bulkhead.AsFault(err).Detail
	}
	return fmt.Sprintf("version %d of profile %s\n%s\nthe new text:\n%s", c.Version, c.Name, differenceText(d), c.After)
}
