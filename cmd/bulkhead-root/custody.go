package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/keys/custody"
)

// custodyWork is scrypt's cost for a folder sealed to 256 random bits: there is nothing to guess, so it is low.
const custodyWork = 12

func (t *tool) custodyCommand() *cobra.Command {
	group := &cobra.Command{Use: "custody", Short: "the root key in the hands of m of n people: split, check, combine", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	group.AddCommand(t.custodySplit(), t.custodyCheck(), t.custodyCombine())
	return group
}

func (t *tool) custodySplit() *cobra.Command {
	var from, identity, passphrase, out string
	var needed int
	var people []string
	c := &cobra.Command{Use: "split", Short: "copy the key folder, sealed to a secret that m of n people hold in shares", Args: exactly(0, "no arguments"),
		Example: "  bulkhead-root custody split --keys /media/root --out /media/custody --needed 2 --custodian ada=age1… --custodian grace=age1… --custodian edith=age1…",
		RunE: func(*cobra.Command, []string) error {
			if err := t.refuseNetwork(); err != nil {
				return err
			}
			src := keys.Config{Dir: from, IdentityFile: identity}
			if src.IdentityFile == "" {
				src.IdentityFile = filepath.Join(from, "root.identity")
			}
			if passphrase != "" {
				p, err := readFile(passphrase, "passphrase")
				if err != nil {
					return err
				}
				line, _, _ := strings.Cut(string(p), "\n")
				src.IdentityFile, src.Passphrase = "", []byte(line)
			}
			who, err := custodians(people)
			if err != nil {
				return err
			}
			return t.split(src, out, needed, who)
		}}
	c.Flags().StringVar(&from, "keys", "", "folder of the root key; required")
	c.Flags().StringVar(&identity, "identity", "", "its identity file (default: root.identity inside)")
	c.Flags().StringVar(&passphrase, "passphrase-file", "", "file with its passphrase, when it has one")
	c.Flags().StringVar(&out, "out", "", "new folder: keys/, custody.json and one share-NAME.age for each; required")
	c.Flags().IntVar(&needed, "needed", 2, "how many people open it")
	c.Flags().StringArrayVar(&people, "custodian", nil, "NAME=age1…; one for each person")
	return c
}

func custodians(texts []string) (out []custody.Custodian, err error) {
	for _, x := range texts {
		name, recipient, ok := strings.Cut(x, "=")
		if !ok {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "--custodian %q is not NAME=age1…", x).WithHint("each custodian makes an identity: age-keygen")
		}
		out = append(out, custody.Custodian{Name: name, Recipient: recipient})
	}
	return out, nil
}

func (t *tool) split(src keys.Config, out string, needed int, who []custody.Custodian) error {
	if src.Dir == "" || out == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "--keys and --out are required").WithHint("bulkhead-root custody split --help")
	}
	secret, r, files, err := custody.Split(rand.Reader, needed, who)
	if err != nil {
		return err
	}
	defer clear(secret)
	if err := os.Mkdir(out, 0o700); err != nil {
		return bulkhead.Faultf(bulkhead.KindConflict, "%s cannot be made", out).WithHint("name a new folder with --out").WithCause(err)
	}
	if r.Keys, err = keys.Reseal(src, keys.Config{Dir: filepath.Join(out, "keys"), Passphrase: secret, WorkFactor: custodyWork}); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("custody record: %w", err)
	}
	if err := writeFile(filepath.Join(out, "custody.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	for name, body := range files {
		if err := writeFile(filepath.Join(out, "share-"+name+".age"), body, 0o600); err != nil {
			return err
		}
	}
	if err := t.show(r, fmt.Sprintf("%d of %d people open the keys in %s now.", needed, len(who), filepath.Join(out, "keys"))); err != nil {
		return err
	}
	t.say("next: let each custodian check the share (bulkhead-root custody check), then destroy the old folder and its identity")
	return nil
}

func (t *tool) custodyCheck() *cobra.Command {
	var record, identity string
	c := &cobra.Command{Use: "check SHARE", Short: "a custodian checks a share alone, without the others", Args: exactly(1, "a share"), RunE: func(_ *cobra.Command, args []string) error {
		text, err := readFile(record, "custody record")
		if err != nil {
			return err
		}
		r, err := custody.ParseRecord(text)
		if err != nil {
			return err
		}
		sealed, err := readFile(args[0], "share")
		if err != nil {
			return err
		}
		s, err := custody.Open(r, sealed, identity)
		if err != nil {
			return err
		}
		return t.show(map[string]any{"name": s.Name, "needed": r.Needed, "of": len(r.Custodians), "ok": true}, fmt.Sprintf("The share of %s is good: %d of %d such shares open the key.", s.Name, r.Needed, len(r.Custodians)))
	}}
	c.Flags().StringVar(&record, "custody", "custody.json", "the record of the split")
	c.Flags().StringVar(&identity, "identity", "", "the custodian's identity file; required")
	return c
}

func (t *tool) custodyCombine() *cobra.Command {
	var record, dir string
	var shares, identities []string
	c := &cobra.Command{Use: "combine", Short: "prove that these shares open the keys; the secret stays in memory", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		if err := t.refuseNetwork(); err != nil {
			return err
		}
		secret, err := combine(record, shares, identities)
		if err != nil {
			return err
		}
		defer clear(secret)
		ring, err := keys.OpenFileRing(keys.Config{Dir: dir, Passphrase: secret, WorkFactor: custodyWork})
		if err != nil {
			return err
		}
		opened, err := openAll(c.Context(), ring)
		if err != nil {
			return err
		}
		var b strings.Builder
		for uri, hash := range opened {
			fmt.Fprintf(&b, "%s opens; its public key has SHA-256 %s\n", uri, hash)
		}
		return t.show(map[string]any{"keys": opened}, b.String())
	}}
	c.Flags().StringVar(&record, "custody", "custody.json", "the record of the split")
	c.Flags().StringVar(&dir, "keys", "keys", "folder of the keys")
	c.Flags().StringArrayVar(&shares, "share", nil, "a custodian's share; may be repeated")
	c.Flags().StringArrayVar(&identities, "share-identity", nil, "the identity file that opens the share at the same place; may be repeated")
	return c
}

// openAll opens every key of a ring and says which public key it has.
func openAll(ctx context.Context, ring keys.Ring) (map[string]bulkhead.Hash, error) {
	uris, err := ring.List(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]bulkhead.Hash{}
	for _, uri := range uris {
		s, err := ring.Open(ctx, uri)
		if err != nil {
			return nil, err
		}
		spki, err := x509.MarshalPKIXPublicKey(s.Public())
		if err != nil {
			return nil, fmt.Errorf("public key of %s: %w", uri, err)
		}
		out[uri] = bulkhead.Digest(spki)
	}
	return out, nil
}
