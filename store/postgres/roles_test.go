package postgres

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryTableHasAWriter: a table that no role may write, and that is not the owner's alone, is a role that will fail.
func TestEveryTableHasAWriter(t *testing.T) {
	schema, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for _, m := range regexp.MustCompile(`CREATE TABLE (\w+)`).FindAllStringSubmatch(string(schema), -1) {
		tables = append(tables, m[1])
	}
	written := map[string]bool{}
	for _, all := range rights {
		for table := range all {
			written[table] = true
		}
	}
	for table := range shared {
		written[table] = true
	}
	for _, table := range ownersOnly {
		written[table] = true
	}
	for _, table := range tables {
		if !written[table] {
			t.Errorf("table %s has no role that writes it: say in roles.go whose it is", table)
		}
	}
	for table := range written {
		if !slices.Contains(tables, table) {
			t.Errorf("there are rights on table %s, which does not exist", table)
		}
	}
}

// TestEvidenceIsForEver: no role changes or deletes what was recorded, lifts a block, or drops a table.
func TestEvidenceIsForEver(t *testing.T) {
	for role, all := range rights {
		for _, table := range []string{"evidence", "blocked_keys", "validations", "caa_checks"} {
			for _, verb := range []string{"UPDATE", "DELETE", "TRUNCATE"} {
				if strings.Contains(all[table], verb) {
					t.Errorf("%s may %s %s", role, verb, table)
				}
			}
		}
	}
	if sql := RoleSQL(); strings.Contains(sql, "TRUNCATE") || strings.Contains(sql, "ALL PRIVILEGES") || strings.Contains(shared["evidence"], "UPDATE") {
		t.Error("a group has more than the verbs of the table")
	}
}
