package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Bounds of shared looks.
const (
	lookers     = 2                // connections
	lookBatch   = 64               // queries of one round trip
	lookTimeout = 15 * time.Second // of one round trip, and of connecting
	planLife    = time.Minute      // of a connection that keeps plans: no plan outlives the table that it was made for by more
)

// looks is a driver for short reads by key: of the callers that wait, the queries of all go to the server in one round trip,
// and a query that several of them ask is run once. Each query begins after whoever asked it had asked, and sees what was
// committed by then; nothing is remembered. A query that fails, fails alone.
//
// It refuses transactions and statements that change something, which its connections could not do either.
type looks struct {
	cfg     pgx.ConnConfig
	in      chan *look   // no buffer: a query is with its caller or in a round trip, never in between
	waiting atomic.Int64 // callers whose query is still theirs
	stop    chan struct{}
	done    sync.WaitGroup
	once    sync.Once
}

// look is one query on its way.
type look struct {
	sql  string
	args []any
	done chan answer // capacity 1
}

type answer struct {
	columns []string
	rows    [][]driver.Value
	err     error
}

func newLooks(cfg pgx.ConnConfig) *looks {
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	l := &looks{cfg: cfg, in: make(chan *look), stop: make(chan struct{})}
	for range lookers {
		l.done.Go(func() { (&looker{looks: l}).run() })
	}
	return l
}

// Connect implements driver.Connector: what database/sql takes for a connection is a place in the queue.
func (l *looks) Connect(context.Context) (driver.Conn, error) { return (*place)(l), nil }

// Driver implements driver.Connector.
func (l *looks) Driver() driver.Driver { return l }

// Open implements driver.Driver.
func (l *looks) Open(string) (driver.Conn, error) { return (*place)(l), nil }

// Close implements io.Closer for database/sql: it ends the connections.
func (l *looks) Close() error {
	l.once.Do(func() { close(l.stop) })
	l.done.Wait()
	return nil
}

// place is one caller at a time.
type place looks

var errLooksOnly = errors.New("this connection only reads, a query at a time")

func (*place) Prepare(string) (driver.Stmt, error) { return nil, errLooksOnly }
func (*place) Begin() (driver.Tx, error)           { return nil, errLooksOnly }
func (*place) Close() error                        { return nil }

// CheckNamedValue implements driver.NamedValueChecker: arrays go to the server as they are.
func (*place) CheckNamedValue(v *driver.NamedValue) error {
	switch v.Value.(type) {
	case []string, [][]byte, []int64:
		return nil
	}
	return driver.ErrSkip
}

// Ping implements driver.Pinger.
func (p *place) Ping(ctx context.Context) error {
	rows, err := p.QueryContext(ctx, "SELECT 1::bigint", nil)
	if err != nil {
		return err
	}
	return rows.Close()
}

// QueryContext implements driver.QueryerContext.
func (p *place) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	k := &look{sql: query, args: make([]any, len(args)), done: make(chan answer, 1)}
	for i, a := range args {
		k.args[i] = a.Value
	}
	if err := p.hand(ctx, k); err != nil {
		return nil, err
	}
	select {
	case a := <-k.done:
		if a.err != nil {
			return nil, a.err
		}
		return &found{answer: a}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errClosed is what database/sql says of a database that was closed.
var errClosed = errors.New("sql: database is closed")

// hand gives a query to whichever connection is free first.
func (p *place) hand(ctx context.Context, k *look) error {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	select {
	case p.in <- k:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stop:
		return errClosed
	}
}

// found are the rows of an answer; several callers may read the same answer.
type found struct {
	answer
	next int
}

func (f *found) Columns() []string { return f.columns }
func (f *found) Close() error      { return nil }
func (f *found) Next(into []driver.Value) error {
	if f.next == len(f.rows) {
		return io.EOF
	}
	copy(into, f.rows[f.next])
	f.next++
	return nil
}

// looker is one connection.
type looker struct {
	*looks
	conn *pgx.Conn
	made time.Time
}

func (l *looker) run() {
	defer l.drop()
	for {
		select {
		case k := <-l.in:
			l.serve(l.gather(k))
		case <-l.stop:
			return
		}
	}
}

// gather takes who waits already; nobody waits for company.
func (l *looker) gather(first *look) []*look {
	all := []*look{first}
	for len(all) < lookBatch {
		select {
		case k := <-l.in:
			all = append(all, k)
			continue
		default:
		}
		break
	}
	return all
}

// serve answers all: together, and those that this does not answer, because the server refused one before them or the line
// broke, each alone.
func (l *looker) serve(all []*look) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	groups := alike(all)
	rest := groups
	if len(groups) > 1 {
		rest = l.together(ctx, groups)
	}
	for _, same := range rest {
		tell(same, l.alone(ctx, same[0]))
	}
}

