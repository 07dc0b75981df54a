package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/keys/custody"
	"bulkhead/pki/lint"
	"bulkhead/pki/transcript"
	"bulkhead/quorum"
)

// session is the flags of run.
type session struct {
	keys, previous, out, hash, began string
	custody                          string
	who, shares, identities          []string
	witnesses                        []string
	rehearsal                        bool
}

func (t *tool) runCommand() *cobra.Command {
	var s session
	c := &cobra.Command{Use: "run FILE", Short: "carry out a plan; quotes the hash that plan printed", Args: exactly(1, "the file of a plan"),
		Example: "  bulkhead-root run plan.yaml --plan-hash 3f2a… --who Ada --who Grace --keys /media/root --previous 0007.json --out 0008.bundle\n" +
			"  bulkhead-root run plan.yaml --plan-hash 3f2a… --who Ada --who Grace --rehearsal --out rehearsal.bundle",
		RunE: func(c *cobra.Command, args []string) error { return t.hold(c, args[0], s) }}
	f := c.Flags()
	f.StringVar(&s.hash, "plan-hash", "", "the hash that plan printed; required")
	f.StringArrayVar(&s.who, "who", nil, "a person in the room; may be repeated, at least one")
	f.StringVar(&s.keys, "keys", "", "folder of the root key, or the URI of a ring: file:DIR?passphrase-file=FILE, pkcs11:token=…?module-path=…&pin-source=…")
	f.StringVar(&s.previous, "previous", "", "signed transcript of the ceremony before this one; required unless it is the root's first")
	f.StringVar(&s.out, "out", "ceremony.bundle", "write the bundle to carry here")
	f.StringVar(&s.custody, "custody", "", "custody.json of a key that is held by m of n people")
	f.StringArrayVar(&s.shares, "share", nil, "a custodian's share; may be repeated")
	f.StringArrayVar(&s.identities, "share-identity", nil, "the identity file that opens the share at the same place; may be repeated")
	f.StringArrayVar(&s.witnesses, "witness-key", nil, "operator key of a witness to a key's destruction; may be repeated, two are needed")
	f.StringVar(&s.began, "began", "", "when the people began (RFC 3339), for the transcript")
	f.BoolVar(&s.rehearsal, "rehearsal", false, "throw-away keys and names that begin with REHEARSAL; may run on any machine")
	return c
}

// held is what run prints.
type held struct {
	Bundle     string        `json:"bundle"`
	Transcript bulkhead.Hash `json:"transcript"`
	Root       bulkhead.Hash `json:"root"`
	Signed     int           `json:"signed"` // certificates and CRLs
	Destroyed  int           `json:"destroyed"`
	Rehearsal  bool          `json:"rehearsal"`
	Seconds    float64       `json:"seconds"`
	Notice     string        `json:"notice,omitempty"` // what the destruction of a key cannot promise
}

func (t *tool) hold(c *cobra.Command, path string, s session) error {
	begin := time.Now()
	plan, err := readPlan(path)
	if err != nil {
		return err
	}
	if err := quoted(plan, s.hash); err != nil {
		return err
	}
	if !s.rehearsal {
		if err := t.refuseNetwork(); err != nil {
			return err
		}
	}
	witnesses, err := s.witnessKeys(plan)
	if err != nil {
		return err
	}
	cfg, err := s.config(plan)
	if err != nil {
		return err
	}
	res, err := ceremony.Execute(c.Context(), cfg, plan)
	if err != nil {
		return err
	}
	text, err := res.Bundle(plan, nil, time.Now(), s.rehearsal)
	if err != nil {
		return err
	}
	if err := writeFile(s.out, text, 0o644); err != nil {
		return err
	}
	out := held{Bundle: s.out, Transcript: bulkhead.Digest(res.Transcript), Root: bulkhead.Digest(res.Issuers[0]), Signed: len(res.Authorities) + len(res.Certificates) + len(res.Prepared), Rehearsal: s.rehearsal}
	if !s.rehearsal {
		if out.Destroyed, err = t.destroy(c, s, cfg, plan, res, witnesses); err != nil {
			return err
		}
	}
	if len(res.Destroy) > 0 {
		out.Notice = keys.NoticeOf(res.Destroy[0].KeyURI)
	}
	out.Seconds = time.Since(begin).Seconds()
	return t.showHeld(out, s)
}

func (t *tool) showHeld(out held, s session) error {
	var b strings.Builder
	if out.Rehearsal {
		fmt.Fprintf(&b, "REHEARSAL: nothing of this is of use but the time that it took.\n")
	}
	fmt.Fprintf(&b, "The ceremony is held. The bundle is %s.\ntranscript  %s\nroot        %s\n", out.Bundle, out.Transcript, out.Root)
	if out.Destroyed > 0 {
		fmt.Fprintf(&b, "%d keys are destroyed. %s.\n", out.Destroyed, out.Notice)
	}
	if err := t.show(out, b.String()); err != nil {
		return err
	}
	t.say("next: write both digests on the paper record, carry %s to the house, then: bulkhead hierarchy import %s", s.out, filepath.Base(s.out))
	return nil
}

