package rel

import (
	"context"
	"errors"
	"iter"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Activate is the commit point of a change: in one transaction it goes from Staged to Activated with Epoch set to the
// head's sequence, its items' rows to what the change says, the head is stored if its sequence follows the newest one,
// the CRL records are stored, and the evidence is appended. KindConflict when any of it has moved; then nothing changed.
//
// A change that revokes makes its rows Revoked (a row already revoked only has its reason upgraded, and its date moved
// earlier, for keyCompromise), and keeps what they said before; KindConflict for an item that is neither issued nor
// revoked. A change that takes back makes them what its items say they were, and keeps what was taken back; KindConflict
// for a row that says by then something else than the item.
func (s *Store) Activate(ctx context.Context, c bulkhead.Change, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord, ev ...bulkhead.Evidence) error {
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault("Activate", err)
	}
	c.State, c.Epoch = bulkhead.ChangeActivated, head.Sequence
	err = s.activate(ctx, c, head, crls, leaves, s.locations.take(c.ID))
	if errors.Is(err, errNotThere) {
		err = s.activate(ctx, c, head, crls, leaves, nil)
	}
	return err
}

// activate is Activate; at is where the rows lie, when that is known.
func (s *Store) activate(ctx context.Context, c bulkhead.Change, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord, leaves [][]byte, at *located) error {
	return s.write(ctx, "Activate", nil, func(t *tx) error {
		// Held even without evidence: Reserve, Complete and Activate exclude each other by it.
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if err := t.moveChange(ctx, c, bulkhead.ChangeStaged); err != nil {
			return err
		}
		if err := t.applyItems(ctx, c, at); err != nil {
			return err
		}
		if err := t.putHead(ctx, head, crls); err != nil {
			return err
		}
		_, err := t.append(ctx, leaves)
		return err
	})
}

// applyItems moves the rows of a change, set by set; at is where they lie, when that is known.
func (t *tx) applyItems(ctx context.Context, c bulkhead.Change, at *located) error {
	var seq, want int64
	var undoes string
	if err := t.QueryRowContext(ctx, `SELECT seq, items, undoes FROM changes WHERE id = $1`, c.ID).Scan(&seq, &want, &undoes); err != nil {
		return err
	}
	if undoes != "" {
		return t.restoreItems(ctx, seq, want, c)
	}
	return t.revokeItems(ctx, seq, want, c.ID, at)
}

// ofItems joins the items of a change with their rows.
const ofItems = ` FROM change_items i WHERE i.change_seq = $1 AND certificates.issuer = i.issuer AND certificates.serial = i.serial `

// revokeItems applies the items of a change that revokes.
func (t *tx) revokeItems(ctx context.Context, seq, want int64, id string, at *located) error {
	if _, err := exec(ctx, t, `UPDATE changes SET was_kept = 1 WHERE seq = $1`, seq); err != nil {
		return err
	}
	if at != nil && at.rows == want {
		return t.revokeLocated(ctx, at)
	}
	const fresh = `UPDATE certificates SET state = 'revoked', reason = i.reason, revoked_at = i.revoked_at` + ofItems + `AND certificates.state = 'issued'`
	// Nearly always every row is issued, and one statement is all; else it is taken back and the rows that are revoked
	// already come first.
	if _, err := exec(ctx, t, `SAVEPOINT items`); err != nil {
		return err
	}
	n, err := t.revokeFresh(ctx, seq, fresh)
	if err != nil || n == want {
		return err
	}
	if _, err := exec(ctx, t, `ROLLBACK TO SAVEPOINT items`); err != nil {
		return err
	}
	already, err := exec(ctx, t, `UPDATE change_items SET was_reason = c.reason, was_revoked_at = c.revoked_at FROM certificates c
		WHERE change_items.change_seq = $1 AND c.issuer = change_items.issuer AND c.serial = change_items.serial AND c.state = 'revoked'`, seq)
	if err != nil {
		return err
	}
	// BR 7.2.2: keyCompromise may replace another reason and may date back; nothing else rewrites a revocation.
	_, err = exec(ctx, t, `UPDATE certificates SET reason = i.reason,
		revoked_at = CASE WHEN i.revoked_at < certificates.revoked_at THEN i.revoked_at ELSE certificates.revoked_at END`+
		ofItems+`AND certificates.state = 'revoked' AND i.reason = $2`, seq, int64(bulkhead.KeyCompromise))
	if err != nil {
		return err
	}
	if n, err = exec(ctx, t, fresh, seq); err != nil {
		return err
	}
	if n+already != want {
		return conflict("%d of %d certificates of change %s are neither issued nor revoked", want-n-already, want, id)
	}
	return nil
}

