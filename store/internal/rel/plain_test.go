package rel_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
	"bulkhead/store/storetest"
)

// TestOrdersMakeNoTables: none of the statements of an order has SQLite make a table of its own, a B-tree with its pages and its
// cache, which costs more than most statements; RETURNING is one, and so is a list from a query.
func TestOrdersMakeNoTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Placing(t, s)
	for n := range 3 {
		storetest.PlaceOne(t, s, n, func(string) {})
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	texts := rel.Texts(s.Store)
	if len(texts) < 20 {
		t.Errorf("only %d statements", len(texts))
	}
	for _, text := range texts {
		for _, op := range opcodes(t, db, text) {
			if op == "OpenEphemeral" || op == "SorterOpen" {
				t.Errorf("%s: %s", op, text)
			}
		}
	}
}

// opcodes are those of a statement's program.
func opcodes(t *testing.T, db *sql.DB, text string) (out []string) {
	t.Helper()
	var rows *sql.Rows
	var err error
	for n := range 40 { // a statement refuses fewer parameters than it has
		if rows, err = db.QueryContext(t.Context(), "EXPLAIN "+text, make([]any, n)...); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	for rows.Next() {
		var op string
		var rest [7]any
		if err := rows.Scan(&rest[0], &op, &rest[1], &rest[2], &rest[3], &rest[4], &rest[5], &rest[6]); err != nil {
			t.Fatal(err)
		}
		out = append(out, op)
	}
	return out
}
