package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"bulkhead"
	"bulkhead/headroom"
)

// UpOptions is what `bulkhead up` was called with.
type UpOptions struct {
	Dir string
	// Set holds the flags and variables that were given, by configuration key. At first start they are stored; later
	// they must agree with what is stored.
	Set                map[string]string
	RootPassphraseFile string
	Out                io.Writer // what the operator reads
	LogTo              io.Writer
	Version            string
	// Announce is called once every role answers, before anything is printed.
	Announce func(Ready)
}

// Up runs every role in one process until ctx ends.
func Up(ctx context.Context, o UpOptions) error {
	made, err := firstStart(ctx, o)
	if err != nil {
		return err
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	if err := agrees(cfg, o.Set); err != nil {
		return err
	}
	return serve(ctx, Options{Dir: o.Dir, Config: cfg, Log: NewLogger(o.LogTo, cfg.Log), Version: o.Version}, func(r Ready) {
		if o.Announce != nil {
			o.Announce(r)
		}
		greet(o, cfg, r, made)
	})
}

// serve runs a house on its directory until ctx ends: nobody else runs it meanwhile, and ready.json is there exactly while its
// roles answer. ready is called when they do, with the file written.
func serve(ctx context.Context, o Options, ready func(Ready)) error {
	headroom.Keep(headroom.Room)
	release, err := lockDir(o.Dir)
	if err != nil {
		return err
	}
	defer release()
	file := filepath.Join(o.Dir, "run", "ready.json")
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the old ready.json: %w", err)
	}
	h, err := OpenWith(ctx, o)
	if err != nil {
		return err
	}
	err = h.Run(ctx, func(r Ready) error {
		body, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(file, append(body, '\n'), 0o644); err != nil {
			return err
		}
		ready(r)
		return nil
	})
	h.log.InfoContext(context.WithoutCancel(ctx), "stopped", slog.Bool("clean", err == nil))
	if gone := os.Remove(file); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return errors.Join(err, h.Close())
}

func firstStart(ctx context.Context, o UpOptions) (bool, error) {
	cfg := DefaultConfig()
	if err := apply(&cfg, o.Set); err != nil {
		return false, err
	}
	if a, port, err := splitListen(cfg.StatusListen); err == nil && (a.IsUnspecified() || port == 0) && o.Set["status_url"] == "" {
		if _, err := os.Stat(filepath.Join(o.Dir, ConfigFile)); errors.Is(err, fs.ErrNotExist) {
			return false, wrong("status_url", "a wildcard or port 0 status listener does not say how relying parties reach it")
		}
	}
	if o.Set["status_url"] == "" && o.Set["status_listen"] != "" {
		cfg.StatusURL = "http://" + cfg.StatusListen
	}
	if _, err := os.Stat(filepath.Join(o.Dir, ConfigFile)); err == nil {
		return false, nil
	}
	if err := cfg.Check(); err != nil {
		return false, err
	}
	var passphrase []byte
	if o.RootPassphraseFile != "" {
		var err error
		if passphrase, err = ReadSecret(o.RootPassphraseFile); err != nil {
			return false, err
		}
	}
	// An address that is taken is found before it is written down and baked into certificates.
	for _, l := range cfg.listeners() {
		opened, err := l.open()
		if err != nil {
			return false, err
		}
		opened.Close()
	}
	return FirstStart(ctx, o.Dir, cfg, passphrase)
}

// setting reads and writes one configuration key as text.
type setting struct {
	get func(Config) string
	set func(*Config, string) error
}

func text(p func(*Config) *string) setting {
	return setting{func(c Config) string { return *p(&c) }, func(c *Config, v string) error { *p(c) = v; return nil }}
}

func number(key string, p func(*Config) *int) setting {
	return setting{func(c Config) string { return fmt.Sprint(*p(&c)) }, func(c *Config, v string) error {
		var n int
		if _, err := fmt.Sscanf(v, "%d", &n); err != nil || fmt.Sprint(n) != v {
			return wrong(key, "%q is not a number", v)
		}
		*p(c) = n
		return nil
	}}
}

