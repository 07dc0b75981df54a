package rel

import (
	"context"
	"time"

	"bulkhead"
)

const securityKeyFields = `id, operator, public_key, cose, rp_id, origin, label, aaguid, sign_count, added_at, removed_at, used_at`

// PutSecurityKey inserts or replaces by id; the counter of a key that is there stays.
func (s *Store) PutSecurityKey(ctx context.Context, k bulkhead.SecurityKey, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutSecurityKey", ev, func(t *tx) error {
		_, err := exec(ctx, t, `INSERT INTO security_keys (`+securityKeyFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
			ON CONFLICT (id) DO UPDATE SET label = excluded.label, removed_at = excluded.removed_at`,
			blob(k.ID), k.Operator, blob(k.PublicKey), blob(k.COSE), text(k.RPID), text(k.Origin), text(k.Label), blob(k.AAGUID), int64(k.SignCount), unix(k.AddedAt), unix(k.RemovedAt), unix(k.UsedAt))
		return err
	})
}

// SecurityKeys returns every security key, those taken away included, oldest first.
func (s *Store) SecurityKeys(ctx context.Context) ([]bulkhead.SecurityKey, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (k bulkhead.SecurityKey, err error) {
		err = r.Scan(bytesCol{&k.ID}, &k.Operator, bytesCol{&k.PublicKey}, bytesCol{&k.COSE}, &k.RPID, &k.Origin, &k.Label, bytesCol{&k.AAGUID}, &k.SignCount,
			timeCol{&k.AddedAt}, timeCol{&k.RemovedAt}, timeCol{&k.UsedAt})
		return k, err
	}, `SELECT `+securityKeyFields+` FROM security_keys ORDER BY added_at, id`)
	return rows, s.fault("SecurityKeys", err)
}

// UseSecurityKey moves the counter of a key that counts. KindConflict when it does not go forward, unless both are 0;
// KindNotFound for a key that is not there or was taken away.
func (s *Store) UseSecurityKey(ctx context.Context, id []byte, count uint32, at time.Time) error {
	return s.write(ctx, "UseSecurityKey", nil, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE security_keys SET sign_count = $2, used_at = $3 WHERE id = $1 AND removed_at = 0 AND (sign_count < $2 OR sign_count = 0 AND $2 = 0)`,
			blob(id), int64(count), unix(at))
		if err != nil || n > 0 {
			return err
		}
		var removed int64
		if err := t.QueryRowContext(ctx, `SELECT removed_at FROM security_keys WHERE id = $1`, blob(id)).Scan(&removed); err != nil || removed > 0 {
			if err == nil {
				return notFound("security key", "in use")
			}
			return absent(err, "security key", "in use")
		}
		return conflict("the security key's counter went back to %d", count)
	})
}

// OperatorRequests returns the requests that changed operators and are approved or executed, oldest first, all of them.
func (s *Store) OperatorRequests(ctx context.Context) ([]bulkhead.ApprovalRequest, error) {
	rows, err := list(ctx, s.reader, scanRequest, `SELECT `+requestFields+` FROM requests WHERE action LIKE 'operator.%' AND state IN ('approved', 'executed') ORDER BY seq`)
	if err != nil {
		return nil, s.fault("OperatorRequests", err)
	}
	rows, err = s.withApprovals(ctx, rows)
	return rows, s.fault("OperatorRequests", err)
}

const sessionFields = `token_hash, operator, method, subject, roles, began_at, expires_at, ended_at`

func scanSession(r scanner) (x bulkhead.Session, err error) {
	err = r.Scan(hashCol{&x.TokenHash}, &x.Operator, &x.Method, &x.Subject, jsonCol{&x.Roles}, timeCol{&x.BeganAt}, timeCol{&x.ExpiresAt}, timeCol{&x.EndedAt})
	return x, err
}

// BeginSession inserts a session; KindConflict when there is one with its token. Those that ended long ago are forgotten.
func (s *Store) BeginSession(ctx context.Context, x bulkhead.Session, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "BeginSession", ev, func(t *tx) error {
		if _, err := exec(ctx, t, `DELETE FROM sessions WHERE expires_at < $1`, unix(x.BeganAt)-24*3600); err != nil {
			return err
		}
		n, err := exec(ctx, t, `INSERT INTO sessions (`+sessionFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			hashArg(x.TokenHash), x.Operator, x.Method, text(x.Subject), jsonArg(x.Roles), unix(x.BeganAt), unix(x.ExpiresAt), unix(x.EndedAt))
		if err == nil && n == 0 {
			return conflict("that session exists")
		}
		return err
	})
}

