// Package rel is the durable record in the SQL that SQLite and PostgreSQL both understand. store/sqlite and
// store/postgres open, configure and migrate a database; every method of the ports stands here once.
//
// Invariant: evidence is appended in the transaction of what it speaks of, with a sequence that has no gaps and a hash
// chain; a row is changed only when its state is the expected one. Whoever appends evidence holds the one row
// evidence_head until commit, and takes it before any other row: so appenders never wait for each other in a circle,
// sequence order is commit order, and what was read under it cannot move.
//
// Refuses: business rules; unsequenced evidence; errors that only a driver's reader understands (every error is a
// *bulkhead.Fault: notFound, conflict, unavailable, malformed or internal).
package rel

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"bulkhead"
)

// Dialect holds what differs between the engines.
type Dialect struct {
	// IndexedBy: a statement may, and sometimes must, name the index that it is to use.
	IndexedBy bool
	// Name is "sqlite" or "postgres".
	Name string
	// ForUpdate ends a SELECT that locks its rows until commit; "" where the transaction itself excludes writers.
	ForUpdate string
	// Arrays says that a column of values can be bound to one parameter, so that one statement writes many rows.
	Arrays bool
	// Prepares says that statements are prepared once per connection and kept. Not where the driver does so itself.
	Prepares bool
	// Begin is the statement that begins a transaction with the right to write, where one connection of Writer does all of that (Groups); ""
	// where database/sql begins them.
	Begin string
	// Groups says that waiting writes share a transaction: where one writer works at a time anyway. Elsewhere independent
	// transactions share the sync of the log by themselves.
	Groups bool
	// GroupsEvidence says the same of writes that append evidence, where only they follow each other: each holds the evidence
	// head until its own sync is over.
	GroupsEvidence bool
	// Classify gives the kind of a driver's error: conflict for a broken unique or foreign key, malformed for text that
	// the engine cannot hold, unavailable for a database that is away or busy, internal for the rest.
	Classify func(error) bulkhead.Kind
}

// Config is what New needs.
type Config struct {
	Writer  *sql.DB // write transactions
	Reader  *sql.DB // reads outside them; may be the same pool
	Dialect Dialect
	// KeyedWriter and KeyedReader serve writes and reads of few rows, each found by a key, of which certificates make many:
	// their statements have but one good plan, however large the tables, so that these connections may keep it. Nil means
	// Writer and Reader.
	KeyedWriter, KeyedReader *sql.DB
	// CommitHook is called in place of the commit of each write, with the name of the operation (the method); nil
	// commits. Where writes share a transaction the hooks of all stand around its commit. It exists so that a test can lose a commit (return an error without calling commit) or
	// its acknowledgement (call commit, then return an error).
	CommitHook func(op string, commit func() error) error
	// Committed is called after each commit that took place; nil when nobody wants to know. It must not wait.
	Committed func()
	// Bulk reads whole tables faster than statements do; nil where there is no such way.
	Bulk Bulk
	// Sole has the store remember what seldom changes; nil where others commit to the database all the time. Only where Dialect.Groups
	// has all writes in shared transactions.
	Sole Sole
}

// Store implements the ports of the compartments over one database. Safe for concurrent use.
type Store struct {
	writer, reader *pool
	keyed, looks   *pool // of KeyedWriter and KeyedReader
	dialect        Dialect
	commit         func(op string, commit func() error) error
	committed      func()
	group          *group // of writer; nil where writes do not share transactions
	brisk          *group // of keyed
	tally          tally
	window         int64 // searchWindow; smaller in a test
	bulk           Bulk  // nil where whole tables are read by statements
	bulkItems      int64 // manyItems; fewer in a test
	locations      locations
	memo           *memo // nil where every read is a statement
}

// New makes a store over open, migrated databases. Close closes them.
func New(cfg Config) (*Store, error) {
	if cfg.Writer == nil || cfg.Reader == nil || cfg.Dialect.Classify == nil {
		return nil, errors.New("rel: Writer, Reader and Dialect.Classify are required")
	}
	s := &Store{writer: newPool(cfg.Writer, cfg.Dialect.Prepares), dialect: cfg.Dialect, commit: cfg.CommitHook, committed: cfg.Committed, window: searchWindow, bulk: cfg.Bulk, bulkItems: manyItems}
	if s.reader = s.writer; cfg.Reader != cfg.Writer {
		s.reader = newPool(cfg.Reader, cfg.Dialect.Prepares)
	}
	s.keyed, s.looks = s.writer, s.reader
	if cfg.KeyedWriter != nil {
		s.keyed = newPool(cfg.KeyedWriter, cfg.Dialect.Prepares)
	}
	if cfg.KeyedReader != nil {
		s.looks = newPool(cfg.KeyedReader, cfg.Dialect.Prepares)
	}
	if cfg.Dialect.Groups || cfg.Dialect.GroupsEvidence {
		s.group = newGroup(s.writer, cfg.Dialect.Begin)
		if s.brisk = s.group; s.keyed != s.writer {
			s.brisk = newGroup(s.keyed, cfg.Dialect.Begin)
		}
	}
	if cfg.Sole != nil && cfg.Dialect.Groups {
		s.memo = newMemo(cfg.Sole)
	}
	if s.commit == nil {
		s.commit = func(_ string, commit func() error) error { return commit() }
	}
	if s.committed == nil {
		s.committed = func() {}
	}
	return s, nil
}

// Close closes the databases.
func (s *Store) Close() error {
	var errs []error
	if g := s.group; g != nil && g.lane != nil {
		<-g.turn
		g.lane.drop()
		g.turn <- struct{}{}
	}
	for _, p := range s.pools() {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// pools are the databases of the store, each once.
func (s *Store) pools() []*pool {
	var out []*pool
	for _, p := range []*pool{s.reader, s.writer, s.looks, s.keyed} {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// Ping reports whether the database answers: nil, or KindUnavailable.
func (s *Store) Ping(ctx context.Context) error {
	for _, db := range s.pools() {
		ping := db.PingContext
		if s.group != nil && s.group.lane != nil && db == s.writer {
			ping = func(ctx context.Context) error {
				return s.InTurn(ctx, func(conn *sql.Conn) error { return conn.PingContext(ctx) })
			}
		}
		if err := ping(ctx); err != nil {
			return s.fault("Ping", err)
		}
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// one reads one row; sql.ErrNoRows when there is none.
func one[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	return scan(q.QueryRowContext(ctx, query, args...))
}

// list reads all rows.
func list[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// exec runs a statement and returns how many rows it touched.
func exec(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	res, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// defaultLimit stands in for a limit of 0 or less.
const defaultLimit = 100

func atMost(limit int) int {
	if limit <= 0 {
		return defaultLimit
	}
	return limit
}
