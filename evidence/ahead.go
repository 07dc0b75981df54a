package evidence

import (
	"context"
	"fmt"
	"iter"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Reading and hashing costs as much as what is done with it, so rows and leaves are read in goroutines of their own, some batches
// ahead.
// They are many enough that one of them may wait a moment for a processor, and take some 20 MiB.
const aheadBatches = 32

// chained is a row, and whether its chain hash follows from the row that was read before it.
type chained struct {
	Seq     int64
	Leaf    []byte
	follows bool
}

// rowBatch is some rows, and the memory in which their leaves lie.
type rowBatch struct {
	rows  []chained
	bytes []byte
	err   error
}

// add takes a copy of a row; false when the batch is full.
func (b *rowBatch) add(row *bulkhead.EvidenceRow, follows bool) bool {
	if len(b.rows) > 0 && len(b.bytes)+len(row.Leaf) > cap(b.bytes) {
		return false
	}
	at := len(b.bytes)
	b.bytes = append(b.bytes, row.Leaf...)
	b.rows = append(b.rows, chained{row.Seq, b.bytes[at:len(b.bytes):len(b.bytes)], follows})
	return len(b.rows) < batchRows
}

// cursor hands out rows in order.
type cursor struct {
	head    int64
	full    chan *rowBatch
	empty   chan *rowBatch // to be filled again
	current *rowBatch
	next    int // in current
}

// ranged is how a configuration goes over rows.
func ranged(cfg CheckConfig) func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error] {
	if cfg.Range != nil {
		return cfg.Range
	}
	return pages(cfg.Rows)
}

// startCursor reads from behind the row was, whose chain hash is given, until head, or until ctx ends.
func startCursor(ctx context.Context, cfg CheckConfig, was, head int64, chain bulkhead.Hash) *cursor {
	c := &cursor{head: head, full: make(chan *rowBatch, aheadBatches), empty: make(chan *rowBatch, aheadBatches+2)}
	for range cap(c.empty) {
		c.empty <- &rowBatch{}
	}
	go c.read(ctx, was, chain, ranged(cfg))
	return c
}

// pages goes over rows by asking for one page after another.
func pages(rows Rows) func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error] {
	return func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error] {
		return func(yield func(*bulkhead.EvidenceRow, error) bool) {
			for seq < through {
				page, err := rows.EvidenceAfter(ctx, seq, batchRows)
				if err != nil {
					yield(nil, err)
					return
				}
				if len(page) == 0 {
					return
				}
				for i := range page {
					if seq = page[i].Seq; !yield(&page[i], nil) {
						return
					}
				}
			}
		}
	}
}

func (c *cursor) read(ctx context.Context, seq int64, was bulkhead.Hash, all func(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error]) {
	defer close(c.full)
	b := c.blank(ctx)
	if c.head <= seq || b == nil {
		return
	}
	send := func() bool {
		select {
		case c.full <- b:
			b = c.blank(ctx)
			return b != nil
		case <-ctx.Done():
			return false
		}
	}
	for row, err := range all(ctx, seq, c.head) {
		if err != nil {
			b.err = err
			send()
			return
		}
		follows := row.Chain == tlog.Chain(was, row.Leaf)
		was = row.Chain
		if !b.add(row, follows) {
			last := b.rows[len(b.rows)-1].Seq == row.Seq
			if !send() {
				return
			}
			if !last {
				b.add(row, follows)
			}
		}
	}
	if len(b.rows) > 0 {
		send()
	}
}

// blank is a batch without rows; nil when ctx has ended.
func (c *cursor) blank(ctx context.Context) *rowBatch {
	select {
	case b := <-c.empty:
		if cap(b.bytes) == 0 {
			b.bytes = make([]byte, 0, batchBytes)
		}
		b.rows, b.bytes, b.err = b.rows[:0], b.bytes[:0], nil
		return b
	case <-ctx.Done():
		return nil
	}
}

// batchBytes is the memory of a batch: 1,024 leaves of a quarter of a KiB, or one of the longest sixty times.
const batchBytes = 300 << 10

// take returns the row numbered seq, good until the next call; ok is false when the store does not have it. Numbers must be asked
// in order.
func (c *cursor) take(ctx context.Context, seq int64) (row *chained, ok bool, err error) {
	for {
		if c.current != nil {
			for c.next < len(c.current.rows) && c.current.rows[c.next].Seq < seq {
				c.next++
			}
			if c.next < len(c.current.rows) {
				row = &c.current.rows[c.next]
				return row, row.Seq == seq, nil
			}
			if c.current.err != nil {
				return nil, false, fmt.Errorf("evidence rows: %w", c.current.err)
			}
		}
		if seq > c.head {
			return nil, false, nil
		}
		select {
		case b, more := <-c.full:
			if !more {
				return nil, false, ctx.Err()
			}
			if c.current != nil {
				c.empty <- c.current // never full: there are as many places as batches
			}
			c.current, c.next = b, 0
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// leaves are those of the log, each proved against the checkpoint.
type leaves struct {
	batches chan leafBatch
	err     error // why the walk ended, once batches is closed
}

type leafBatch struct {
	first  int64
	leaves [][]byte
	chain  bulkhead.Hash // that the row of the last of them must have; only when it was asked for
}

const leafBatchSize = 256 // of a bundle

// startLeaves walks over the log until its end, or until ctx ends; chained asks for the chain of rows.
func startLeaves(ctx context.Context, read tlog.TileReader, cp tlog.Checkpoint, chained bool) *leaves {
	l := &leaves{batches: make(chan leafBatch, aheadBatches)}
	go func() {
		defer close(l.batches)
		var b leafBatch
		send := func() error {
			select {
			case l.batches <- b:
				b = leafBatch{first: b.first + int64(len(b.leaves)), leaves: make([][]byte, 0, leafBatchSize), chain: b.chain}
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l.err = tlog.Walk(read, cp, 0, func(_ int64, leaf []byte) error {
			if chained {
				b.chain = tlog.Chain(b.chain, leaf)
			}
			if b.leaves = append(b.leaves, leaf); len(b.leaves) < leafBatchSize {
				return nil
			}
			return send()
		})
		if len(b.leaves) > 0 && ctx.Err() == nil {
			if err := send(); l.err == nil {
				l.err = err
			}
		}
	}()
	return l
}
