package rel

import (
	"context"

	"bulkhead"
	"bulkhead/pki/tlog"
)

var restateImported = statement{
	each: `UPDATE certificates SET state = $2, revoked_at = $3, reason = $4, outcome_seq = $5 WHERE intent_seq = $1 AND state = 'revoked' AND reason = 6`,
	many: `UPDATE certificates c SET state = v.state, revoked_at = v.at, reason = v.reason, outcome_seq = v.outcome
		FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS v (seq, state, at, reason, outcome)
		WHERE c.intent_seq = v.seq AND c.state = 'revoked' AND c.reason = 6`,
}

var insertBlockedKey = insert("blocked_keys", "key_hash bytea", "blocked_at bigint", "reason text", "actor text")

// HeldCertificates returns the status of certificates of an authority that are revoked for certificateHold, with a serial above
// after, in order; the zero serial begins.
func (s *Store) HeldCertificates(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, limit int) ([]bulkhead.Status, error) {
	rows, err := list(ctx, s.reader, scanStatus, `SELECT `+statusFields+` FROM certificates
		WHERE issuer = $1 AND state = 'revoked' AND reason = 6 AND serial > $2 ORDER BY serial LIMIT $3`, string(issuer), serialArg(after), atMost(limit))
	return rows, s.fault("HeldCertificates", err)
}

// Restate commits what a foreign authority says of certificates that it held, each with its leaf, and returns how many changed. A
// row that is not revoked for certificateHold at the moment of commit, or was not imported, is left as it is.
func (s *Store) Restate(ctx context.Context, items []bulkhead.Restated) (n int, err error) {
	leaves := make([][]byte, len(items))
	for i, it := range items {
		if leaves[i], err = tlog.Marshal(it.Leaf); err != nil {
			return 0, s.fault("Restate", err)
		}
	}
	err = s.write(ctx, "Restate", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		var seqs, times, reasons column[int64]
		var states column[string]
		var good [][]byte
		for i, it := range items {
			held, err := list(ctx, t, scanInt, `SELECT c.intent_seq FROM certificates c JOIN authorities a ON a.id = c.issuer
				WHERE c.issuer = $1 AND c.serial = $2 AND c.state = 'revoked' AND c.reason = 6 AND a.state IN ('foreign', 'foreign-served')`, string(it.Issuer), serialArg(it.Serial))
			if err != nil {
				return err
			}
			if len(held) == 0 {
				continue
			}
			seqs, states, good = append(seqs, held[0]), append(states, string(it.State)), append(good, leaves[i])
			times, reasons = append(times, unix(it.RevokedAt)), append(reasons, int64(it.Reason))
		}
		outcomes, err := t.append(ctx, good)
		if err != nil || len(good) == 0 {
			return err
		}
		n = len(good)
		return t.batch(ctx, restateImported, seqs, states, times, reasons, column[int64](outcomes))
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func scanInt(r scanner) (n int64, err error) { return n, r.Scan(&n) }

// BlockKeys blocks keys for ever, each with its leaf ev[i], in one transaction, and returns those that were not blocked before; the
// others stay as they are and get no leaf.
func (s *Store) BlockKeys(ctx context.Context, keys []bulkhead.BlockedKey, ev []bulkhead.Evidence) (fresh []bulkhead.Hash, err error) {
	if len(ev) != len(keys) {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%d keys to block with %d pieces of evidence", len(keys), len(ev))
	}
	leaves, err := marshal(ev)
	if err != nil {
		return nil, s.fault("BlockKeys", err)
	}
	hashes := make([]bulkhead.Hash, len(keys))
	for i, k := range keys {
		if hashes[i] = k.KeyHash; k.KeyHash.IsZero() {
			return nil, bulkhead.NewFault(bulkhead.KindMalformed, "a block needs the hash of a key")
		}
	}
	err = s.write(ctx, "BlockKeys", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil { // Reserve decides under it that a key is not blocked
			return err
		}
		have, err := blockedKeys(ctx, t.dialect, t, hashes)
		if err != nil {
			return err
		}
		known := map[bulkhead.Hash]bool{}
		for _, k := range have {
			known[k.KeyHash] = true
		}
		var rows column[[]byte]
		var times column[int64]
		var reasons, actors column[string]
		var good [][]byte
		fresh = nil
		for i, k := range keys {
			if known[k.KeyHash] {
				continue
			}
			known[k.KeyHash], fresh, good = true, append(fresh, k.KeyHash), append(good, leaves[i])
			rows, times, reasons, actors = append(rows, hashArg(k.KeyHash)), append(times, unix(k.BlockedAt)), append(reasons, text(k.Reason)), append(actors, text(k.Actor))
		}
		if _, err := t.append(ctx, good); err != nil || len(good) == 0 {
			return err
		}
		return t.batch(ctx, insertBlockedKey, rows, times, reasons, actors)
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}
