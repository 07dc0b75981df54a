package migrate_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"testing/fstest"

	"bulkhead"
	"bulkhead/store/internal/migrate"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// TestStepBetween: a step that is new and has a lower number than one that was applied is applied; a database that has steps which
// this program does not know is refused.
func TestStepBetween(t *testing.T) {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	step := func(table string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE " + table + " (id INTEGER);\n")}
	}
	up := func(files fstest.MapFS) error { return migrate.Up(t.Context(), goose.DialectSQLite3, db, files) }
	old := fstest.MapFS{"00001_a.sql": step("a"), "00003_c.sql": step("c")}
	between := fstest.MapFS{"00001_a.sql": step("a"), "00002_b.sql": step("b"), "00003_c.sql": step("c")}
	if err := up(old); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Is(t.Context(), goose.DialectSQLite3, db, between); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("before it is applied: %v", err)
	}
	for range 2 {
		if err := up(between); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO b VALUES (1)"); err != nil {
		t.Error(err)
	}
	if err := up(fstest.MapFS{"00001_a.sql": step("a")}); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("an older program: %v", err)
	}
}
