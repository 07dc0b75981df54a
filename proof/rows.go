package proof

import (
	"bytes"
	"context"

	"golang.org/x/sync/errgroup"

	"bulkhead"
)

const (
	readers   = 2   // of an authority's rows, each a part of them
	batchRows = 256 // handed over at once
)

// readRows judges every row of the authorities. Reading and hashing them takes longer than judging, so each part of the record has
// a goroutine that reads; rows are judged here, in the order in which they come.
func (p *prover) readRows(ctx context.Context) error {
	g, reading := errgroup.WithContext(ctx)
	batches := make(chan []bulkhead.SignedRow, 2*readers)
	for i := range int64(readers) {
		from, through := p.cfg.Book.head*i/readers, p.cfg.Book.head*(i+1)/readers
		if i == readers-1 {
			through = 0 // and what is younger than the book
		}
		g.Go(func() error { return p.readPart(reading, from, through, i == 0, batches) })
	}
	read := make(chan error, 1)
	go func() { read <- g.Wait(); close(batches) }()
	var failed error
	for rows := range batches {
		for i := range rows {
			if failed == nil {
				failed = p.row(ctx, rows[i])
			}
		}
	}
	if err := <-read; err != nil {
		return err
	}
	return failed
}

// readPart hands over the rows of a part, in copies that hold the certificate only where it will be looked at.
func (p *prover) readPart(ctx context.Context, from, through int64, first bool, to chan<- []bulkhead.SignedRow) error {
	var batch []bulkhead.SignedRow
	n := 0
	for r, err := range p.cfg.Store.SignedRange(ctx, p.cfg.Issuers, from, through) {
		if err != nil {
			return err
		}
		row := *r
		row.DER, row.Names = nil, append([]bulkhead.Identifier(nil), r.Names...)
		if r.DER != nil && (first && n < firstParsed || r.Sum[0] == 0 || !r.Precert.IsZero()) {
			row.DER = bytes.Clone(r.DER)
		}
		n++
		if batch = append(batch, row); len(batch) < batchRows {
			continue
		}
		select {
		case to <- batch:
			batch = make([]bulkhead.SignedRow, 0, batchRows)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case to <- batch:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
