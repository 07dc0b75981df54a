package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"bulkhead"
	"bulkhead/store/internal/migrate"
	"bulkhead/store/internal/rows"

	"github.com/pressly/goose/v3"
)

// tables reads the catalogue: each after those it refers to.
func tables(ctx context.Context, db rows.Queryer) ([]rows.Table, error) {
	names, err := db.QueryContext(ctx, `SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'goose_%' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid`)
	if err != nil {
		return nil, err
	}
	defer names.Close()
	var out []rows.Table
	for names.Next() {
		var table, column, kind string
		if err := names.Scan(&table, &column, &kind); err != nil {
			return nil, err
		}
		if len(out) == 0 || out[len(out)-1].Name != table {
			out = append(out, rows.Table{Name: table})
		}
		t := &out[len(out)-1]
		t.Columns = append(t.Columns, rows.Column{Name: column, Blob: kind == "BLOB"})
	}
	if err := names.Err(); err != nil {
		return nil, err
	}
	refers, err := references(ctx, db)
	return rows.Sort(out, refers), err
}

func references(ctx context.Context, db rows.Queryer) (map[string][]string, error) {
	found, err := db.QueryContext(ctx, `SELECT m.name, f."table" FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`)
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

// DumpFile writes all rows of the database file at path, a copy that nobody writes, for either engine to load.
func DumpFile(ctx context.Context, path string, to io.Writer) (err error) {
	db, err := sql.Open("sqlite", dsn(path, "deferred", "query_only(1)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ts, err := tables(ctx, db)
	if err == nil {
		err = rows.Dump(ctx, db, ts, to)
	}
	if err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	return nil
}

// LoadFile makes the new database file at path with the rows of a dump that was taken at schema. The file is not synced and
// is worth nothing before LoadFile has returned without an error: KindConflict for a newer schema, KindMalformed for a
// damaged dump.
func LoadFile(ctx context.Context, path string, schema int64, from io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "the database file %s cannot be made", path).WithCause(err)
	}
	db, err := sql.Open("sqlite", strings.NewReplacer("foreign_keys%281%29", "foreign_keys%280%29", "synchronous%28FULL%29", "synchronous%28OFF%29").Replace(dsn(path, "immediate")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := migrate.To(ctx, goose.DialectSQLite3, db, files, schema); err != nil {
		return err
	}
	ts, err := tables(ctx, db)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing after the commit
	if err := load(ctx, tx, ts, from); err != nil {
		return err
	}
	return tx.Commit()
}

func load(ctx context.Context, tx *sql.Tx, ts []rows.Table, from io.Reader) error {
	for _, t := range ts {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+rows.Quote(t.Name)); err != nil { // what migrations put there
			return err
		}
	}
	err := rows.Load(ctx, from, ts, func(ctx context.Context, t rows.Table, next func() ([]any, error)) error {
		in, err := tx.PrepareContext(ctx, `INSERT INTO `+rows.Quote(t.Name)+` (`+rows.List(t.Columns)+`) VALUES (`+strings.TrimSuffix(strings.Repeat("?, ", len(t.Columns)), ", ")+`)`)
		if err != nil {
			return err
		}
		defer in.Close()
		for {
			row, err := next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := in.ExecContext(ctx, row...); err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
		}
	})
	if err != nil {
		return err
	}
	var broken int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM pragma_foreign_key_check`).Scan(&broken); err != nil {
		return err
	}
	if broken > 0 {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%d rows of the record refer to rows that are not there", broken).WithHint("use another copy of the backup")
	}
	return nil
}
