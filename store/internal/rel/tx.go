package rel

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// tx is one write transaction.
type tx struct {
	transaction
	pool    *pool
	lane    *lane // nil where its transaction is one of database/sql
	dialect *Dialect
	head    *evidenceHead   // set once this transaction holds the evidence head
	ahead   bool            // head is ahead of the row
	uses    uses            // of keys, by the leaves appended
	waiting rows            // evidence that is inserted with the head, where that saves round trips
	memo    *memo           // nil where the store remembers nothing
	alone   bool            // nobody else has committed since this store's last transaction
	writes  bool            // the statement under way writes
	wrote   bool            // rows were changed
	named   tables          // of which the statement under way writes no rows but those that were named
	left    []rowLeft       // rows as the transaction leaves them, in the order of its writes
	ctx     context.Context // of every statement of a shared transaction; nil means that of the statement's caller
}

// rows are evidence rows in their order.
type rows struct {
	seqs           column[int64]
	leaves, chains column[[]byte]
}

// evidenceHead is the newest evidence row.
type evidenceHead struct {
	seq   int64
	chain bulkhead.Hash
}

// write runs fn in a transaction and appends ev to it. The evidence head is held from the start when there is
// evidence. An error of fn, or of the append, undoes everything.
func (s *Store) write(ctx context.Context, op string, ev []bulkhead.Evidence, fn func(t *tx) error) error {
	_, err := s.writeSeq(ctx, op, ev, fn)
	return err
}

// writeKeyed is write for one whose every statement touches few rows and finds them by a key.
func (s *Store) writeKeyed(ctx context.Context, op string, ev []bulkhead.Evidence, fn func(t *tx) error) error {
	_, err := s.writeSeqKeyed(ctx, op, ev, fn)
	return err
}

// writeSeq is write, and returns the sequence numbers of ev.
func (s *Store) writeSeq(ctx context.Context, op string, ev []bulkhead.Evidence, fn func(t *tx) error) ([]int64, error) {
	return s.writeOn(ctx, s.writer, s.group, op, ev, fn)
}

// writeSeqKeyed is writeKeyed, and returns the sequence numbers of ev.
func (s *Store) writeSeqKeyed(ctx context.Context, op string, ev []bulkhead.Evidence, fn func(t *tx) error) ([]int64, error) {
	return s.writeOn(ctx, s.keyed, s.brisk, op, ev, fn)
}

func (s *Store) writeOn(ctx context.Context, db *pool, g *group, op string, ev []bulkhead.Evidence, fn func(t *tx) error) ([]int64, error) {
	leaves, err := marshal(ev)
	if err != nil {
		return nil, s.fault(op, err)
	}
	if s.dialect.Groups || s.dialect.GroupsEvidence && len(leaves) > 0 {
		w := &write{op: op, leaves: leaves, fn: fn}
		err := s.together(ctx, g, w)
		return w.seqs, s.fault(op, err)
	}
	raw, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, s.fault(op, err)
	}
	t := &tx{transaction: raw, pool: db, dialect: &s.dialect}
	defer raw.Rollback() // after a commit this does nothing
	seqs, err := t.perform(ctx, leaves, fn)
	if err == nil {
		err = s.commitGroup(ctx, t, []*write{{op: op}})
	}
	if err != nil {
		return nil, s.fault(op, err)
	}
	return seqs, nil
}

// perform runs fn and appends leaves, whose evidence head is held from the start.
func (t *tx) perform(ctx context.Context, leaves [][]byte, fn func(t *tx) error) ([]int64, error) {
	if len(leaves) > 0 {
		if err := t.lockEvidence(ctx); err != nil {
			return nil, err
		}
	}
	if err := fn(t); err != nil {
		return nil, err
	}
	return t.appendAs(ctx, leaves, t.ctx != nil && t.dialect.GroupsEvidence && !slices.ContainsFunc(leaves, ofChange))
}

// ofChange reports that rows of the change refer to the leaf, which therefore has to be there.
func ofChange(leaf []byte) bool { return tlog.KindOf(leaf).OfChange() }

