package rel

import (
	"context"

	"bulkhead"
)

// AppendEvidence commits leaves of their own and returns their sequence numbers.
func (s *Store) AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) ([]int64, error) {
	return s.writeSeqKeyed(ctx, "AppendEvidence", ev, func(*tx) error { return nil })
}

// EvidenceAfter returns rows with a sequence above seq, in order, without gaps. A limit of 0 or less means 100.
func (s *Store) EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (row bulkhead.EvidenceRow, err error) {
		err = r.Scan(&row.Seq, bytesCol{&row.Leaf}, hashCol{&row.Chain})
		return row, err
	}, `SELECT seq, leaf, chain FROM evidence WHERE seq > $1 ORDER BY seq LIMIT $2`, seq, atMost(limit))
	return rows, s.fault("EvidenceAfter", err)
}

// EvidenceHead returns the newest row's sequence and chain hash; 0 and the zero hash when there is none.
func (s *Store) EvidenceHead(ctx context.Context) (seq int64, chain bulkhead.Hash, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT seq, chain FROM evidence_head WHERE id = 1`).Scan(&seq, hashCol{&chain})
	return seq, chain, s.fault("EvidenceHead", err)
}
