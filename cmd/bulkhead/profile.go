package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) profile() *cobra.Command {
	c := &cobra.Command{Use: "profile", Short: "certificate profiles: list, show, diff, propose, activate, versions"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "list the profiles of the running house", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/profiles", func(v console.ProfileList) string {
			var rows []string
			for _, p := range v.Profiles {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s", p.Name, p.Kind, p.Version, cmp.Or(p.Problem, "in force")))
			}
			return table("NAME\tKIND\tVERSION\tSTATE", rows)
		})
	}}, &cobra.Command{Use: "show NAME", Short: "show a profile of the running house", Args: exactly(1, "the name of a profile"), RunE: func(c *cobra.Command, args []string) error {
		p, err := a.houseProfile(c, args[0])
		if err != nil {
			return err
		}
		return a.show(p, "%s", p.YAML)
	}}, a.profileDiff(), a.profilePropose(), a.profileActivate(), a.profileVersions())
	return c
}

func (a *app) houseProfile(c *cobra.Command, name string) (console.Profile, error) {
	cl, err := client.New(a.opts)
	if err != nil {
		return console.Profile{}, err
	}
	var v console.ProfileList
	if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/profiles", nil, &v); err != nil {
		return console.Profile{}, err
	}
	for _, p := range v.Profiles {
		if p.Name == name {
			return p, nil
		}
	}
	return console.Profile{}, bulkhead.Faultf(bulkhead.KindNotFound, "the running house has no profile %q", name).WithHint("bulkhead profile list")
}

func (a *app) profileDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff OLD NEW", Short: "say what new power a change of a profile grants; exit 3 when it grants any",
		Long: "OLD and NEW are files, or names of profiles of the running house. With NEW alone, OLD is the running house's profile of the same\n" +
			"name. Exit code 0: no new power. 3: the change grants new power, or asks for one that no profile can have.",
		Example: "  bulkhead profile diff tls-server.yaml      # the file against the running house\n  bulkhead profile diff old.yaml new.yaml    # two files, no house needed",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s takes one or two profiles", c.CommandPath()).WithHint(c.CommandPath() + " --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			after, err := a.profileText(c, args[len(args)-1])
			if err != nil {
				return err
			}
			old := args[0]
			if len(args) == 1 {
				if old, err = run.ProfileName(after); err != nil {
					return err
				}
			}
			before, err := a.oldProfile(c, old, len(args) == 1)
			if err != nil {
				return err
			}
			d, err := run.DiffProfiles(before, after)
			if err != nil {
				return err
			}
			return a.showDifference(d)
		},
	}
}

func (a *app) oldProfile(c *cobra.Command, name string, running bool) ([]byte, error) {
	if !running {
		return a.profileText(c, name)
	}
	p, err := a.houseProfile(c, name)
	return []byte(p.YAML), err
}

// profileText reads a file, or a profile of the running house where there is no file of that name.
func (a *app) profileText(c *cobra.Command, name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	switch {
	case err == nil:
		return text, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", name).WithHint("give a profile file, or the name of a profile").WithCause(err)
	case strings.ContainsAny(name, "./\\"):
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "there is no file %s", name).WithHint("give a profile file, or the name of a profile: bulkhead profile list")
	}
	p, err := a.houseProfile(c, name)
	return []byte(p.YAML), err
}

func (a *app) showDifference(d run.ProfileDifference) error {
	if err := a.show(d, "%s", differenceText(d)); err != nil {
		return err
	}
	if d.GrantsPower() {
		return errFindings
	}
	return nil
}

// differenceText says it in words, new power first.
func differenceText(d run.ProfileDifference) string {
	var b strings.Builder
	section := func(title string, lines []string) {
		for i, l := range lines {
			if i == 0 {
				fmt.Fprintf(&b, "%s\n", title)
			}
			fmt.Fprintf(&b, "  %s\n", l)
		}
	}
	section("grants new power:", d.Grants)
	section("takes power away:", d.Withdraws)
	section("changes besides:", d.Other)
	if b.Len() == 0 {
		b.WriteString("no difference")
	} else if !d.GrantsPower() {
		b.WriteString("no new power")
	}
	return strings.TrimRight(b.String(), "\n")
}
