package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/pki/transcript"
)

// verified is what transcript verify prints.
type verified struct {
	Title      string        `json:"title"`
	Rehearsal  bool          `json:"rehearsal"`
	Who        []string      `json:"who"`
	StartedAt  time.Time     `json:"started_at"`
	Transcript bulkhead.Hash `json:"transcript"`
	Previous   bulkhead.Hash `json:"previous"`
	Plan       bulkhead.Hash `json:"plan"`
	Root       bulkhead.Hash `json:"root"`
	Entries    int           `json:"entries"`
	Objects    int           `json:"objects"`
	Destroyed  int           `json:"destroyed"`
}

func (t *tool) transcriptCommand() *cobra.Command {
	group := &cobra.Command{Use: "transcript", Short: "what a ceremony left: verify", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var root, plan, previous string
	c := &cobra.Command{Use: "verify FILE", Short: "verify a transcript or a bundle against the root", Args: exactly(1, "a transcript or a bundle"), RunE: func(_ *cobra.Command, args []string) error {
		v, err := verifyFile(args[0], root)
		if err != nil {
			return err
		}
		if plan != "" {
			p, err := readPlan(plan)
			if err != nil {
				return err
			}
			if p.Digest() != v.Plan {
				return bulkhead.NewFault(bulkhead.KindGate, "the transcript is of another plan").WithHint("compare the hash on the paper record with: bulkhead-root plan FILE")
			}
		}
		if previous != "" {
			text, err := session{previous: previous}.readPrevious()
			if err != nil {
				return err
			}
			if bulkhead.Digest(text) != v.Previous {
				return bulkhead.NewFault(bulkhead.KindGate, "the transcript follows another one").WithHint("find the transcript with SHA-256 " + v.Previous.String())
			}
		}
		mark := ""
		if v.Rehearsal {
			mark = "REHEARSAL. "
		}
		return t.show(v, fmt.Sprintf("%sThe transcript of %q is the root's: %d steps on %s, in the room: %s; %d objects, %d keys destroyed.\ntranscript  %s\nplan        %s\nroot        %s",
			mark, v.Title, v.Entries, v.StartedAt.Format(time.RFC3339), strings.Join(v.Who, ", "), v.Objects, v.Destroyed, v.Transcript, v.Plan, v.Root))
	}}
	c.Flags().StringVar(&root, "root", "", "certificate of the root, PEM; required")
	c.Flags().StringVar(&plan, "plan", "", "plan file that must be the one of the transcript")
	c.Flags().StringVar(&previous, "previous", "", "transcript or bundle that must be the one before")
	group.AddCommand(c)
	return group
}

func verifyFile(path, rootPath string) (verified, error) {
	if rootPath == "" {
		return verified{}, bulkhead.NewFault(bulkhead.KindUsage, "the root's certificate is missing").WithHint("--root root.pem, from a place other than the bundle")
	}
	text, err := readFile(rootPath, "certificate")
	if err != nil {
		return verified{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return verified{}, bulkhead.Faultf(bulkhead.KindMalformed, "%s is not PEM", rootPath).WithHint("--root root.pem")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return verified{}, bulkhead.Faultf(bulkhead.KindMalformed, "%s is not a certificate", rootPath).WithHint("--root root.pem").WithCause(err)
	}
	if text, err = readFile(path, "transcript"); err != nil {
		return verified{}, err
	}
	rec, err := transcript.Verify(text, root)
	signed, objects, destroyed := text, 0, 0
	if bulkhead.KindOf(err) == bulkhead.KindMalformed { // perhaps a bundle
		b, _, _, berr := ceremony.OpenBundle(text, root)
		if berr != nil {
			return verified{}, berr
		}
		rec, signed, objects, destroyed, err = b.Transcript, b.Signed, len(b.Objects), len(b.Destructions), nil
	}
	if err != nil {
		return verified{}, err
	}
	return verified{Title: rec.Title, Rehearsal: rec.Rehearsal, Who: rec.Who, StartedAt: rec.StartedAt, Transcript: bulkhead.Digest(signed), Previous: rec.Previous, Plan: rec.Plan,
		Root: rec.Root, Entries: len(rec.Entries), Objects: objects, Destroyed: destroyed}, nil
}
