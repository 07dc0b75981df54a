package rel

import (
	"context"
	"strings"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// What is over at $1, with the CRLs made from $2 on. Authorities' certificates and reservations never are, nor is an
// order or an authorisation on which something that is not over rests. Validations stay for ever, and with them the
// authorisations they belong to; so do CAA checks from $1 on, and with them their orders.
const (
	overCertificate = `(c.not_after < $1 AND c.kind <> 'ca' AND c.state <> 'reserved' AND (c.state <> 'revoked' OR EXISTS
		(SELECT 1 FROM crls WHERE crls.authority = c.issuer AND crls.shard = c.shard AND crls.this_update >= $2)))`
	overOrder = `(o.expires_at < $1 AND o.created_at < $1 AND o.state <> 'processing'
		AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.order_id = o.id AND c.order_id <> '' AND NOT ` + overCertificate + `)
		AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.issuer = o.replaces_issuer AND c.serial = o.replaces_serial AND NOT ` + overCertificate + `)
		AND NOT EXISTS (SELECT 1 FROM caa_checks WHERE caa_checks.order_id = o.id AND caa_checks.at >= $1))`
	overAuthorization = `(a.expires_at < $1 AND (a.state = 'pending' OR a.state = 'invalid' OR a.state = 'expired')
		AND NOT EXISTS (SELECT 1 FROM validations WHERE validations.authorization_id = a.id)
		AND NOT EXISTS (SELECT 1 FROM order_authorizations x JOIN orders o ON o.id = x.order_id WHERE x.authorization_id = a.id AND NOT ` + overOrder + `))`
	// $2 is mentioned because both engines want every parameter used.
	overReply = `(r.expires_at < $1 AND r.status <> 0 AND r.expires_at < $2)`
)

// Prunable counts what Prune would delete in the end.
func (s *Store) Prunable(ctx context.Context, p bulkhead.Prune) (n bulkhead.Pruned, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM certificates c WHERE `+overCertificate+`),
		(SELECT COUNT(*) FROM orders o WHERE `+overOrder+`), (SELECT COUNT(*) FROM authorizations a WHERE `+overAuthorization+`),
		(SELECT COUNT(*) FROM replies r WHERE `+overReply+`)`, unix(p.Before), unix(p.CRLFrom)).
		Scan(&n.Certificates, &n.Orders, &n.Authorizations, &n.Replies)
	return n, s.fault("Prunable", err)
}

// Prune deletes at most limit rows that are over, with what belongs to them, and appends the leaf made of the counts in
// the same transaction; nothing is appended when nothing was over. The serials of certificates are kept as pruned.
func (s *Store) Prune(ctx context.Context, p bulkhead.Prune, limit int, leaf func(bulkhead.Pruned) bulkhead.Evidence) (n bulkhead.Pruned, err error) {
	err = s.write(ctx, "Prune", nil, func(t *tx) error {
		n = bulkhead.Pruned{}
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		left := int64(atMost(limit))
		for _, step := range []struct {
			count  *int64
			sel    string
			delete []string // @ is the list of the numbers found
		}{
			{&n.Certificates, `SELECT c.intent_seq FROM certificates c WHERE ` + overCertificate + ` ORDER BY c.not_after LIMIT $3`, []string{
				`INSERT INTO pruned (issuer, serial) SELECT issuer, serial FROM certificates WHERE state <> 'abandoned' AND intent_seq IN @`,
				`DELETE FROM notices WHERE (issuer, serial) IN (SELECT issuer, serial FROM certificates WHERE intent_seq IN @)`,
				`DELETE FROM certificate_names WHERE intent_seq IN @`, `DELETE FROM certificate_ders WHERE intent_seq IN @`,
				`DELETE FROM precertificates WHERE intent_seq IN @`, `DELETE FROM certificates WHERE intent_seq IN @`}},
			{&n.Orders, `SELECT o.seq FROM orders o WHERE ` + overOrder + ` ORDER BY o.expires_at LIMIT $3`, []string{
				`DELETE FROM caa_checks WHERE order_id IN (SELECT id FROM orders WHERE seq IN @)`,
				`DELETE FROM order_authorizations WHERE order_id IN (SELECT id FROM orders WHERE seq IN @)`, `DELETE FROM orders WHERE seq IN @`}},
			{&n.Authorizations, `SELECT a.seq FROM authorizations a WHERE ` + overAuthorization + ` ORDER BY a.expires_at LIMIT $3`,
				[]string{`DELETE FROM authorizations WHERE seq IN @`}},
		} {
			if left == 0 {
				break
			}
			found, err := t.pruneSome(ctx, p, left, step.sel, step.delete)
			if err != nil {
				return err
			}
			*step.count, left = found, left-found
		}
		if left > 0 {
			if n.Replies, err = exec(ctx, t, `DELETE FROM replies WHERE key_hash IN (SELECT r.key_hash FROM replies r WHERE `+overReply+` LIMIT $3)`,
				unix(p.Before), unix(p.CRLFrom), left); err != nil {
				return err
			}
		}
		if n.Total() == 0 {
			return nil
		}
		row, err := tlog.Marshal(leaf(n))
		if err != nil {
			return err
		}
		_, err = t.append(ctx, [][]byte{row})
		return err
	})
	if err != nil {
		return bulkhead.Pruned{}, err
	}
	return n, nil
}

// pruneSome runs the deletions for the rows that sel finds.
func (t *tx) pruneSome(ctx context.Context, p bulkhead.Prune, limit int64, sel string, deletions []string) (int64, error) {
	ids, err := list(ctx, t, func(r scanner) (id int64, err error) { err = r.Scan(&id); return id, err }, sel, unix(p.Before), unix(p.CRLFrom), limit)
	if err != nil {
		return 0, err
	}
	err = inChunks(ids, 1, func(id int64) any { return id }, func(_ []int64, in string, args []any) error {
		for _, text := range deletions {
			if _, err := exec(ctx, t, strings.Replace(text, "@", in, 1), args...); err != nil {
				return err
			}
		}
		return nil
	})
	return int64(len(ids)), err
}

// Pruned reports whether a certificate was issued and its row is gone.
func (s *Store) Pruned(ctx context.Context, ref bulkhead.CertificateRef) (bool, error) {
	var n int64
	err := s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM pruned WHERE issuer = $1 AND serial = $2`, string(ref.Issuer), serialArg(ref.Serial)).Scan(&n)
	return n > 0, s.fault("Pruned", err)
}