// revokeAlike moves the issued rows of a change whose items all say the same. It finds them by an index alone and goes
// through the table in its own order: a million rows are not fetched one by one from all over it to be looked at first.
const revokeAlike = `UPDATE certificates SET state = 'revoked', reason = $2, revoked_at = $3 WHERE state = 'issued' AND intent_seq IN
	(SELECT c.intent_seq FROM change_items i JOIN certificates c ON c.issuer = i.issuer AND c.serial = i.serial WHERE i.change_seq = $1)`

// revokeFresh moves the rows of a change that are issued, and says how many those were; fresh is how, where a join costs
// nothing more or items differ.
func (t *tx) revokeFresh(ctx context.Context, seq int64, fresh string) (int64, error) {
	if t.dialect.Arrays {
		return exec(ctx, t, fresh, seq)
	}
	var say located
	alike, err := say.readItems(ctx, t, seq)
	if err != nil {
		return 0, err
	}
	if !alike {
		return exec(ctx, t, fresh, seq)
	}
	return exec(ctx, t, revokeAlike, seq, say.reason, say.at)
}

// restoreItems applies the items of a change that takes back. It is the only statement of the house by which a revoked
// row becomes issued.
func (t *tx) restoreItems(ctx context.Context, seq, want int64, c bulkhead.Change) error {
	const stillSo = `certificates.state = 'revoked' AND certificates.reason = i.reason AND certificates.revoked_at = i.revoked_at`
	_, err := exec(ctx, t, `INSERT INTO restorations (change_seq, issuer, serial, reason, revoked_at, restored_at)
		SELECT i.change_seq, i.issuer, i.serial, certificates.reason, certificates.revoked_at, CAST($2 AS BIGINT) FROM change_items i
		JOIN certificates ON certificates.issuer = i.issuer AND certificates.serial = i.serial WHERE i.change_seq = $1 AND `+stillSo, seq, unix(c.ActivatedAt))
	if err != nil {
		return err
	}
	_, err = exec(ctx, t, `UPDATE certificates SET state = CASE WHEN i.was_revoked_at = 0 THEN 'issued' ELSE 'revoked' END,
		reason = i.was_reason, revoked_at = i.was_revoked_at`+ofItems+`AND `+stillSo, seq)
	if err != nil {
		return err
	}
	var right int64
	var blocked int64
	if err := t.QueryRowContext(ctx, `SELECT COUNT(*)`+onBlocked, seq).Scan(&blocked); err != nil {
		return err
	}
	if blocked > 0 {
		return conflict("the keys of %d certificates of change %s are blocked: they stay revoked", blocked, c.ID)
	}
	err = t.QueryRowContext(ctx, `SELECT COUNT(*) FROM change_items i JOIN certificates c ON c.issuer = i.issuer AND c.serial = i.serial
		WHERE i.change_seq = $1 AND c.reason = i.was_reason AND c.revoked_at = i.was_revoked_at
		AND c.state = CASE WHEN i.was_revoked_at = 0 THEN 'issued' ELSE 'revoked' END`, seq).Scan(&right)
	if err == nil && right != want {
		err = conflict("%d of %d certificates of change %s do not say any more what it takes back", want-right, want, c.ID)
	}
	return err
}

// onBlocked are the certificates of a change whose keys are blocked.
const onBlocked = ` FROM change_items i JOIN certificates c ON c.issuer = i.issuer AND c.serial = i.serial
	JOIN blocked_keys b ON b.key_hash = c.key_hash WHERE i.change_seq = $1`

