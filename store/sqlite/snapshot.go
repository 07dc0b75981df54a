package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"

	"bulkhead"
)

// Snapshot writes a consistent copy of the database file at path to the new file to, while others read and write it, and
// returns the schema of the copy. It migrates nothing. It takes as much space as the live rows do. KindNotFound when there
// is no database at path, KindUnavailable when it cannot be read or the copy not written; to is then absent.
func Snapshot(ctx context.Context, path, to string) (schema int64, err error) {
	if _, err := os.Stat(path); err != nil {
		return 0, bulkhead.Faultf(bulkhead.KindNotFound, "there is no database file %s", path).WithCause(err).WithHint("bulkhead config check")
	}
	fault := func(err error) error {
		_ = os.Remove(to)
		return bulkhead.Faultf(bulkhead.KindUnavailable, "the database file %s cannot be copied", path).WithCause(err).
			WithHint("check space and permissions: a copy needs as much room as the database")
	}
	abs, err := filepath.Abs(path)
	if err == nil { // both are opened by URI, which knows no folder to begin from
		to, err = filepath.Abs(to)
	}
	if err != nil {
		return 0, fault(err)
	}
	// Made here with its mode: VACUUM INTO takes a file that is there and empty.
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return 0, fault(err)
	}
	db, err := sql.Open("sqlite", dsn(abs, "deferred"))
	if err != nil {
		return 0, fault(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, to); err != nil {
		return 0, fault(err)
	}
	copied, err := sql.Open("sqlite", dsn(to, "deferred"))
	if err != nil {
		return 0, fault(err)
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	if err := copied.QueryRowContext(ctx, `SELECT MAX(version_id) FROM goose_db_version WHERE is_applied = 1`).Scan(&schema); err != nil {
		return 0, fault(err)
	}
	return schema, nil
}
