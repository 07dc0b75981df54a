package evidence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"runtime"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/evidence/internal/tiles"
	"bulkhead/pki/tlog"
)

// ErrAnew says that what was proved ahead does not settle it: some leaf or row is not as it should be. A Check without Proved tells
// which.
var ErrAnew = errors.New("evidence: to be checked leaf by leaf")

// markEvery is how many leaves lie between two marks.
const markEvery = leafBatchSize

// Proved is a log that was read before there were rows to hold against it: every leaf was proved against the checkpoint, parsed and
// judged, and nothing was wrong. What it keeps of a leaf is the chain hash that its row must have: the chain goes over
// every leaf before it, so rows that follow from each other and meet the marks are the leaves, octet by octet.
type Proved struct {
	cp     tlog.Checkpoint
	marks  []bulkhead.Hash // chain after 0, markEvery, 2*markEvery leaves and so on, and after the last
	ledger *tlog.Ledger
}

// Prove reads the log of a directory by itself; visit is that of CheckConfig. The error is ErrAnew when anything is wrong.
func Prove(ctx context.Context, dir string, v note.Verifier, visit func(seq int64, e bulkhead.Evidence)) (*Proved, error) {
	c := &checker{read: reader(dir), ledger: tlog.NewLedger()}
	c.checkpoint(CheckConfig{Dir: dir, Verifier: v})
	p := &Proved{cp: c.report.Checkpoint, ledger: c.ledger, marks: []bulkhead.Hash{{}}}
	if p.cp.Origin == "" {
		return nil, ErrAnew
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := startLeaves(ctx, c.read, p.cp, true)
	n := int64(0)
	for b := range log.batches {
		for _, leaf := range b.leaves {
			e, err := c.parser.Parse(leaf)
			if err != nil || len(c.ledger.Add(n, e)) > 0 {
				return nil, ErrAnew
			}
			n++
			visit(n, e)
		}
		p.marks = append(p.marks, b.chain)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if log.err != nil || n != p.cp.Size {
		return nil, ErrAnew
	}
	return p, nil
}

// still reports whether the checkpoint of the directory is the one that was proved.
func (p *Proved) still(cfg CheckConfig) bool {
	signed, err := tiles.Read(filepath.Clean(cfg.Dir), tiles.CheckpointPath)
	if err != nil {
		return false
	}
	cp, err := tlog.OpenCheckpoint(signed, cfg.Verifier.Name(), cfg.Verifier)
	return err == nil && cp.Size == p.cp.Size && cp.Root == p.cp.Root && cp.Origin == p.cp.Origin
}

// rows holds every row that the checkpoint covers against what was proved, in as many parts as there are processors.
func (p *Proved) rows(ctx context.Context, all func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error]) error {
	parts, last := runtime.GOMAXPROCS(0), len(p.marks)-1
	g, ctx := errgroup.WithContext(ctx)
	for i := range parts {
		from, to := last*i/parts, last*(i+1)/parts
		if from < to {
			g.Go(func() error { return p.part(ctx, all, from, to) })
		}
	}
	return g.Wait()
}

// at is the number of leaves before a mark.
func (p *Proved) at(mark int) int64 { return min(int64(mark)*markEvery, p.cp.Size) }

// part holds the rows between two marks against them.
func (p *Proved) part(ctx context.Context, all func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error], from, to int) error {
	seq, chain, mark := p.at(from), p.marks[from], from+1
	for row, err := range all(ctx, seq, p.at(to)) {
		if err != nil {
			return fmt.Errorf("evidence rows: %w", err)
		}
		if seq++; row.Seq != seq {
			return ErrAnew
		}
		if chain = tlog.Chain(chain, row.Leaf); row.Chain != chain {
			return ErrAnew
		}
		if seq == p.at(mark) {
			if chain != p.marks[mark] {
				return ErrAnew
			}
			if mark++; mark > to {
				break
			}
		}
	}
	if seq != p.at(to) {
		return ErrAnew
	}
	return nil
}
