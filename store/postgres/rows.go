package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"bulkhead"
	"bulkhead/store/internal/migrate"
	"bulkhead/store/internal/rows"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Position is how far a record had come when it was dumped.
type Position struct {
	Schema   int64
	Head     []byte // newest status head, signed; nil for none
	Evidence int64  // newest evidence row
}

// connect opens few connections and leaves the schema alone.
func connect(dsn string, more map[string]string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "the address of the PostgreSQL database cannot be read").WithCause(err).
			WithHint("for example postgres://bulkhead@db.internal/bulkhead")
	}
	for k, v := range settings {
		cfg.RuntimeParams[k] = v
	}
	for k, v := range more {
		cfg.RuntimeParams[k] = v
	}
	return pool(*cfg, 3, 3), nil // the lock of a migration holds one
}

func trouble(what string, err error) error {
	var f *bulkhead.Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return bulkhead.Faultf(bulkhead.KindUnavailable, "the PostgreSQL database cannot be %s", what).WithCause(err).WithHint("check the server and its log, then try again")
}

// Dump writes all rows as one repeatable-read transaction sees them, while others read and write, for either engine to load.
// It changes nothing and migrates nothing.
func Dump(ctx context.Context, dsn string, to io.Writer) (p Position, err error) {
	// A reader that waits for a slow disk in the middle of a table is not idle; one between two tables may be for a while.
	db, err := connect(dsn, map[string]string{"idle_in_transaction_session_timeout": "10min"})
	if err != nil {
		return p, err
	}
	defer func() { err = trouble("copied", errors.Join(err, db.Close())) }()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return p, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := tx.QueryRowContext(ctx, `SELECT MAX(version_id) FROM goose_db_version WHERE is_applied`).Scan(&p.Schema); err != nil {
		return p, err
	}
	if err := tx.QueryRowContext(ctx, `SELECT seq FROM evidence_head WHERE id = 1`).Scan(&p.Evidence); err != nil {
		return p, err
	}
	err = tx.QueryRowContext(ctx, `SELECT body FROM heads ORDER BY sequence DESC LIMIT 1`).Scan(&p.Head)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, err
	}
	ts, err := tables(ctx, tx)
	if err != nil {
		return p, err
	}
	return p, rows.Dump(ctx, tx, ts, to)
}

func tables(ctx context.Context, q rows.Queryer) ([]rows.Table, error) {
	found, err := q.QueryContext(ctx, `SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)::text, a.attidentity::text
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'goose\_%'
		AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum`)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var out []rows.Table
	for found.Next() {
		var table, column, kind, identity string
		if err := found.Scan(&table, &column, &kind, &identity); err != nil {
			return nil, err
		}
		if len(out) == 0 || out[len(out)-1].Name != table {
			out = append(out, rows.Table{Name: table})
		}
		t := &out[len(out)-1]
		t.Columns = append(t.Columns, rows.Column{Name: column, Bool: kind == "boolean", Blob: kind == "bytea", Identity: identity != ""})
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	refers, err := references(ctx, q)
	return rows.Sort(out, refers), err
}

func references(ctx context.Context, q rows.Queryer) (map[string][]string, error) {
	found, err := q.QueryContext(ctx, `SELECT a.relname::text, b.relname::text FROM pg_constraint k JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
		WHERE k.contype = 'f' AND a.relnamespace = current_schema()::regnamespace`)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	out := map[string][]string{}
	for found.Next() {
		var from, to string
		if err := found.Scan(&from, &to); err != nil {
			return nil, err
		}
		out[from] = append(out[from], to)
	}
	return out, found.Err()
}

// Load puts the rows of a dump that was taken at schema into a database that holds no record: all in one transaction.
// KindConflict for a database that is in use and for a newer schema, KindMalformed for a damaged dump.
func Load(ctx context.Context, dsn string, schema int64, from io.Reader) (err error) {
	db, err := connect(dsn, map[string]string{"idle_in_transaction_session_timeout": "10min"})
	if err != nil {
		return err
	}
	defer func() { err = trouble("filled", errors.Join(err, db.Close())) }()
	if err := unused(ctx, db); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	if err := migrate.To(ctx, goose.DialectPostgres, db, files, schema, goose.WithSessionLocker(locker)); err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ts, err := tables(ctx, conn)
	if err != nil {
		return err
	}
	return conn.Raw(func(c any) error {
		return pgx.BeginFunc(ctx, c.(*stdlib.Conn).Conn(), func(tx pgx.Tx) error { return fill(ctx, tx, ts, from) })
	})
}

// unused refuses a database in which a record was begun.
func unused(ctx context.Context, db *sql.DB) error {
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('evidence_head') IS NOT NULL`).Scan(&there); err != nil || !there {
		return err
	}
	var seq int64
	if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM evidence_head`).Scan(&seq); err != nil {
		return err
	}
	if seq > 0 {
		return bulkhead.Faultf(bulkhead.KindConflict, "the PostgreSQL database holds a record already, of %d evidence rows", seq).
			WithHint("name an empty database; a record is never written over another")
	}
	return nil
}

func fill(ctx context.Context, tx pgx.Tx, ts []rows.Table, from io.Reader) error {
	for _, t := range slices.Backward(ts) {
		if _, err := tx.Exec(ctx, `DELETE FROM `+rows.Quote(t.Name)); err != nil { // what migrations put there
			return err
		}
	}
	return rows.Load(ctx, from, ts, func(ctx context.Context, t rows.Table, next func() ([]any, error)) error {
		var names []string
		for _, c := range t.Columns {
			names = append(names, c.Name)
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{t.Name}, names, pgx.CopyFromFunc(func() ([]any, error) {
			row, err := next()
			if err == io.EOF {
				return nil, nil
			}
			return row, err
		}))
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		for _, c := range t.Columns {
			if !c.Identity {
				continue
			}
			if _, err := tx.Exec(ctx, `SELECT setval(pg_get_serial_sequence($1, $2), GREATEST((SELECT COALESCE(MAX(`+rows.Quote(c.Name)+`), 0) + 1 FROM `+rows.Quote(t.Name)+`), 1), false)`, rows.Quote(t.Name), c.Name); err != nil {
				return err
			}
		}
		return nil
	})
}
