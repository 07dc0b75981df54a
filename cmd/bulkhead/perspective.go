package main

import (
	"github.com/spf13/cobra"

	"bulkhead/run"
)

func (a *app) perspective() *cobra.Command {
	var o run.PerspectiveOptions
	c := &cobra.Command{Use: "perspective", Short: "look at names from here for a house elsewhere (BR 3.2.2.9)", Args: exactly(0, "no arguments"),
		Long: "Serves one validation or CAA look per request over HTTPS to whoever has the token. It holds no key of the house, no\ndatabase and no cache. Its folder gets a certificate and a token at first start: name both under perspectives in the\nhouse's configuration, and let only the house reach the listener.",
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log = run.NewLogger(a.err, run.Log{Level: "info", Format: "text"})
			o.Ready = func(r run.PerspectiveReady) {
				_ = a.show(r, "perspective at %s\ncertificate_file: %s\ntoken_file: %s", r.URL, r.CertificateFile, r.TokenFile) // nobody reads it when this fails
			}
			return run.RunPerspective(c.Context(), o)
		}}
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:14100", "HTTPS listener HOST:PORT, private to the house")
	f.StringVar(&o.Dir, "dir", "bulkhead-perspective", "folder with certificate, key and token")
	f.StringVar(&o.Resolver, "resolver", "", "DNS resolver HOST:PORT, shared with no other perspective (default: the system's)")
	f.IntVar(&o.HTTPPort, "validate-http-port", 80, "port that http-01 dials")
	f.IntVar(&o.TLSPort, "validate-tls-port", 443, "port that tls-alpn-01 dials")
	f.BoolVar(&o.PrivateTargets, "private-targets", false, "dial loopback and private addresses, too")
	f.StringSliceVar(&o.CAAIdentities, "caa-identity", []string{"bulkhead.internal"}, "names by which CAA records permit the house; as in its configuration")
	return c
}
