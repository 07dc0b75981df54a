package rel

import (
	"context"

	"bulkhead"
)

// CRLsSeen returns the highest number that was seen public of each shard's CRL, by issuer and shard.
func (s *Store) CRLsSeen(ctx context.Context) ([]bulkhead.CRLSeen, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (c bulkhead.CRLSeen, err error) {
		err = r.Scan(&c.Authority, &c.Shard, &c.Number, timeCol{&c.At})
		return c, err
	}, `SELECT issuer, shard, number, at FROM crl_seen ORDER BY issuer, shard`)
	return rows, s.fault("CRLsSeen", err)
}

// SeeCRLs keeps numbers that were seen, all or none. A number never goes back. It is no evidence: nothing was decided.
func (s *Store) SeeCRLs(ctx context.Context, seen []bulkhead.CRLSeen) error {
	return s.write(ctx, "SeeCRLs", nil, func(t *tx) error {
		for _, c := range seen {
			if _, err := exec(ctx, t, `INSERT INTO crl_seen (issuer, shard, number, at) VALUES ($1, $2, $3, $4)
				ON CONFLICT (issuer, shard) DO UPDATE SET number = excluded.number, at = excluded.at WHERE crl_seen.number < excluded.number`,
				string(c.Authority), c.Shard, c.Number, unix(c.At)); err != nil {
				return err
			}
		}
		return nil
	})
}
