package rel

import (
	"context"
	"slices"
	"strings"

	"bulkhead"
)

const changeFields = `id, state, actor, why, items, preview_hash, preview, epoch, created_at, activated_at`

func scanChange(r scanner) (bulkhead.Change, error) {
	var c bulkhead.Change
	var epoch int64
	err := r.Scan(&c.ID, &c.State, &c.Actor, &c.Why, &c.Count, hashCol{&c.PreviewHash}, bytesCol{&c.Preview}, &epoch,
		timeCol{&c.CreatedAt}, timeCol{&c.ActivatedAt})
	c.Epoch = uint64(epoch)
	return c, err
}

var insertItem = insert("change_items", "change_seq bigint", "issuer text", "serial bytea", "reason bigint", "revoked_at bigint")

// itemChunk bounds the rows of one statement, and so its memory.
const itemChunk = 5000

// CreateChange inserts a change with its items; Count is their number. KindMalformed for an item without a serial or
// a time of revocation, or named twice; KindConflict when the id exists.
func (s *Store) CreateChange(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem, ev ...bulkhead.Evidence) error {
	items, err := sortItems(items)
	if err != nil {
		return s.fault("CreateChange", err)
	}
	return s.write(ctx, "CreateChange", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO changes (`+changeFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT DO NOTHING`, c.ID, string(c.State), text(c.Actor), text(c.Why), len(items), hashArg(c.PreviewHash), blob(c.Preview),
			int64(c.Epoch), unix(c.CreatedAt), unix(c.ActivatedAt))
		if err != nil {
			return err
		}
		if n == 0 {
			return conflict("change %s exists", c.ID)
		}
		var seq int64
		if err := t.QueryRowContext(ctx, `SELECT seq FROM changes WHERE id = $1`, c.ID).Scan(&seq); err != nil {
			return err
		}
		for part := range slices.Chunk(items, itemChunk) {
			if err := t.insertItems(ctx, seq, part); err != nil {
				return err
			}
		}
		return nil
	})
}

// sortItems returns the items in (issuer, serial) order, in which the table lies.
func sortItems(items []bulkhead.ChangeItem) ([]bulkhead.ChangeItem, error) {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b bulkhead.ChangeItem) int {
		if n := strings.Compare(string(a.Issuer), string(b.Issuer)); n != 0 {
			return n
		}
		return a.Serial.Compare(b.Serial)
	})
	for i, it := range items {
		if it.Issuer == "" || it.Serial.IsZero() || unix(it.RevokedAt) <= 0 {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "item %s lacks an issuer, a serial or a time of revocation", it.CertificateRef)
		}
		if i > 0 && it.CertificateRef == items[i-1].CertificateRef {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "certificate %s is named twice in one change", it.CertificateRef)
		}
	}
	return items, nil
}

func (t *tx) insertItems(ctx context.Context, change int64, items []bulkhead.ChangeItem) error {
	var changes, reasons, times column[int64]
	var issuers column[string]
	var serials column[[]byte]
	for _, it := range items {
		changes, issuers, serials = append(changes, change), append(issuers, string(it.Issuer)), append(serials, serialArg(it.Serial))
		reasons, times = append(reasons, int64(it.Reason)), append(times, unix(it.RevokedAt))
	}
	return t.batch(ctx, insertItem, changes, issuers, serials, reasons, times)
}

// Change returns a change; KindNotFound when there is none.
func (s *Store) Change(ctx context.Context, id string) (bulkhead.Change, error) {
	c, err := one(ctx, s.reader, scanChange, `SELECT `+changeFields+` FROM changes WHERE id = $1`, id)
	return c, s.fault("Change", absent(err, "change", id))
}

// Changes returns changes in any of the states (all when none is given), newest first.
func (s *Store) Changes(ctx context.Context, limit int, states ...bulkhead.ChangeState) ([]bulkhead.Change, error) {
	where, args := oneOf("state", 2, states)
	rows, err := list(ctx, s.reader, scanChange, `SELECT `+changeFields+` FROM changes WHERE `+where+` ORDER BY seq DESC LIMIT $1`,
		append([]any{atMost(limit)}, args...)...)
	return rows, s.fault("Changes", err)
}

