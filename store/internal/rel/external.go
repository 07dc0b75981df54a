package rel

import (
	"context"
	"time"

	"bulkhead"
)

const externalFields = `id, note, actor, account_id, created_at, expires_at, used_at, revoked_at, partner`

func scanExternal(r scanner) (bulkhead.ExternalKey, error) {
	var k bulkhead.ExternalKey
	err := r.Scan(&k.ID, &k.Note, &k.Actor, &k.AccountID, timeCol{&k.CreatedAt}, timeCol{&k.ExpiresAt}, timeCol{&k.UsedAt}, timeCol{&k.RevokedAt}, &k.Partner)
	return k, err
}

// CreateExternalKey inserts an unused key; KindConflict when the id exists.
func (s *Store) CreateExternalKey(ctx context.Context, k bulkhead.ExternalKey, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "CreateExternalKey", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO external_keys (`+externalFields+`) VALUES ($1, $2, $3, '', $4, $5, 0, 0, $6) ON CONFLICT DO NOTHING`,
			k.ID, text(k.Note), k.Actor, unix(k.CreatedAt), unix(k.ExpiresAt), k.Partner)
		if err == nil && n == 0 {
			return conflict("external key %s exists", k.ID)
		}
		return err
	})
}

// ExternalKey returns a key; KindNotFound when there is none.
func (s *Store) ExternalKey(ctx context.Context, id string) (bulkhead.ExternalKey, error) {
	k, err := one(ctx, s.reader, scanExternal, `SELECT `+externalFields+` FROM external_keys WHERE id = $1`, id)
	return k, s.fault("ExternalKey", absent(err, "external key", id))
}

// ExternalKeys returns keys, newest first.
func (s *Store) ExternalKeys(ctx context.Context, limit int) ([]bulkhead.ExternalKey, error) {
	rows, err := list(ctx, s.reader, scanExternal, `SELECT `+externalFields+` FROM external_keys ORDER BY seq DESC LIMIT $1`, atMost(limit))
	return rows, s.fault("ExternalKeys", err)
}

// RevokeExternalKey ends a key: no account is made with it from now on. Evidence is kept only when something changed;
// KindNotFound when there is no such key, KindConflict when it is revoked already.
func (s *Store) RevokeExternalKey(ctx context.Context, id string, now time.Time, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "RevokeExternalKey", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE external_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at = 0`, id, unix(now))
		if err != nil || n > 0 {
			return err
		}
		if _, err := one(ctx, t, scanExternal, `SELECT `+externalFields+` FROM external_keys WHERE id = $1`, id); err != nil {
			return absent(err, "external key", id)
		}
		return conflict("external key %s is revoked already", id)
	})
}

// CreateBoundAccount is CreateAccount with the use of an external key, in one transaction: of many requests with one
// key, one makes an account. KindUnauthorized when the key is used, revoked or, at a.CreatedAt, expired; KindConflict
// when the id or thumbprint exists.
func (s *Store) CreateBoundAccount(ctx context.Context, a bulkhead.Account, keyID string, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "CreateBoundAccount", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE external_keys SET account_id = $2, used_at = $3
			WHERE id = $1 AND account_id = '' AND revoked_at = 0 AND (expires_at = 0 OR expires_at > $3)`, keyID, a.ID, unix(a.CreatedAt))
		if err != nil {
			return err
		}
		if n == 0 {
			return bulkhead.NewFault(bulkhead.KindUnauthorized, "the external account key is unknown, used, revoked or expired").
				WithHint("ask the operator for a new one: bulkhead eab add")
		}
		k, err := one(ctx, t, scanExternal, `SELECT `+externalFields+` FROM external_keys WHERE id = $1`, keyID)
		if err != nil {
			return err
		}
		if a.Partner = k.Partner; k.Partner != "" { // whose customer it is says the key, not the asker
			a.Creator = k.Actor
		}
		return t.insertAccount(ctx, a)
	})
}
