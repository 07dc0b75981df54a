package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence/internal/tiles"
	"bulkhead/pki/tlog"
)

// Rules of Check about rows and log; those over the meaning of leaves are pki/tlog's.
const (
	RuleCheckpoint = "checkpoint"      // absent, unreadable or not signed by the log's key
	RuleFork       = "checkpoint-fork" // well signed, but over another history than rows and tiles
	RuleTile       = "tile"            // a tile or an entry bundle is missing or does not hash to the checkpoint
	RuleRowChain   = "row-chain"       // a row's chain hash does not follow from the row before
	RuleRowMissing = "row-missing"     // a number is absent from the store
	RuleRowDiffers = "row-differs"     // the row is not what the log has at its place
	RuleRowLeaf    = "row-malformed"   // a row is no leaf
)

// maxFindings bounds a report; a store that was overwritten whole would fill memory otherwise.
const maxFindings = 1000

// CheckConfig says what to compare.
type CheckConfig struct {
	Rows     Rows          // required
	Dir      string        // directory of the log; required
	Verifier note.Verifier // of its checkpoints; its name is the origin; required
	// Visit is called for every leaf that can be read, in order: as the log has it where a checkpoint covers it, else as
	// the row has it. Optional.
	Visit func(seq int64, e bulkhead.Evidence)
}

// Finding is one thing that is wrong.
type Finding struct {
	Rule    string
	Seq     int64 // the row concerned, 0 when it is the whole log
	Message string
}

// Report is what Check found.
type Report struct {
	Rows       int64           // newest sequence number in the store
	Checkpoint tlog.Checkpoint // the published one, when it is valid
	Uncovered  int64           // rows that no checkpoint covers yet; not wrong by itself
	Kinds      map[bulkhead.EvidenceKind]int64
	Keys       map[bulkhead.Hash]tlog.KeyCount // signatures by key, to compare with its own counter
	Findings   []Finding
	Omitted    int // findings beyond the first 1,000
}

// Check compares rows, tiles and checkpoint leaf by leaf, follows the chain of rows and checks the rules over leaves.
// It takes no lock and may run beside the writer. The error is for what kept it from looking, such as an absent store;
// what it found wrong is in the report.
func Check(ctx context.Context, cfg CheckConfig) (Report, error) {
	if cfg.Rows == nil || cfg.Dir == "" || cfg.Verifier == nil {
		return Report{}, bulkhead.NewFault(bulkhead.KindUsage, "a check of evidence needs rows, the log's directory and its verifier key")
	}
	c := &checker{read: reader(cfg.Dir), ledger: tlog.NewLedger(), cursor: cursor{rows: cfg.Rows}, visit: cfg.Visit}
	c.checkpoint(cfg)
	// The head is read after the checkpoint: everything that is covered was committed before.
	head, _, err := cfg.Rows.EvidenceHead(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("evidence rows: %w", err)
	}
	c.report.Rows, c.cursor.head = head, head
	if err := c.walk(ctx); err != nil {
		return Report{}, err
	}
	c.report.Uncovered = max(0, head-c.report.Checkpoint.Size)
	c.report.Kinds, c.report.Keys = c.ledger.Kinds(), c.ledger.Keys()
	return c.report, nil
}

type checker struct {
	read   tlog.TileReader
	ledger *tlog.Ledger
	report Report
	cursor cursor
	edge   tlog.Frontier // over the rows, up to the checkpoint's size
	was    bulkhead.EvidenceRow
	visit  func(seq int64, e bulkhead.Evidence)
	broken bool // some row is missing or malformed or breaks the chain
}

