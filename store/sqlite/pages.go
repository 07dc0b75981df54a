package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"bulkhead/store/internal/btree"
	"bulkhead/store/internal/rel"
)

// bulk reads whole tables by their pages. The pages come from the table-valued sqlite_dbpage, which reads them through SQLite's own
// cache and log, within a transaction that only reads; or, with a file that nobody else has, from the file: a transaction that
// began with an empty log holds the file as it is, for every checkpoint waits for such a reader (https://sqlite.org/walformat.html,
// WAL_READ_LOCK(0)).
func bulk(db *sql.DB, file *os.File) rel.Bulk {
	return func(ctx context.Context) (rel.Moment, error) {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		m := &moment{tx: tx, file: file}
		if err := m.open(ctx); err != nil {
			return nil, errors.Join(err, m.Close())
		}
		return m, nil
	}
}

// moment is a transaction that reads pages.
type moment struct {
	tx       *sql.Tx
	file     *os.File // that nobody else has; nil when pages come through SQLite
	pages    *sql.Stmt
	size     int
	reserved int
	opened   bool
	list     []byte
}

// pageQuery gives pages in the order of a JSON array of their numbers: CROSS JOIN keeps the order of the loops.
const pageQuery = `SELECT p.pgno, p.data FROM json_each(?1) j CROSS JOIN sqlite_dbpage p ON p.pgno = j.value`

func (m *moment) open(ctx context.Context) (err error) {
	if err := m.tx.QueryRowContext(ctx, `SELECT page_size FROM pragma_page_size`).Scan(&m.size); err != nil {
		return err
	}
	if m.pages, err = m.tx.PrepareContext(ctx, pageQuery); err != nil {
		return err
	}
	first := make([]byte, m.size)
	if err := m.fetch(ctx, []uint32{1}, first); err != nil {
		return err
	}
	// The header of the file (section 1.3): the page size stands there too, and how much each page reserves.
	if size := int(binary.BigEndian.Uint16(first[16:])); size != m.size && !(size == 1 && m.size == 65536) {
		return fmt.Errorf("%w: page sizes %d and %d", btree.ErrMalformed, size, m.size)
	}
	m.reserved = int(first[20])
	if m.file != nil { // the transaction has read, so it knows whether it needs the log
		if info, err := os.Stat(m.file.Name() + "-wal"); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.file = nil
		}
	}
	m.opened = true
	return nil
}

// read copies pages from the file, neighbours at once.
func (m *moment) read(numbers []uint32, into []byte) error {
	for len(numbers) > 0 {
		n := 1
		for n < len(numbers) && numbers[n] == numbers[0]+uint32(n) {
			n++
		}
		if numbers[0] == 0 {
			return fmt.Errorf("%w: there is no page 0", btree.ErrMalformed)
		}
		if _, err := m.file.ReadAt(into[:n*m.size], int64(numbers[0]-1)*int64(m.size)); err != nil {
			return fmt.Errorf("%w: there are no pages %d to %d: %w", btree.ErrMalformed, numbers[0], numbers[n-1], err)
		}
		numbers, into = numbers[n:], into[n*m.size:]
	}
	return nil
}

// fetch copies pages into memory of the caller.
func (m *moment) fetch(ctx context.Context, numbers []uint32, into []byte) error {
	if m.opened && m.file != nil {
		return m.read(numbers, into)
	}
	m.list = append(m.list[:0], '[')
	for i, n := range numbers {
		if i > 0 {
			m.list = append(m.list, ',')
		}
		m.list = strconv.AppendUint(m.list, uint64(n), 10)
	}
	m.list = append(m.list, ']')
	rows, err := m.pages.QueryContext(ctx, string(m.list))
	if err != nil {
		return err
	}
	defer rows.Close()
	n, number, page := 0, int64(0), sql.RawBytes(nil)
	for ; rows.Next(); n++ {
		if err := rows.Scan(&number, &page); err != nil {
			return err
		}
		if n == len(numbers) || number != int64(numbers[n]) || len(page) != m.size {
			return fmt.Errorf("%w: page %d of %d octets came out of turn", btree.ErrMalformed, number, len(page))
		}
		copy(into[n*m.size:], page)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n < len(numbers) {
		return fmt.Errorf("%w: there is no page %d", btree.ErrMalformed, numbers[n])
	}
	return nil
}

// Scan implements rel.Moment.
func (m *moment) Scan(ctx context.Context, table string, after, through int64) (w rel.Walk, err error) {
	var root int64
	if err := m.tx.QueryRowContext(ctx, `SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql NOT LIKE '%WITHOUT ROWID%'`, table).Scan(&root); err != nil {
		return w, err
	}
	columns, err := m.tx.QueryContext(ctx, `SELECT name, COALESCE(dflt_value, '') FROM pragma_table_info(?1) ORDER BY cid`, table)
	if err != nil {
		return w, err
	}
	defer columns.Close()
	for columns.Next() {
		var name, standard string
		if err := columns.Scan(&name, &standard); err != nil {
			return w, err
		}
		v, err := literal(standard)
		if err != nil {
			return w, fmt.Errorf("column %s of %s: %w", name, table, err)
		}
		w.Columns, w.Defaults = append(w.Columns, name), append(w.Defaults, v)
	}
	w.Cursor = btree.Table{Root: uint32(root), PageSize: m.size, Reserved: m.reserved, Fetch: m.fetch}.Scan(after, through)
	return w, columns.Err()
}

// QueryContext implements rel.Moment.
func (m *moment) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return m.tx.QueryContext(ctx, query, args...)
}

// literal is the default of a column, as a migration writes it: a number, a text in quotes, or none.
func literal(text string) (v btree.Value, err error) {
	switch {
	case text == "" || strings.EqualFold(text, "NULL"):
		return v, nil
	case strings.HasPrefix(text, "'") && strings.HasSuffix(text, "'") && len(text) > 1:
		return btree.Value{Kind: btree.Text, Bytes: []byte(strings.ReplaceAll(text[1:len(text)-1], "''", "'"))}, nil
	case text == "x''" || text == "X''":
		return btree.Value{Kind: btree.Blob}, nil
	}
	v.Kind = btree.Integer
	v.Int, err = strconv.ParseInt(text, 10, 64)
	return v, err
}

// Close ends the transaction.
func (m *moment) Close() error {
	err := m.tx.Rollback()
	if errors.Is(err, sql.ErrTxDone) { // the caller's context ended it
		return nil
	}
	return err
}
