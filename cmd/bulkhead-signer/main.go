// Command bulkhead-signer runs the only process of a house that holds issuing keys. It answers the other roles over
// mutual TLS, each only what its work needs, and shuts itself in before it opens a key: no file outside its directory, no
// TCP port beyond those that it is given.
//
// Refuses: to run any other role. Exit codes are those of bulkhead.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"bulkhead"
	"bulkhead/run"
	"bulkhead/signer/signerrpc"
)

// version is set by the linker for releases.
var version = "dev"

// Exit codes, as bulkhead's.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func execute(ctx context.Context, args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("bulkhead-signer", flag.ContinueOnError)
	fs.SetOutput(errOut)
	o := run.SandboxOptions{}
	var ports list
	fs.StringVar(&o.Dir, "data", env("BULKHEAD_DATA", run.DefaultDir), "the signer's data directory, from the first start")
	sandbox := fs.String("sandbox", "on", "on, or off where the kernel has no Landlock and something else shuts the process in")
	fs.Var((*list)(&o.Read), "allow-read", "a folder or file to read, beside the system's (may be given more than once)")
	fs.Var((*list)(&o.Write), "allow-write", "a folder to write, for example that of a token's objects")
	fs.Var(&ports, "allow-port", "a TCP port to dial, for example the database's; its unix socket needs none")
	if err := fs.Parse(args); err != nil {
		return exitUsage
	}
	if fs.NArg() > 0 || *sandbox != "on" && *sandbox != "off" {
		fmt.Fprintln(errOut, "bulkhead-signer: it takes flags only, and --sandbox is on or off\nnext: bulkhead-signer --help")
		return exitUsage
	}
	for _, p := range ports {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			fmt.Fprintf(errOut, "bulkhead-signer: %q is not a port\nnext: bulkhead-signer --help\n", p)
			return exitUsage
		}
		o.Ports = append(o.Ports, int(n))
	}
	if *sandbox == "on" {
		if err := run.Sandbox(o); err != nil {
			return fail(errOut, err)
		}
	}
	err := run.RunRoles(ctx, run.RoleOptions{Dir: o.Dir, Roles: []signerrpc.Role{signerrpc.Signer}, LogTo: errOut, Version: version, Announce: func(r run.Ready) {
		fmt.Fprintf(out, "ready\n  metrics          %s\n", r.Metrics)
	}})
	if err != nil {
		return fail(errOut, err)
	}
	return 0
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func fail(w io.Writer, err error) int {
	f := bulkhead.AsFault(err)
	fmt.Fprintln(w, "bulkhead-signer: "+f.Error())
	if f.Hint != "" {
		fmt.Fprintln(w, "next: "+f.Hint)
	}
	switch f.Kind {
	case bulkhead.KindUsage, bulkhead.KindMalformed:
		return exitUsage
	case bulkhead.KindGate, bulkhead.KindForbidden:
		return exitRefused
	case bulkhead.KindUnavailable:
		return exitUnreachable
	default:
		return exitFailed
	}
}
