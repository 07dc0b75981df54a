package rel

import (
	"context"
	"database/sql"
	"errors"

	"bulkhead"
)

// Head returns the newest head; the zero record when there is none.
func (s *Store) Head(ctx context.Context) (bulkhead.HeadRecord, error) {
	h, err := one(ctx, s.reader, func(r scanner) (h bulkhead.HeadRecord, err error) {
		var sequence int64
		err = r.Scan(&sequence, bytesCol{&h.Body}, timeCol{&h.At})
		h.Sequence = uint64(sequence)
		return h, err
	}, `SELECT sequence, body, at FROM heads ORDER BY sequence DESC LIMIT 1`)
	if errors.Is(err, sql.ErrNoRows) {
		return bulkhead.HeadRecord{}, nil
	}
	return h, s.fault("Head", err)
}

// PutHead stores a head whose sequence is one above the newest, with the CRLs it names; KindConflict otherwise. A CRL
// may be named again; KindConflict when its number is below the newest of its shard, or is the newest with other bytes.
func (s *Store) PutHead(ctx context.Context, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord) error {
	return s.write(ctx, "PutHead", nil, func(t *tx) error {
		// Held so that PutHead and Activate take their rows one after the other.
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		return t.putHead(ctx, head, crls)
	})
}

// WithNewestHead calls f with the newest head while no other process is inside WithNewestHead: what f makes of it in public
// is never overtaken by what another makes of an older one. Where a database belongs to one process that process sees to
// it itself.
func (s *Store) WithNewestHead(ctx context.Context, f func(bulkhead.HeadRecord) error) error {
	if s.dialect.ForUpdate == "" {
		h, err := s.Head(ctx)
		if err != nil {
			return err
		}
		return f(h)
	}
	raw, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return s.fault("WithNewestHead", err)
	}
	defer raw.Rollback() // it writes nothing
	var one int64
	if err := raw.QueryRowContext(ctx, `SELECT id FROM head_turn WHERE id = 1`+s.dialect.ForUpdate).Scan(&one); err != nil {
		return s.fault("WithNewestHead", err)
	}
	h, err := s.Head(ctx)
	if err != nil {
		return err
	}
	return f(h)
}

// keepHeads is how many head bodies the store keeps.
const keepHeads = 1000

func (t *tx) putHead(ctx context.Context, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord) error {
	var newest int64
	if err := t.QueryRowContext(ctx, `SELECT COALESCE(MAX(sequence), 0) FROM heads`).Scan(&newest); err != nil {
		return err
	}
	if int64(head.Sequence) != newest+1 {
		return conflict("head %d does not follow head %d", head.Sequence, newest)
	}
	_, err := exec(ctx, t, `INSERT INTO heads (sequence, body, at) VALUES ($1, $2, $3)`,
		int64(head.Sequence), blob(head.Body), unix(head.At))
	if err != nil {
		return err
	}
	// What every head was is in evidence, by digest; the bodies are kept for looking back a while.
	if _, err := exec(ctx, t, `DELETE FROM heads WHERE sequence <= $1`, int64(head.Sequence)-keepHeads); err != nil {
		return err
	}
	for _, c := range crls {
		if err := t.putCRL(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) putCRL(ctx context.Context, c bulkhead.CRLRecord) error {
	n, err := exec(ctx, t, `INSERT INTO crls (authority, shard, number, this_update, next_update, object, digest, entries)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (authority, shard) DO UPDATE SET number = excluded.number, this_update = excluded.this_update,
		next_update = excluded.next_update, object = excluded.object, digest = excluded.digest, entries = excluded.entries
		WHERE crls.number < excluded.number OR (crls.number = excluded.number AND crls.digest = excluded.digest)`,
		string(c.Authority), int64(c.Shard), c.Number, unix(c.ThisUpdate), unix(c.NextUpdate), c.Object, hashArg(c.Digest), int64(c.Entries))
	if err == nil && n == 0 {
		return conflict("CRL number %d of %s shard %d is not above the newest", c.Number, c.Authority, c.Shard)
	}
	return err
}

// NextCRLNumber hands out a number above every number handed out before for the authority and shard, from 1.
func (s *Store) NextCRLNumber(ctx context.Context, issuer bulkhead.AuthorityID, shard int) (int64, error) {
	var number int64
	err := s.write(ctx, "NextCRLNumber", nil, func(t *tx) error {
		return t.QueryRowContext(ctx, `INSERT INTO crl_numbers (authority, shard, number) VALUES ($1, $2, 1)
			ON CONFLICT (authority, shard) DO UPDATE SET number = crl_numbers.number + 1 RETURNING number`,
			string(issuer), int64(shard)).Scan(&number)
	})
	if err != nil {
		return 0, err
	}
	return number, nil
}

// CRLs returns the newest CRL record of every shard, by authority and shard.
func (s *Store) CRLs(ctx context.Context) ([]bulkhead.CRLRecord, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (c bulkhead.CRLRecord, err error) {
		err = r.Scan(&c.Authority, &c.Shard, &c.Number, timeCol{&c.ThisUpdate}, timeCol{&c.NextUpdate}, &c.Object,
			hashCol{&c.Digest}, &c.Entries)
		return c, err
	}, `SELECT authority, shard, number, this_update, next_update, object, digest, entries FROM crls
		ORDER BY authority, shard`)
	return rows, s.fault("CRLs", err)
}
