// Package rows carries a whole record from one database to another, of either engine: every table with its rows as null,
// integer, text or octets.
//
// Invariant: both directions stream, one row at a time. What was written ends with a count, so a stream that was cut is
// noticed; a load is one transaction or one new file, never a part.
//
// Refuses: columns and tables that the target does not have, values of another kind, a stream without its end.
package rows

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"

	"bulkhead"
)

const (
	magic = "bulkhead-rows 1\n"

	markTable = 'T'
	markRow   = 'R'
	markEnd   = 'E'

	valueNull = 0
	valueInt  = 1
	valueText = 2
	valueBlob = 3

	maxValue   = 256 << 20 // octets
	maxColumns = 1000
)

// Column of a table in one engine.
type Column struct {
	Name     string
	Bool     bool // booleans travel as 0 and 1
	Blob     bool
	Identity bool
}

// Table of one engine. A table stands after those that it refers to.
type Table struct {
	Name    string
	Columns []Column
}

// Quote is an identifier in SQL.
func Quote(name string) string { return `"` + name + `"` }

// List joins quoted names.
func List(cs []Column) string {
	out := ""
	for i, c := range cs {
		if i > 0 {
			out += ", "
		}
		out += Quote(c.Name)
	}
	return out
}

// Sort puts each table after those it refers to, keeping the order otherwise. refers has the names of both.
func Sort(tables []Table, refers map[string][]string) []Table {
	byName, done := map[string]Table{}, map[string]bool{}
	for _, t := range tables {
		byName[t.Name] = t
	}
	var out []Table
	var visit func(name string)
	visit = func(name string) {
		t, ok := byName[name]
		if !ok || done[name] {
			return
		}
		done[name] = true
		for _, other := range refers[name] {
			visit(other)
		}
		out = append(out, t)
	}
	for _, t := range tables {
		visit(t.Name)
	}
	return out
}

// Queryer is a transaction that sees one state of the database.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Dump writes all rows of the tables.
func Dump(ctx context.Context, q Queryer, tables []Table, to io.Writer) error {
	w := &writer{w: bufio.NewWriterSize(to, 1<<16)}
	w.raw([]byte(magic))
	for _, t := range tables {
		if err := w.table(ctx, q, t); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	w.raw([]byte{markEnd})
	w.uint(w.rows)
	return w.w.Flush()
}

type writer struct {
	w    *bufio.Writer
	tmp  [binary.MaxVarintLen64]byte
	rows uint64
}

// The buffered writer keeps its first error for Flush.
func (w *writer) raw(p []byte)  { _, _ = w.w.Write(p) }
func (w *writer) uint(v uint64) { w.raw(w.tmp[:binary.PutUvarint(w.tmp[:], v)]) }

func (w *writer) text(tag byte, s []byte) {
	w.raw([]byte{tag})
	w.uint(uint64(len(s)))
	w.raw(s)
}

func (w *writer) table(ctx context.Context, q Queryer, t Table) error {
	w.text(markTable, []byte(t.Name))
	w.uint(uint64(len(t.Columns)))
	for _, c := range t.Columns {
		w.text(valueText, []byte(c.Name))
	}
	found, err := q.QueryContext(ctx, `SELECT `+List(t.Columns)+` FROM `+Quote(t.Name))
	if err != nil {
		return err
	}
	defer found.Close()
	values, dest := make([]any, len(t.Columns)), make([]any, len(t.Columns))
	for i := range values {
		dest[i] = &values[i]
	}
	for found.Next() {
		if err := found.Scan(dest...); err != nil {
			return err
		}
		w.raw([]byte{markRow})
		w.rows++
		for i, v := range values {
			if err := w.value(t.Columns[i], v); err != nil {
				return err
			}
		}
	}
	return found.Err()
}

func (w *writer) value(c Column, v any) error {
	switch v := v.(type) {
	case nil:
		if c.Blob { // every column is NOT NULL; a driver may give no octets as nil
			w.text(valueBlob, nil)
			return nil
		}
		w.raw([]byte{valueNull})
	case int64:
		w.raw([]byte{valueInt})
		w.raw(w.tmp[:binary.PutVarint(w.tmp[:], v)])
	case bool:
		n := int64(0)
		if v {
			n = 1
		}
		return w.value(c, n)
	case string:
		w.text(valueText, []byte(v))
	case []byte:
		w.text(valueBlob, v)
	default:
		return fmt.Errorf("column %s holds a %T", c.Name, v)
	}
	return nil
}

// Sink takes the rows of a stream, table by table. next returns io.EOF after the last row of the table.
type Sink func(ctx context.Context, t Table, next func() ([]any, error)) error

// Load reads a stream and hands each table to sink. The tables are those of the target: the stream may have fewer columns
// and fewer tables, never others. A table without rows is handed on as well.
func Load(ctx context.Context, from io.Reader, tables []Table, sink Sink) error {
	r := &reader{r: bufio.NewReaderSize(from, 1<<16), have: map[string]Table{}}
	for _, t := range tables {
		r.have[t.Name] = t
	}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r.r, head); err != nil || string(head) != magic {
		return damaged("it is not a stream of rows")
	}
	mark, err := r.r.ReadByte()
	for ; err == nil && mark == markTable; mark = r.mark {
		if err = r.table(ctx, sink); err != nil {
			return err
		}
	}
	if err != nil || mark != markEnd {
		return damaged("it ends early")
	}
	if n, err := binary.ReadUvarint(r.r); err != nil || n != r.rows {
		return damaged("its count is wrong")
	}
	if _, err := r.r.ReadByte(); err != io.EOF {
		return damaged("something follows its end")
	}
	return nil
}

