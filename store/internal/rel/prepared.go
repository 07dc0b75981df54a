package rel

import (
	"context"
	"database/sql"
	"strconv"
	"sync"
	"sync/atomic"
)

// maxPrepared bounds the statements kept: the texts of this package, with lists of several lengths.
const maxPrepared = 512

// pool is a database with its statements prepared once, where the dialect wants that. Parsing the SQL costs SQLite more
// than running it.
type pool struct {
	*sql.DB
	prepares bool

	mu    sync.RWMutex
	stmts map[string]*sql.Stmt

	asked atomic.Int64 // statements run outside transactions
	inTx  atomic.Int64 // and in them
}

func newPool(db *sql.DB, prepares bool) *pool {
	return &pool{DB: db, prepares: prepares, stmts: map[string]*sql.Stmt{}}
}

// prepared is the statement of a text, nil when there is none yet.
func (p *pool) prepared(query string) *sql.Stmt {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.stmts[query]
}

// prepare keeps the statement of a text; nil when it cannot, or when there are too many.
func (p *pool) prepare(ctx context.Context, query string) *sql.Stmt {
	if st := p.prepared(query); st != nil || !p.prepares {
		return st
	}
	st, err := p.PrepareContext(ctx, nameless(query))
	if err != nil {
		return nil // whoever runs the text gets the error
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.stmts[query]; was != nil || len(p.stmts) >= maxPrepared {
		st.Close()
		return was
	}
	p.stmts[query] = st
	return st
}

// nameless has no numbers for parameters that stand in their order, each once: the driver of SQLite looks the name of each parameter up, in
// a list that it walks from the start, each time the statement runs.
func nameless(query string) string {
	for i, p := range parameter.FindAllString(query, -1) {
		if p != "$"+strconv.Itoa(i+1) {
			return query
		}
	}
	return parameter.ReplaceAllLiteralString(query, "?")
}

func (p *pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	p.asked.Add(1)
	if st := p.prepare(ctx, query); st != nil {
		return st.ExecContext(ctx, args...)
	}
	return p.DB.ExecContext(ctx, query, args...)
}

func (p *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	p.asked.Add(1)
	if st := p.prepare(ctx, query); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return p.DB.QueryContext(ctx, query, args...)
}

func (p *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	p.asked.Add(1)
	if st := p.prepare(ctx, query); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return p.DB.QueryRowContext(ctx, query, args...)
}

// statement is the prepared form of a text, where the connection of the transaction keeps it.
func (t *tx) statement(ctx context.Context, query string) *sql.Stmt {
	if t.lane == nil {
		return nil
	}
	return t.lane.statement(ctx, query)
}

func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	t.runs(query)
	ctx = t.within(ctx)
	if st := t.statement(ctx, query); st != nil {
		return t.ran(st.ExecContext(ctx, args...))
	}
	return t.ran(t.transaction.ExecContext(ctx, query, args...))
}

func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	t.runs(query)
	ctx = t.within(ctx)
	if st := t.statement(ctx, query); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return t.transaction.QueryContext(ctx, query, args...)
}

func (t *tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	t.runs(query)
	ctx = t.within(ctx)
	if st := t.statement(ctx, query); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return t.transaction.QueryRowContext(ctx, query, args...)
}

// PrepareContext prepares a text for the transaction alone.
func (t *tx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if t.memo != nil {
		t.memo.runs(query, t.named)
	}
	return t.transaction.PrepareContext(t.within(ctx), query)
}

// within is the context of a statement. In a transaction that others share, the caller's must not end it: SQLite then
// undoes the whole of the transaction.
func (t *tx) within(ctx context.Context) context.Context {
	if t.ctx != nil {
		return t.ctx
	}
	return ctx
}
