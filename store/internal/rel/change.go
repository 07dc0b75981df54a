package rel

import (
	"context"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

const changeFields = `id, state, actor, why, items, preview_hash, preview, epoch, created_at, activated_at,
	undoes, incident, rule, was_kept, problem, dies_at, held_until`

func scanChange(r scanner) (bulkhead.Change, error) {
	var c bulkhead.Change
	var epoch, kept int64
	err := r.Scan(&c.ID, &c.State, &c.Actor, &c.Why, &c.Count, hashCol{&c.PreviewHash}, bytesCol{&c.Preview}, &epoch,
		timeCol{&c.CreatedAt}, timeCol{&c.ActivatedAt}, &c.Undoes, &c.Incident, &c.Rule, &kept, &c.Problem, timeCol{&c.Dies}, timeCol{&c.Held})
	c.WasKept = kept != 0
	c.Epoch = uint64(epoch)
	return c, err
}

var insertItem = insert("change_items", "change_seq bigint", "issuer text", "serial bytea", "reason bigint", "revoked_at bigint")

// insertRestoring is for the items of a change that takes back: what a row will say comes with them.
var insertRestoring = insert("change_items", "change_seq bigint", "issuer text", "serial bytea", "reason bigint", "revoked_at bigint",
	"was_reason bigint", "was_revoked_at bigint")

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
		n, err := exec(ctx, t, `INSERT INTO changes (`+changeFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, '', 0, $14)
			ON CONFLICT DO NOTHING`, c.ID, string(c.State), text(c.Actor), text(c.Why), len(items), hashArg(c.PreviewHash), blob(c.Preview),
			int64(c.Epoch), unix(c.CreatedAt), unix(c.ActivatedAt), c.Undoes, text(c.Incident), text(c.Rule), unix(c.Held))
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
			if err := t.insertItems(ctx, seq, part, c.TakesBack()); err != nil {
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

func (t *tx) insertItems(ctx context.Context, change int64, items []bulkhead.ChangeItem, restoring bool) error {
	var changes, reasons, times, wasReasons, wasTimes column[int64]
	var issuers column[string]
	var serials column[[]byte]
	for _, it := range items {
		changes, issuers, serials = append(changes, change), append(issuers, string(it.Issuer)), append(serials, serialArg(it.Serial))
		reasons, times = append(reasons, int64(it.Reason)), append(times, unix(it.RevokedAt))
	}
	if restoring {
		for _, it := range items {
			wasReasons, wasTimes = append(wasReasons, int64(it.WasReason)), append(wasTimes, unix(it.WasRevokedAt))
		}
		return t.batch(ctx, insertRestoring, changes, issuers, serials, reasons, times, wasReasons, wasTimes)
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
		err = r.Scan(&it.Issuer, serialCol{&it.Serial}, &it.Reason, timeCol{&it.RevokedAt}, &it.WasReason, timeCol{&it.WasRevokedAt})
		return it, err
	}, `SELECT issuer, serial, reason, revoked_at, was_reason, was_revoked_at FROM change_items
		WHERE change_seq = $1 AND (issuer, serial) > ($2, $3) ORDER BY issuer, serial LIMIT $4`,
		seq, string(after.Issuer), cursorSerial(after.Serial), atMost(limit))
	return rows, s.fault("ChangeItems", err)
}

// HoldChange says of a change that is planned until when somebody is at it; KindConflict when it is not planned any more.
func (s *Store) HoldChange(ctx context.Context, id string, until time.Time) error {
	return s.write(ctx, "HoldChange", nil, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE changes SET held_until = $2 WHERE id = $1 AND state = 'planned'`, id, unix(until))
		return t.moved(ctx, n, err, "changes", "change", id, string(bulkhead.ChangePlanned))
	})
}

// EndPlanned refuses a change that is planned and still held until exactly c.Held; KindConflict when somebody moved it, or held it
// longer, meanwhile.
func (s *Store) EndPlanned(ctx context.Context, c bulkhead.Change, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "EndPlanned", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE changes SET state = 'refused' WHERE id = $1 AND state = 'planned' AND held_until = $2`, c.ID, unix(c.Held))
		if err == nil && n == 0 {
			err = conflict("change %s is not planned any more, or somebody is at it", c.ID)
		}
		return err
	})
}

// MoveChange stores the change, but for its id, count, creation and who is at it, if its state is still expect.
func (s *Store) MoveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveChange", ev, func(t *tx) error { return t.moveChange(ctx, c, expect) })
}

func (t *tx) moveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState) error {
	n, err := exec(ctx, t, `UPDATE changes SET state = $3, actor = $4, why = $5, preview_hash = $6, preview = $7, epoch = $8,
		activated_at = $9, problem = $10, dies_at = $11 WHERE id = $1 AND state = $2`, c.ID, string(expect), string(c.State), text(c.Actor), text(c.Why),
		hashArg(c.PreviewHash), blob(c.Preview), int64(c.Epoch), unix(c.ActivatedAt), text(c.Problem), unix(c.Dies))
	return t.moved(ctx, n, err, "changes", "change", c.ID, string(expect))
}
