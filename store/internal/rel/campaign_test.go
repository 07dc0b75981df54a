package rel_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
	"bulkhead/store/storetest"
)

// wholeCampaign are the statements that may read every item of a campaign, by how they begin; each is asked for once in a round
// or a plan, and never for an item, an account or a chunk.
var wholeCampaign = []string{
	"SELECT state, product, COUNT(*)",                                      // TallyCampaign
	"SELECT DISTINCT key_hash FROM campaign_items",                         // StartCampaign
	"INSERT INTO blocked_keys",                                             // StartCampaign
	"INSERT INTO campaign_keys",                                            // StartCampaign
	"DELETE FROM campaign_items WHERE campaign_seq = $1 AND ordinal < 0",   // PlanCampaign: those that the new plan leaves out
	"UPDATE campaign_items SET ordinal = -intent_seq WHERE campaign_seq =", // PlanCampaign: places are given anew
}

// byCampaignAlone is how the engine's plan says that it goes through all items of a campaign.
var byCampaignAlone = regexp.MustCompile(`(SCAN (i|campaign_items)\b)|((i|campaign_items) USING (PRIMARY KEY|(COVERING )?INDEX campaign_items_(intent|going)) \(campaign_seq=\?\))`)

// TestNothingReadsACampaignThrough: what is asked for each item, account, letter or chunk finds its rows by a key. SQLite has no
// statistics and reads a campaign through otherwise: a million letters would have read a million items each. Every statement that
// the suite of campaigns runs is held against the engine's own plan of it.
func TestNothingReadsACampaignThrough(t *testing.T) {
	var stores []*rel.Store
	var path string
	storetest.Campaigns(t, func(t testing.TB) storetest.Open {
		path = filepath.Join(t.TempDir(), "x.db")
		return func(t testing.TB, hook storetest.Hook) storetest.Store {
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, CommitHook: hook})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			stores = append(stores, s.Store)
			return s
		}
	})
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	asked := map[string]bool{}
	for _, s := range stores {
		for _, text := range rel.Texts(s) {
			asked[text] = asked[text] || strings.Contains(text, "campaign_items")
		}
	}
	n := 0
	for text, concerned := range asked {
		if !concerned {
			continue
		}
		n++
		if plan := planOf(t, db, text); byCampaignAlone.MatchString(plan) && !mayReadThrough(text) {
			t.Errorf("%s\nplan: %s", text, plan)
		}
	}
	if n < 25 {
		t.Errorf("only %d statements were seen: this tests little", n)
	}
	if plan := planOf(t, db, `SELECT SUM(i.deadline) FROM campaign_items i WHERE i.campaign_seq = $1 AND i.wave = $2`); !byCampaignAlone.MatchString(plan) {
		t.Errorf("a planted look through a whole campaign is not seen: %s", plan)
	}
}

// TestNoTableForEachItem: a statement that writes many items makes no table of its own for each of them, which is what SQLite does with
// the list of words in the condition of an index: an insert and two steps of a million items made five million such tables.
func TestNoTableForEachItem(t *testing.T) {
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
	tables := func(text string) int { return strings.Count(explain(t, db, "EXPLAIN "+text, 1), "OpenEphemeral") }
	for _, text := range append(rel.WritesCertificates, rel.WritesItems...) {
		if n := tables(text); n > 0 {
			t.Errorf("%d tables for each item: %s", n, text)
		}
	}
	if _, err := db.ExecContext(t.Context(), `CREATE INDEX planted ON campaign_items (ordinal) WHERE state NOT IN ('a', 'b', 'c')`); err != nil {
		t.Fatal(err)
	}
	if tables(rel.WritesItems[0]) == 0 {
		t.Error("a planted list of words is not seen")
	}
}

func mayReadThrough(text string) bool {
	for _, begins := range wholeCampaign {
		if strings.HasPrefix(text, begins) {
			return true
		}
	}
	return false
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// planOf is the engine's plan of a statement.
func planOf(t *testing.T, db *sql.DB, text string) string {
	t.Helper()
	return explain(t, db, "EXPLAIN QUERY PLAN "+text, 3)
}

// explain is one column of what the engine says of a statement.
func explain(t *testing.T, db *sql.DB, text string, column int) string {
	t.Helper()
	params := strings.Count(text, "?")
	for _, m := range parameter.FindAllStringSubmatch(text, -1) {
		k, _ := strconv.Atoi(m[1])
		params = max(params, k)
	}
	args := make([]any, params)
	rows, err := db.QueryContext(t.Context(), text, args...)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", text, err))
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	var plan []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, fmt.Sprint(values[column]))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "; ")
}
