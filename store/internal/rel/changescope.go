package rel

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// AddItems inserts items into a change that is planned, and returns how many it has then. Items that are in it already with
// the same reason are left as they are. KindConflict when the change is not planned any more, has an item for another reason,
// or would have more than most; then nothing changed.
func (s *Store) AddItems(ctx context.Context, id string, items []bulkhead.ChangeItem, most int) (int, error) {
	items, err := sortItems(items)
	if err != nil {
		return 0, s.fault("AddItems", err)
	}
	total := 0
	err = s.write(ctx, "AddItems", nil, func(t *tx) error {
		// The row is held from here on: of two that add at the same time one waits.
		n, err := exec(ctx, t, `UPDATE changes SET items = items WHERE id = $1 AND state = 'planned'`, id)
		if err := t.moved(ctx, n, err, "changes", "change", id, string(bulkhead.ChangePlanned)); err != nil {
			return err
		}
		var seq, has int64
		if err := t.QueryRowContext(ctx, `SELECT seq, items FROM changes WHERE id = $1`, id).Scan(&seq, &has); err != nil {
			return err
		}
		fresh, err := t.freshItems(ctx, id, seq, items)
		if err != nil {
			return err
		}
		if total = int(has) + len(fresh); total > most {
			return conflict("change %s would have %d certificates, at most %d are allowed", id, total, most)
		}
		for part := range slices.Chunk(fresh, itemChunk) {
			if err := t.insertItems(ctx, seq, part, false); err != nil {
				return err
			}
		}
		_, err = exec(ctx, t, `UPDATE changes SET items = $2 WHERE seq = $1`, seq, total)
		return err
	})
	return total, err
}

// freshItems are those that the change does not have yet.
func (t *tx) freshItems(ctx context.Context, id string, seq int64, items []bulkhead.ChangeItem) ([]bulkhead.ChangeItem, error) {
	type known struct {
		serial bulkhead.Serial
		reason bulkhead.Reason
	}
	var fresh []bulkhead.ChangeItem
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].Issuer == items[0].Issuer {
			n++
		}
		run := items[:n]
		items = items[n:]
		has := map[bulkhead.Serial]bulkhead.Reason{}
		err := inChunks(run, 3, func(it bulkhead.ChangeItem) any { return serialArg(it.Serial) }, func(_ []bulkhead.ChangeItem, in string, args []any) error {
			rows, err := list(ctx, t, func(r scanner) (k known, err error) {
				err = r.Scan(serialCol{&k.serial}, &k.reason)
				return k, err
			}, `SELECT serial, reason FROM change_items WHERE change_seq = $1 AND issuer = $2 AND serial IN `+in, append([]any{seq, string(run[0].Issuer)}, args...)...)
			for _, k := range rows {
				has[k.serial] = k.reason
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, it := range run {
			switch reason, in := has[it.Serial]; {
			case !in:
				fresh = append(fresh, it)
			case reason != it.Reason:
				return nil, conflict("certificate %s is in change %s for %s, not for %s", it.CertificateRef, id, reason, it.Reason)
			}
		}
	}
	return fresh, nil
}

// inScope is the WHERE of certificates of a scope that are in use at a time. Those of authorities are named one by one
// when they are to be revoked; delegates are replaced by the status service.
func inScope(scope bulkhead.Scope, t time.Time) *conditions {
	c := scoped(scope, nil)
	c.where = append(c.where, "c.state = 'issued'", "c.kind <> 'ca'")
	c.add("c.not_after >= ?", unix(t))
	return c
}

// ScopePage returns certificates, without their DER, that a scope selects and that are in use at t, those of authorities and
// delegates left out, in the order of issue after a cursor, with the next cursor.
func (s *Store) ScopePage(ctx context.Context, scope bulkhead.Scope, t time.Time, after int64, limit int) ([]bulkhead.Certificate, int64, error) {
	c := inScope(scope, t)
	c.add("c.intent_seq > ?", after)
	type numbered struct {
		row bulkhead.Certificate
		seq int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (n numbered, err error) {
		err = r.Scan(&n.row.Issuer, serialCol{&n.row.Serial}, &n.row.Kind, &n.row.State, timeCol{&n.row.NotBefore}, timeCol{&n.row.NotAfter}, &n.seq)
		return n, err
	}, `SELECT c.issuer, c.serial, c.kind, c.state, c.not_before, c.not_after, c.intent_seq FROM certificates c WHERE `+strings.Join(c.where, " AND ")+` ORDER BY c.intent_seq LIMIT `+strconv.Itoa(atMost(limit)), c.args...)
	if err != nil {
		return nil, after, s.fault("ScopePage", err)
	}
	out := make([]bulkhead.Certificate, len(rows))
	for i, n := range rows {
		out[i], after = n.row, n.seq
	}
	return out, after, nil
}

// ScopeSize counts what ScopePage returns page by page.
func (s *Store) ScopeSize(ctx context.Context, scope bulkhead.Scope, t time.Time) (n int64, err error) {
	c := inScope(scope, t)
	err = s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM certificates c WHERE `+strings.Join(c.where, " AND "), c.args...).Scan(&n)
	return n, s.fault("ScopeSize", err)
}
