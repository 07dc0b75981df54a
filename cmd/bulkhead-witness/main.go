// Command bulkhead-witness is a witness of tiled logs (C2SP tlog-witness) for the evidence logs of others' houses: it keeps
// the newest checkpoint that it saw of each log and cosigns only what extends it.
//
// Invariant: it runs on a machine of somebody else than the log's owner, and knows of a log nothing but its verifier key and
// its newest checkpoint. It reaches neither keys of a house, nor a store.
//
// Refuses: logs that it was not told of, a step back, a second process on its folder.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
