package rel

import (
	"context"
	"time"

	"bulkhead"
)

// PutCheck keeps a result of the public analyser under the hash of its id, and deletes those that expired. It is no
// evidence: strangers decide how many there are.
func (s *Store) PutCheck(ctx context.Context, id bulkhead.Hash, body []byte, now, expires time.Time) error {
	return s.write(ctx, "PutCheck", nil, func(t *tx) error {
		if _, err := exec(ctx, t, `DELETE FROM check_results WHERE expires_at <= $1`, unix(now)); err != nil {
			return err
		}
		n, err := exec(ctx, t, `INSERT INTO check_results (id_hash, expires_at, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, hashArg(id), unix(expires), blob(body))
		if err == nil && n == 0 {
			return conflict("there is a result with this id")
		}
		return err
	})
}

// Check returns a result that has not expired by now; KindNotFound when there is none.
func (s *Store) Check(ctx context.Context, id bulkhead.Hash, now time.Time) ([]byte, error) {
	body, err := one(ctx, s.reader, func(r scanner) (p []byte, err error) { err = r.Scan(bytesCol{&p}); return p, err },
		`SELECT body FROM check_results WHERE id_hash = $1 AND expires_at > $2`, hashArg(id), unix(now))
	return body, s.fault("Check", absent(err, "result", id.String()))
}