// marshal encodes leaves before a transaction is begun, so that malformed evidence changes nothing.
func marshal(ev []bulkhead.Evidence) ([][]byte, error) {
	if len(ev) == 0 {
		return nil, nil
	}
	leaves := make([][]byte, len(ev))
	workers := 1
	if len(ev) > manyLeaves {
		workers = runtime.GOMAXPROCS(0)
	}
	var g errgroup.Group
	for w := range workers {
		g.Go(func() (err error) {
			for i := w; i < len(ev) && err == nil; i += workers {
				leaves[i], err = tlog.Marshal(ev[i])
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return leaves, nil
}

// manyLeaves is from how many on leaves are encoded on all processors.
const manyLeaves = 1000

// lockEvidence reads the evidence head and holds it until commit: until then nobody else appends evidence. What is
// read after it is therefore settled with respect to every writer that appends evidence.
func (t *tx) lockEvidence(ctx context.Context) error {
	if t.head != nil {
		return nil
	}
	h, known := t.rememberedHead()
	if known {
		t.head = &h
		return nil
	}
	err := t.QueryRowContext(ctx, `SELECT seq, chain FROM evidence_head WHERE id = 1`+t.dialect.ForUpdate).
		Scan(&h.seq, hashCol{&h.chain})
	if err != nil {
		return err
	}
	t.head = &h
	return nil
}

var insertEvidence = insert("evidence", "seq bigint", "leaf bytea", "chain bytea")

// append sequences and chains leaves at the head, which must be held when there are any, and returns their numbers.
func (t *tx) append(ctx context.Context, leaves [][]byte) ([]int64, error) {
	return t.appendAs(ctx, leaves, false)
}

// appendAs is append; later leaves the rows for the end of a shared transaction, where nothing refers to them before.
func (t *tx) appendAs(ctx context.Context, leaves [][]byte, later bool) ([]int64, error) {
	seqs, r, err := t.sequence(leaves)
	if err != nil || len(leaves) == 0 {
		return nil, err
	}
	if later {
		w := &t.waiting
		w.seqs, w.leaves, w.chains = append(w.seqs, r.seqs...), append(w.leaves, r.leaves...), append(w.chains, r.chains...)
	} else if err := t.all(ctx, r.part()); err != nil {
		return nil, err
	}
	return seqs, t.tell(ctx, leaves, seqs)
}

// sequence numbers and chains leaves at the head, which must be held when there are any, and returns their numbers and the rows
// that the caller inserts.
func (t *tx) sequence(leaves [][]byte) (seqs []int64, r rows, err error) {
	if len(leaves) == 0 {
		return nil, r, nil
	}
	h, used := *t.head, t.uses
	r = rows{make(column[int64], len(leaves)), leaves, make(column[[]byte], len(leaves))}
	for i, leaf := range leaves {
		h.seq++
		if used, err = used.with(h.seq, leaf); err != nil {
			return nil, rows{}, err
		}
		h.chain = tlog.Chain(h.chain, leaf)
		r.seqs[i], r.chains[i] = h.seq, append([]byte(nil), h.chain[:]...)
	}
	t.head, t.ahead, t.uses = &h, true, used
	return r.seqs, r, nil
}

// part inserts the rows.
func (r rows) part() part { return part{insertEvidence, []values{r.seqs, r.leaves, r.chains}} }

// moveHead writes the row of the evidence head and the counters of keys, once for all that was appended.
func (t *tx) moveHead(ctx context.Context) error {
	if !t.ahead {
		return nil
	}
	return t.all(ctx, t.counted(), t.waiting.part(), part{moveHead, []values{column[int64]{t.head.seq}, column[[]byte]{t.head.chain[:]}}})
}

var moveHead = statement{
	each: `UPDATE evidence_head SET seq = $1, chain = $2 WHERE id = 1`,
	many: `UPDATE evidence_head h SET seq = v.seq, chain = v.chain FROM unnest($1::bigint[], $2::bytea[]) AS v (seq, chain) WHERE h.id = 1`,
}

// statement is one write for many rows.
type statement struct {
	each  string // for one row: a parameter is a value
	many  string // for all rows: a parameter is an array, where the dialect has arrays
	group string // for rows rows: a parameter is a value, row after row; "" where rows cannot stand together
	rows  int    // 0 means groupRows
	crowd string // as group, for crowdRows; "" where there are never so many
}

// groupRows is how many rows one statement inserts where a dialect has no arrays: each costs less than alone, and few
// texts are prepared.
const groupRows = 16

// crowdRows is the same for a large batch. SQLite keeps, for each statement of several rows, a copy of every page that was there
// before and that it touches, so that it could be undone alone: with 256 rows that is little for each.
const crowdRows = 256

// insert makes the statement that inserts rows; columns are "name type" with the type as PostgreSQL calls it.
func insert(table string, columns ...string) statement {
	names, kinds := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], kinds[i], _ = strings.Cut(c, " ")
	}
	into := "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ") "
	return statement{each: into + "VALUES " + rowsOf(1, len(columns)), many: into + "SELECT * FROM " + unnest(kinds),
		group: into + "VALUES " + namelessRows(groupRows, len(columns)), crowd: into + "VALUES " + namelessRows(crowdRows, len(columns))}
}

// unnest is a table of parameters that are arrays of these types.
func unnest(types []string) string {
	arrays := make([]string, len(types))
	for i, kind := range types {
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, kind)
	}
	return "unnest(" + strings.Join(arrays, ", ") + ")"
}

