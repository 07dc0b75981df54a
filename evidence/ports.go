// Package evidence feeds the tiled log from the committed rows and signs checkpoints over it.
//
// Purpose: what the store committed becomes a public, append-only, verifiable log (C2SP tlog-tiles). Rows are
// sequenced and hash-chained by the store in the transaction that they speak of; this package copies them, in order,
// into tiles and covers them with a signed checkpoint within 2 s; an alarm rises at 60 s.
//
// Invariant: leaf i of the log is row i+1 of the store, byte for byte; no checkpoint is signed over what is not
// durable; one process appends at a time.
//
// Refuses: gaps, rows that change, a second writer, a checkpoint that is not consistent with the one before.
package evidence

import (
	"context"

	"bulkhead"
)

// Rows is the committed record of evidence.
type Rows interface {
	// EvidenceAfter returns rows with a sequence above seq, in order, without gaps.
	EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error)
	// EvidenceHead returns the newest row's sequence and chain hash; 0 when there is none.
	EvidenceHead(ctx context.Context) (seq int64, chain bulkhead.Hash, err error)
}
