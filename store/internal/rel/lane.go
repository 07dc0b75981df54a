package rel

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// lane is the connection of an engine that has one writer at a time, for whoever has the turn. It is held for good, and every statement is prepared
// on it once, those that begin and end a transaction among them. A transaction of database/sql would make each statement
// anew for itself, and a goroutine to wait for its end; its statements ask a driver that keeps none to parse BEGIN and COMMIT each time.
type lane struct {
	db    *sql.DB
	begin string // the statement
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// transaction is what a write transaction runs in: one of database/sql, or of a lane.
type transaction interface {
	querier
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	Commit() error
	Rollback() error
}

// laneTx is a transaction of a lane.
type laneTx struct {
	*sql.Conn
	lane *lane
	over bool
}

// hold gets the connection.
func (l *lane) hold(ctx context.Context) (err error) {
	if l.conn == nil {
		l.stmts = map[string]*sql.Stmt{}
		l.conn, err = l.db.Conn(ctx)
	}
	return err
}

// open begins a transaction. A connection on which that fails is given up; one that was gone before is replaced at once.
func (l *lane) open(ctx context.Context) (*laneTx, error) {
	for first := true; ; first = false {
		if err := l.hold(ctx); err != nil {
			return nil, err
		}
		err := l.run(ctx, l.begin)
		if err == nil {
			return &laneTx{Conn: l.conn, lane: l}, nil
		}
		l.drop()
		if gone := errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone); !gone || !first {
			return nil, err
		}
	}
}

// statement is the prepared form of a text; nil when it cannot be prepared, or when there are too many.
func (l *lane) statement(ctx context.Context, query string) *sql.Stmt {
	st := l.stmts[query]
	if st != nil || len(l.stmts) >= maxPrepared {
		return st
	}
	st, err := l.conn.PrepareContext(ctx, nameless(query))
	if err != nil {
		return nil // whoever runs the text gets the error
	}
	l.stmts[query] = st
	return st
}

func (l *lane) run(ctx context.Context, query string) error {
	st := l.statement(ctx, query)
	if st == nil {
		_, err := l.conn.ExecContext(ctx, query)
		return err
	}
	_, err := st.ExecContext(ctx)
	return err
}

// drop closes the connection, and with it whatever transaction is open on it.
func (l *lane) drop() {
	if l.conn == nil {
		return
	}
	if l.conn.Raw(func(any) error { return nil }) == nil { // else its statements went with it
		for _, st := range l.stmts {
			st.Close()
		}
		_ = l.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that it does not go back to others
	}
	l.conn.Close()
	l.conn, l.stmts = nil, nil
}

// Commit implements transaction.
func (t *laneTx) Commit() error {
	if t.over {
		return sql.ErrTxDone
	}
	t.over = true
	err := t.lane.run(context.Background(), "COMMIT")
	if err != nil {
		t.lane.drop()
	}
	return err
}

// Rollback implements transaction.
func (t *laneTx) Rollback() error {
	if t.over {
		return sql.ErrTxDone
	}
	t.over = true
	err := t.lane.run(context.Background(), "ROLLBACK")
	if err != nil { // the engine has ended it, or cannot
		t.lane.drop()
	}
	return err
}

// InTurn calls f with the connection that writes, while nobody else does. Only where one connection does.
func (s *Store) InTurn(ctx context.Context, f func(*sql.Conn) error) error {
	g := s.group
	if g == nil || g.lane == nil {
		return errors.New("rel: no connection is the one that writes")
	}
	select {
	case <-g.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { g.turn <- struct{}{} }()
	if err := g.lane.hold(ctx); err != nil {
		return err
	}
	return f(g.lane.conn)
}
