// Command bulkhead is the certificate authority and its command line: every role as a subcommand, and every question
// an operator asks.
//
// Standard output carries the result and nothing else; talk goes to standard error. Exit codes: 0 done, 1 failed,
// 2 usage, 3 refused by a safety gate or findings present, 4 partly done, 5 unreachable.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
