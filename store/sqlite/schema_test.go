package sqlite_test

import (
	"database/sql"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/store/sqlite"

	_ "modernc.org/sqlite"
)

var update = flag.Bool("update", false, "write schema.sql from the migrations")

// schema is the structure of a database as statements that make it.
func schema(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT sql FROM sqlite_master
		WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'goose_%' AND tbl_name NOT LIKE 'sqlite_%'
		ORDER BY tbl_name, type DESC, name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var b strings.Builder
	b.WriteString("-- What the migrations add up to. Written by: go test ./store/sqlite -run TestSchema -update\n")
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n" + text + ";\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func file(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestSchema proves that schema.sql is what the migrations add up to: as text, and when it is run.
func TestSchema(t *testing.T) {
	migrated := file(t, filepath.Join(t.TempDir(), "migrated.db"))
	if err := sqlite.Migrate(t.Context(), migrated); err != nil {
		t.Fatal(err)
	}
	got := schema(t, migrated)
	if *update {
		if err := os.WriteFile("schema.sql", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(golden) {
		t.Errorf("the migrations make another schema than schema.sql (run with -update and read the difference):\n%s", got)
	}
	fresh := file(t, filepath.Join(t.TempDir(), "fresh.db"))
	if _, err := fresh.ExecContext(t.Context(), string(golden)); err != nil {
		t.Fatal(err)
	}
	if schema(t, fresh) != string(golden) {
		t.Error("schema.sql, run, makes another schema than it says")
	}
	if err := sqlite.Migrate(t.Context(), migrated); err != nil {
		t.Errorf("a second migration: %v", err)
	}
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	db := file(t, newer)
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		kind       bulkhead.Kind
	}{
		{"no path", "", bulkhead.KindUsage},
		{"a folder", dir, bulkhead.KindUnavailable},
		{"no folder", filepath.Join(dir, "none", "x.db"), bulkhead.KindUnavailable},
		{"not a database", text, bulkhead.KindUnavailable},
		{"newer schema", newer, bulkhead.KindConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sqlite.Open(t.Context(), sqlite.Config{Path: c.path})
			f := bulkhead.AsFault(err)
			if f == nil || f.Kind != c.kind {
				t.Fatalf("got %v, want kind %q", err, c.kind)
			}
			if f.Hint == "" && c.kind != bulkhead.KindUsage {
				t.Error("no hint")
			}
		})
	}
}

// TestMode checks what durability and secrecy rest on.
func TestMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvStart, At: start}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "-wal"} { // that there is a WAL says that the mode is WAL
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", p, info.Mode().Perm())
		}
	}
}

// TestStates: a certificate is in one of four states and in no other, whatever its table was migrated from.
func TestStates(t *testing.T) {
	db := file(t, filepath.Join(t.TempDir(), "migrated.db"))
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for state, allowed := range map[string]bool{"reserved": true, "issued": true, "revoked": true, "abandoned": true, "Issued": false, "": false, "precertificate": false} {
		_, err := db.ExecContext(t.Context(), `INSERT INTO certificates (issuer, serial, kind, state, profile, names, subject, key_hash, intent_digest, fingerprint, account_id, order_id, not_before, not_after,
			shard, revoked_at, reason, reserved_at, replaces_issuer, replaces_serial, replaced_by_issuer, replaced_by_serial, outcome_seq)
			VALUES ('a', randomblob(20), 'leaf', $1, '', '[]', '', x'', x'', x'', '', '', 0, 0, 0, 0, 0, 0, '', x'', '', x'', 0)`, state)
		if (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), "CHECK constraint failed") {
			t.Errorf("state %q: %v", state, err)
		}
	}
	var sound string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
		t.Errorf("%s, %v", sound, err)
	}
}
