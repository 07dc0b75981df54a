package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// maxFindings bounds what is printed of a log that is wrong throughout.
const maxFindings = 1000

// consistencyDoc is the answer of the consistency command.
type consistencyDoc struct {
	OK         bool          `json:"ok"`
	Old        checkpointDoc `json:"old"`
	Checkpoint checkpointDoc `json:"checkpoint"`
	Findings   []finding     `json:"findings"`
}

func (t *tool) consistencyCommand() *cobra.Command {
	var old string
	c := &cobra.Command{
		Use:   "consistency",
		Short: "prove that the log begins with all that an older checkpoint covered",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return t.consistency(old) },
	}
	c.Flags().StringVar(&old, "old", "", "file with the older checkpoint (required)")
	return c
}

func (t *tool) consistency(old string) error {
	if old == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "--old is required").
			WithHint("bulkhead-verify consistency --log DIR --key FILE --old CHECKPOINT")
	}
	cp, v, found, err := t.open()
	if err != nil {
		return err
	}
	older, more, err := t.checkpoint(old, v)
	if err != nil {
		return err
	}
	if found = append(found, more...); len(found) == 0 {
		if cerr := tlog.VerifyConsistency(t.read, older, cp); cerr != nil {
			if found, err = verdict(cerr); err != nil {
				return err
			}
		}
	}
	doc := consistencyDoc{OK: len(found) == 0, Old: docOf(older), Checkpoint: docOf(cp), Findings: list(found)}
	text := ""
	if doc.OK {
		text = fmt.Sprintf("the log of %d leaves begins with the %d leaves of the older checkpoint\n", cp.Size, older.Size)
	}
	return t.finish(doc, text, found)
}

// logDoc is the answer of the log command.
type logDoc struct {
	OK         bool             `json:"ok"`
	Checkpoint checkpointDoc    `json:"checkpoint"`
	Leaves     int64            `json:"leaves"`
	Kinds      map[string]int64 `json:"kinds"`
	Keys       []keyDoc         `json:"keys"`
	Findings   []finding        `json:"findings"`
	Omitted    int              `json:"findings_omitted"`
}

// keyDoc counts the signatures of one key.
type keyDoc struct {
	Signer          bulkhead.Hash `json:"signer"`
	Certificates    int64         `json:"certificates"`
	Batches         int64         `json:"batches"`
	BatchSignatures int64         `json:"batch_signatures"`
	Signatures      int64         `json:"signatures"`
	Open            int64         `json:"open_intents"`
}

func (t *tool) logCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "log",
		Short: "check every leaf: each outcome has its intent before it, no serial twice; count signatures by key",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return t.log() },
	}
}

func (t *tool) log() error {
	cp, _, found, err := t.open()
	if err != nil {
		return err
	}
	doc := logDoc{Checkpoint: docOf(cp), Kinds: map[string]int64{}, Keys: []keyDoc{}}
	ledger := tlog.NewLedger()
	if len(found) == 0 {
		werr := tlog.Walk(t.read, cp, 0, func(index int64, leaf []byte) error {
			doc.Leaves++
			e, err := tlog.Parse(leaf)
			if err != nil {
				found = doc.add(found, finding{Rule: "leaf-malformed", Index: &index, Message: fmt.Sprintf("leaf %d: %v", index, err)})
				return nil
			}
			for _, v := range ledger.Add(index, e) {
				found = doc.add(found, finding{Rule: v.Rule, Index: &index, Message: fmt.Sprintf("leaf %d: %s", index, v.Message)})
			}
			return nil
		})
		if werr != nil {
			more, err := verdict(werr)
			if err != nil {
				return err
			}
			found = append(found, more...)
		}
	}
	doc.count(ledger)
	doc.OK, doc.Findings = len(found) == 0, list(found)
	return t.finish(doc, doc.text(), found)
}

func (d *logDoc) add(found []finding, f finding) []finding {
	if len(found) >= maxFindings {
		d.Omitted++
		return found
	}
	return append(found, f)
}

