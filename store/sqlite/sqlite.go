// Package sqlite keeps the durable record in one SQLite file: the embedded default. It implements the store ports of
// the compartments (package store/internal/rel has the SQL).
//
// Invariant: a method that returned without an error is on the disk (WAL with synchronous=FULL). One connection
// writes, with BEGIN IMMEDIATE, so writers queue and never fail each other, and those that queue share a transaction and
// its sync; readers see committed rows only and never
// wait for the writer.
//
// Refuses: a file that a newer release has migrated; a second kind of database behind the same path.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/store/internal/migrate"
	"bulkhead/store/internal/rel"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// busyMillis is how long a connection waits for another process that holds the file, a backup for example.
	busyMillis = 10_000
	// readers bounds the reading connections, and with them memory: each has a page cache of its own.
	readers = 8
)

// Config of a store.
type Config struct {
	// Path of the database file; it is created (mode 0600) when absent. Required.
	Path string
	// CommitHook is called in place of the commit of each write transaction, with the name of the method; nil commits.
	// It is there so that tests can lose a commit (return an error and do not call commit) or only its acknowledgement
	// (call commit, then return an error).
	CommitHook func(op string, commit func() error) error
	// Alone says that no other Store and no other process has the file while this one does, as when it was made a moment ago and is
	// not in its place yet. Whole tables are then read from the file itself while its log is empty.
	Alone bool
}

// Store is the record. Safe for concurrent use. Its methods fail with a *bulkhead.Fault.
type Store struct {
	*rel.Store
	checkpoints *checkpointer
	file        *os.File // of Alone, else nil
	index       *walIndex
}

// Close closes the database.
func (s *Store) Close() error {
	err := errors.Join(s.checkpoints.close(), s.Store.Close(), s.index.close())
	if s.file != nil { // last: closing it ends the locks that SQLite has on the file
		err = errors.Join(err, s.file.Close())
	}
	return err
}

// Open opens or creates the file and migrates it. KindUsage without a path, KindConflict for a newer schema,
// KindUnavailable when the file cannot be used.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "no path for the database file")
	}
	s, err := open(ctx, cfg)
	if err != nil {
		var f *bulkhead.Fault
		if errors.As(err, &f) {
			return nil, err
		}
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "cannot use the database file %s", cfg.Path).WithCause(err).
			WithHint("check that the path is a bulkhead database and can be written")
	}
	return s, nil
}

func open(ctx context.Context, cfg Config) (*Store, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, err
	}
	// Created here, because SQLite would create it with the mode of the umask; its WAL takes the mode of the file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// The writer may keep more pages: a change of a million rows touches pages all over its indexes, and each that was pushed
	// out costs a write of its own.
	writer, err := sql.Open("sqlite", dsn(path, "immediate", "cache_size(-65536)", fmt.Sprintf("wal_autocheckpoint(%d)", backstop)))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	if err := Migrate(ctx, writer); err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader, err := sql.Open("sqlite", dsn(path, "deferred", "query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	index, err := openIndex(path)
	if err != nil {
		return nil, errors.Join(err, writer.Close(), reader.Close())
	}
	var s *rel.Store // made below; there is nothing to checkpoint before
	turn := func(ctx context.Context, f func(*sql.Conn) error) error { return s.InTurn(ctx, f) }
	checkpoints, err := openCheckpointer(turn, path, index, enough, long)
	if err != nil {
		return nil, errors.Join(err, writer.Close(), reader.Close(), index.close())
	}
	var file *os.File
	if cfg.Alone {
		if file, err = os.Open(path); err != nil {
			return nil, errors.Join(err, checkpoints.close(), writer.Close(), reader.Close(), index.close())
		}
	}
	s, err = rel.New(rel.Config{Writer: writer, Reader: reader, Sole: &sole{index: index}, CommitHook: cfg.CommitHook, Committed: checkpoints.wake, Bulk: bulk(reader, file),
		Dialect: rel.Dialect{Name: "sqlite", IndexedBy: true, Prepares: true, Groups: true, Begin: "BEGIN IMMEDIATE", Classify: classify}})
	if err != nil {
		err = errors.Join(err, checkpoints.close(), writer.Close(), reader.Close(), index.close())
		if file != nil {
			file.Close() // after those that have locks on it
		}
		return nil, err
	}
	return &Store{s, checkpoints, file, index}, nil
}

// Migrate brings an open database to the schema of this program.
func Migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return migrate.Up(ctx, goose.DialectSQLite3, db, files)
}

// dsn names the file with what every connection to it must have set.
func dsn(path, lock string, more ...string) string {
	q := url.Values{"_txlock": {lock}}
	for _, p := range append([]string{fmt.Sprintf("busy_timeout(%d)", busyMillis), "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(1)", "cache_size(-16384)"}, more...) {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// classify gives the kind of an error by SQLite's result code; the primary code is its low octet.
func classify(err error) bulkhead.Kind {
	var e *driver.Error
	if !errors.As(err, &e) {
		if strings.Contains(err.Error(), "database is closed") || errors.Is(err, sql.ErrConnDone) {
			return bulkhead.KindUnavailable
		}
		return bulkhead.KindInternal
	}
	switch e.Code() & 0xff {
	case codes.SQLITE_CONSTRAINT:
		switch e.Code() {
		case codes.SQLITE_CONSTRAINT_UNIQUE, codes.SQLITE_CONSTRAINT_PRIMARYKEY, codes.SQLITE_CONSTRAINT_FOREIGNKEY, codes.SQLITE_CONSTRAINT_ROWID:
			return bulkhead.KindConflict
		}
		return bulkhead.KindInternal
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_IOERR, codes.SQLITE_FULL, codes.SQLITE_CANTOPEN,
		codes.SQLITE_READONLY, codes.SQLITE_PERM, codes.SQLITE_INTERRUPT, codes.SQLITE_NOMEM, codes.SQLITE_PROTOCOL:
		return bulkhead.KindUnavailable
	default:
		return bulkhead.KindInternal
	}
}