// namelessRows are the parameters of rows without numbers: the driver of SQLite looks up the name of each parameter that has
// one, in a list that it walks from the start, and with hundreds of them that takes longer than the insert.
func namelessRows(rows, columns int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	return strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// rowsOf are the parameters of rows.
func rowsOf(rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String() + ")"
}

// values is one parameter of a statement for all rows.
type values interface {
	len() int
	at(i int) any
	all() any
}

type column[T any] []T

func (c column[T]) len() int     { return len(c) }
func (c column[T]) at(i int) any { return c[i] }
func (c column[T]) all() any     { return []T(c) }

// batch runs a statement for all rows: in one round trip with arrays, else by prepared statements, for many rows in
// groups.
func (t *tx) batch(ctx context.Context, s statement, columns ...values) error {
	return t.batchWith(ctx, s, nil, columns...)
}

// batchWith is batch with parameters that are the same for all rows and follow those of the rows.
func (t *tx) batchWith(ctx context.Context, s statement, same []any, columns ...values) error {
	n := columns[0].len()
	if n == 0 {
		return nil
	}
	if t.dialect.Arrays {
		args := make([]any, 0, len(columns)+len(same))
		for _, c := range columns {
			args = append(args, c.all())
		}
		_, err := t.ExecContext(ctx, s.many, append(args, same...)...)
		return err
	}
	row := 0
	for _, g := range []struct {
		text string
		rows int
	}{{s.crowd, crowdRows}, {s.group, cmp.Or(s.rows, groupRows)}, {s.each, 1}} {
		if g.text == "" || n-row < g.rows {
			continue
		}
		err := t.repeat(ctx, g.text, func(run func(args ...any) error) error {
			args := make([]any, 0, g.rows*len(columns)+len(same))
			for ; row+g.rows <= n; row += g.rows {
				args = args[:0]
				for i := range g.rows {
					for _, c := range columns {
						args = append(args, c.at(row+i))
					}
				}
				if err := run(append(args, same...)...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// repeat gives f a prepared text to run.
func (t *tx) repeat(ctx context.Context, text string, f func(run func(args ...any) error) error) error {
	ctx = t.within(ctx) // one that can end costs the driver of SQLite a goroutine for each row
	st := t.statement(ctx, text)
	if st == nil {
		var err error
		if st, err = t.PrepareContext(ctx, text); err != nil {
			return err
		}
		defer st.Close()
	}
	return f(func(args ...any) error {
		t.runs(text)
		_, err := t.ran(st.ExecContext(ctx, args...))
		return err
	})
}