func tell(same []*look, a answer) {
	for _, k := range same {
		k.done <- a
	}
}

// alike puts equal queries together, in the order in which they came.
func alike(all []*look) [][]*look {
	var out [][]*look
	at := make(map[string]int, len(all))
	for _, k := range all {
		key := k.key()
		i, known := at[key]
		if !known {
			i, at[key] = len(out), len(out)
			out = append(out, nil)
		}
		out[i] = append(out[i], k)
	}
	return out
}

// key names a query with its arguments; different ones have different names.
func (k *look) key() string { return fmt.Sprintf("%s\x00%#v", k.sql, k.args) }

// together sends the queries as one batch and returns those that it did not answer.
func (l *looker) together(ctx context.Context, groups [][]*look) [][]*look {
	conn, err := l.connected(ctx)
	if err != nil {
		return groups
	}
	var b pgx.Batch
	for _, same := range groups {
		b.Queue(same[0].sql, same[0].args...)
	}
	res := conn.SendBatch(ctx, &b)
	defer func() { _ = res.Close() }() // what it did not answer is asked again
	for i, same := range groups {
		rows, err := res.Query()
		a := collect(rows, err)
		if a.err != nil {
			return groups[i:]
		}
		tell(same, a)
	}
	return nil
}

// alone asks one query, a second time on a new connection where the first had gone.
func (l *looker) alone(ctx context.Context, k *look) answer {
	for try := 0; ; try++ {
		conn, err := l.connected(ctx)
		if err != nil {
			return answer{err: err}
		}
		rows, err := conn.Query(ctx, k.sql, k.args...)
		a := collect(rows, err)
		var said *pgconn.PgError
		if a.err == nil || try > 0 || errors.As(a.err, &said) && !conn.IsClosed() || ctx.Err() != nil {
			return a
		}
		l.drop()
	}
}

// connected is the connection, a new one when that was lost or is old.
func (l *looker) connected(ctx context.Context) (*pgx.Conn, error) {
	if l.conn != nil && (l.conn.IsClosed() || time.Since(l.made) > planLife) {
		l.drop()
	}
	if l.conn == nil {
		conn, err := pgx.ConnectConfig(ctx, &l.cfg)
		if err != nil {
			return nil, err
		}
		l.conn, l.made = conn, time.Now()
	}
	return l.conn, nil
}

func (l *looker) drop() {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.conn.Close(ctx)
	l.conn = nil
}

// collect reads the rows as database/sql wants them.
func collect(rows pgx.Rows, err error) answer {
	if err != nil {
		return answer{err: err}
	}
	defer rows.Close()
	var a answer
	for _, f := range rows.FieldDescriptions() {
		a.columns = append(a.columns, f.Name)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return answer{err: err}
		}
		row := make([]driver.Value, len(values))
		for i, v := range values {
			if row[i], err = valueOf(v); err != nil {
				return answer{err: err}
			}
		}
		a.rows = append(a.rows, row)
	}
	if err := rows.Err(); err != nil {
		return answer{err: err}
	}
	return a
}

// valueOf is the form in which database/sql takes a value: the record has integers, texts, blobs and booleans.
func valueOf(v any) (driver.Value, error) {
	switch v := v.(type) {
	case nil, int64, string, []byte, bool:
		return v, nil
	case int32:
		return int64(v), nil
	case int16:
		return int64(v), nil
	default:
		return nil, fmt.Errorf("a shared look cannot return a %T", v)
	}
}
