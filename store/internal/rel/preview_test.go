package rel_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
)

// TestPreviewReadsIndexes: a preview of one certificate among millions must not read them; the engine's own plan says so.
func TestPreviewReadsIndexes(t *testing.T) { readsIndexes(t, rel.PreviewQueries, "TEMP B-TREE") }

// TestCampaignReadsIndexes: a step of a few items among a million must not read the others.
func TestCampaignReadsIndexes(t *testing.T) { readsIndexes(t, rel.CampaignQueries, "SCAN i") }

// TestOrdersReadIndexes: orders that are open are found among millions that are not.
func TestOrdersReadIndexes(t *testing.T) { readsIndexes(t, rel.OrderQueries, "SCAN") }

// TestListsReadIndexes: a list of a shard of a million is read from one index, and what moved since from the few rows that did.
func TestListsReadIndexes(t *testing.T) { readsIndexes(t, rel.ListQueries, "SCAN") }

// readsIndexes holds the engine's plan of each query against what it must say, and what it must not.
func readsIndexes(t *testing.T, queries map[string]string, never string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range queries {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, "a", "b", 0, 0)
		if err != nil {
			// A statement with fewer parameters refuses the rest.
			if rows, err = db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "$"))...); err != nil {
				t.Fatal(err)
			}
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(plan, "; "); !strings.Contains(got, want) || strings.Contains(got, never) {
			t.Errorf("%s\nplan: %s\nwant: %s", query, got, want)
		}
	}
}