func (d *logDoc) count(ledger *tlog.Ledger) {
	for k, n := range ledger.Kinds() {
		d.Kinds[tlog.KindName(k)] = n
	}
	for signer, c := range ledger.Keys() {
		d.Keys = append(d.Keys, keyDoc{Signer: signer, Certificates: c.Certificates, Batches: c.Batches,
			BatchSignatures: c.BatchSignatures, Signatures: c.Signatures(), Open: c.Open})
	}
	sort.Slice(d.Keys, func(i, j int) bool { return d.Keys[i].Signer.String() < d.Keys[j].Signer.String() })
}

func (d *logDoc) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d leaves proved, root %s\n", d.Leaves, d.Checkpoint.Size, d.Checkpoint.Root)
	names := make([]string, 0, len(d.Kinds))
	for name := range d.Kinds {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, "  %-22s %d\n", name, d.Kinds[name])
	}
	for _, k := range d.Keys {
		fmt.Fprintf(&b, "key %s: %d signatures (%d certificates, %d in %d batches), %d intents open\n",
			k.Signer, k.Signatures, k.Certificates, k.BatchSignatures, k.Batches, k.Open)
	}
	return b.String()
}

// leafDoc is a leaf in JSON.
type leafDoc struct {
	Index     int64         `json:"index"`
	Kind      string        `json:"kind"`
	Time      string        `json:"time"`
	Actor     string        `json:"actor,omitempty"`
	Authority string        `json:"authority,omitempty"`
	Serial    string        `json:"serial,omitempty"`
	Ref       string        `json:"ref,omitempty"`
	KeyHash   bulkhead.Hash `json:"key_hash,omitzero"`
	Signer    bulkhead.Hash `json:"signer,omitzero"`
	Digest    bulkhead.Hash `json:"digest,omitzero"`
	Link      bulkhead.Hash `json:"link,omitzero"`
	Count     int64         `json:"count,omitempty"`
	Detail    string        `json:"detail,omitempty"`
	LeafHash  bulkhead.Hash `json:"leaf_hash,omitzero"`
}

func newLeafDoc(index int64, e bulkhead.Evidence) *leafDoc {
	return &leafDoc{Index: index, Kind: tlog.KindName(e.Kind), Time: e.At.Format(time.RFC3339Nano), Actor: e.Actor,
		Authority: string(e.Authority), Serial: e.Serial.String(), Ref: e.Ref, KeyHash: e.KeyHash, Signer: e.Signer,
		Digest: e.Digest, Link: e.Link, Count: e.Count, Detail: e.Detail}
}

func (t *tool) leafCommand() *cobra.Command {
	var index int64
	c := &cobra.Command{
		Use:   "leaf",
		Short: "print one leaf as JSON, proved against the checkpoint",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return t.leaf(index) },
	}
	c.Flags().Int64Var(&index, "index", -1, "number of the leaf, from 0 (required)")
	return c
}

func (t *tool) leaf(index int64) error {
	if index < 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "--index is required and counts from 0").
			WithHint("bulkhead-verify leaf --log DIR --key FILE --index N")
	}
	t.json = true // the answer is JSON with or without the flag
	cp, _, found, err := t.open()
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return t.finish(map[string]any{"ok": false, "findings": found}, "", found)
	}
	if index >= cp.Size {
		return bulkhead.Faultf(bulkhead.KindNotFound, "the log has %d leaves, the last is number %d", cp.Size, cp.Size-1).
			WithHint("bulkhead-verify log --log DIR --key FILE")
	}
	leaf, lerr := tlog.ReadLeaf(t.read, cp, index)
	if lerr == nil {
		e, perr := tlog.Parse(leaf)
		if perr == nil {
			doc := newLeafDoc(index, e)
			doc.LeafHash = tlog.LeafHash(leaf)
			return t.finish(doc, "", nil)
		}
		found = []finding{{Rule: "leaf-malformed", Index: &index, Message: perr.Error()}}
	} else if found, err = verdict(lerr); err != nil {
		return err
	}
	return t.finish(map[string]any{"ok": false, "findings": found}, "", found)
}
