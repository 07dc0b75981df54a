package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// witnessDoc is what witnesses say of a log.
type witnessDoc struct {
	OK         bool          `json:"ok"`
	Quorum     string        `json:"quorum"`     // "2 of 3"
	Cosigned   checkpointDoc `json:"cosigned"`   // the checkpoint that has the cosignatures
	Checkpoint checkpointDoc `json:"checkpoint"` // the log's newest
	Witnesses  []witnessBy   `json:"witnesses"`
	Findings   []finding     `json:"findings"`
}

// witnessBy is one cosignature.
type witnessBy struct {
	Witness string    `json:"witness"`
	At      time.Time `json:"at"`
}

func (t *tool) witnessCommand() *cobra.Command {
	var policy, cosigned string
	c := &cobra.Command{Use: "witness", Short: "demand the cosignatures of outside witnesses on a checkpoint of the log", Args: cobra.NoArgs,
		Long: "Verifies that as many witnesses as the policy asks for cosigned a checkpoint, and that the log begins with all that it covers.\n" +
			"The policy is the auditor's own: lines \"witness NAME KEY\", \"group NAME K MEMBER…\" and \"quorum NAME\".",
		RunE: func(*cobra.Command, []string) error { return t.witness(policy, cosigned) }}
	c.Flags().StringVar(&policy, "policy", "", "file that says which witnesses are asked for (required)")
	c.Flags().StringVar(&cosigned, "cosigned", "", "file with the cosigned checkpoint; by default the log's checkpoint, or \"witnessed\" beside it")
	return c
}

// readPolicy reads an auditor's policy. One that asks for nobody would verify everything.
func readPolicy(path string) (*tlog.Policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "--policy: %q cannot be read", path).WithHint("--policy FILE: lines witness NAME KEY, group NAME K MEMBER…, quorum NAME").WithCause(err)
	}
	p, err := tlog.ParsePolicy(string(text))
	if err == nil && !p.Asks() {
		err = fmt.Errorf("it asks for no cosignature")
	}
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "--policy: %s: %s", path, err).WithHint("--policy FILE: lines witness NAME KEY, group NAME K MEMBER…, quorum NAME")
	}
	return p, nil
}

func (t *tool) witness(policy, cosigned string) error {
	p, err := readPolicy(policy)
	if err != nil {
		return err
	}
	cp, v, found, err := t.open()
	if err != nil {
		return err
	}
	doc := witnessDoc{Quorum: p.Words(), Checkpoint: docOf(cp), Witnesses: []witnessBy{}}
	if len(found) == 0 {
		var candidates [][]byte
		if cosigned != "" {
			body, err := os.ReadFile(cosigned)
			if err != nil {
				return bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the cosigned checkpoint: %v", err).WithHint("the house serves it at /evidence/checkpoint")
			}
			candidates = append(candidates, body)
		} else {
			for _, name := range []string{"checkpoint", "witnessed"} {
				if body, err := os.ReadFile(filepath.Join(t.logDir, name)); err == nil {
					candidates = append(candidates, body)
				}
			}
		}
		if found, err = doc.judge(t.read, p, v, cp, candidates); err != nil {
			return err
		}
	}
	doc.OK, doc.Findings = len(found) == 0, list(found)
	return t.finish(doc, doc.text(), found)
}

// judge looks for the first candidate that has the quorum and proves that the log begins with it.
func (d *witnessDoc) judge(read tlog.TileReader, p *tlog.Policy, v note.Verifier, cp tlog.Checkpoint, candidates [][]byte) ([]finding, error) {
	var found []finding
	for _, signed := range candidates {
		old, sigs, err := tlog.Cosignatures(signed, v.Name(), v, p.Keys())
		if err != nil {
			found = append(found, finding{Rule: "cosignature", Message: err.Error()})
			continue
		}
		var names []string
		by := []witnessBy{}
		for _, s := range sigs {
			names, by = append(names, s.Witness), append(by, witnessBy{Witness: s.Witness, At: s.At})
		}
		if !p.Satisfied(names) {
			continue
		}
		d.Cosigned, d.Witnesses = docOf(old), by
		if err := tlog.VerifyConsistency(read, old, cp); err != nil {
			more, err := verdict(err)
			return more, err
		}
		return nil, nil
	}
	return append(found, finding{Rule: "witnesses", Message: fmt.Sprintf("no checkpoint here has the cosignatures of %s witnesses: that the log was not rewritten stands on its owner's word", d.Quorum)}), nil
}

func (d *witnessDoc) text() string {
	if !d.OK {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d leaves are under a checkpoint that outside witnesses cosigned (%s asked for)\n", d.Cosigned.Size, d.Checkpoint.Size, d.Quorum)
	for _, w := range d.Witnesses {
		fmt.Fprintf(&b, "  %s at %s\n", w.Witness, w.At.Format(time.RFC3339))
	}
	return b.String()
}
