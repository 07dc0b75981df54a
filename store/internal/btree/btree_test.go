package btree_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"bulkhead/store/internal/btree"
)

func open(t testing.TB, pageSize int) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	do(t, db, fmt.Sprintf("PRAGMA page_size = %d", pageSize))
	db.SetMaxOpenConns(4) // the log comes after the size, which is then of the file
	do(t, db, "PRAGMA journal_mode = WAL")
	return db
}

func do(t testing.TB, db *sql.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.Exec(text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// table is a table of a database as its pages have it.
func table(t testing.TB, db *sql.DB, name string, size int) btree.Table {
	t.Helper()
	tab := btree.Table{PageSize: size}
	if err := db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = ?", name).Scan(&tab.Root); err != nil {
		t.Fatal(err)
	}
	tab.Fetch = func(_ context.Context, pages []uint32, into []byte) error {
		list, err := json.Marshal(pages)
		if err != nil {
			return err
		}
		rows, err := db.Query("SELECT p.data FROM json_each(?) j CROSS JOIN sqlite_dbpage p ON p.pgno = j.value", string(list))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p []byte
			if err := rows.Scan(&p); err != nil {
				return err
			}
			into = into[copy(into, p):]
		}
		return rows.Err()
	}
	return tab
}

// compare reads a range in both ways.
func compare(t *testing.T, db *sql.DB, size int, after, through int64) (n int) {
	t.Helper()
	rows, err := db.Query("SELECT k, i, b, s, n FROM t WHERE k > ? AND k <= ? ORDER BY k", after, through)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	c := table(t, db, "t", size).Scan(after, through)
	got := make([]btree.Value, 5)
	for ; rows.Next(); n++ {
		var k, i int64
		var b []byte
		var s string
		var null sql.NullInt64
		if err := rows.Scan(&k, &i, &b, &s, &null); err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Next(t.Context()); err != nil || !ok {
			t.Fatalf("row %d of (%d, %d]: %v, %v", n, after, through, ok, err)
		}
		clear(got)
		if err := c.Columns(got); err != nil {
			t.Fatal(err)
		}
		if c.Key() != k || got[0].Kind != btree.Null || got[1].Kind != btree.Integer || got[1].Int != i ||
			got[2].Kind != btree.Blob || !bytes.Equal(got[2].Bytes, b) || got[3].Kind != btree.Text || string(got[3].Bytes) != s || (got[4].Kind == btree.Null) == null.Valid {
			t.Fatalf("row %d is %d %d %.20x %.20q, the pages say %d %+v", k, k, i, b, s, c.Key(), got)
		}
	}
	if ok, err := c.Next(t.Context()); ok || err != nil {
		t.Fatalf("after the end of (%d, %d]: %v, %v", after, through, ok, err)
	}
	if ok, err := c.Next(t.Context()); ok || err != nil {
		t.Fatalf("again: %v, %v", ok, err)
	}
	return n
}

// TestPagesAreRows: tables of any shape read by pages are what SQL says: small and large pages, rows that overflow, every width of
// integer, keys below zero, holes, what is still in the log only, a table without rows.
func TestPagesAreRows(t *testing.T) {
	for _, size := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(size)))
			db := open(t, size)
			do(t, db, "CREATE TABLE t (k INTEGER PRIMARY KEY, i INTEGER NOT NULL, b BLOB NOT NULL, s TEXT NOT NULL, n INTEGER) STRICT")
			if n := compare(t, db, size, math.MinInt64, math.MaxInt64); n != 0 {
				t.Fatalf("%d rows of none", n)
			}
			numbers := []int64{0, 1, -1, 127, -128, 1 << 15, -1 << 15, 1 << 23, -1 << 23, 1 << 31, -1 << 31, 1 << 47, -1 << 47, math.MaxInt64, math.MinInt64}
			total := 0
			for round := range 3 {
				tx, err := db.Begin()
				if err != nil {
					t.Fatal(err)
				}
				for i := range 700 {
					long := rnd.IntN(200)
					if rnd.IntN(20) == 0 {
						long = rnd.IntN(4 * size)
					}
					var null any
					if i%2 == 0 {
						null = i
					}
					key := int64(round*700+i) - 300
					if _, err := tx.Exec("INSERT INTO t VALUES (?, ?, ?, ?, ?)", key, numbers[rnd.IntN(len(numbers))], bytes.Repeat([]byte{byte(i)}, long), fmt.Sprintf("%*d", rnd.IntN(60), i), null); err != nil {
						t.Fatal(err)
					}
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				do(t, db, "DELETE FROM t WHERE k % 7 = ?", round)
				total = compare(t, db, size, math.MinInt64, math.MaxInt64)
				for range 30 {
					a, b := int64(rnd.IntN(2500)-400), int64(rnd.IntN(2500)-400)
					compare(t, db, size, a, b)
				}
			}
			if total < 1000 {
				t.Errorf("%d rows", total)
			}
		})
	}
}

