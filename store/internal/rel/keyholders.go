package rel

import (
	"context"
	"time"

	"bulkhead"
)

// holders are the certificates that a compromise of their key revokes: in their time, not revoked for it yet, and not of
// the house's own hierarchy (authorities, and OCSP delegates, which nobody asks about: RFC 6960 section 4.2.2.2.1).
const holders = ` FROM certificates WHERE key_hash = $1 AND not_after >= $2 AND kind NOT IN ('ca', 'delegate')
	AND (state = 'issued' OR (state = 'revoked' AND reason <> $3))`

// KeyHolders returns certificates in force that hold a key, in the order of their issue, but for those of some issuers.
func (s *Store) KeyHolders(ctx context.Context, key bulkhead.Hash, t time.Time, limit int, except ...bulkhead.AuthorityID) ([]bulkhead.Certificate, error) {
	others, args := "1 = 1", []any(nil)
	if len(except) > 0 {
		others, args = oneOf("issuer", 5, except)
		others = "NOT (" + others + ")"
	}
	rows, err := list(ctx, s.reader, scanPlainCertificate, `SELECT `+certificateFields+holders+` AND `+others+` ORDER BY intent_seq LIMIT $4`,
		append([]any{hashArg(key), unix(t), int64(bulkhead.KeyCompromise), atMost(limit)}, args...)...)
	return rows, s.fault("KeyHolders", err)
}

// CountKeyHolders counts what KeyHolders returns without a limit.
func (s *Store) CountKeyHolders(ctx context.Context, key bulkhead.Hash, t time.Time) (n int, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT COUNT(*)`+holders, hashArg(key), unix(t), int64(bulkhead.KeyCompromise)).Scan(&n)
	return n, s.fault("CountKeyHolders", err)
}
