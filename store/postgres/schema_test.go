package postgres_test

import (
	"database/sql"
	"flag"
	"os"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"

	_ "github.com/jackc/pgx/v5/stdlib"
)

var update = flag.Bool("update", false, "write schema.sql from the migrations")

// catalogue reads the structure of a database as statements that make it: tables, then keys that refer to other
// tables, then indexes that no constraint owns.
const catalogue = `
SELECT statement FROM (
  SELECT 1 AS part, c.relname AS name, 'CREATE TABLE ' || c.relname || E' (\n  ' || concat_ws(E',\n  ',
    (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE "' || l.collname || '"' ELSE '' END
        || CASE WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE '' END
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, E',\n  ' ORDER BY a.attnum)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg('CONSTRAINT ' || k.conname || ' ' || pg_get_constraintdef(k.oid), E',\n  ' ORDER BY k.contype DESC, k.conname)
      FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'f')) || E'\n);' AS statement
  FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'goose%'
  UNION ALL
  SELECT 2, k.conname, 'ALTER TABLE ' || k.conrelid::regclass || ' ADD CONSTRAINT ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || ';'
  FROM pg_constraint k WHERE k.contype = 'f'
  UNION ALL
  SELECT 3, i.indexname, i.indexdef || ';'
  FROM pg_indexes i WHERE i.schemaname = 'public' AND i.tablename NOT LIKE 'goose%'
    AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conname = i.indexname AND k.contype <> 'f')
) s ORDER BY part, name COLLATE "C"`

func schema(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), catalogue)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var b strings.Builder
	b.WriteString("-- What the migrations add up to. Written by: go test ./store/postgres -run TestSchema -update\n")
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n" + text + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func database(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestSchema proves that schema.sql is what the migrations add up to: as text, and when it is run.
func TestSchema(t *testing.T) {
	migrated := database(t, pgtest.NewBare(t))
	if err := postgres.Migrate(t.Context(), migrated); err != nil {
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
	fresh := database(t, pgtest.NewBare(t))
	if _, err := fresh.ExecContext(t.Context(), string(golden)); err != nil {
		t.Fatal(err)
	}
	if again := schema(t, fresh); again != string(golden) {
		t.Errorf("schema.sql, run, makes another schema than it says:\n%s", again)
	}
	if err := postgres.Migrate(t.Context(), migrated); err != nil {
		t.Errorf("a second migration: %v", err)
	}
}

func TestOpenRefusals(t *testing.T) {
	newer := pgtest.New(t)
	if _, err := database(t, newer).ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dsn string
		kind      bulkhead.Kind
	}{
		{"no address", "", bulkhead.KindUsage},
		{"not an address", "postgres://%zz", bulkhead.KindUsage},
		{"nobody there", "postgres://bulkhead@/x?host=" + t.TempDir(), bulkhead.KindUnavailable},
		{"no such database", strings.Replace(newer, "/t", "/none", 1), bulkhead.KindUnavailable},
		{"newer schema", newer, bulkhead.KindConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), postgres.Config{DSN: c.dsn})
			f := bulkhead.AsFault(err)
			if f == nil || f.Kind != c.kind {
				t.Fatalf("got %v, want kind %q", err, c.kind)
			}
			if f.Hint == "" && c.dsn != "" {
				t.Error("no hint")
			}
		})
	}
}

// TestConnectionsLost cuts every connection: the store says that it is away and comes back by itself.
func TestConnectionsLost(t *testing.T) {
	dsn := pgtest.New(t)
	s := opener(dsn)(t, nil)
	event := bulkhead.Evidence{Kind: bulkhead.EvStart, At: start}
	if _, err := s.AppendEvidence(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	admin := database(t, dsn)
	cut := func() {
		t.Helper()
		if _, err := admin.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
	}
	// Between transactions: the pool finds it out and connects again.
	cut()
	var err error
	for range 20 {
		if _, err = s.AppendEvidence(t.Context(), event); err == nil {
			break
		}
		if k := bulkhead.KindOf(err); k != bulkhead.KindUnavailable {
			t.Fatalf("kind %q: %v", k, err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	// At the moment of commit: nothing of it stays.
	broken := opener(dsn)(t, func(_ string, commit func() error) error {
		cut()
		return commit()
	})
	before, _, err := s.EvidenceHead(t.Context())
	for err != nil { // its own connections were cut too
		before, _, err = s.EvidenceHead(t.Context())
	}
	_, err = broken.AppendEvidence(t.Context(), event)
	if k := bulkhead.KindOf(err); k != bulkhead.KindUnavailable {
		t.Fatalf("kind %q: %v", k, err)
	}
	var after int64
	for range 20 {
		if after, _, err = s.EvidenceHead(t.Context()); err == nil {
			break
		}
	}
	if err != nil || after != before {
		t.Fatalf("evidence head %d, want %d (%v)", after, before, err)
	}
}

// TestMigrateTogether lets several processes start on an empty database.
func TestMigrateTogether(t *testing.T) {
	dsn := pgtest.NewBare(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			s, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
