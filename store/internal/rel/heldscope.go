package rel

import (
	"context"

	"bulkhead"
)

// HeldScopes returns what the signer holds each registration partner to, by partner.
func (s *Store) HeldScopes(ctx context.Context) ([]bulkhead.HeldScope, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (h bulkhead.HeldScope, err error) {
		err = r.Scan(&h.Partner, jsonCol{&h.Scope}, &h.Signed, timeCol{&h.At})
		return h, err
	}, `SELECT partner, scope, signed, at FROM held_scopes ORDER BY partner`)
	return rows, s.fault("HeldScopes", err)
}

// HoldScope keeps what the signer holds a partner to from now on, in place of what it held it to.
func (s *Store) HoldScope(ctx context.Context, h bulkhead.HeldScope, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "HoldScope", ev, func(t *tx) error {
		_, err := exec(ctx, t, `INSERT INTO held_scopes (partner, scope, signed, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (partner) DO UPDATE SET scope = excluded.scope, signed = excluded.signed, at = excluded.at`,
			h.Partner, jsonArg(h.Scope), h.Signed, unix(h.At))
		return err
	})
}
