package rel

import (
	"context"
	"strings"

	"bulkhead"
)

// Most certificates of an import are alike: leaves of one authority and profile, in nobody's account, whose leaf in the log is
// intent and outcome in one. What they share is said once a statement, and a row brings ten parameters where one of
// insertCertificate brings twenty-four.

// insertForeign inserts such certificates; issuer and profile follow the rows. Unlike other statements it says where the engines
// differ: an empty string of octets has no spelling that both take.
var insertForeign = func() statement {
	const row = "seq, serial, names, subject, key, digest, not_before, not_after, revoked_at, reason"
	types := strings.Fields("bigint bytea text text bytea bytea bigint bigint bigint bigint")
	into := func(rows, issuer, profile, empty string) string {
		return `WITH v (` + row + `) AS (` + rows + `) INSERT INTO certificates (intent_seq, issuer, serial, kind, state, profile, names, subject, key_hash, intent_digest,
			fingerprint, account_id, order_id, not_before, not_after, shard, revoked_at, reason, reserved_at, replaces_issuer, replaces_serial, replaced_by_issuer, replaced_by_serial, outcome_seq)
			SELECT v.seq, ` + issuer + `, v.serial, 'leaf', CASE v.revoked_at WHEN 0 THEN 'issued' ELSE 'revoked' END, ` + profile + `, v.names, v.subject, v.key, v.digest,
			v.digest, '', '', v.not_before, v.not_after, 0, v.revoked_at, v.reason, v.not_before, '', ` + empty + `, '', ` + empty + `, v.seq FROM v`
	}
	return statement{each: into("VALUES "+rowsOf(1, len(types)), "$11", "$12", "x''"), group: into("VALUES "+namelessRows(groupRows, len(types)), "?", "?", "x''"),
		crowd: into("VALUES "+namelessRows(crowdRows, len(types)), "?", "?", "x''"), many: into("SELECT * FROM "+unnest(types), "$11::text", "$12::text", "''::bytea")}
}()

// foreignColumns holds rows for insertForeign, column by column; seq is known only in the transaction.
type foreignColumns struct {
	names, subject                         column[string]
	serial, key, digest                    column[[]byte]
	notBefore, notAfter, revokedAt, reason column[int64]
}

func newForeignColumns(n int) foreignColumns {
	return foreignColumns{make(column[string], n), make(column[string], n), make(column[[]byte], n), make(column[[]byte], n), make(column[[]byte], n),
		make(column[int64], n), make(column[int64], n), make(column[int64], n), make(column[int64], n)}
}

// put sets row i.
func (f *foreignColumns) put(i int, c *bulkhead.Certificate, digest *bulkhead.Hash) {
	f.names[i], f.subject[i] = namesArg(c.Names), text(c.Subject)
	f.serial[i], f.key[i], f.digest[i] = serialArg(c.Serial), hashArg(c.KeyHash), digest[:]
	f.notBefore[i], f.notAfter[i], f.revokedAt[i], f.reason[i] = unix(c.NotBefore), unix(c.NotAfter), unix(c.RevokedAt), int64(c.Reason)
}

// insert inserts the rows at these places, in their order, under these numbers.
func (f *foreignColumns) insert(ctx context.Context, t *tx, at []int, seqs column[int64], issuer bulkhead.AuthorityID, profile string) error {
	return t.batchWith(ctx, insertForeign, []any{string(issuer), profile}, seqs, some(f.serial, at), some(f.names, at), some(f.subject, at), some(f.key, at), some(f.digest, at),
		some(f.notBefore, at), some(f.notAfter, at), some(f.revokedAt, at), some(f.reason, at))
}

// some are the rows of a column at these places, which rise.
func some[T any](c column[T], at []int) column[T] {
	if len(at) == len(c) {
		return c
	}
	out := make(column[T], len(at))
	for k, i := range at {
		out[k] = c[i]
	}
	return out
}

// alike reports that insertForeign can make the row of an item, beside the others of the first one's issuer and profile.
func (m *imports) alike(i int) bool {
	it, first := &m.items[i], &m.items[0].Certificate
	c := &it.Certificate
	good := c.State == bulkhead.Issued && c.RevokedAt.IsZero() && c.Reason == 0
	revoked := c.State == bulkhead.Revoked && unix(c.RevokedAt) != 0
	return c.Kind == bulkhead.LeafCertificate && (good || revoked) && c.Issuer == first.Issuer && c.Profile == first.Profile && it.Leaf.Digest == m.digests[i] &&
		c.ReservedAt.Equal(c.NotBefore) && c.AccountID == "" && c.OrderID == "" && c.Shard == 0 && c.Replaces == bulkhead.CertificateRef{}
}
