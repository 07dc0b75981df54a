// Command bulkhead-verify is the auditor's tool: it proves from a copy of the evidence log and the log's public key
// what the certificate authority did, without asking the authority.
//
// Invariant: it reads files only, and trusts nothing but the verifier key that its user hands in. Everything printed
// was proved against a checkpoint signed by that key.
//
// Refuses: logs whose tiles do not hash to the checkpoint, certificates without an outcome leaf or without an intent
// before it. It reaches neither keys, nor the store, nor the writers of evidence.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
