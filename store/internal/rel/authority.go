package rel

import (
	"context"
	"slices"

	"bulkhead"
)

const authorityFields = `id, kind, state, parent, subject, spki, certificate, chain, csr, key_uri, shards, successor, created_at`

func scanAuthority(r scanner) (bulkhead.Authority, error) {
	var a bulkhead.Authority
	err := r.Scan(&a.ID, &a.Kind, &a.State, &a.Parent, bytesCol{&a.Subject}, bytesCol{&a.SPKI}, bytesCol{&a.Certificate},
		jsonCol{&a.Chain}, bytesCol{&a.CSR}, &a.KeyURI, &a.Shards, &a.Successor, timeCol{&a.CreatedAt})
	return a, err
}

// Authority returns one authority; KindNotFound when there is none.
func (s *Store) Authority(ctx context.Context, id bulkhead.AuthorityID) (bulkhead.Authority, error) {
	a, err := remembered(s, ofAuthorities, "authority/"+string(id), func() (bulkhead.Authority, error) {
		a, err := one(s.brief(ctx), s.looks, scanAuthority, `SELECT `+authorityFields+` FROM authorities WHERE id = $1`, string(id))
		a.Chain = slices.Clip(a.Chain)
		return a, err
	})
	return a, s.fault("Authority", absent(err, "authority", string(id)))
}

// Authorities returns all authorities, by id.
func (s *Store) Authorities(ctx context.Context) ([]bulkhead.Authority, error) {
	rows, err := remembered(s, ofAuthorities, "authorities", func() ([]bulkhead.Authority, error) {
		rows, err := list(s.brief(ctx), s.looks, scanAuthority, `SELECT `+authorityFields+` FROM authorities ORDER BY id`)
		for i := range rows {
			rows[i].Chain = slices.Clip(rows[i].Chain)
		}
		return rows, err
	})
	return slices.Clone(rows), s.fault("Authorities", err)
}

// PutAuthority inserts or replaces the authority with its evidence.
func (s *Store) PutAuthority(ctx context.Context, a bulkhead.Authority, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutAuthority", ev, func(t *tx) error { return t.putAuthority(ctx, a) })
}

// Succeed puts an authority and, in the same transaction, the one that it succeeds, which must be active still:
// KindConflict otherwise, and nothing changed.
func (s *Store) Succeed(ctx context.Context, successor, predecessor bulkhead.Authority, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "Succeed", ev, func(t *tx) error {
		var state string
		err := t.QueryRowContext(ctx, `SELECT state FROM authorities WHERE id = $1`+t.dialect.ForUpdate, string(predecessor.ID)).Scan(&state)
		if err != nil {
			return absent(err, "authority", string(predecessor.ID))
		}
		if state != string(bulkhead.AuthorityActive) {
			return conflict("authority %s is %s, not active", predecessor.ID, state)
		}
		if err := t.putAuthority(ctx, successor); err != nil {
			return err
		}
		return t.putAuthority(ctx, predecessor)
	})
}

