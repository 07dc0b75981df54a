package rel_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"
)

// TestSignerReadsItsRows: in a table that was empty when the plans were made, and of which the engine knows nothing, the signer reads the rows
// of its own certificates and not all of the issuer. The engine counts them itself.
func TestSignerReadsItsRows(t *testing.T) {
	g := gather(t)
	close(g.let)
	const batches, n = 8, 30
	for batch := range byte(batches) {
		items, done := g.certificates(1+batch, n)
		_, errs, err := g.Reserve(t.Context(), items)
		g.ok(errors.Join(append(errs, err)...))
		_, errs, err = g.Complete(t.Context(), done)
		g.ok(errors.Join(append(errs, err)...))
	}
	g.ok(g.Close()) // a connection that ends leaves what it counted
	db, err := sql.Open("pgx", g.dsn)
	g.ok(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var others int
		g.ok(db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&others))
		if others == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("connections of the store do not end")
		}
	}
	var read int
	g.ok(db.QueryRowContext(t.Context(), `SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'certificates' AND indexrelname <> 'certificates_pkey'`).Scan(&read))
	if read < batches*n || read > batches*n+n {
		t.Errorf("%d entries of indexes were read for %d certificates", read, batches*n)
	}
}