// settings are the keys that flags and variables may set.
var settings = map[string]setting{
	"listen":              text(func(c *Config) *string { return &c.Listen }),
	"status_listen":       text(func(c *Config) *string { return &c.StatusListen }),
	"metrics_listen":      text(func(c *Config) *string { return &c.MetricsListen }),
	"status_url":          text(func(c *Config) *string { return &c.StatusURL }),
	"external_url":        text(func(c *Config) *string { return &c.ExternalURL }),
	"organization":        text(func(c *Config) *string { return &c.Organization }),
	"country":             text(func(c *Config) *string { return &c.Country }),
	"store":               text(func(c *Config) *string { return &c.Store }),
	"objects":             text(func(c *Config) *string { return &c.Objects }),
	"key_passphrase_file": text(func(c *Config) *string { return &c.KeyPassphraseFile }),
	"key_ring":            text(func(c *Config) *string { return &c.KeyRing }),
	"resolver":            text(func(c *Config) *string { return &c.Resolver }),
	"validate_http_port":  number("validate_http_port", func(c *Config) *int { return &c.ValidateHTTPPort }),
	"validate_tls_port":   number("validate_tls_port", func(c *Config) *int { return &c.ValidateTLSPort }),
	"log.level":           text(func(c *Config) *string { return &c.Log.Level }),
	"log.format":          text(func(c *Config) *string { return &c.Log.Format }),
}

// SettingKeys lists the keys that flags and variables may set.
func SettingKeys() []string {
	var keys []string
	for k := range settings {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func apply(c *Config, set map[string]string) error {
	for k, v := range set {
		s, ok := settings[k]
		if !ok {
			return wrong(k, "no such key")
		}
		if err := s.set(c, v); err != nil {
			return err
		}
	}
	return nil
}

// agrees refuses flags that contradict what the first start stored.
func agrees(c Config, set map[string]string) error {
	for _, k := range SettingKeys() {
		v, given := set[k]
		if given && settings[k].get(c) != v {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s: the flag says %q, %s says %q", k, v, ConfigFile, settings[k].get(c)).
				WithHint("drop the flag, or change " + k + " in " + ConfigFile)
		}
	}
	return nil
}

// greet prints where everything is and what to type next.
func greet(o UpOptions, cfg Config, r Ready, made bool) {
	var b strings.Builder
	if made {
		root := RootDir(o.Dir)
		fmt.Fprintf(&b, "A new house: a root, two issuing authorities, profiles and two operator keys.\n")
		fmt.Fprintf(&b, "  move this away, to offline media:  %s\n", filepath.Join(root, "root.age"))
		if o.RootPassphraseFile == "" {
			fmt.Fprintf(&b, "  move this away, to other media:    %s\n", filepath.Join(root, rootIdentity))
		}
		fmt.Fprintf(&b, "  give this to a second person:      %s\n\n", filepath.Join(root, secondOperator))
	}
	fmt.Fprintf(&b, "ready\n  ACME directory   %s\n  API              %s\n  OCSP             %s\n  CRLs             %s\n  trust anchor     %s\n", r.ACMEDirectory, r.API, r.OCSP, r.CRLBase, r.TrustAnchor)
	if cfg.PrivateTargets {
		fmt.Fprintf(&b, "  validation may dial loopback and private addresses (private_targets in %s)\n", ConfigFile)
	}
	fmt.Fprintf(&b, "\nA first certificate:\n  %s\n", issueLine(o.Dir))
	fmt.Fprint(o.Out, b.String())
}

// issueLine is the exact command that gets a certificate, as this process was started.
func issueLine(dir string) string {
	program := "bulkhead"
	if exe, err := os.Executable(); err == nil {
		program = exe
		if strings.Contains(exe, "go-build") {
			program = "go run ./cmd/bulkhead"
		}
	}
	line := program + " issue www.example.test"
	if filepath.Clean(dir) != DefaultDir {
		line += " --data " + dir
	}
	return line
}

// DefaultDir is the data directory when none is named.
const DefaultDir = "bulkhead-data"