// TestDamage: pages that form a circle, leaves among inner pages and cut pages are refused.
func TestDamage(t *testing.T) {
	const size = 512
	db := open(t, size)
	do(t, db, "CREATE TABLE t (k INTEGER PRIMARY KEY, b BLOB NOT NULL)")
	for i := range 400 {
		do(t, db, "INSERT INTO t VALUES (?, zeroblob(?))", i, 40+i)
	}
	whole := table(t, db, "t", size)
	for name, change := range map[string]func(n uint32, page []byte) uint32{
		"a circle":       func(n uint32, _ []byte) uint32 { return min(n, whole.Root+3) },
		"always root":    func(uint32, []byte) uint32 { return whole.Root },
		"another kind":   func(n uint32, p []byte) uint32 { p[0] ^= byte(n % 2); return 0 },
		"too many cells": func(_ uint32, p []byte) uint32 { p[3] = 0xff; return 0 },
		"empty":          func(_ uint32, p []byte) uint32 { p[3], p[4] = 0, 0; return 0 },
		"cells outside":  func(_ uint32, p []byte) uint32 { p[8], p[12] = 0xff, 0xff; return 0 },
		"nothing":        func(_ uint32, p []byte) uint32 { clear(p); return 0 },
	} {
		bad := whole
		bad.Fetch = func(ctx context.Context, pages []uint32, into []byte) error {
			if err := whole.Fetch(ctx, pages, into); err != nil {
				return err
			}
			for i, n := range pages {
				p := into[i*size:][:size]
				if other := change(n, p); other > 0 {
					if err := whole.Fetch(ctx, []uint32{other}, p); err != nil {
						return err
					}
				}
			}
			return nil
		}
		if _, err := all(bad.Scan(math.MinInt64, math.MaxInt64)); !errors.Is(err, btree.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := all(whole.Scan(math.MinInt64, math.MaxInt64)); n != 400 || err != nil {
		t.Errorf("without damage: %d, %v", n, err)
	}
}

func all(c *btree.Cursor) (n int, err error) {
	values := make([]btree.Value, 3)
	for {
		if ok, err := c.Next(context.Background()); err != nil || !ok {
			return n, err
		}
		if err := c.Columns(values); err != nil {
			return n, err
		}
		n++
	}
}

// FuzzScan: whatever the pages hold, a walk ends, with keys that rise.
func FuzzScan(f *testing.F) {
	const size = 512
	db := open(f, size)
	do(f, db, "CREATE TABLE t (k INTEGER PRIMARY KEY, b BLOB NOT NULL)")
	for i := range 12 {
		do(f, db, "INSERT INTO t VALUES (?, zeroblob(?))", i, 100*i)
	}
	whole := table(f, db, "t", size)
	var pages []byte
	for n := uint32(2); ; n++ {
		page := make([]byte, size)
		if whole.Fetch(context.Background(), []uint32{n}, page) != nil || bytes.Equal(page, make([]byte, size)) {
			break
		}
		pages = append(pages, page...)
	}
	f.Add(pages, int64(0), int64(1000))
	f.Add(pages[:size], int64(5), int64(7))
	f.Fuzz(func(t *testing.T, pages []byte, after, through int64) {
		fetched := 0
		c := btree.Table{Root: 2, PageSize: size, Fetch: func(_ context.Context, numbers []uint32, into []byte) error {
			if fetched += len(numbers); fetched > 100_000 { // a few records that name the same overflow pages again and again
				return btree.ErrMalformed
			}
			for i, n := range numbers {
				if n < 2 || int(n-1)*size > len(pages) {
					return btree.ErrMalformed
				}
				copy(into[i*size:][:size], pages[int(n-2)*size:])
			}
			return nil
		}}.Scan(after, through)
		last, values := int64(math.MinInt64), make([]btree.Value, 4)
		for {
			ok, err := c.Next(context.Background())
			if err != nil || !ok {
				return
			}
			if c.Key() <= after || c.Key() > through || c.Key() < last {
				t.Fatalf("key %d after %d of (%d, %d]", c.Key(), last, after, through)
			}
			last = c.Key()
			if c.Columns(values) != nil {
				return
			}
		}
	})
}
