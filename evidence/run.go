package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/evidence/internal/tiles"
	"bulkhead/pki/tlog"
)

const (
	// batchRows bounds what is held in memory and made durable at once.
	batchRows = 1024
	// lookBatches bounds a look, so that checkpoints and lag are seen to while a long backlog is copied.
	lookBatches = 4
	// recheck is how many leaves are compared with their rows at a start; Check compares all.
	recheck = 1024
	// finishTime bounds the last look after Run was told to stop.
	finishTime = 2 * time.Second
)

// session is one run over rows and tiles that were found equal. It belongs to Run's goroutine.
type session struct {
	l     *Log
	w     *tiles.Writer
	edge  *tlog.Frontier // of the tree that is durable in the tiles
	chain bulkhead.Hash  // of the row that is its last leaf
}

// Run copies rows into tiles until ctx ends, then takes one last look so that a graceful stop leaves nothing
// uncovered, and returns nil. When rows or disk are away it goes on trying by the ordinary path of a start. It returns
// a KindConflict fault around a *ForkError, after an alarm, when log and rows differ: nothing is signed after that.
func (l *Log) Run(ctx context.Context) error {
	l.mu.Lock()
	l.lookedAt = l.cfg.Now()
	l.mu.Unlock()
	var w *tiles.Writer
	defer func() {
		if w != nil {
			w.Close()
		}
	}()
	for {
		err := func() (err error) {
			if w == nil {
				if w, err = l.open(ctx); err != nil {
					return err
				}
			}
			return l.session(ctx, w)
		}()
		var fork *ForkError
		if errors.As(err, &fork) {
			return l.forked(ctx, fork)
		}
		if ctx.Err() != nil {
			return nil
		}
		l.mu.Lock()
		l.failing = true
		l.mu.Unlock()
		l.cfg.Log.Warn("evidence log waits", slog.Any("error", err))
		l.watchLag(ctx)
		pause(ctx, l.cfg.Interval)
	}
}

func (l *Log) open(ctx context.Context) (*tiles.Writer, error) {
	return tiles.Open(ctx, tiles.Config{Dir: l.cfg.Dir, Signer: l.guard, Interval: l.cfg.Interval / 2, Log: l.cfg.Log})
}

// restAfter is the pause between two looks. A checkpoint comes every half of an interval, and each batch of rows costs some files
// that are synced: where there are rows at every look, as many batches as checkpoints do. Two halves still make the interval.
func restAfter(interval time.Duration, copied bool) time.Duration {
	if copied {
		return interval / 2
	}
	return interval / 4
}

// session compares, then looks until something fails or ctx ends.
func (l *Log) session(ctx context.Context, w *tiles.Writer) error {
	s, err := l.resume(ctx, w)
	if err != nil {
		return err
	}
	for {
		was := s.edge.Size()
		more, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		l.watchLag(ctx)
		if ctx.Err() != nil || !more && !pause(ctx, restAfter(l.cfg.Interval, s.edge.Size() > was)) {
			return s.finish(ctx)
		}
	}
}

// finish covers what was committed before the stop, if that can be done in a short time.
func (s *session) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	for {
		more, err := s.look(ctx)
		if err != nil {
			return err
		}
		if !more && (s.l.Checkpoint().Size >= s.edge.Size() || !pause(ctx, s.l.cfg.Interval/8)) {
			return nil
		}
	}
}

// pause waits and reports false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// resume compares checkpoint, tiles and rows, and opens the guard for the tree that the tiles hold.
func (l *Log) resume(ctx context.Context, w *tiles.Writer) (*session, error) {
	l.guard.shut()
	size, err := w.Size(ctx)
	if err != nil {
		return nil, err
	}
	read := reader(l.cfg.Dir)
	root, err := tlog.TreeRoot(read, size)
	if err != nil {
		return nil, damaged(err)
	}
	tree := tlog.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: root}
	if err := l.extends(read, tree); err != nil {
		return nil, err
	}
	s := &session{l: l, w: w}
	if s.chain, err = l.compare(ctx, read, tree); err != nil {
		return nil, err
	}
	if s.edge, err = tlog.ReadFrontier(read, tree); err != nil {
		return nil, damaged(err)
	}
	l.guard.allow(size, root)
	for !w.HasCheckpoint() {
		if !pause(ctx, l.cfg.Interval/8) {
			return nil, ctx.Err()
		}
	}
	return s, nil
}

// extends checks that tree begins with what was published, and marks leaves that a former process left uncovered.
func (l *Log) extends(read tlog.TileReader, tree tlog.Checkpoint) error {
	cp, ok, err := l.readCheckpoint()
	if err != nil || !ok {
		return err
	}
	if err := tlog.VerifyConsistency(read, cp, tree); err != nil {
		return &ForkError{What: fmt.Sprintf("the tiles do not extend the published checkpoint of %d leaves: %v", cp.Size, err)}
	}
	if cp.Size == tree.Size {
		return nil
	}
	leaf, err := tlog.ReadLeaf(read, tree, cp.Size)
	if err != nil {
		return damaged(err)
	}
	first, err := tlog.Parse(leaf)
	if err != nil {
		return &ForkError{Seq: cp.Size + 1, What: "the leaf in the log is not one of ours: " + err.Error()}
	}
	l.await(tree.Size, first.At)
	return nil
}

// await notes that the tree of size leaves is uncovered since the time of its oldest leaf.
func (l *Log) await(size int64, oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.pending); n == 0 || l.pending[n-1].size < size {
		l.pending = append(l.pending, mark{size: size, at: oldest})
	}
}

// damaged makes a fork of an error that says that tiles are missing or wrong; others pass.
func damaged(err error) error {
	for _, e := range []error{tlog.ErrTile, tlog.ErrLeaf, tlog.ErrFork, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return &ForkError{What: "the tiles are damaged: " + err.Error()}
		}
	}
	return err
}

