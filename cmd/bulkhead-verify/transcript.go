package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/pki/transcript"
)

// transcriptDoc is the verdict on a ceremony's transcript or bundle.
type transcriptDoc struct {
	OK         bool          `json:"ok"`
	Title      string        `json:"title"`
	Rehearsal  bool          `json:"rehearsal"`
	Who        []string      `json:"who"`
	StartedAt  time.Time     `json:"started_at"`
	Transcript bulkhead.Hash `json:"transcript"`
	Previous   bulkhead.Hash `json:"previous"`
	Plan       bulkhead.Hash `json:"plan"`
	Steps      []string      `json:"steps"`
	Objects    int           `json:"objects"`
	Destroyed  int           `json:"destroyed"`
	Findings   []finding     `json:"findings"`
}

func (t *tool) transcriptCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use: "transcript FILE", Short: "verify what a ceremony left: its signed transcript, or the whole bundle",
		Long: "Needs the root's certificate from a place other than the file, and no log. Of a bundle every object is checked: it stands in the\n" +
			"transcript, its issuer signed it, nothing is missing, and destroyed keys have two witnesses.",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || root == "" {
				return bulkhead.NewFault(bulkhead.KindUsage, "transcript takes a file, and the root's certificate").WithHint("bulkhead-verify transcript FILE --root root.pem")
			}
			return t.verifyTranscript(args[0], root)
		},
	}
	c.Flags().StringVar(&root, "root", "", "certificate of the root, PEM (required)")
	return c
}

func (t *tool) verifyTranscript(path, rootPath string) error {
	text, err := os.ReadFile(rootPath)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the root: %v", err).WithHint("get the root's certificate from its operator, not from the bundle")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no PEM certificate", rootPath).WithHint("--root root.pem")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no certificate", rootPath).WithHint("--root root.pem").WithCause(err)
	}
	if text, err = os.ReadFile(path); err != nil {
		return bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the transcript: %v", err).WithHint("give the file that the ceremony wrote")
	}
	doc := transcriptDoc{Who: []string{}, Steps: []string{}, Findings: []finding{}}
	rec, signed := (*transcript.Transcript)(nil), text
	if b, berr := transcript.Open(text, root); berr == nil {
		rec, signed, doc.Objects, doc.Destroyed = b.Transcript, b.Signed, len(b.Objects), len(b.Destructions)
	} else if rec, err = transcript.Verify(text, root); err != nil {
		if bulkhead.KindOf(berr) != bulkhead.KindMalformed {
			err = berr // it is a bundle, and this is what is wrong with it
		}
		var f *bulkhead.Fault
		if !errors.As(err, &f) || f.Kind != bulkhead.KindUnauthorized {
			return err
		}
		doc.Findings = append(doc.Findings, finding{Rule: "transcript", Message: f.Detail})
		return t.finish(doc, "", doc.Findings)
	}
	doc.OK, doc.Title, doc.Rehearsal, doc.Who, doc.StartedAt = true, rec.Title, rec.Rehearsal, rec.Who, rec.StartedAt
	doc.Transcript, doc.Previous, doc.Plan = bulkhead.Digest(signed), rec.Previous, rec.Plan
	for _, e := range rec.Entries {
		doc.Steps = append(doc.Steps, fmt.Sprintf("%s of %s, signed by %s", e.Kind, e.Authority, e.Signer))
	}
	mark := ""
	if rec.Rehearsal {
		mark = "REHEARSAL. "
	}
	return t.finish(doc, fmt.Sprintf("%sThe root signed the transcript of %q, held on %s by %s.\n  %s\n%d objects verify; %d keys were destroyed before witnesses.\ntranscript  %s\nplan        %s\n",
		mark, rec.Title, rec.StartedAt.Format(time.RFC3339), strings.Join(rec.Who, ", "), strings.Join(doc.Steps, "\n  "), doc.Objects, doc.Destroyed, doc.Transcript, doc.Plan), nil)
}
