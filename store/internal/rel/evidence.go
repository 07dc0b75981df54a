package rel

import (
	"context"
	"iter"
	"math"

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

// EvidenceRange goes over the rows with a sequence above seq and not above through, in order; through 0 is the end. What it yields is
// one moment of the record, and memory does not grow; it holds a reading connection until the loop ends. The row and its leaf
// are good until the next one.
func (s *Store) EvidenceRange(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error] {
	if through <= 0 {
		through = math.MaxInt64
	}
	walk := s.evidenceRows
	if s.bulk != nil {
		walk = s.evidencePages
	}
	return func(yield func(*bulkhead.EvidenceRow, error) bool) {
		if err := walk(ctx, seq, through, func(r *bulkhead.EvidenceRow) bool { return yield(r, nil) }); err != nil {
			yield(nil, s.fault("EvidenceRange", err))
		}
	}
}

// evidenceRows is EvidenceRange by one statement.
func (s *Store) evidenceRows(ctx context.Context, seq, through int64, yield func(*bulkhead.EvidenceRow) bool) error {
	rows, err := s.reader.QueryContext(ctx, `SELECT seq, leaf, chain FROM evidence WHERE seq > $1 AND seq <= $2 ORDER BY seq`, seq, through)
	if err != nil {
		return err
	}
	defer rows.Close()
	var row bulkhead.EvidenceRow
	var leaf heldCol
	for rows.Next() {
		if err := rows.Scan(&row.Seq, &leaf, hashCol{&row.Chain}); err != nil {
			return err
		}
		row.Leaf = leaf
		if !yield(&row) {
			return nil
		}
	}
	return rows.Err()
}

// EvidenceHead returns the newest row's sequence and chain hash; 0 and the zero hash when there is none.
func (s *Store) EvidenceHead(ctx context.Context) (seq int64, chain bulkhead.Hash, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT seq, chain FROM evidence_head WHERE id = 1`).Scan(&seq, hashCol{&chain})
	return seq, chain, s.fault("EvidenceHead", err)
}