// Session returns a session by the hash of its token, in force or not; KindNotFound when there is none.
func (s *Store) Session(ctx context.Context, token bulkhead.Hash) (bulkhead.Session, error) {
	x, err := one(ctx, s.reader, scanSession, `SELECT `+sessionFields+` FROM sessions WHERE token_hash = $1`, hashArg(token))
	return x, s.fault("Session", absent(err, "session", "with that token"))
}

// EndSession ends a session; KindConflict when it was ended before.
func (s *Store) EndSession(ctx context.Context, token bulkhead.Hash, at time.Time, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "EndSession", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE sessions SET ended_at = $2 WHERE token_hash = $1 AND ended_at = 0`, hashArg(token), unix(at))
		if err == nil && n == 0 {
			return conflict("that session is not open")
		}
		return err
	})
}

// Invite inserts an invitation.
func (s *Store) Invite(ctx context.Context, x bulkhead.Invitation, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "Invite", ev, func(t *tx) error {
		_, err := exec(ctx, t, `INSERT INTO invitations (token_hash, operator, roles, inviter, created_at, expires_at, used_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			hashArg(x.TokenHash), x.Operator, jsonArg(x.Roles), x.Inviter, unix(x.CreatedAt), unix(x.ExpiresAt), unix(x.UsedAt))
		return err
	})
}

// Invitation returns an invitation, used or not; KindNotFound when there is none.
func (s *Store) Invitation(ctx context.Context, token bulkhead.Hash) (bulkhead.Invitation, error) {
	x, err := one(ctx, s.reader, func(r scanner) (x bulkhead.Invitation, err error) {
		err = r.Scan(hashCol{&x.TokenHash}, &x.Operator, jsonCol{&x.Roles}, &x.Inviter, timeCol{&x.CreatedAt}, timeCol{&x.ExpiresAt}, timeCol{&x.UsedAt})
		return x, err
	}, `SELECT token_hash, operator, roles, inviter, created_at, expires_at, used_at FROM invitations WHERE token_hash = $1`, hashArg(token))
	return x, s.fault("Invitation", absent(err, "invitation", "with that token"))
}

// UseInvitation marks an invitation used; KindConflict when it was used before.
func (s *Store) UseInvitation(ctx context.Context, token bulkhead.Hash, at time.Time) error {
	return s.write(ctx, "UseInvitation", nil, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE invitations SET used_at = $2 WHERE token_hash = $1 AND used_at = 0`, hashArg(token), unix(at))
		if err == nil && n == 0 {
			return conflict("that invitation was used before")
		}
		return err
	})
}

// maxSteps bounds the sign-ins under way: strangers may begin them.
const maxSteps = 10_000

// PutStep remembers a sign-in under way, and forgets those that expired by now. KindRateLimited when there are too many.
func (s *Store) PutStep(ctx context.Context, x bulkhead.SignInStep, now time.Time) error {
	return s.write(ctx, "PutStep", nil, func(t *tx) error {
		if _, err := exec(ctx, t, `DELETE FROM signin_steps WHERE expires_at <= $1`, unix(now)); err != nil {
			return err
		}
		var n int64
		if err := t.QueryRowContext(ctx, `SELECT count(*) FROM signin_steps`).Scan(&n); err != nil {
			return err
		}
		if n >= maxSteps {
			return bulkhead.NewFault(bulkhead.KindRateLimited, "too many sign-ins are under way").WithRetry(time.Minute)
		}
		_, err := exec(ctx, t, `INSERT INTO signin_steps (id, kind, body, expires_at) VALUES ($1, $2, $3, $4)`, hashArg(x.ID), x.Kind, blob(x.Body), unix(x.ExpiresAt))
		return err
	})
}

// TakeStep returns a sign-in under way and forgets it, so that it is taken once; KindNotFound when there is none.
func (s *Store) TakeStep(ctx context.Context, id bulkhead.Hash) (bulkhead.SignInStep, error) {
	x := bulkhead.SignInStep{ID: id}
	err := s.write(ctx, "TakeStep", nil, func(t *tx) error {
		err := t.QueryRowContext(ctx, `DELETE FROM signin_steps WHERE id = $1 RETURNING kind, body, expires_at`, hashArg(id)).Scan(&x.Kind, bytesCol{&x.Body}, timeCol{&x.ExpiresAt})
		return absent(err, "sign-in under way", "of that id")
	})
	return x, err
}
