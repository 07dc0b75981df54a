package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

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
	// Range goes over the rows above seq, in order, faster than Rows does; a row is good until the next one. Optional.
	Range func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error]
	// Visit is called for every leaf that can be read, in order: as the log has it where a checkpoint covers it, else as
	// the row has it. Optional.
	Visit func(seq int64, e bulkhead.Evidence)
	// Proved is the log of Dir when it was read before (Prove), with a Visit of its own; leaves are then not read again, and Visit is
	// called for the rows that no checkpoint covers. Check returns ErrAnew when the rows do not agree with it. Optional.
	Proved *Proved
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
	c := &checker{read: reader(cfg.Dir), ledger: tlog.NewLedger(), rows: cfg.Rows, visit: cfg.Visit}
	c.checkpoint(cfg)
	// The head is read after the checkpoint: everything that is covered was committed before.
	head, _, err := cfg.Rows.EvidenceHead(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("evidence rows: %w", err)
	}
	c.report.Rows = head
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.Proved != nil {
		if err := c.resume(ctx, cfg, head); err != nil {
			return Report{}, err
		}
	}
	c.cursor = startCursor(ctx, cfg, c.was, head, c.chain)
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
	rows   Rows
	cursor *cursor
	parser tlog.Parser
	was    int64         // number of the row before, 0 at the beginning
	chain  bulkhead.Hash // of that row, when it was proved ahead
	gap    bool          // which the store does not have
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

// resume takes what was proved ahead for the leaves, and holds their rows against it.
func (c *checker) resume(ctx context.Context, cfg CheckConfig, head int64) error {
	p := cfg.Proved
	if head < p.cp.Size || !p.still(cfg) {
		return ErrAnew
	}
	if err := p.rows(ctx, ranged(cfg)); err != nil {
		return err
	}
	c.ledger, c.was, c.chain = p.ledger, p.cp.Size, p.marks[len(p.marks)-1]
	return nil
}

// walk goes over leaves and rows side by side, then over the rows that no checkpoint covers.
func (c *checker) walk(ctx context.Context) error {
	cp := c.report.Checkpoint
	var walkErr error
	if cp.Origin != "" && c.was == 0 { // without a valid checkpoint nothing says what the tiles should be
		log := startLeaves(ctx, c.read, cp, false)
		for b := range log.batches {
			for i, leaf := range b.leaves {
				index := b.first + int64(i)
				row, ok, err := c.row(ctx, index+1, leaf)
				if err != nil {
					return err
				}
				if ok && !bytes.Equal(row.Leaf, leaf) {
					c.find(RuleRowDiffers, row.Seq, "the row differs from leaf %d of the log", index)
					c.broken = true
				}
			}
		}
		walkErr = log.err
	}
	for seq := c.was + 1; seq <= max(c.cursor.head, cp.Size); seq++ {
		if _, _, err := c.row(ctx, seq, nil); err != nil {
			return err
		}
	}
	if walkErr != nil {
		return c.blame(ctx, cp, walkErr)
	}
	return nil
}

// blame says whether a walk stopped because the tiles are damaged or because the checkpoint is of another history.
func (c *checker) blame(ctx context.Context, cp tlog.Checkpoint, walkErr error) error {
	if errors.Is(walkErr, tlog.ErrTile) && !c.broken {
		edge, err := c.rowsTree(ctx, cp.Size)
		if err != nil {
			return err
		}
		if root, err := tlog.TreeRoot(c.read, cp.Size); err == nil && edge.Size() == cp.Size && edge.Root() != cp.Root && root == edge.Root() {
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

// rowsTree is the tree over the first size rows, as far as they are there.
func (c *checker) rowsTree(ctx context.Context, size int64) (*tlog.Frontier, error) {
	edge := &tlog.Frontier{}
	for edge.Size() < size {
		rows, err := c.rows.EvidenceAfter(ctx, edge.Size(), int(min(batchRows, size-edge.Size())))
		if err != nil {
			return nil, fmt.Errorf("evidence rows: %w", err)
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			edge.Append(row.Leaf)
		}
	}
	return edge, nil
}

// row takes the row numbered seq, which is the next one, and checks it by itself; ok is false when the store has none.
// The rules over leaves are checked on what the log holds, where it does, else on the row: one damaged row is then one
// finding.
func (c *checker) row(ctx context.Context, seq int64, logged []byte) (row *chained, ok bool, err error) {
	row, ok, err = c.cursor.take(ctx, seq)
	if err != nil {
		return row, false, err
	}
	leaf := logged
	if !ok {
		c.find(RuleRowMissing, seq, "row %d is missing from the store", seq)
		c.broken, c.was, c.gap = true, seq, true
	} else {
		if c.follow(row); logged == nil {
			leaf = row.Leaf
		}
	}
	e, err := c.parser.Parse(leaf)
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

// follow checks that row continues the chain. After a missing row the chain cannot be followed for one step; the missing row
// is the finding.
func (c *checker) follow(row *chained) {
	if !c.gap && !row.follows {
		c.find(RuleRowChain, row.Seq, "the chain hash of row %d does not follow from the row before it", row.Seq)
		c.broken = true
	}
	c.was, c.gap = row.Seq, false
}