// compare checks that the last leaves of the tree are the rows of the same numbers, and returns the chain hash of the
// last one.
func (l *Log) compare(ctx context.Context, read tlog.TileReader, tree tlog.Checkpoint) (chain bulkhead.Hash, err error) {
	head, _, err := l.cfg.Rows.EvidenceHead(ctx)
	if err != nil {
		return chain, fmt.Errorf("evidence rows: %w", err)
	}
	if head < tree.Size {
		return chain, &ForkError{Seq: head + 1, What: fmt.Sprintf("the log has %d leaves and the store only %d rows; was an older store restored?", tree.Size, head)}
	}
	from := max(0, tree.Size-recheck)
	rows, err := l.rows(ctx, from, int(tree.Size-from))
	if err != nil || len(rows) == 0 {
		return chain, err
	}
	if from == 0 && rows[0].Chain != tlog.Chain(bulkhead.Hash{}, rows[0].Leaf) {
		return chain, &ForkError{Seq: 1, What: "its chain hash does not follow from the row before it"}
	}
	if err := follow(rows[0], rows[1:]); err != nil {
		return chain, err
	}
	err = tlog.Walk(read, tree, from, func(index int64, leaf []byte) error {
		if !bytes.Equal(rows[index-from].Leaf, leaf) {
			return &ForkError{Seq: index + 1, What: "the row differs from the leaf in the log"}
		}
		return nil
	})
	return rows[len(rows)-1].Chain, damaged(err)
}

// rows reads n rows after seq, all of which must exist.
func (l *Log) rows(ctx context.Context, seq int64, n int) ([]bulkhead.EvidenceRow, error) {
	var all []bulkhead.EvidenceRow
	for len(all) < n {
		next := seq + int64(len(all))
		rows, err := l.cfg.Rows.EvidenceAfter(ctx, next, n-len(all))
		if err != nil {
			return nil, fmt.Errorf("evidence rows: %w", err)
		}
		if len(rows) == 0 || rows[0].Seq != next+1 {
			return nil, &ForkError{Seq: next + 1, What: "the row is missing from the store"}
		}
		all = append(all, rows...)
	}
	return all, nil
}

// follow checks that rows continue from row was: numbers without gaps, chain hashes, leaves that parse.
func follow(was bulkhead.EvidenceRow, rows []bulkhead.EvidenceRow) error {
	for _, row := range rows {
		if row.Seq != was.Seq+1 {
			return &ForkError{Seq: was.Seq + 1, What: "the row is missing from the store"}
		}
		if row.Chain != tlog.Chain(was.Chain, row.Leaf) {
			return &ForkError{Seq: row.Seq, What: "its chain hash does not follow from the row before it"}
		}
		if _, err := tlog.Parse(row.Leaf); err != nil {
			return &ForkError{Seq: row.Seq, What: "it is not a leaf: " + err.Error()}
		}
		was = row
	}
	return nil
}

// look copies rows that are new and takes note of a newer checkpoint; more says that there are rows left.
func (s *session) look(ctx context.Context) (more bool, err error) {
	more = true
	for n := 0; n < lookBatches && more; n++ {
		rows, err := s.l.cfg.Rows.EvidenceAfter(ctx, s.edge.Size(), batchRows)
		if err != nil {
			return false, fmt.Errorf("evidence rows: %w", err)
		}
		if err := s.append(ctx, rows); err != nil {
			return false, err
		}
		more = len(rows) == batchRows
	}
	s.l.mu.Lock()
	s.l.failing, s.l.lookedAt = false, s.l.cfg.Now()
	s.l.mu.Unlock()
	if err := s.l.guard.err(); err != nil {
		return false, &ForkError{What: err.Error()}
	}
	return more, s.l.refresh()
}

// append makes rows durable in the tiles and lets the guard sign the tree that they make.
func (s *session) append(ctx context.Context, rows []bulkhead.EvidenceRow) error {
	if len(rows) == 0 {
		return nil
	}
	if err := follow(bulkhead.EvidenceRow{Seq: s.edge.Size(), Chain: s.chain}, rows); err != nil {
		return err
	}
	first, err := tlog.Parse(rows[0].Leaf)
	if err != nil {
		return err
	}
	edge, leaves := s.edge.Clone(), make([][]byte, len(rows))
	for i, row := range rows {
		edge.Append(row.Leaf)
		leaves[i] = row.Leaf
	}
	s.l.await(edge.Size(), first.At)
	s.l.guard.allow(edge.Size(), edge.Root())
	if err := s.w.Append(ctx, s.edge.Size(), leaves); err != nil {
		return err
	}
	s.edge, s.chain = edge, rows[len(rows)-1].Chain
	return nil
}

// refresh reads the published checkpoint and forgets what it covers.
func (l *Log) refresh() error {
	cp, ok, err := l.readCheckpoint()
	if err != nil || !ok {
		return err
	}
	l.mu.Lock()
	was := l.checkpoint
	l.mu.Unlock()
	if cp == was {
		return nil
	}
	if cp.Size < was.Size {
		return &ForkError{What: fmt.Sprintf("the published checkpoint went back from %d to %d leaves", was.Size, cp.Size)}
	}
	if root, ok := l.guard.root(cp.Size); ok && root != cp.Root || !ok && was.Size > 0 {
		return &ForkError{What: fmt.Sprintf("somebody else signed a tree of %d leaves with our key", cp.Size)}
	}
	l.guard.covered(cp.Size)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checkpoint = cp
	for len(l.pending) > 0 && l.pending[0].size <= cp.Size {
		l.pending = l.pending[1:]
	}
	return nil
}