func (c *checker) find(rule string, seq int64, format string, args ...any) {
	if len(c.report.Findings) == maxFindings {
		c.report.Omitted++
		return
	}
	c.report.Findings = append(c.report.Findings, Finding{Rule: rule, Seq: seq, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) checkpoint(cfg CheckConfig) {
	signed, err := tiles.Read(cfg.Dir, tiles.CheckpointPath)
	if err != nil {
		c.find(RuleCheckpoint, 0, "no checkpoint in %s: %v", cfg.Dir, err)
		return
	}
	cp, err := tlog.OpenCheckpoint(signed, cfg.Verifier.Name(), cfg.Verifier)
	if err != nil {
		c.find(RuleCheckpoint, 0, "%v", err)
		return
	}
	c.report.Checkpoint = cp
}

// walk goes over leaves and rows side by side, then over the rows that no checkpoint covers.
func (c *checker) walk(ctx context.Context) error {
	cp := c.report.Checkpoint
	var rowErr error
	visit := func(index int64, leaf []byte) error {
		var row bulkhead.EvidenceRow
		var ok bool
		if row, ok, rowErr = c.row(ctx, index+1, leaf); rowErr != nil {
			return rowErr
		}
		if ok && !bytes.Equal(row.Leaf, leaf) {
			c.find(RuleRowDiffers, row.Seq, "the row differs from leaf %d of the log", index)
			c.broken = true
		}
		return nil
	}
	var walkErr error
	if cp.Origin != "" { // without a valid checkpoint nothing says what the tiles should be
		walkErr = tlog.Walk(c.read, cp, 0, visit)
	}
	if rowErr != nil {
		return rowErr
	}
	for seq := c.was.Seq + 1; seq <= max(c.cursor.head, cp.Size); seq++ {
		if _, _, err := c.row(ctx, seq, nil); err != nil {
			return err
		}
	}
	if walkErr != nil {
		return c.blame(cp, walkErr)
	}
	return nil
}

// blame says whether a walk stopped because the tiles are damaged or because the checkpoint is of another history.
func (c *checker) blame(cp tlog.Checkpoint, walkErr error) error {
	if errors.Is(walkErr, tlog.ErrTile) && !c.broken && c.edge.Size() == cp.Size && c.edge.Root() != cp.Root {
		if root, err := tlog.TreeRoot(c.read, cp.Size); err == nil && root == c.edge.Root() {
			c.find(RuleFork, 0, "the checkpoint of %d leaves has root %s; rows and tiles agree on %s", cp.Size, cp.Root, root)
			return nil
		}
	}
	for _, known := range []error{tlog.ErrTile, tlog.ErrLeaf, fs.ErrNotExist} {
		if errors.Is(walkErr, known) {
			c.find(RuleTile, 0, "%v", walkErr)
			return nil
		}
	}
	return walkErr
}

// row takes the row numbered seq, which is the next one, and checks it by itself; ok is false when the store has none.
// The rules over leaves are checked on what the log holds, where it does, else on the row: one damaged row is then one
// finding.
func (c *checker) row(ctx context.Context, seq int64, logged []byte) (row bulkhead.EvidenceRow, ok bool, err error) {
	row, ok, err = c.cursor.take(ctx, seq)
	if err != nil {
		return row, false, err
	}
	leaf := row.Leaf
	if logged != nil {
		leaf = logged
	}
	if !ok {
		c.find(RuleRowMissing, seq, "row %d is missing from the store", seq)
		c.broken, c.was = true, bulkhead.EvidenceRow{Seq: seq}
	} else {
		c.follow(row)
	}
	e, err := tlog.Parse(leaf)
	if err != nil {
		if ok {
			c.find(RuleRowLeaf, seq, "row %d: %v", seq, err)
			c.broken = true
		}
		return row, ok, nil
	}
	if c.visit != nil {
		c.visit(seq, e)
	}
	for _, v := range c.ledger.Add(seq-1, e) {
		c.find(v.Rule, seq, "row %d: %s", seq, v.Message)
	}
	return row, ok, nil
}

// follow checks that row continues the chain and adds it to the tree of rows. After a missing row the chain cannot be
// followed for one step; the missing row is the finding.
func (c *checker) follow(row bulkhead.EvidenceRow) {
	gap := c.was.Seq > 0 && c.was.Leaf == nil
	if !gap && row.Chain != tlog.Chain(c.was.Chain, row.Leaf) {
		c.find(RuleRowChain, row.Seq, "the chain hash of row %d does not follow from the row before it", row.Seq)
		c.broken = true
	}
	c.was = row
	if row.Seq <= c.report.Checkpoint.Size {
		c.edge.Append(row.Leaf)
	}
}

// cursor reads rows page by page.
type cursor struct {
	rows Rows
	head int64
	page []bulkhead.EvidenceRow
}

// take returns the row numbered seq; ok is false when the store does not have it. Numbers must be asked in order.
func (c *cursor) take(ctx context.Context, seq int64) (row bulkhead.EvidenceRow, ok bool, err error) {
	for len(c.page) > 0 && c.page[0].Seq < seq {
		c.page = c.page[1:]
	}
	if len(c.page) == 0 && seq <= c.head {
		if c.page, err = c.rows.EvidenceAfter(ctx, seq-1, batchRows); err != nil {
			return row, false, fmt.Errorf("evidence rows: %w", err)
		}
	}
	if len(c.page) == 0 || c.page[0].Seq != seq {
		return row, false, nil
	}
	row, c.page = c.page[0], c.page[1:]
	return row, true, nil
}