// BlockedItems counts the certificates of a change whose keys are blocked, and those keys; KindNotFound when there is no such change.
func (s *Store) BlockedItems(ctx context.Context, change string) (items, keys int, err error) {
	var seq int64
	if err := s.reader.QueryRowContext(ctx, `SELECT seq FROM changes WHERE id = $1`, change).Scan(&seq); err != nil {
		return 0, 0, s.fault("BlockedItems", absent(err, "change", change))
	}
	err = s.reader.QueryRowContext(ctx, `SELECT COUNT(*), COUNT(DISTINCT c.key_hash)`+onBlocked, seq).Scan(&items, &keys)
	return items, keys, s.fault("BlockedItems", err)
}

var insertTold = insert("change_evidence", "change_id text", "seq bigint")

// tell notes which leaves tell the story of a change.
func (t *tx) tell(ctx context.Context, leaves [][]byte, seqs []int64) error {
	var ids column[string]
	var of column[int64]
	for i, leaf := range leaves {
		if kind := tlog.KindOf(leaf); !kind.OfChange() {
			continue
		}
		e, err := tlog.Parse(leaf)
		if err != nil {
			return err
		}
		if e.Ref != "" {
			ids, of = append(ids, e.Ref), append(of, seqs[i])
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return t.batch(ctx, insertTold, ids, of)
}

// maxStory bounds the leaves of one change that are read at once.
const maxStory = 10_000

// ChangeEvidence returns the leaves that tell the story of a change, in order. None is no error: changes of earlier
// versions are not indexed.
func (s *Store) ChangeEvidence(ctx context.Context, id string) ([]bulkhead.EvidenceRow, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (row bulkhead.EvidenceRow, err error) {
		err = r.Scan(&row.Seq, bytesCol{&row.Leaf}, hashCol{&row.Chain})
		return row, err
	}, `SELECT e.seq, e.leaf, e.chain FROM change_evidence c JOIN evidence e ON e.seq = c.seq WHERE c.change_id = $1 ORDER BY c.seq LIMIT $2`, id, maxStory)
	return rows, s.fault("ChangeEvidence", err)
}

// Affected streams the certificates of a change under one issuer in serial order: each item with its row as it is now.
// It is one moment of the record; an item without a row is left out. It holds a reading connection
// until the loop ends. Nothing for a change that does not exist.
func (s *Store) Affected(ctx context.Context, change string, issuer bulkhead.AuthorityID) iter.Seq2[bulkhead.AffectedStatus, error] {
	return func(yield func(bulkhead.AffectedStatus, error) bool) {
		dense, closed, err := s.dense(ctx, change)
		if err == nil && dense {
			err = s.affectedPages(ctx, change, closed, issuer, func(a bulkhead.AffectedStatus) bool { return yield(a, nil) })
		}
		if err != nil {
			yield(bulkhead.AffectedStatus{}, s.fault("Affected", err))
		}
		if err != nil || dense {
			return
		}
		rows, err := s.reader.QueryContext(ctx, `SELECT i.serial, i.reason, i.revoked_at, i.was_reason, i.was_revoked_at,
			c.state, c.revoked_at, c.reason, c.not_after, c.shard, c.outcome_seq
			FROM change_items i JOIN certificates c ON c.issuer = i.issuer AND c.serial = i.serial
			WHERE i.change_seq = (SELECT seq FROM changes WHERE id = $1) AND i.issuer = $2 ORDER BY i.serial`, change, string(issuer))
		if err != nil {
			yield(bulkhead.AffectedStatus{}, s.fault("Affected", err))
			return
		}
		defer rows.Close()
		// One of each for a million rows: nothing is allocated for a row but what the driver does.
		var a bulkhead.AffectedStatus
		a.Issuer = issuer
		into := []any{serialCol{&a.Serial}, intCol[bulkhead.Reason]{&a.Item.Reason}, timeCol{&a.Item.RevokedAt}, intCol[bulkhead.Reason]{&a.Item.WasReason}, timeCol{&a.Item.WasRevokedAt},
			wordCol[bulkhead.CertificateState]{&a.State}, timeCol{&a.RevokedAt}, intCol[bulkhead.Reason]{&a.Reason}, timeCol{&a.NotAfter}, intCol[int]{&a.Shard}, intCol[int64]{&a.Seq}}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				yield(a, s.fault("Affected", err))
				return
			}
			a.Item.CertificateRef = a.CertificateRef
			if !yield(a, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(bulkhead.AffectedStatus{}, s.fault("Affected", err))
		}
	}
}
