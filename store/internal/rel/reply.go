package rel

import (
	"context"
	"time"

	"bulkhead"
)

const replyFields = `key_hash, owner, request, holder, status, body, lease_until, expires_at`

func scanReply(r scanner) (bulkhead.Reply, error) {
	var v bulkhead.Reply
	err := r.Scan(hashCol{&v.KeyHash}, &v.Owner, hashCol{&v.Request}, &v.Holder, &v.Status, bytesCol{&v.Body}, timeCol{&v.LeaseUntil}, timeCol{&v.ExpiresAt})
	return v, err
}

// ClaimReply makes r the holder of its key when nobody holds it at now: it is new, it has expired, or the lease of
// whoever held it for the same request has run out. It returns what the record then holds: r itself when the claim
// stands, else the finished reply or the claim of another.
func (s *Store) ClaimReply(ctx context.Context, r bulkhead.Reply, now time.Time) (bulkhead.Reply, error) {
	var out bulkhead.Reply
	err := s.write(ctx, "ClaimReply", nil, func(t *tx) error {
		if _, err := exec(ctx, t, `DELETE FROM replies WHERE key_hash = $1 AND expires_at <= $2`, hashArg(r.KeyHash), unix(now)); err != nil {
			return err
		}
		n, err := exec(ctx, t, `INSERT INTO replies (`+replyFields+`) VALUES ($1, $2, $3, $4, 0, $5, $6, $7) ON CONFLICT DO NOTHING`,
			hashArg(r.KeyHash), r.Owner, hashArg(r.Request), r.Holder, []byte{}, unix(r.LeaseUntil), unix(r.ExpiresAt))
		if err != nil {
			return err
		}
		if out, err = one(ctx, t, scanReply, `SELECT `+replyFields+` FROM replies WHERE key_hash = $1`+t.dialect.ForUpdate, hashArg(r.KeyHash)); err != nil {
			return absent(err, "reply", r.KeyHash.String())
		}
		if n > 0 || out.Status != 0 || out.Request != r.Request || out.LeaseUntil.After(now) {
			return nil
		}
		out.Holder, out.LeaseUntil = r.Holder, r.LeaseUntil
		_, err = exec(ctx, t, `UPDATE replies SET holder = $2, lease_until = $3 WHERE key_hash = $1`, hashArg(r.KeyHash), r.Holder, unix(r.LeaseUntil))
		return err
	})
	return out, s.fault("ClaimReply", err)
}

// FinishReply keeps the answer; KindConflict when holder does not hold the key any more.
func (s *Store) FinishReply(ctx context.Context, keyHash bulkhead.Hash, holder string, status int, body []byte) error {
	return s.write(ctx, "FinishReply", nil, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE replies SET status = $3, body = $4 WHERE key_hash = $1 AND holder = $2 AND status = 0`,
			hashArg(keyHash), holder, int64(status), blob(body))
		if err == nil && n == 0 {
			return conflict("the idempotency key is held by another")
		}
		return err
	})
}

// ReleaseReply gives a claim up, so that the same request may try again; nothing happens when holder does not hold it.
func (s *Store) ReleaseReply(ctx context.Context, keyHash bulkhead.Hash, holder string) error {
	return s.write(ctx, "ReleaseReply", nil, func(t *tx) error {
		_, err := exec(ctx, t, `DELETE FROM replies WHERE key_hash = $1 AND holder = $2 AND status = 0`, hashArg(keyHash), holder)
		return err
	})
}

// ForgetReplies deletes what expired by now.
func (s *Store) ForgetReplies(ctx context.Context, now time.Time) error {
	return s.write(ctx, "ForgetReplies", nil, func(t *tx) error {
		_, err := exec(ctx, t, `DELETE FROM replies WHERE expires_at <= $1`, unix(now))
		return err
	})
}
