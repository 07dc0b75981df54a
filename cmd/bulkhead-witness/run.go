package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/witness"
)

// Exit codes of every command of the house.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// tool is one invocation.
type tool struct {
	stdout, stderr io.Writer
	dir            string
	json           bool
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	t := &tool{stdout: stdout, stderr: stderr, json: slices.Contains(args, "--json")}
	root := t.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var f *bulkhead.Fault
	if !errors.As(err, &f) { // cobra's own complaints about flags and arguments
		f = bulkhead.NewFault(bulkhead.KindUsage, err.Error()).WithHint("bulkhead-witness --help")
	}
	if t.json {
		_ = t.print(map[string]any{"ok": false, "error": f.Detail, "hint": f.Hint})
	}
	fmt.Fprintf(stderr, "bulkhead-witness: %s\n", f.Detail)
	if f.Hint != "" {
		fmt.Fprintf(stderr, "next: %s\n", f.Hint)
	}
	if f.Kind == bulkhead.KindUsage {
		return exitUsage
	}
	return exitFailed
}

func (t *tool) print(doc any) error {
	enc := json.NewEncoder(t.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

func (t *tool) command() *cobra.Command {
	root := &cobra.Command{Use: "bulkhead-witness", Short: "cosign the checkpoints of somebody else's evidence log",
		Long: "bulkhead-witness keeps the newest checkpoint that it saw of each log and cosigns only what extends it (C2SP tlog-witness),\n" +
			"so that the log's owner cannot rewrite it unseen. Run it on a machine that the log's owner does not hold; see doc/witnesses.md.",
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return bulkhead.NewFault(bulkhead.KindUsage, "no command given").WithHint("bulkhead-witness --help")
		}}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&t.dir, "dir", "", "the witness's folder (required)")
	root.PersistentFlags().BoolVar(&t.json, "json", t.json, "print exactly one JSON document on standard output")
	root.AddCommand(t.keyCommand(), t.serveCommand())
	return root
}

func (t *tool) keyCommand() *cobra.Command {
	var name string
	c := &cobra.Command{Use: "key", Short: "make the witness's key, or show the verifier key of the one that is there", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return t.key(name) }}
	c.Flags().StringVar(&name, "name", "", "make a key under this name, for example witness.example/1")
	return c
}

func (t *tool) key(name string) error {
	if t.dir == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "--dir is required").WithHint("bulkhead-witness key --dir DIR --name NAME")
	}
	var text string
	var err error
	if name != "" {
		text, err = witness.NewKey(t.dir, name)
	} else if c, rerr := witness.ReadKey(t.dir); rerr == nil {
		text = c.String()
	} else {
		err = rerr
	}
	if err != nil {
		return err
	}
	if t.json {
		return t.print(map[string]string{"verifier_key": text})
	}
	_, err = fmt.Fprintln(t.stdout, text)
	return err
}

func (t *tool) serveCommand() *cobra.Command {
	var listen string
	var logs []string
	c := &cobra.Command{Use: "serve", Short: "answer add-checkpoint until it is stopped", Args: cobra.NoArgs,
		Long: "Serves plain HTTP; put a TLS proxy before it where it is dialled over the public network. The first line on standard output\n" +
			"says where it listens. --log FILE holds the verifier key of one log (evidence.key.pub of a house), got by a way you trust.",
		RunE: func(c *cobra.Command, _ []string) error { return t.serve(c.Context(), listen, logs) }}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:7380", "HOST:PORT to listen on")
	c.Flags().StringArrayVar(&logs, "log", nil, "file with the verifier key of a log to witness (required; more than once for more logs)")
	return c
}

// Limits of the listener: a stranger may hold a connection, not the process.
const (
	headerTimeout = 10 * time.Second
	wholeTimeout  = 20 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	stopTimeout   = 5 * time.Second
)

func (t *tool) serve(ctx context.Context, listen string, files []string) error {
	if t.dir == "" || len(files) == 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "--dir and --log are required").WithHint("bulkhead-witness serve --dir DIR --log evidence.key.pub")
	}
	var logs []note.Verifier
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "--log: %s cannot be read", f).WithHint("give the file with the log's verifier key").WithCause(err)
		}
		v, err := note.NewVerifier(strings.TrimSpace(string(text)))
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindMalformed, "--log: %s holds no verifier key", f).WithHint("it is one line of the form name+hash+key").WithCause(err)
		}
		logs = append(logs, v)
	}
	c, err := witness.ReadKey(t.dir)
	if err != nil {
		return err
	}
	w, err := witness.New(witness.Config{Dir: t.dir, Cosigner: c, Logs: logs, Now: time.Now, Log: slog.New(slog.NewTextHandler(t.stderr, nil))})
	if err != nil {
		return err
	}
	defer w.Close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "cannot listen on %s", listen).WithHint("choose another address: --listen HOST:PORT").WithCause(err)
	}
	address := "http://" + l.Addr().String()
	if t.json {
		err = t.print(map[string]any{"address": address, "verifier_key": c.String(), "pid": os.Getpid()})
	} else {
		_, err = fmt.Fprintf(t.stdout, "listening on %s as %s\n", address, c.String())
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{Handler: w, ReadHeaderTimeout: headerTimeout, ReadTimeout: wholeTimeout, WriteTimeout: wholeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return server.Shutdown(stop)
}
