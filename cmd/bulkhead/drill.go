package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/drill"
	"bulkhead/run"
)

// drill rehearses bad days.
func (a *app) drill() *cobra.Command {
	c := &cobra.Command{Use: "drill", Short: "rehearse a bad day, in a shadow: list, run"}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "the days that can be rehearsed", Args: exactly(0, "no arguments"), RunE: func(*cobra.Command, []string) error {
			days := drill.Days()
			var rows []string
			for _, d := range days {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s", d.Name, d.Title, strings.Join(d.Wants, " ")))
			}
			return a.show(map[string]any{"drills": days}, "%s", table("NAME\tTHE DAY\tREQUIREMENTS", rows))
		}},
		a.drillRun(),
	)
	return c
}

func (a *app) drillRun() *cobra.Command {
	var scale, notices int
	var report, scenario string
	var caches bool
	c := &cobra.Command{Use: "run NAME", Short: "rehearse a day; exit 3 when a check failed", Args: exactly(1, "the name of a drill"),
		Long: "Plays the day with real compartments in a directory of its own, on a clock that it moves, and prints what happened when\nbeside what happened on the historic day. No server is needed, no data directory is touched.",
		RunE: func(c *cobra.Command, args []string) error {
			o := drill.Options{Scale: scale, Scenario: scenario, Notices: notices, RealCaches: caches, Version: buildVersion(), Log: run.NewLogger(io.Discard, run.Log{Level: "error", Format: "text"}), Progress: func(s drill.Step) {
				fmt.Fprintf(a.err, "%8s  %s\n", drill.Elapsed(s.After), s.What)
			}}
			r, err := drill.Run(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			if report != "" {
				if err := writeReport(report, r); err != nil {
					return err
				}
			}
			var text strings.Builder
			if err := r.Write(&text); err != nil {
				return err
			}
			if err := a.show(r, "%s", text.String()); err != nil {
				return err
			}
			if !r.Passed {
				return errFindings
			}
			return nil
		}}
	c.Flags().IntVar(&scale, "scale", 0, "how many certificates or subscribers, where the day has them (default: the day's own)")
	c.Flags().StringVar(&scenario, "scenario", "", "which scenario, where the day has them: a to j of mass-revocation (default: a)")
	c.Flags().IntVar(&notices, "notices", 0, "mass-revocation: messages an hour that the relay takes (default: enough for every account within the hour)")
	c.Flags().BoolVar(&caches, "real-caches", false, "cross-root-2016: Varnish as the load balancer and nginx as the CDN, which must be installed, in place of caches of the drill's own")
	c.Flags().StringVar(&report, "report", "", "write the report here, too (Markdown)")
	return c
}

func writeReport(path string, r drill.Report) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".drill-*")
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "the report cannot be written to %s", path).WithHint("--report FILE in a folder that is there").WithCause(err)
	}
	defer os.Remove(f.Name())
	if err := r.Write(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