func (s session) config(plan ceremony.Plan) (ceremony.Config, error) {
	cfg := ceremony.Config{Now: time.Now, Rand: rand.Reader, Who: s.who, Rehearsal: s.rehearsal}
	var err error
	if cfg.Lint, err = lint.New(lint.Config{}); err != nil {
		return cfg, err
	}
	if s.began != "" {
		if cfg.Began, err = time.Parse(time.RFC3339, s.began); err != nil || cfg.Began.After(time.Now()) {
			return cfg, bulkhead.Faultf(bulkhead.KindUsage, "--began %q is no time in the past", s.began).WithHint("--began 2026-11-21T12:00:00Z").WithCause(err)
		}
	}
	if s.previous != "" {
		if cfg.PreviousTranscript, err = s.readPrevious(); err != nil {
			return cfg, err
		}
	} else if !s.rehearsal && !plan.MakesRoot() {
		return cfg, bulkhead.NewFault(bulkhead.KindUsage, "the transcript of the ceremony before this one is missing").WithHint("--previous FILE: without it CRL numbers could go back")
	}
	if s.rehearsal {
		return cfg, nil
	}
	cfg.Ring, err = s.ring()
	return cfg, err
}

// readPrevious reads a transcript, or takes it out of a bundle. Execute verifies it.
func (s session) readPrevious() ([]byte, error) {
	text, err := readFile(s.previous, "transcript")
	if err != nil {
		return nil, err
	}
	if b, err := transcript.Open(text, nil); err == nil {
		return b.Signed, nil
	}
	return text, nil
}

// ring opens what holds the root key.
func (s session) ring() (keys.Ring, error) {
	switch {
	case s.keys == "":
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "it is not said where the root key is").WithHint("--keys DIR, or the URI of a ring; or --rehearsal")
	case s.custody != "":
		secret, err := combine(s.custody, s.shares, s.identities)
		if err != nil {
			return nil, err
		}
		return keys.OpenFileRing(keys.Config{Dir: s.keys, Passphrase: secret, WorkFactor: custodyWork})
	case len(s.shares)+len(s.identities) > 0:
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "shares without their record").WithHint("--custody custody.json")
	case strings.HasPrefix(s.keys, "file:") || strings.HasPrefix(s.keys, "pkcs11:"):
		return keys.OpenURI(s.keys)
	default:
		return keys.OpenURI("file:" + s.keys)
	}
}

// combine opens the shares and rebuilds the secret, in memory only.
func combine(record string, shares, identities []string) ([]byte, error) {
	text, err := readFile(record, "custody record")
	if err != nil {
		return nil, err
	}
	r, err := custody.ParseRecord(text)
	if err != nil {
		return nil, err
	}
	if len(shares) != len(identities) {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%d shares and %d identities", len(shares), len(identities)).WithHint("give --share-identity once for each --share, in the same order")
	}
	var open []custody.Share
	for i := range shares {
		sealed, err := readFile(shares[i], "share")
		if err != nil {
			return nil, err
		}
		s, err := custody.Open(r, sealed, identities[i])
		if err != nil {
			return nil, err
		}
		open = append(open, s)
	}
	return custody.Combine(r, open)
}

// witnessKeys reads the keys of the witnesses before anything is done, because a key that is gone cannot be witnessed.
func (s session) witnessKeys(plan ceremony.Plan) ([]ed25519.PrivateKey, error) {
	var out []ed25519.PrivateKey
	seen := map[string]bool{}
	for _, path := range s.witnesses {
		text, err := readFile(path, "operator key")
		if err != nil {
			return nil, err
		}
		k, err := quorum.ParseKey(text)
		if err != nil {
			return nil, err
		}
		if !seen[string(k)] {
			seen[string(k)], out = true, append(out, k)
		}
	}
	if plan.DestroysKeys() && !s.rehearsal && len(out) < 2 {
		return nil, bulkhead.Faultf(bulkhead.KindGate, "the plan destroys a key and %d people witness it; it takes two", len(out)).WithHint("--witness-key FILE for two operators")
	}
	return out, nil
}

// destroy destroys the keys that the plan ordered, has it witnessed, and writes the bundle again with the statements.
func (t *tool) destroy(c *cobra.Command, s session, cfg ceremony.Config, plan ceremony.Plan, res *ceremony.Result, witnesses []ed25519.PrivateKey) (int, error) {
	var done []transcript.Destruction
	for _, o := range res.Destroy {
		d, err := ceremony.DestroyKey(c.Context(), cfg.Ring, o, res.Transcript, time.Now())
		if err != nil {
			return len(done), err
		}
		text, err := d.Statement()
		if err != nil {
			return len(done), err
		}
		for _, k := range witnesses {
			d.Witnesses = append(d.Witnesses, transcript.Witness{PublicKey: k.Public().(ed25519.PublicKey), Signature: ed25519.Sign(k, text)})
		}
		done = append(done, d)
		// After each key, so that a statement is never lost with a later failure.
		bundle, err := res.Bundle(plan, done, time.Now(), false)
		if err != nil {
			return len(done), err
		}
		if err := replaceFile(s.out, bundle, 0o644); err != nil {
			return len(done), err
		}
	}
	return len(done), nil
}
