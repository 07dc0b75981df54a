package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
)

// Exit codes of every command of the house.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 5
)

// maxInput bounds every file that is read.
const maxInput = 16 << 20

// errFindings ends a command that found something; what it found is printed already.
var errFindings = errors.New("findings")

// tool is one invocation.
type tool struct {
	out, err io.Writer
	json     bool
	sys      string // root of /sys and /proc, for tests
}

func execute(ctx context.Context, args []string, out, errOut io.Writer) int {
	return (&tool{out: out, err: errOut, sys: "/"}).execute(ctx, args)
}

func (t *tool) execute(ctx context.Context, args []string) int {
	t.json = slices.Contains(args, "--json")
	root := t.root()
	root.SetArgs(args)
	root.SetOut(t.out)
	root.SetErr(t.err)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errFindings) {
		return exitRefused
	}
	return t.fail(c, err)
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use: "bulkhead-root", Short: "use root keys offline: plan, run, transcript, custody", SilenceErrors: true, SilenceUsage: true,
		Long: "bulkhead-root holds ceremonies on a machine without a network. It reads and writes files and opens no socket.\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 5 a token is away.",
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return bulkhead.Faultf(bulkhead.KindUsage, "bulkhead-root has no command %q", args[0]).WithHint("bulkhead-root --help")
			}
			return c.Help()
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return bulkhead.NewFault(bulkhead.KindUsage, err.Error()).WithHint(c.CommandPath() + " --help")
	})
	root.PersistentFlags().BoolVar(&t.json, "json", t.json, "exactly one JSON document on standard output")
	root.AddCommand(t.planCommand(), t.runCommand(), t.transcriptCommand(), t.custodyCommand())
	return root
}

// fail says what is wrong and what to type next.
func (t *tool) fail(c *cobra.Command, err error) int {
	f := bulkhead.AsFault(err)
	detail, hint := f.Detail, f.Hint
	if f.Kind == bulkhead.KindInternal {
		detail = err.Error() // this is the operator's own machine: the cause helps
	}
	if hint == "" {
		hint = c.CommandPath() + " --help"
	}
	if t.json {
		_ = t.print(map[string]any{"error": map[string]any{"kind": f.Kind, "detail": detail, "hint": hint}})
	}
	fmt.Fprintf(t.err, "bulkhead-root: %s\nnext: %s\n", detail, hint)
	switch f.Kind {
	case bulkhead.KindUsage, bulkhead.KindMalformed:
		return exitUsage
	case bulkhead.KindGate, bulkhead.KindStopped, bulkhead.KindBadPublicKey, bulkhead.KindBadCSR:
		return exitRefused
	case bulkhead.KindUnavailable:
		return exitUnreachable
	default:
		return exitFailed
	}
}

func (t *tool) print(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// show writes v as JSON, or the text.
func (t *tool) show(v any, text string) error {
	if t.json {
		return t.print(v)
	}
	_, err := fmt.Fprintln(t.out, strings.TrimRight(text, "\n"))
	return err
}

func (t *tool) say(format string, args ...any) { fmt.Fprintf(t.err, format+"\n", args...) }

func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s takes %s", c.CommandPath(), what).WithHint(c.CommandPath() + " --help")
		}
		return nil
	}
}

// readFile reads a bounded file.
func readFile(path, what string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s %s cannot be read", what, path).WithHint("check the path").WithCause(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err != nil || len(text) > maxInput {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s %s cannot be read", what, path).WithHint("check the medium; at most 16 MiB are read").WithCause(err)
	}
	return text, nil
}

// writeFile writes a file whole and durably, and never over another.
func writeFile(path string, body []byte, mode os.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return bulkhead.Faultf(bulkhead.KindConflict, "%s exists and is not overwritten", path).WithHint("choose another --out")
	}
	return replaceFile(path, body, mode)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, body []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", path).WithHint("check the medium").WithCause(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(body)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(dir); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
