package main

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"bulkhead/run"
	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"
)

// TestImportByARole: an import writes what no role of a house apart may write. Given the connection string of the console's or
// of the signer's user it is refused, whole, with the one to take; the owner's does it.
func TestImportByARole(t *testing.T) {
	t.Parallel()
	owner := pgtest.New(t)
	dsn := filepath.Join(t.TempDir(), "dsn")
	give := func(text string) {
		t.Helper()
		if err := os.WriteFile(dsn, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	give(owner)
	c := &cli{dir: filepath.Join(t.TempDir(), "data"), work: t.TempDir()}
	stop, _ := upAt(t, c.dir, quiet(t, "postgres:"+dsn)...)
	stop()
	db, err := sql.Open("pgx", owner)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	exec(postgres.RoleSQL())
	old := oldCA(t)
	args := []string{"import", "--name", "old-ca", "--ca", filepath.Join(old, "ca.pem"), "--index", filepath.Join(old, "index.txt"), filepath.Join(old, "newcerts"), filepath.Join(old, "crl.pem")}
	for _, role := range []string{"console", "signer"} {
		user := "import_as_" + role
		exec(fmt.Sprintf("CREATE USER %s PASSWORD 'x' IN ROLE bulkhead_%s", user, role))
		u, err := url.Parse(owner)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, "x")
		give(u.String())
		_, errOut := c.run(t, exitFailed, args...)
		if !strings.Contains(errOut, "owner") {
			t.Errorf("as the %s's user: %s", role, errOut)
		}
		var rows int
		if err := db.QueryRowContext(t.Context(), `SELECT (SELECT COUNT(*) FROM authorities WHERE id = 'old-ca') + (SELECT COUNT(*) FROM certificates WHERE issuer = 'old-ca')`).Scan(&rows); err != nil || rows != 0 {
			t.Errorf("refused to the %s's user, and left %d rows: %v", role, rows, err)
		}
	}
	give(owner)
	if r := asJSON[run.ImportReport](t, c, args...); r.New != 4 || r.Revoked != 2 {
		t.Errorf("%+v", r)
	}
}
