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

// Up applies the files of fsys that the database has not seen, in order, each in a transaction.
func Up(ctx context.Context, dialect goose.Dialect, db *sql.DB, fsys fs.FS, options ...goose.ProviderOption) error {
	options = append(options, goose.WithDisableGlobalRegistry(true))
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
	var newest, current int64
	for _, s := range p.ListSources() {
		newest = max(newest, s.Version)
	}
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&current); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	switch {
	case current > newest:
		return bulkhead.Faultf(bulkhead.KindConflict, "the database has schema %d, this program knows %d", current, newest).
			WithHint("run the release that migrated it, or a newer one")
	case current < newest:
		return bulkhead.Faultf(bulkhead.KindUnavailable, "the database has schema %d, this program needs %d", current, newest).
			WithHint("bring it up as its owner: bulkhead role database --apply")
	}
	return nil
}
