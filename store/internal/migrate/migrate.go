// Package migrate brings a database to the schema of this program: numbered SQL files, forward only.
//
// Refuses: a database that a newer release has migrated; running an older program on it would lose what the newer one
// keeps.
package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"bulkhead"

	"github.com/pressly/goose/v3"
)

// Up applies the files of fsys that the database has not seen, in order, each in a transaction. A file may have a lower number than
// one that was applied: steps of one release do not depend on each other's.
func Up(ctx context.Context, dialect goose.Dialect, db *sql.DB, fsys fs.FS, options ...goose.ProviderOption) error {
	options = append(options, goose.WithDisableGlobalRegistry(true), goose.WithAllowOutofOrder(true))
	p, err := goose.NewProvider(dialect, db, fsys, options...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if current > target {
		return bulkhead.Faultf(bulkhead.KindConflict, "the database has schema %d, this program knows %d", current, target).
			WithHint("run the release that migrated it, or a newer one")
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema %d to %d: %w", current, target, err)
	}
	return nil
}

// Is fails unless every file of fsys was applied, without applying any: KindUnavailable for an older schema, KindConflict
// for a newer one.
func Is(ctx context.Context, dialect goose.Dialect, db *sql.DB, fsys fs.FS) error {
	p, err := goose.NewProvider(dialect, db, fsys, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	applied := map[int64]bool{}
	rows, err := db.QueryContext(ctx, "SELECT version_id FROM goose_db_version WHERE is_applied")
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	defer rows.Close()
	var current, newest int64
	for rows.Next() {
		var v int64
		if err := rows.Scan(&v); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		applied[v], current = true, max(current, v)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	for _, s := range p.ListSources() {
		newest = max(newest, s.Version)
		if !applied[s.Version] {
			return bulkhead.Faultf(bulkhead.KindUnavailable, "the database has schema %d and lacks step %d of this program", current, s.Version).
				WithHint("bring it up as its owner: bulkhead role database --apply")
		}
	}
	if current > newest {
		return bulkhead.Faultf(bulkhead.KindConflict, "the database has schema %d, this program knows %d", current, newest).
			WithHint("run the release that migrated it, or a newer one")
	}
	return nil
}

// To brings an empty database to one schema, which an older release had; KindConflict when it is newer than this program's.
func To(ctx context.Context, dialect goose.Dialect, db *sql.DB, fsys fs.FS, version int64, options ...goose.ProviderOption) error {
	p, err := goose.NewProvider(dialect, db, fsys, append(options, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	var newest int64
	for _, s := range p.ListSources() {
		newest = max(newest, s.Version)
	}
	if version > newest {
		return bulkhead.Faultf(bulkhead.KindConflict, "the record has schema %d, this program knows %d", version, newest).
			WithHint("use the release that made it, or a newer one")
	}
	if _, err := p.UpTo(ctx, version); err != nil {
		return fmt.Errorf("migrate to schema %d: %w", version, err)
	}
	return nil
}
