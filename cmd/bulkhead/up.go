package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/run"
)

func (a *app) up() *cobra.Command {
	var passphraseFile string
	c := &cobra.Command{
		Use: "up", Short: "run everything in one process", Args: exactly(0, "no arguments"),
		Long: "Runs every role in one process on the embedded default. The first start makes a root (kept apart, sealed), two\nissuing authorities, profiles and two operator keys. Later starts take up where the last one stopped.",
	}
	flags := map[string]string{}
	for _, f := range []struct{ key, usage string }{
		{"listen", "HTTPS listener HOST:PORT: ACME and API (default 127.0.0.1:14000)"},
		{"status_listen", "HTTP listener HOST:PORT: OCSP and CRLs (default 127.0.0.1:14080)"},
		{"metrics_listen", "HTTP listener HOST:PORT: metrics and health (default 127.0.0.1:14090)"},
		{"status_url", "URL of the status listener as relying parties see it; baked into certificates"},
		{"external_url", "URL of the HTTPS listener as clients see it, when it is another"},
		{"organization", "organization in the names of the authorities (first start)"},
		{"country", "country in the names of the authorities, two letters (first start; default JP)"},
		{"store", "sqlite:FILE or postgres:FILE-WITH-CONNECTION-STRING"},
		{"objects", "where objects are published: dir:FOLDER or s3:FILE (default dir:objects)"},
		{"key_passphrase_file", "file with the passphrase that seals the signing keys"},
		{"key_ring", "PKCS#11 token for the signing keys: pkcs11:token=NAME?module-path=/LIB&pin-source=/FILE (default: sealed files)"},
		{"validate_http_port", "port that http-01 dials (default 80)"},
		{"validate_tls_port", "port that tls-alpn-01 dials (default 443)"},
		{"resolver", "DNS resolver HOST:PORT (default: the system's)"},
		{"log.level", "debug, info, warn or error"},
		{"log.format", "text or json"},
	} {
		flags[f.key] = strings.NewReplacer("_", "-", ".", "-").Replace(f.key)
		c.Flags().String(flags[f.key], "", f.usage)
	}
	c.Flags().StringVar(&passphraseFile, "root-passphrase-file", env("BULKHEAD_ROOT_PASSPHRASE_FILE", ""), "file with the passphrase that seals the root key, in place of an identity file (first start)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		set := map[string]string{}
		for key, flag := range flags {
			if v := os.Getenv("BULKHEAD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))); v != "" {
				set[key] = v
			}
			if c.Flags().Changed(flag) {
				set[key] = c.Flags().Lookup(flag).Value.String()
			}
		}
		o := run.UpOptions{Dir: a.opts.Dir, Set: set, RootPassphraseFile: passphraseFile, Out: a.err, LogTo: a.err, Version: buildVersion()}
		if a.json {
			o.Announce = func(r run.Ready) { _ = a.print(r) }
		} else {
			o.Out = a.out
		}
		return run.Up(c.Context(), o)
	}
	return c
}
