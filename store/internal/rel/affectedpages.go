package rel

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"bulkhead"
)

const (
	// manyItems is from how many items on a change may be read page by page.
	manyItems = 16_384
	// bulkShare is how many evidence numbers there may be for each item: an issuance takes two, and looking a certificate up costs
	// as much as passing a dozen by.
	bulkShare = 16
)

// dense reports that so many of the certificates are in a change that reading all of them once is less than finding those;
// closed, that its items stay as they are.
func (s *Store) dense(ctx context.Context, change string) (is, closed bool, err error) {
	if s.bulk == nil {
		return false, false, nil
	}
	var items, newest int64
	var state string
	err = s.reader.QueryRowContext(ctx, `SELECT c.items, c.state, h.seq FROM changes c, evidence_head h WHERE c.id = $1 AND h.id = 1`, change).Scan(&items, &state, &newest)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	return items >= s.bulkItems && items*bulkShare >= newest, state != string(bulkhead.ChangePlanned), err
}

// item is one certificate of a change, with its row once that was met. Times are seconds.
type item struct {
	serial                   bulkhead.Serial
	reason, wasReason        uint8
	is                       uint8 // the row's state, by its place in itemStates; 0 while it was not met
	rowReason                uint8
	shard                    int32
	at, wasAt                int64
	rowAt, notAfter, outcome int64
}

var itemStates = [...]bulkhead.CertificateState{"", bulkhead.Reserved, bulkhead.Issued, bulkhead.Revoked, bulkhead.Abandoned}

// affectedPages is Affected page by page: the items in their order, and then the certificates in theirs, each once. Of a closed change
// it is noted where the rows lie.
func (s *Store) affectedPages(ctx context.Context, change string, closed bool, issuer bulkhead.AuthorityID, yield func(bulkhead.AffectedStatus) bool) (err error) {
	m, err := s.bulk(ctx)
	if err != nil {
		return err
	}
	items, err := itemsAt(ctx, m, change, issuer)
	var where seen
	if err == nil && len(items) > 0 {
		where, err = meet(ctx, m, issuer, items)
	}
	if err = errors.Join(err, m.Close()); err != nil {
		return err
	}
	if closed {
		s.locations.note(change, string(issuer), where)
	}
	for i := range items {
		if x := &items[i]; x.is != 0 && !yield(x.affected(issuer)) {
			return nil
		}
	}
	return nil
}

// itemsAt reads the items of a change under one issuer, in serial order.
func itemsAt(ctx context.Context, m Moment, change string, issuer bulkhead.AuthorityID) ([]item, error) {
	rows, err := m.QueryContext(ctx, `SELECT serial, reason, revoked_at, was_reason, was_revoked_at FROM change_items
		WHERE change_seq = (SELECT seq FROM changes WHERE id = $1) AND issuer = $2 ORDER BY serial`, change, string(issuer))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []item
	var x item
	into := []any{serialCol{&x.serial}, intCol[uint8]{&x.reason}, intCol[int64]{&x.at}, intCol[uint8]{&x.wasReason}, intCol[int64]{&x.wasAt}}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return items, rows.Err()
}

// What meet reads of a certificate, in this order.
const (
	metSerial = iota
	metIssuer
	metState
	metReason
	metShard
	metRevokedAt
	metNotAfter
	metOutcome
)

var metColumns = []string{"serial", "issuer", "state", "reason", "shard", "revoked_at", "not_after", "outcome_seq"}

// meet goes through the certificates until it has met the rows of all items, and keeps what they say and where they lie.
func meet(ctx context.Context, m Moment, issuer bulkhead.AuthorityID, items []item) (where seen, err error) {
	at := make(map[bulkhead.Serial]int32, len(items))
	for i := range items {
		at[items[i].serial] = int32(i)
	}
	certs, err := pick(ctx, m, "certificates", 0, math.MaxInt64, metColumns...)
	if err != nil {
		return where, err
	}
	for open := false; where.rows < int64(len(items)); {
		if ok, err := certs.next(ctx); err != nil || !ok {
			return where, err
		}
		if err := certs.row(); err != nil {
			return where, err
		}
		of, err := certs.bytes(metIssuer)
		if err != nil {
			return where, err
		}
		if string(of) != string(issuer) {
			continue
		}
		octets, err := certs.bytes(metSerial)
		if err != nil {
			return where, err
		}
		serial, err := bulkhead.SerialFromBytes(octets)
		if err != nil {
			return where, err
		}
		i, is := at[serial]
		if is {
			if err := items[i].read(certs); err != nil {
				return where, err
			}
			where.met(open, run{string(issuer), certs.walk.Key(), certs.walk.Key()})
		}
		open = is
	}
	return where, nil
}

// met adds a row, to the run that is open when there is one.
func (w *seen) met(open bool, r run) {
	w.rows++
	if open {
		w.runs[len(w.runs)-1].last = r.last
		return
	}
	w.runs = append(w.runs, r)
}

// read keeps what the row of the item says.
func (x *item) read(row *picked) error {
	state, err := row.bytes(metState)
	if err != nil {
		return err
	}
	if x.is = uint8(max(0, slices.Index(itemStates[:], bulkhead.CertificateState(state)))); x.is == 0 {
		return fmt.Errorf("certificate %s is in the state %q", x.serial, state)
	}
	var numbers [5]int64
	for i := range numbers {
		if numbers[i], err = row.int(metReason + i); err != nil {
			return err
		}
	}
	x.rowReason, x.shard, x.rowAt, x.notAfter, x.outcome = uint8(numbers[0]), int32(numbers[1]), numbers[2], numbers[3], numbers[4]
	return nil
}

// ofUnix is the time of seconds since 1970; none for 0.
func ofUnix(v int64) (t time.Time) {
	if v != 0 {
		t = time.Unix(v, 0).UTC()
	}
	return t
}

// affected is the item as Affected gives it.
func (x *item) affected(issuer bulkhead.AuthorityID) bulkhead.AffectedStatus {
	ref := bulkhead.CertificateRef{Issuer: issuer, Serial: x.serial}
	return bulkhead.AffectedStatus{
		Status: bulkhead.Status{CertificateRef: ref, State: itemStates[x.is], RevokedAt: ofUnix(x.rowAt), Reason: bulkhead.Reason(x.rowReason), NotAfter: ofUnix(x.notAfter), Shard: int(x.shard), Seq: x.outcome},
		Item:   bulkhead.ChangeItem{CertificateRef: ref, Reason: bulkhead.Reason(x.reason), RevokedAt: ofUnix(x.at), WasReason: bulkhead.Reason(x.wasReason), WasRevokedAt: ofUnix(x.wasAt)},
	}
}
