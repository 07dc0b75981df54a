package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	// frameSize and logHeader are the layout of the log (https://sqlite.org/fileformat2.html, section 4) with pages of 4 KiB.
	frameSize = 24 + 4096
	logHeader = 32
)

// enoughHere is how many frames are worth a checkpoint in these tests, and longHere where a log is long.
const (
	enoughHere = 1000
	longHere   = 2 * enoughHere
)

// aside opens a database of one table and a checkpointer beside it, as open does.
func aside(t *testing.T) (writer *sql.DB, c *checkpointer, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "x.db")
	writer, err := sql.Open("sqlite", dsn(path, "immediate", fmt.Sprintf("wal_autocheckpoint(%d)", backstop)))
	ok(t, err)
	writer.SetMaxOpenConns(1)
	t.Cleanup(func() { writer.Close() })
	_, err = writer.Exec("CREATE TABLE x (id INTEGER PRIMARY KEY, y BLOB)")
	ok(t, err)
	index, err := openIndex(path)
	ok(t, err)
	turn := func(ctx context.Context, f func(*sql.Conn) error) error {
		conn, err := writer.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return f(conn)
	}
	c, err = openCheckpointer(turn, path, index, enoughHere, longHere)
	ok(t, err)
	t.Cleanup(func() { ok(t, errors.Join(c.close(), index.close())) })
	return writer, c, path
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pages writes n pages in a transaction of their own.
func pages(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	_, err := db.Exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) INSERT INTO x (y) SELECT randomblob(3900) FROM n", n)
	ok(t, err)
}

// size of the log, in frames that the file has room for.
func size(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path + "-wal")
	ok(t, err)
	return (fi.Size() - logHeader) / frameSize
}

// TestDue: the log is read as SQLite wrote it. Fewer frames than are worth it are left alone, and those that were moved, and
// the old frames behind a new beginning.
func TestDue(t *testing.T) {
	writer, c, _ := aside(t)
	if c.due() {
		t.Error("a new log is due")
	}
	pages(t, writer, enoughHere+50)
	if !c.due() {
		t.Fatal("a log of more frames than enough is not due")
	}
	log, err := c.checkpoint(c.db, "PASSIVE")
	if err != nil || log < enoughHere || c.index.unmoved() != 0 {
		t.Fatalf("log %d, not moved %d: %v", log, c.index.unmoved(), err)
	}
	if c.due() {
		t.Error("due again, and nothing was written")
	}
	pages(t, writer, 10) // all was moved: the log begins anew, before old frames
	if n := c.index.unmoved(); c.due() || n < 10 || n > 20 {
		t.Errorf("ten frames are due, or %d are not moved", n)
	}
	pages(t, writer, enoughHere)
	if !c.due() {
		t.Error("the second log is never due")
	}
}

// TestLogIsBegunAnew: under writes without a pause the log stays short, and commits do not checkpoint themselves.
func TestLogIsBegunAnew(t *testing.T) {
	writer, c, path := aside(t)
	for range 6 * longHere / 256 {
		pages(t, writer, 256)
		c.wake()
	}
	if n := size(t, path); n > 3*longHere {
		t.Errorf("the log has %d frames after %d were written", n, 6*longHere)
	}
}

// TestReaderOfTheOldLog: a reader that stays keeps the log from beginning anew, waits for nobody and holds up nobody for long;
// once it is gone the log is short again.
func TestReaderOfTheOldLog(t *testing.T) {
	writer, c, path := aside(t)
	pages(t, writer, 10)
	reader, err := sql.Open("sqlite", dsn(path, "deferred", "query_only(1)"))
	ok(t, err)
	defer reader.Close()
	tx, err := reader.BeginTx(t.Context(), nil)
	ok(t, err)
	var seen, again int
	ok(t, tx.QueryRow("SELECT count(*) FROM x").Scan(&seen))
	for range (longHere + 2*enoughHere) / 500 {
		pages(t, writer, 500)
		c.wake()
	}
	ok(t, tx.QueryRow("SELECT count(*) FROM x").Scan(&again))
	if again != seen {
		t.Errorf("the reader saw %d rows, then %d", seen, again)
	}
	ok(t, tx.Rollback())
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	begun, _ := c.index.header()
	for now := begun; now.frames() >= begun.frames(); now, _ = c.index.header() {
		pages(t, writer, 500)
		c.wake()
		if ctx.Err() != nil {
			t.Fatal("the log never begins anew")
		}
	}
}