// ChangeItems returns items in (issuer, serial) order, after the cursor. KindNotFound when there is no such change.
func (s *Store) ChangeItems(ctx context.Context, id string, after bulkhead.CertificateRef, limit int) ([]bulkhead.ChangeItem, error) {
	var seq int64
	if err := s.reader.QueryRowContext(ctx, `SELECT seq FROM changes WHERE id = $1`, id).Scan(&seq); err != nil {
		return nil, s.fault("ChangeItems", absent(err, "change", id))
	}
	rows, err := list(ctx, s.reader, func(r scanner) (it bulkhead.ChangeItem, err error) {
		err = r.Scan(&it.Issuer, serialCol{&it.Serial}, &it.Reason, timeCol{&it.RevokedAt})
		return it, err
	}, `SELECT issuer, serial, reason, revoked_at FROM change_items
		WHERE change_seq = $1 AND (issuer, serial) > ($2, $3) ORDER BY issuer, serial LIMIT $4`,
		seq, string(after.Issuer), cursorSerial(after.Serial), atMost(limit))
	return rows, s.fault("ChangeItems", err)
}

// MoveChange stores the change, but for its id, count and creation, if its state is still expect.
func (s *Store) MoveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveChange", ev, func(t *tx) error { return t.moveChange(ctx, c, expect) })
}

func (t *tx) moveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState) error {
	n, err := exec(ctx, t, `UPDATE changes SET state = $3, actor = $4, why = $5, preview_hash = $6, preview = $7, epoch = $8,
		activated_at = $9 WHERE id = $1 AND state = $2`, c.ID, string(expect), string(c.State), text(c.Actor), text(c.Why),
		hashArg(c.PreviewHash), blob(c.Preview), int64(c.Epoch), unix(c.ActivatedAt))
	return t.moved(ctx, n, err, "changes", "change", c.ID, string(expect))
}

// Activate is the commit point of a change: in one transaction it goes from Staged to Activated with Epoch set to the
// head's sequence, its items' rows to Revoked (a row already revoked only has its reason upgraded, and its date moved
// earlier, for keyCompromise), the head is stored if its sequence follows the newest one, the CRL records are stored,
// and the evidence is appended. KindConflict when any of it has moved, an item that is neither issued nor revoked
// included; then nothing changed.
func (s *Store) Activate(ctx context.Context, c bulkhead.Change, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord, ev ...bulkhead.Evidence) error {
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault("Activate", err)
	}
	c.State, c.Epoch = bulkhead.ChangeActivated, head.Sequence
	return s.write(ctx, "Activate", nil, func(t *tx) error {
		// Held even without evidence: Reserve, Complete and Activate exclude each other by it.
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if err := t.moveChange(ctx, c, bulkhead.ChangeStaged); err != nil {
			return err
		}
		if err := t.revokeItems(ctx, c.ID); err != nil {
			return err
		}
		if err := t.putHead(ctx, head, crls); err != nil {
			return err
		}
		_, err := t.append(ctx, leaves)
		return err
	})
}

// revokeItems applies the items of a change to their rows, set by set. KindConflict when an item has no row that is
// issued or revoked.
func (t *tx) revokeItems(ctx context.Context, id string) error {
	var seq, want, already int64
	if err := t.QueryRowContext(ctx, `SELECT seq, items FROM changes WHERE id = $1`, id).Scan(&seq, &want); err != nil {
		return err
	}
	const joined = ` FROM change_items i WHERE i.change_seq = $1 AND certificates.issuer = i.issuer AND certificates.serial = i.serial `
	err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM change_items i JOIN certificates c ON c.issuer = i.issuer AND c.serial = i.serial
		WHERE i.change_seq = $1 AND c.state = 'revoked'`, seq).Scan(&already)
	if err != nil {
		return err
	}
	if already > 0 {
		// BR 7.2.2: keyCompromise may replace another reason and may date back; nothing else rewrites a revocation.
		_, err := exec(ctx, t, `UPDATE certificates SET reason = i.reason,
			revoked_at = CASE WHEN i.revoked_at < certificates.revoked_at THEN i.revoked_at ELSE certificates.revoked_at END`+
			joined+`AND certificates.state = 'revoked' AND i.reason = $2`, seq, int64(bulkhead.KeyCompromise))
		if err != nil {
			return err
		}
	}
	fresh, err := exec(ctx, t, `UPDATE certificates SET state = 'revoked', reason = i.reason, revoked_at = i.revoked_at`+
		joined+`AND certificates.state = 'issued'`, seq)
	if err != nil {
		return err
	}
	if fresh+already != want {
		return conflict("%d of %d certificates of change %s are neither issued nor revoked", want-fresh-already, want, id)
	}
	return nil
}
