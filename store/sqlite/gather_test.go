package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/libc"
	codes "modernc.org/sqlite/lib"
)

// writes of logs, as the system gets them; each fails while full is set.
var (
	writes   atomic.Int64
	full     atomic.Bool
	writeLog moveFunc
)

func counted(tls *libc.TLS, file, memory uintptr, n int32, at int64) int32 {
	writes.Add(1)
	if full.Load() {
		return codes.SQLITE_FULL
	}
	return writeLog(tls, file, memory, n, at)
}

// watched is a store whose calls to write its log are counted.
func watched(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := Open(t.Context(), Config{Path: path})
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	was := gathering.file.FxWrite
	writeLog = called[moveFunc](was)
	gathering.file.FxWrite = address[moveFunc](counted)
	t.Cleanup(func() { gathering.file.FxWrite = was })
	return s, path
}

// run runs statements on the connection that writes; the last error is returned.
func run(s *Store, statements ...string) error {
	return s.InTurn(context.Background(), func(c *sql.Conn) (err error) {
		for _, q := range statements {
			if _, err = c.ExecContext(context.Background(), q); err != nil {
				err = fmt.Errorf("%.40s: %w", q, err)
			}
		}
		return err
	})
}

// fill inserts rows of half a page with numbers from first on.
func fill(first, rows int) string {
	return fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO t SELECT i, randomblob(2000) FROM n`, first, first+rows-1)
}

// TestGatherWrites: what a commit appends is written by one call for 31 frames, and synced.
func TestGatherWrites(t *testing.T) {
	s, _ := watched(t)
	ok(t, run(s, `CREATE TABLE t (i INTEGER PRIMARY KEY, x BLOB)`))
	for _, rows := range []int{1, 20, 50, 51, 52, 53, 54, 400} {
		frames, before := s.LogFrames(), writes.Load()
		ok(t, run(s, fill(rows*1000, rows)))
		frames = s.LogFrames() - frames
		if got, want := writes.Load()-before, (frames+30)/31; got != want {
			t.Errorf("%d rows, %d frames: %d writes, want %d", rows, frames, got, want)
		}
	}
	ok(t, s.InTurn(t.Context(), func(c *sql.Conn) error {
		var level int
		if err := c.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&level); err != nil {
			return err
		}
		if level != 2 { // FULL: without it what is kept would not be written before others are told
			t.Errorf("synchronous is %d", level)
		}
		return nil
	}))
}

// TestGatherSeen: as soon as a commit is over every frame of it stands in the file, as a stranger reads it: by the log's format, and by SQLite.
// So it is after transactions larger than the cache, some of which are undone in part or whole, and when the log is begun anew.
func TestGatherSeen(t *testing.T) {
	s, path := watched(t)
	ok(t, run(s, `CREATE TABLE t (i INTEGER PRIMARY KEY, x BLOB)`, `CREATE INDEX t_x ON t (x)`, `PRAGMA cache_size(10)`))
	stranger, err := sql.Open("sqlite", "file:"+path)
	ok(t, err)
	defer stranger.Close()
	rows, frames := 0, int64(0)
	for round := range 5 {
		began := s.LogFrames()
		ok(t, run(s, `BEGIN IMMEDIATE`, fill(round*10_000, 60), `SAVEPOINT a`, fill(round*10_000+1000, 40), `UPDATE t SET x = randomblob(1500) WHERE i % 3 = 0`, `ROLLBACK TO a`,
			fill(round*10_000+2000, 10), `COMMIT`))
		ok(t, run(s, `BEGIN IMMEDIATE`, `UPDATE t SET x = randomblob(1000)`, `ROLLBACK`))
		rows += 70
		if round == 2 {
			if s.LogFrames() <= began {
				t.Fatal("the log was begun anew too early: this test shows less")
			}
			ok(t, s.checkpoints.restart())
		}
		ok(t, run(s, fill(round*10_000+5000, 1)))
		rows++
		h, _ := s.index.header()
		frames = proved(t, path+"-wal", &h)
		var n int
		var sound string
		ok(t, stranger.QueryRow(`SELECT COUNT(*) FROM t`).Scan(&n))
		ok(t, stranger.QueryRow(`PRAGMA integrity_check`).Scan(&sound))
		if n != rows || sound != "ok" {
			t.Fatalf("round %d: %d rows, want %d; %s", round, n, rows, sound)
		}
	}
	if frames == 0 {
		t.Error("no frame was looked at")
	}
}

// proved walks a log by its format up to where the header says that it ends, and returns how many frames it has.
func proved(t *testing.T, path string, h *walHeader) int64 {
	t.Helper()
	log, err := os.ReadFile(path)
	ok(t, err)
	var a, b uint32
	sum := func(p []byte) {
		for i := 0; i < len(p); i += 8 { // the words of a log that this machine began
			a += binary.NativeEndian.Uint32(p[i:]) + b
			b += binary.NativeEndian.Uint32(p[i+4:]) + a
		}
	}
	holds := func(p []byte) bool {
		return a == binary.BigEndian.Uint32(p) && b == binary.BigEndian.Uint32(p[4:])
	}
	if sum(log[:24]); !holds(log[24:]) {
		t.Fatal("the header of the log has another checksum")
	}
	last := false
	n := int64(h.frames())
	for i := range n {
		f := log[32+i*4120:][:4120]
		sum(f[:8])
		if sum(f[24:]); !holds(f[16:]) || string(f[8:16]) != string(log[16:24]) {
			t.Fatalf("frame %d of %d is not there", i+1, n)
		}
		last = binary.BigEndian.Uint32(f[4:]) > 0
	}
	if n > 0 && !last {
		t.Fatal("the log does not end with a commit")
	}
	return n
}

// TestGatherFails: a log that cannot be written fails the commit, whole, and the next one stands.
func TestGatherFails(t *testing.T) {
	s, path := watched(t)
	ok(t, run(s, `CREATE TABLE t (i INTEGER PRIMARY KEY, x BLOB)`, fill(1, 10)))
	began := s.LogFrames()
	full.Store(true)
	err := run(s, fill(100, 70))
	full.Store(false)
	if err == nil || !strings.Contains(err.Error(), "full") || classify(err) != "unavailable" {
		t.Errorf("the commit gave %v", err)
	}
	if s.LogFrames() != began {
		t.Error("the index tells of frames that are not there")
	}
	ok(t, run(s, fill(200, 1)))
	h, _ := s.index.header()
	proved(t, path+"-wal", &h)
	stranger, err := sql.Open("sqlite", "file:"+path)
	ok(t, err)
	defer stranger.Close()
	var rows int
	ok(t, stranger.QueryRow(`SELECT COUNT(*) FROM t`).Scan(&rows))
	if rows != 11 {
		t.Errorf("%d rows, want 11", rows)
	}
}

// TestGatherEnds: a store that is closed leaves nothing behind.
func TestGatherEnds(t *testing.T) {
	count := func() int {
		gathering.mu.Lock()
		defer gathering.mu.Unlock()
		return len(gathering.logs)
	}
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "x.db")})
	ok(t, err)
	if count() == 0 {
		t.Error("no log is gathered")
	}
	ok(t, s.Close())
	for end := time.Now().Add(5 * time.Second); count() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := count(); n > 0 {
		t.Errorf("%d logs are open", n)
	}
}
