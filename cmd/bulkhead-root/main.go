// Command bulkhead-root is the offline tool: it uses root keys on a machine that has no network, from a reviewed plan,
// and leaves a bundle to carry.
//
// Purpose: plan (words to read aloud, and a hash), run (quotes the hash), a signed transcript; custody of the root key by
// m of n people. Invariant: it opens no socket; nothing is signed that does not stand in the plan whose hash was quoted.
//
// Refuses: a plan other than the one quoted, a machine with a network interface that is up (a rehearsal, with throw-away
// keys and marked everywhere, may run anywhere), and everything that package ceremony refuses.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
