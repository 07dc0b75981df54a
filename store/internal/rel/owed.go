package rel

import (
	"context"
	"time"

	"bulkhead"
)

// Owed counts the certificates of an authority that have not ended at t, OCSP delegates left out.
func (s *Store) Owed(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (bulkhead.Owed, error) {
	type group struct {
		state bulkhead.CertificateState
		n     int64
		last  time.Time
	}
	rows, err := list(ctx, s.reader, func(r scanner) (g group, err error) {
		err = r.Scan(&g.state, &g.n, timeCol{&g.last})
		return g, err
	}, `SELECT state, COUNT(*), MAX(not_after) FROM certificates
		WHERE issuer = $1 AND state IN ('issued', 'revoked') AND not_after >= $2 AND kind <> $3 GROUP BY state`,
		string(issuer), unix(t), string(bulkhead.DelegateCertificate))
	var out bulkhead.Owed
	for _, g := range rows {
		if g.state == bulkhead.Revoked {
			out.Revoked = g.n
		} else {
			out.Good = g.n
		}
		if g.last.After(out.Last) {
			out.Last = g.last
		}
	}
	return out, s.fault("Owed", err)
}
