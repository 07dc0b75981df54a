package rel

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"

	"bulkhead"
)

// located is where the rows of one change lie, and what all its items say: found before its commit, so that the commit moves
// rows and looks for none. Intents never move, and the items of a change that is closed do not either; whether the rows
// are still issued is asked when they are moved.
type located struct {
	change string
	reason int64
	at     int64 // revoked_at
	rows   int64
	runs   []run
}

// run is rows of an issuer between two intents with no other row of that issuer among them.
type run struct {
	issuer      string
	first, last int64
}

// locations keeps what was located last, and what was seen of the rows of a change on the way to something else.
type locations struct {
	mu     sync.Mutex
	last   *located
	change string
	seen   map[string]seen // by issuer
}

// seen is where the rows of a change under one issuer lie.
type seen struct {
	rows int64
	runs []run
}

// note keeps what was seen of a change whose items stay as they are.
func (l *locations) note(change, issuer string, what seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change != change {
		l.change, l.seen = change, map[string]seen{}
	}
	l.seen[issuer] = what
}

// noted is what was seen of a change under an issuer.
func (l *locations) noted(change, issuer string) (seen, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change != change {
		return seen{}, false
	}
	what, is := l.seen[issuer]
	return what, is
}

func (l *locations) keep(found *located) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = found
}

// take gives what was located for a change, once.
func (l *locations) take(change string) *located {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change == change {
		l.change, l.seen = "", nil
	}
	if l.last == nil || l.last.change != change {
		return nil
	}
	found := l.last
	l.last = nil
	return found
}

// sparse is how many rows of an issuer are looked through for each item before the search for runs is given up.
const sparse = 4

// Locate finds the rows of a change that is not open any more, so that Activate need not while everybody waits for it. It
// changes nothing, and Activate does the same without it. What is found is kept, in memory, for one change at a time: 24
// octets for each run of neighbours. Nothing is done where one statement is as fast (PostgreSQL), for a change that takes back, or whose
// items differ in reason or time.
func (s *Store) Locate(ctx context.Context, change string) error {
	if s.dialect.Arrays {
		return nil
	}
	found, err := s.locate(ctx, change)
	if err != nil {
		return s.fault("Locate", err)
	}
	s.locations.keep(found)
	return nil
}

// locate is nil where there is nothing to gain.
func (s *Store) locate(ctx context.Context, change string) (*located, error) {
	var seq int64
	var state, undoes string
	if err := s.reader.QueryRowContext(ctx, `SELECT seq, state, undoes FROM changes WHERE id = $1`, change).Scan(&seq, &state, &undoes); err != nil {
		return nil, absent(err, "change", change)
	}
	if undoes != "" || state == string(bulkhead.ChangePlanned) {
		return nil, nil
	}
	found := &located{change: change}
	alike, err := found.readItems(ctx, s.reader, seq)
	if err != nil || !alike {
		return nil, err
	}
	for issuer := ""; ; {
		if err := s.reader.QueryRowContext(ctx, nextIssuer, seq, issuer).Scan(&issuer); err != nil {
			return nil, err
		}
		if issuer == "" {
			return found, nil
		}
		dense, err := s.locateUnder(ctx, found, seq, issuer)
		if err != nil || !dense {
			return nil, err
		}
	}
}

// readItems reads what the items of a change say; false when they do not all say the same.
func (l *located) readItems(ctx context.Context, q querier, seq int64) (alike bool, err error) {
	var reason, at int64
	err = q.QueryRowContext(ctx, `SELECT COALESCE(MIN(reason), 0), COALESCE(MAX(reason), 0), COALESCE(MIN(revoked_at), 0), COALESCE(MAX(revoked_at), 0) FROM change_items WHERE change_seq = $1`, seq).
		Scan(&l.reason, &reason, &l.at, &at)
	return l.reason == reason && l.at == at, err
}

// nextIssuer is the issuer in a change that comes after another; rowsOfItems are the rows of a change under an issuer;
// neighbours are all rows of the issuer among them. They read indexes alone.
const (
	nextIssuer  = `SELECT COALESCE(MIN(issuer), '') FROM change_items WHERE change_seq = $1 AND issuer > $2`
	rowsOfItems = `SELECT c.intent_seq FROM change_items i JOIN certificates c ON c.issuer = i.issuer AND c.serial = i.serial WHERE i.change_seq = $1 AND i.issuer = $2`
	neighbours  = `SELECT intent_seq FROM certificates WHERE issuer = $1 AND intent_seq BETWEEN $2 AND $3 ORDER BY intent_seq LIMIT $4`
)

// locateUnder finds the runs of the change's rows of one issuer; false when its rows lie too far apart.
func (s *Store) locateUnder(ctx context.Context, found *located, seq int64, issuer string) (dense bool, err error) {
	if what, is := s.locations.noted(found.change, issuer); is {
		found.rows, found.runs = found.rows+what.rows, append(found.runs, what.runs...)
		return true, nil
	}
	rows, err := s.reader.QueryContext(ctx, rowsOfItems, seq, issuer)
	if err != nil {
		return false, err
	}
	mine, err := numbers(rows, nil)
	if err != nil || len(mine) == 0 {
		return true, err
	}
	slices.Sort(mine)
	rows, err = s.reader.QueryContext(ctx, neighbours, issuer, mine[0], mine[len(mine)-1], sparse*len(mine)+1)
	if err != nil {
		return false, err
	}
	var where seen
	passed, i, open := 0, 0, false
	_, err = numbers(rows, func(intent int64) {
		passed++
		if i == len(mine) || mine[i] != intent {
			open = false
			return
		}
		where.met(open, run{issuer, intent, intent})
		open = true
		i++
	})
	found.rows, found.runs = found.rows+where.rows, append(found.runs, where.runs...)
	return i == len(mine) && passed <= sparse*len(mine), err
}

// numbers reads a column of numbers, and gives them to each, or back when that is nil.
func numbers(rows *sql.Rows, each func(int64)) (all []int64, err error) {
	defer rows.Close()
	var n int64
	into := []any{intCol[int64]{&n}}
	if each == nil {
		each = func(n int64) { all = append(all, n) }
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		each(n)
	}
	return all, rows.Err()
}

// errNotThere says that not all rows that were located are still issued; the transaction is over then, and another one looks at
// each. A savepoint would spare that, and have every page copied that a million rows lie on.
var errNotThere = errors.New("some rows of the change have moved since they were located")

// revokeRun moves the issued rows of one run. Its rows are found by the table's own key, whatever indexes there are. What fails
// in the middle is undone with the transaction, and keeps no copies of pages for itself either.
const revokeRun = `UPDATE OR FAIL certificates NOT INDEXED SET state = 'revoked', reason = $4, revoked_at = $5 WHERE state = 'issued' AND issuer = $1 AND intent_seq BETWEEN $2 AND $3`

// revokeLocated moves the rows that were located; errNotThere when some are not issued any more.
func (t *tx) revokeLocated(ctx context.Context, l *located) (err error) {
	ctx = t.within(ctx)
	st := t.statement(ctx, revokeRun)
	if st == nil {
		if st, err = t.PrepareContext(ctx, revokeRun); err != nil {
			return err
		}
		defer st.Close()
	}
	n := int64(0)
	for _, r := range l.runs {
		t.runs(revokeRun)
		res, err := t.ran(st.ExecContext(ctx, r.issuer, r.first, r.last, l.reason, l.at))
		if err != nil {
			return err
		}
		moved, err := res.RowsAffected()
		if err != nil {
			return err
		}
		n += moved
	}
	if n != l.rows {
		return errNotThere
	}
	return nil
}
