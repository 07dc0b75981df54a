package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Exit codes of every command of the house.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitFindings = 3
)

// errFindings ends a command that did its work and found something wrong; the findings are printed already.
var errFindings = errors.New("findings")

// finding is one thing wrong with the log or with a claim about it.
type finding struct {
	Rule    string `json:"rule"`
	Index   *int64 `json:"index,omitempty"` // leaf index, from 0
	Message string `json:"message"`
}

// tool is one invocation.
type tool struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	logDir, key    string
	json           bool
}

// run executes the command line and returns the exit code: 0 done, 1 failed, 2 usage, 3 findings.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// A command line that cannot be parsed still gets its one JSON document.
	t := &tool{stdin: stdin, stdout: stdout, stderr: stderr, json: slices.Contains(args, "--json")}
	root := t.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errFindings) {
		return exitFindings
	}
	var f *bulkhead.Fault
	if !errors.As(err, &f) { // cobra's own complaints about flags and arguments
		f = bulkhead.NewFault(bulkhead.KindUsage, err.Error()).WithHint("bulkhead-verify --help")
	}
	if t.json {
		_ = writeJSON(stdout, map[string]any{"ok": false, "error": f.Detail, "hint": f.Hint})
	}
	fmt.Fprintf(stderr, "bulkhead-verify: %s\n", f.Detail)
	if f.Hint != "" {
		fmt.Fprintf(stderr, "next: %s\n", f.Hint)
	}
	if f.Kind == bulkhead.KindUsage {
		return exitUsage
	}
	return exitFailed
}

func (t *tool) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "bulkhead-verify",
		Short: "prove from the evidence log alone what the certificate authority did",
		Long: "bulkhead-verify proves from a copy of the evidence log and the log's verifier key what the certificate\n" +
			"authority did. It reads files only. Exit codes: 0 done, 1 failed, 2 usage, 3 findings.",
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bulkhead.NewFault(bulkhead.KindUsage, "no command given").WithHint("bulkhead-verify --help")
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&t.logDir, "log", "", "directory with a copy of the log: checkpoint and tile/ (required)")
	root.PersistentFlags().StringVar(&t.key, "key", "", "file with the log's verifier key, one line name+hash+key (required)")
	root.PersistentFlags().BoolVar(&t.json, "json", t.json, "print exactly one JSON document on standard output")
	root.AddCommand(t.certificateCommand(), t.consistencyCommand(), t.logCommand(), t.leafCommand(), t.approvalCommand(), t.bundleCommand(), t.witnessCommand(), t.transcriptCommand())
	return root
}

// open reads the key and the signed checkpoint. A checkpoint that is not the key's is a finding, reported through found.
func (t *tool) open() (cp tlog.Checkpoint, v note.Verifier, found []finding, err error) {
	if t.logDir == "" || t.key == "" {
		return cp, nil, nil, bulkhead.NewFault(bulkhead.KindUsage, "--log and --key are required").
			WithHint("bulkhead-verify COMMAND --log DIR --key FILE")
	}
	if v, err = t.verifier(); err != nil {
		return cp, nil, nil, err
	}
	cp, found, err = t.checkpoint(filepath.Join(t.logDir, "checkpoint"), v)
	return cp, v, found, err
}

// verifier reads the log's verifier key.
func (t *tool) verifier() (note.Verifier, error) {
	text, err := os.ReadFile(t.key)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the verifier key: %v", err).
			WithHint("get the log's verifier key from its operator, not from the log")
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no verifier key", t.key).
			WithHint("it is one line of the form name+hash+key").WithCause(err)
	}
	return v, nil
}

// checkpoint reads a checkpoint file and verifies its signature.
func (t *tool) checkpoint(path string, v note.Verifier) (tlog.Checkpoint, []finding, error) {
	signed, err := os.ReadFile(path)
	if err != nil {
		return tlog.Checkpoint{}, nil, bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the checkpoint: %v", err).
			WithHint("copy the whole log directory, or name it with --log")
	}
	cp, err := tlog.OpenCheckpoint(signed, v.Name(), v)
	if err != nil {
		return cp, []finding{{Rule: "checkpoint", Message: fmt.Sprintf("%s: %v", path, err)}}, nil
	}
	return cp, nil, nil
}

// read is the tile reader over the log directory.
func (t *tool) read(path string) ([]byte, error) { return os.ReadFile(filepath.Join(t.logDir, path)) }

// verdict turns an error of pki/tlog into a finding, and leaves errors of another kind (such as a disk that does not
// answer) to the caller.
func verdict(err error) ([]finding, error) {
	for _, known := range []struct {
		err  error
		rule string
	}{
		{tlog.ErrFork, "fork"}, {tlog.ErrTile, "tile"}, {tlog.ErrLeaf, "leaf"}, {tlog.ErrCheckpoint, "checkpoint"},
		{fs.ErrNotExist, "tile-missing"},
	} {
		if errors.Is(err, known.err) {
			return []finding{{Rule: known.rule, Message: err.Error()}}, nil
		}
	}
	return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "cannot read the log: %v", err).
		WithHint("check the copy of the log and try again").WithCause(err)
}

// finish prints the document and gives the command's end: nil, or errFindings.
func (t *tool) finish(doc any, text string, found []finding) error {
	if t.json {
		if err := writeJSON(t.stdout, doc); err != nil {
			return bulkhead.Faultf(bulkhead.KindUnavailable, "cannot write: %v", err)
		}
	} else {
		fmt.Fprint(t.stdout, text)
		for _, f := range found {
			fmt.Fprintf(t.stdout, "FINDING %s: %s\n", f.Rule, f.Message)
		}
	}
	if len(found) > 0 {
		fmt.Fprintf(t.stderr, "bulkhead-verify: %d findings\nnext: keep this copy of the log and show it to the operator: bulkhead fsck\n", len(found))
		return errFindings
	}
	return nil
}

func writeJSON(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// checkpointDoc is a checkpoint in JSON.
type checkpointDoc struct {
	Origin string        `json:"origin"`
	Size   int64         `json:"size"`
	Root   bulkhead.Hash `json:"root"`
}

func docOf(cp tlog.Checkpoint) checkpointDoc {
	return checkpointDoc{Origin: cp.Origin, Size: cp.Size, Root: cp.Root}
}

// list makes an empty JSON array of no findings.
func list(found []finding) []finding {
	if found == nil {
		return []finding{}
	}
	return found
}
