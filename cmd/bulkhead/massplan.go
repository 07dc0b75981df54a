package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run/client"
)

func (a *app) report() *cobra.Command {
	c := &cobra.Command{Use: "report", Short: "documents that are no incident's: mass-revocation-plan"}
	c.AddCommand(a.massPlan())
	return c
}

func (a *app) massPlan() *cobra.Command {
	var f reportFlags
	var check bool
	c := &cobra.Command{Use: "mass-revocation-plan", Short: "the plan of BR 5.7.1.2 from configuration, policy and records; what is missing stands at its top",
		Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			var v bulkhead.IncidentReport
			if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/reports/mass-revocation-plan?language="+f.lang, nil, &v); err != nil {
				return err
			}
			if check {
				return a.showGaps(v)
			}
			body, err := f.render(c.Context(), v.Markdown, v.HTML)
			if err != nil {
				return err
			}
			if f.out == "" && a.json {
				return a.print(v)
			}
			if f.out == "" {
				_, err := a.out.Write(body)
				return err
			}
			path := filepath.Join(f.out, v.Kind+"."+f.format)
			if err := errors.Join(os.MkdirAll(f.out, 0o755), os.WriteFile(path, body, 0o644)); err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", path).WithCause(err)
			}
			text := fmt.Sprintf("wrote %s", path)
			if len(v.Missing) > 0 {
				text += fmt.Sprintf("\n%d parts are missing and named at its top", len(v.Missing))
			}
			return a.show(struct {
				File    string               `json:"file"`
				Missing []bulkhead.ReportGap `json:"missing"`
			}{path, v.Missing}, "%s", text)
		}}
	c.Flags().BoolVar(&check, "check", false, "only say what is missing; exit code 3 while anything is")
	f.add(c)
	return c
}
