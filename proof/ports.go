package proof

import (
	"context"
	"iter"

	"bulkhead"
)

// Store is the record as a proof reads it.
type Store interface {
	// SignatureCounters returns the counter of every key that signed, and the newest evidence row at that moment.
	SignatureCounters(ctx context.Context) (head int64, counters []bulkhead.SignatureCounter, err error)
	// SignedRange goes over the rows of some authorities with an intent above seq and not above through (0 is the end), in order of
	// their intents. A row and its DER are good until the next one.
	SignedRange(ctx context.Context, issuers []bulkhead.AuthorityID, seq, through int64) iter.Seq2[*bulkhead.SignedRow, error]
	// ValidationRange goes over all validations, in order. One is good until the next; it has no detail.
	ValidationRange(ctx context.Context) iter.Seq2[*bulkhead.Validation, error]
	// PrunedAfter returns serials above after whose rows went with age, in order; the zero serial begins.
	PrunedAfter(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, limit int) ([]bulkhead.Serial, error)
	// EvidenceAfter returns rows with a sequence above seq, in order, without gaps.
	EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error)
	// AlarmsOf returns a detector's alarms, oldest first.
	AlarmsOf(ctx context.Context, detector string, limit int) ([]bulkhead.Alarm, error)
}

// Counter is a count that the holder of a key keeps by itself, such as an HSM's usage counter.
type Counter interface {
	// Uses returns how often the key has signed since it was made; KindNotFound when the device does not count.
	Uses(ctx context.Context, key bulkhead.Hash) (int64, error)
}