func damaged(what string) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "the rows of the record are damaged: %s", what).WithHint("use another copy of the backup")
}

type reader struct {
	r    *bufio.Reader
	have map[string]Table
	mark byte // that ended the last table
	rows uint64
}

func (r *reader) octets() ([]byte, error) {
	n, err := binary.ReadUvarint(r.r)
	if err != nil || n > maxValue {
		return nil, damaged("a length is wrong")
	}
	if n <= 1<<16 {
		out := make([]byte, n)
		if _, err := io.ReadFull(r.r, out); err != nil {
			return nil, damaged("it ends early")
		}
		return out, nil
	}
	out, err := io.ReadAll(io.LimitReader(r.r, int64(n))) // grows with what is there, not with what is claimed
	if err != nil || uint64(len(out)) != n {
		return nil, damaged("it ends early")
	}
	return out, nil
}

func (r *reader) table(ctx context.Context, sink Sink) error {
	name, err := r.octets()
	if err != nil {
		return err
	}
	have, ok := r.have[string(name)]
	if !ok {
		return damaged(fmt.Sprintf("there is no table %.60q, or it comes twice", name))
	}
	delete(r.have, have.Name)
	n, err := binary.ReadUvarint(r.r)
	if err != nil || n == 0 || n > maxColumns {
		return damaged("a table has no columns")
	}
	t := Table{Name: have.Name}
	for range n {
		c, err := r.column(have, t.Columns)
		if err != nil {
			return err
		}
		t.Columns = append(t.Columns, c)
	}
	r.mark = 0
	next := func() ([]any, error) {
		if r.mark != 0 {
			return nil, io.EOF
		}
		return r.row(t.Columns)
	}
	if err := sink(ctx, t, next); err != nil {
		return err
	}
	if r.mark == 0 {
		return fmt.Errorf("table %s was not read to its end", t.Name)
	}
	return nil
}

func (r *reader) column(have Table, before []Column) (Column, error) {
	if tag, err := r.r.ReadByte(); err != nil || tag != valueText {
		return Column{}, damaged("a column has no name")
	}
	name, err := r.octets()
	if err != nil {
		return Column{}, err
	}
	for _, c := range before {
		if c.Name == string(name) {
			return Column{}, damaged("a column comes twice")
		}
	}
	for _, c := range have.Columns {
		if c.Name == string(name) {
			return c, nil
		}
	}
	return Column{}, damaged(fmt.Sprintf("table %s has no column %.60q", have.Name, name))
}

// row reads one row; io.EOF when the table is over.
func (r *reader) row(cs []Column) ([]any, error) {
	mark, err := r.r.ReadByte()
	if err != nil {
		return nil, damaged("it ends early")
	}
	if mark != markRow {
		r.mark = mark
		return nil, io.EOF
	}
	r.rows++
	out := make([]any, len(cs))
	for i, c := range cs {
		if out[i], err = r.value(c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *reader) value(c Column) (any, error) {
	tag, err := r.r.ReadByte()
	if err != nil {
		return nil, damaged("it ends early")
	}
	switch tag {
	case valueNull:
		return nil, nil
	case valueInt:
		n, err := binary.ReadVarint(r.r)
		switch {
		case err != nil:
			return nil, damaged("it ends early")
		case c.Bool:
			return n != 0, nil
		}
		return n, nil
	case valueText:
		b, err := r.octets()
		return string(b), err
	case valueBlob:
		return r.octets()
	}
	return nil, damaged("a value is of no kind")
}