func (t *tx) putAuthority(ctx context.Context, a bulkhead.Authority) error {
	_, err := exec(ctx, t, `INSERT INTO authorities (`+authorityFields+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, state = excluded.state, parent = excluded.parent,
		subject = excluded.subject, spki = excluded.spki, certificate = excluded.certificate, chain = excluded.chain,
		csr = excluded.csr, key_uri = excluded.key_uri, shards = excluded.shards, successor = excluded.successor,
		created_at = excluded.created_at`,
		string(a.ID), string(a.Kind), string(a.State), string(a.Parent), blob(a.Subject), blob(a.SPKI), blob(a.Certificate),
		jsonArg(a.Chain), blob(a.CSR), a.KeyURI, int64(a.Shards), string(a.Successor), unix(a.CreatedAt))
	return err
}

// BlockedKeys returns those of the given hashes that are blocked.
func (s *Store) BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error) {
	if all, known, err := s.allBlocked(ctx); err != nil || known {
		return ofThese(all, hashes), s.fault("BlockedKeys", err)
	}
	rows, err := blockedKeys(s.brief(ctx), &s.dialect, s.looks, hashes)
	return rows, s.fault("BlockedKeys", err)
}

// ofThese are those of the hashes that are among all, each once.
func ofThese(all map[bulkhead.Hash]bulkhead.BlockedKey, hashes []bulkhead.Hash) (out []bulkhead.BlockedKey) {
	for i, h := range hashes {
		if k, blocked := all[h]; blocked && !slices.Contains(hashes[:i], h) {
			out = append(out, k)
		}
	}
	return out
}

// blockedAnswer is what allBlocked is remembered by.
const blockedAnswer = "blocked"

// blockedMost is how many blocked keys are remembered; where there are more each is looked up.
const blockedMost = 1000

// allBlocked are the blocked keys, where they are few and the store remembers them.
func (s *Store) allBlocked(ctx context.Context) (all map[bulkhead.Hash]bulkhead.BlockedKey, known bool, err error) {
	if s.memo == nil {
		return nil, false, nil
	}
	all, err = remembered(s, ofBlockedKeys, blockedAnswer, func() (map[bulkhead.Hash]bulkhead.BlockedKey, error) {
		rows, err := list(s.brief(ctx), s.looks, scanBlockedKey, `SELECT `+blockedFields+` FROM blocked_keys LIMIT $1`, blockedMost+1)
		if err != nil || len(rows) > blockedMost {
			return nil, err
		}
		out := make(map[bulkhead.Hash]bulkhead.BlockedKey, len(rows))
		for _, k := range rows {
			out[k.KeyHash] = k
		}
		return out, nil
	})
	return all, all != nil, err
}

const blockedFields = `key_hash, blocked_at, reason, actor`

func scanBlockedKey(r scanner) (k bulkhead.BlockedKey, err error) {
	err = r.Scan(hashCol{&k.KeyHash}, timeCol{&k.BlockedAt}, &k.Reason, &k.Actor)
	return k, err
}

func blockedKeys(ctx context.Context, d *Dialect, q querier, hashes []bulkhead.Hash) ([]bulkhead.BlockedKey, error) {
	var out []bulkhead.BlockedKey
	seen := map[bulkhead.Hash]bool{}
	err := among(d, hashes, 1, "bytea", hashArg, func(_ []bulkhead.Hash, in string, args []any) error {
		rows, err := list(ctx, q, scanBlockedKey, `SELECT `+blockedFields+` FROM blocked_keys WHERE key_hash IN `+in, args...)
		for _, k := range rows {
			if !seen[k.KeyHash] {
				seen[k.KeyHash] = true
				out = append(out, k)
			}
		}
		return err
	})
	return out, err
}

// BlockKey blocks a key for ever. The first block stays: blocking twice is no error and appends no second evidence.
func (s *Store) BlockKey(ctx context.Context, k bulkhead.BlockedKey, ev ...bulkhead.Evidence) error {
	if k.KeyHash.IsZero() {
		return bulkhead.NewFault(bulkhead.KindMalformed, "a block needs the hash of a key")
	}
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault("BlockKey", err)
	}
	return s.write(ctx, "BlockKey", nil, func(t *tx) error {
		// Held even without evidence: Reserve decides under it that a key is not blocked.
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		n, err := exec(ctx, t, `INSERT INTO blocked_keys (key_hash, blocked_at, reason, actor) VALUES ($1, $2, $3, $4)
			ON CONFLICT DO NOTHING`, hashArg(k.KeyHash), unix(k.BlockedAt), text(k.Reason), text(k.Actor))
		if err != nil || n == 0 {
			return err
		}
		_, err = t.append(ctx, leaves)
		return err
	})
}

// Delegates returns the OCSP delegates of an authority, newest first.
func (s *Store) Delegates(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Delegate, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (d bulkhead.Delegate, err error) {
		err = r.Scan(&d.Authority, bytesCol{&d.Certificate}, &d.KeyURI, timeCol{&d.NotBefore}, timeCol{&d.NotAfter})
		return d, err
	}, `SELECT authority, certificate, key_uri, not_before, not_after FROM delegates WHERE authority = $1
		ORDER BY not_before DESC, seq DESC`, string(issuer))
	return rows, s.fault("Delegates", err)
}

// PutDelegate records a delegate; a certificate for the same key replaces the one before.
func (s *Store) PutDelegate(ctx context.Context, d bulkhead.Delegate, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutDelegate", ev, func(t *tx) error { return t.putDelegate(ctx, d) })
}

func (t *tx) putDelegate(ctx context.Context, d bulkhead.Delegate) error {
	_, err := exec(ctx, t, `INSERT INTO delegates (authority, key_uri, certificate, not_before, not_after)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT (authority, key_uri) DO UPDATE SET certificate = excluded.certificate,
		not_before = excluded.not_before, not_after = excluded.not_after`,
		string(d.Authority), d.KeyURI, blob(d.Certificate), unix(d.NotBefore), unix(d.NotAfter))
	return err
}

// DropDelegate forgets a delegate whose key was destroyed. Forgetting twice is no error.
func (s *Store) DropDelegate(ctx context.Context, issuer bulkhead.AuthorityID, keyURI string) error {
	return s.write(ctx, "DropDelegate", nil, func(t *tx) error {
		_, err := exec(ctx, t, `DELETE FROM delegates WHERE authority = $1 AND key_uri = $2`, string(issuer), keyURI)
		return err
	})
}

// Prepared returns objects that were signed in advance, by NotBefore.
func (s *Store) Prepared(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Prepared, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (p bulkhead.Prepared, err error) {
		err = r.Scan(&p.Authority, &p.Kind, timeCol{&p.NotBefore}, timeCol{&p.NotAfter}, bytesCol{&p.DER}, &p.KeyURI,
			&p.CRLNumber, timeCol{&p.ImportedAt}, &p.Change, &p.Shard)
		return p, err
	}, `SELECT authority, kind, not_before, not_after, der, key_uri, crl_number, imported_at, change_id, shard FROM prepared
		WHERE authority = $1 ORDER BY not_before, kind, crl_number, digest`, string(issuer))
	return rows, s.fault("Prepared", err)
}

// PutPrepared keeps objects that were signed in advance. An object that is there already is left as it is.
func (s *Store) PutPrepared(ctx context.Context, items []bulkhead.Prepared, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutPrepared", ev, func(t *tx) error { return t.putPrepared(ctx, items) })
}

func (t *tx) putPrepared(ctx context.Context, items []bulkhead.Prepared) error {
	for _, p := range items {
		_, err := exec(ctx, t, `INSERT INTO prepared (authority, kind, not_before, digest, not_after, der, key_uri,
			crl_number, imported_at, change_id, shard) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
			string(p.Authority), string(p.Kind), unix(p.NotBefore), hashArg(bulkhead.Digest(p.DER)), unix(p.NotAfter),
			blob(p.DER), p.KeyURI, p.CRLNumber, unix(p.ImportedAt), p.Change, int64(p.Shard))
		if err != nil {
			return err
		}
	}
	return nil
}
