package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
	"bulkhead/run/client"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitPartly      = 4
	exitUnreachable = 5
)

// version is set by the linker for releases.
var version = "dev"

// app is what every command shares.
type app struct {
	in       io.Reader
	out, err io.Writer
	json     bool
	opts     client.Options
	code     int // exit code of a command that ended without an error
}

// findings ends a command that found something.
var errFindings = errors.New("findings")

func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return a.code
	}
	if errors.Is(err, errFindings) {
		return exitRefused
	}
	a.json = a.json || wantsJSON(args)
	return a.fail(c, err)
}

// wantsJSON finds --json where a wrong flag before it kept it from being read.
func wantsJSON(args []string) bool {
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" || arg == "--json=true" {
			return true
		}
	}
	return false
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "bulkhead", Short: "a certificate authority built for its worst day", SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // ours is completion()
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return bulkhead.NewFault(bulkhead.KindUsage, err.Error()).WithHint(c.CommandPath() + " --help")
	})
	f := root.PersistentFlags()
	f.StringVar(&a.opts.Dir, "data", env("BULKHEAD_DATA", run.DefaultDir), "data directory")
	f.BoolVar(&a.json, "json", false, "exactly one JSON document on standard output")
	f.StringVar(&a.opts.Addr, "addr", env("BULKHEAD_ADDR", ""), "server address (default: read from the data directory)")
	f.StringVar(&a.opts.CACert, "cacert", env("BULKHEAD_CACERT", ""), "trust anchor of the server (default: read from the data directory)")
	f.StringVar(&a.opts.OperatorKey, "operator-key", env("BULKHEAD_OPERATOR_KEY", ""), "operator key file (default: operator/operator-1.key in the data directory)")
	a.opts.Token = secretEnv("BULKHEAD_TOKEN")
	for _, c := range []*cobra.Command{
		a.up(),
		a.issue(),
		a.cert(),
		a.change(),
		a.caches(),
		a.demo(),
		a.explain(),
		a.hierarchy(),
		a.keys(),
		a.profile(),
		a.operator(),
		a.approve(),
		a.account(),
		a.eab(),
		a.authz(),
		a.incident(),
		a.report(),
		a.notice(),
		a.campaign(),
		a.ticket(),
		a.prune(),
		a.issuance(),
		a.compromise(),
		a.scan(),
		a.policy(),
		a.partner(),
		a.role(),
		a.drill(),
		a.runRoles(),
		a.alarms(),
		a.doctor(),
		a.fsck(),
		a.backup(),
		a.restore(),
		a.audit(),
		a.importCA(),
		a.config(),
		a.completion(),
		a.man(),
		a.versionCmd(),
	} {
		root.AddCommand(c)
	}
	a.noArgsMeansHelp(root)
	return root
}

// noArgsMeansHelp gives every group a usage error for an unknown verb, and for none where a program asks.
func (a *app) noArgsMeansHelp(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.noArgsMeansHelp(sub)
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s has no command %q", c.CommandPath(), args[0]).WithHint(c.CommandPath() + " --help")
			}
			if a.json {
				return bulkhead.Faultf(bulkhead.KindUsage, "%s takes a command", c.CommandPath()).WithHint(c.CommandPath() + " --help")
			}
			return c.Help()
		}
	}
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// secretEnv reads NAME, or the file that NAME_FILE points at.
func secretEnv(name string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	if path := os.Getenv(name + "_FILE"); path != "" {
		if v, err := run.ReadSecret(path); err == nil {
			return string(v)
		}
	}
	return ""
}

// exitCode maps every kind once.
func exitCode(k bulkhead.Kind) int {
	switch k {
	case bulkhead.KindUsage, bulkhead.KindMalformed:
		return exitUsage
	case bulkhead.KindGate, bulkhead.KindStopped, bulkhead.KindCAA, bulkhead.KindBadPublicKey, bulkhead.KindRejectedIdentifier:
		return exitRefused
	case bulkhead.KindUnavailable:
		return exitUnreachable
	default:
		return exitFailed
	}
}

// next is what to type where a fault does not say it.
func next(c *cobra.Command, k bulkhead.Kind) string {
	switch k {
	case bulkhead.KindUnavailable, bulkhead.KindInternal, bulkhead.KindRateLimited:
		return "bulkhead doctor, then try again"
	default:
		return c.CommandPath() + " --help"
	}
}

// fail tells the operator what is wrong and what to type next.
func (a *app) fail(c *cobra.Command, err error) int {
	f := bulkhead.AsFault(err)
	detail, hint := f.Detail, f.Hint
	if hint == "" {
		hint = next(c, f.Kind)
	}
	if f.Kind == bulkhead.KindInternal {
		detail = err.Error() // this is the operator's own machine: the cause helps
	}
	if a.json {
		doc := map[string]any{"error": map[string]any{"kind": f.Kind, "detail": detail, "hint": hint}}
		_ = a.print(doc)
	}
	fmt.Fprintf(a.err, "bulkhead: %s\n", detail)
	for _, s := range f.Subs {
		fmt.Fprintf(a.err, "  %s: %s\n", s.Identifier.Value, s.Detail)
	}
	fmt.Fprintf(a.err, "next: %s\n", hint)
	return exitCode(f.Kind)
}

// print writes one JSON document.
func (a *app) print(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// say writes talk to standard error.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// show writes v as JSON, or the text.
func (a *app) show(v any, format string, args ...any) error {
	if a.json {
		return a.print(v)
	}
	_, err := fmt.Fprintf(a.out, strings.TrimRight(format, "\n")+"\n", args...)
	return err
}

// exactly is cobra.ExactArgs with a usage fault.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s takes %s", c.CommandPath(), what).WithHint(c.CommandPath() + " --help")
		}
		return nil
	}
}

// atMost is cobra.MaximumNArgs with a usage fault.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s takes %s", c.CommandPath(), what).WithHint(c.CommandPath() + " --help")
		}
		return nil
	}
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: exactly(0, "no arguments"), RunE: func(*cobra.Command, []string) error {
		out := map[string]string{"version": buildVersion()}
		if info, ok := debug.ReadBuildInfo(); ok {
			out["go"] = info.GoVersion
		}
		return a.show(out, "bulkhead %s (%s)", out["version"], out["go"])
	}}
}

func buildVersion() string {
	if version != "dev" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "dev-" + s.Value[:12]
			}
		}
	}
	return version
}
