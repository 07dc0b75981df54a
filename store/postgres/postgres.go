// Package postgres keeps the durable record in PostgreSQL 15 or later: for many processes and for scale. It implements
// the store ports of the compartments (package store/internal/rel has the SQL).
//
// Invariant: a method that returned without an error is on the disk of the primary (synchronous_commit is on, whatever
// the server's default). Transactions are read committed; where a state is compared, the row is locked first, and
// writers of evidence follow each other by a lock on one row.
//
// Refuses: a database that a newer release has migrated; a transaction that was left open (the server ends it).
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"

	"bulkhead"
	"bulkhead/store/internal/migrate"
	"bulkhead/store/internal/rel"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// settings are what every connection has. The timeouts keep a process that hangs or vanished from holding the
// evidence head, and with it every writer.
var settings = map[string]string{
	"application_name":                    "bulkhead",
	"timezone":                            "UTC",
	"synchronous_commit":                  "on",
	"lock_timeout":                        "15s",
	"idle_in_transaction_session_timeout": "30s",
	// A generic plan made while a table was small reads it whole for ever after: plan for the table as it is.
	"plan_cache_mode": "force_custom_plan",
}

// keyed are the settings of connections that only run statements that find few rows by a key. There is one good plan for
// each, the index of the key, which these settings leave as the only one; so it is made once and kept, a minute at most.
var keyed = map[string]string{
	"plan_cache_mode":  "force_generic_plan",
	"enable_seqscan":   "off",
	"enable_hashjoin":  "off",
	"enable_mergejoin": "off",
}

// Connections when the configuration names no number. Writers that append evidence follow each other anyway; readers
// have connections of their own, so that a queue of writers does not keep them out.
const (
	defaultWriters = 8
	defaultReaders = 16
)

// Config of a store.
type Config struct {
	// DSN is a PostgreSQL URL or key-value string (libpq's rules, PG* variables included). Required.
	DSN string
	// Writers and Readers bound the connections of this process; 0 means 8 and 16.
	Writers, Readers int
	// AsIs leaves the schema alone: for the database user of a role, which may not change it. KindUnavailable while the
	// schema is older than this program's.
	AsIs bool
	// CommitHook is called in place of the commit of each write transaction, with the name of the method; nil commits.
	// It is there so that tests can lose a commit (return an error and do not call commit) or only its acknowledgement
	// (call commit, then return an error).
	CommitHook func(op string, commit func() error) error
}

// Store is the record. Safe for concurrent use. Its methods fail with a *bulkhead.Fault.
type Store struct {
	*rel.Store
	reader *sql.DB
}

// Open connects and migrates. KindUsage for a DSN that cannot be read, KindConflict for a newer schema,
// KindUnavailable when the server cannot be reached.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.DSN == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "no address of the PostgreSQL database")
	}
	pgcfg, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "the address of the PostgreSQL database cannot be read").WithCause(err).
			WithHint("for example postgres://bulkhead@db.internal/bulkhead")
	}
	for k, v := range settings {
		pgcfg.RuntimeParams[k] = v
	}
	writer, reader := pool(*pgcfg, cfg.Writers, defaultWriters), pool(*pgcfg, cfg.Readers, defaultReaders)
	brisk := pgcfg.Copy()
	for k, v := range keyed {
		brisk.RuntimeParams[k] = v
	}
	ready := Migrate
	if cfg.AsIs {
		ready = migrated
	}
	if err := ready(ctx, writer); err != nil {
		_ = errors.Join(writer.Close(), reader.Close())
		var f *bulkhead.Fault
		if errors.As(err, &f) {
			return nil, err
		}
		return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "cannot use the PostgreSQL database").WithCause(err).
			WithHint("check that the server runs and that the role may create tables in the database")
	}
	keyedWriter, keyedReader := pool(*brisk, cfg.Writers, defaultWriters), sql.OpenDB(newLooks(*brisk.Copy()))
	keyedWriter.SetConnMaxLifetime(planLife)
	keyedReader.SetMaxOpenConns(4 * lookBatch)
	keyedReader.SetMaxIdleConns(4 * lookBatch)
	s, err := rel.New(rel.Config{Writer: writer, Reader: reader, KeyedWriter: keyedWriter, KeyedReader: keyedReader, CommitHook: cfg.CommitHook,
		Dialect: rel.Dialect{Name: "postgres", ForUpdate: " FOR UPDATE", Arrays: true, GroupsEvidence: true, Classify: classify}})
	if err != nil {
		return nil, errors.Join(err, writer.Close(), reader.Close(), keyedWriter.Close(), keyedReader.Close())
	}
	return &Store{s, reader}, nil
}

func pool(cfg pgx.ConnConfig, n, otherwise int) *sql.DB {
	if n <= 0 {
		n = otherwise
	}
	db := stdlib.OpenDB(cfg)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db
}

// Migrate brings an open database to the schema of this program; of several processes one migrates, the others wait.
func Migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	return migrate.Up(ctx, goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
}

// migrated fails unless the database has the schema of this program.
func migrated(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return migrate.Is(ctx, goose.DialectPostgres, db, files)
}

// classify gives the kind of an error by SQLSTATE, or by what broke when the server said nothing.
func classify(err error) bulkhead.Kind {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return classifyState(e.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), pgconn.SafeToRetry(err),
		strings.Contains(err.Error(), "database is closed"), strings.Contains(err.Error(), "conn closed"):
		return bulkhead.KindUnavailable
	default:
		return bulkhead.KindInternal
	}
}

func classifyState(code string) bulkhead.Kind {
	switch code {
	case "23505", "23503": // unique_violation, foreign_key_violation
		return bulkhead.KindConflict
	case "22021", "22P05": // character_not_in_repertoire, untranslatable_character
		return bulkhead.KindMalformed
	case "42501": // insufficient_privilege: the database user of another role
		return bulkhead.KindForbidden
	case "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "25006":
		// serialization_failure, deadlock_detected, lock_not_available, query_canceled, shutdown and start-up,
		// idle_session_timeout, idle_in_transaction_session_timeout, read_only_sql_transaction (a standby)
		return bulkhead.KindUnavailable
	}
	switch code[:min(2, len(code))] {
	case "08", "53", "58": // connection exception, insufficient resources, system error
		return bulkhead.KindUnavailable
	default:
		return bulkhead.KindInternal
	}
}
