package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
	"bulkhead/signer/signerrpc"
)

// runRoles runs roles as processes of their own.
func (a *app) runRoles() *cobra.Command {
	c := &cobra.Command{Use: "run ROLE…", Short: "run roles in a process of their own: signer, enroll, status, edge, evidence, watch, console; or perspective",
		Long: "Runs the named roles on the role's own directory (--data, from: bulkhead role export). Roles meet in PostgreSQL, each as a\ndatabase user of its own, in the object store, and at the signer's door under mutual TLS. See doc/deployment.md.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return bulkhead.NewFault(bulkhead.KindUsage, "which role?").WithHint("bulkhead run signer, or enroll, status, edge, evidence, watch, console")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var roles []signerrpc.Role
			for _, text := range args {
				r, err := signerrpc.ParseRole(text)
				if err != nil {
					return err
				}
				roles = append(roles, r)
			}
			return run.RunRoles(c.Context(), run.RoleOptions{Dir: a.opts.Dir, Roles: roles, LogTo: a.err, Version: buildVersion(), Announce: func(r run.Ready) {
				_ = a.show(r, "%s", announce(r)) // nobody reads it when this fails
			}})
		}}
	c.AddCommand(a.perspective())
	return c
}

func announce(r run.Ready) string {
	text := "ready\n  metrics          " + r.Metrics
	for _, x := range [][2]string{{"ACME directory", r.ACMEDirectory}, {"API", r.API}, {"OCSP", r.OCSP}, {"CRLs", r.CRLBase}} {
		if x[1] != "" {
			text += fmt.Sprintf("\n  %-16s %s", x[0], x[1])
		}
	}
	return text
}

// role prepares roles that run in processes of their own.
func (a *app) role() *cobra.Command {
	c := &cobra.Command{Use: "role", Short: "prepare roles that run in processes of their own: export, database"}
	var o run.ExportOptions
	export := &cobra.Command{Use: "export ROLE", Short: "the directory with which a role runs elsewhere: certificate, configuration and the files it needs", Args: exactly(1, "a role"),
		Long: "Run it on the signer's machine while nothing else uses the data directory. The evidence role takes the log and its key with\nit; every other role gets copies of what it needs and no key of an authority.",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := signerrpc.ParseRole(args[0])
			if err != nil {
				return err
			}
			o.Dir, o.Role, o.Version = a.opts.Dir, r, buildVersion()
			if err := run.ExportRole(c.Context(), o); err != nil {
				return err
			}
			return a.show(map[string]string{"role": string(r), "directory": o.Out}, "role %s: %s\nstart it with: bulkhead run %s --data %s", r, o.Out, r, o.Out)
		}}
	f := export.Flags()
	f.StringVar(&o.Out, "out", "", "the role's directory; it must not exist yet")
	f.StringVar(&o.DSNFile, "dsn-file", "", "file with the connection string of the role's database user (not for an edge)")
	f.StringVar(&o.Signer, "signer", "", "where the signer answers: HOST:PORT or unix:/PATH")
	f.StringVar(&o.Objects, "objects", "", "where objects are, when not as configured: dir:FOLDER, s3:FILE, or an http address for an edge")
	_ = export.MarkFlagRequired("out") // it exists
	c.AddCommand(export, a.roleDatabase())
	return c
}

func (a *app) roleDatabase() *cobra.Command {
	var apply bool
	c := &cobra.Command{Use: "database", Short: "the SQL that gives each role's database user its rights, or with --apply their execution", Args: exactly(0, "no arguments"),
		Long: "Prints the statements that the owner of the database runs: a group role for each role of the house (bulkhead_signer,\nbulkhead_enroll, …) with exactly the verbs that it needs on each table. Make a login user for each process and grant it its\ngroup. With --apply they are executed as the user of the data directory's own connection string, after migrating.",
		RunE: func(c *cobra.Command, _ []string) error {
			if !apply {
				return a.show(map[string]string{"sql": run.RoleSQL()}, "%s", run.RoleSQL())
			}
			if err := run.ApplyRoleSQL(c.Context(), a.opts.Dir); err != nil {
				return err
			}
			return a.show(map[string]bool{"applied": true}, "the groups have their rights; make a login user for each process and grant it its group")
		}}
	c.Flags().BoolVar(&apply, "apply", false, "execute them, as the owner")
	return c
}
