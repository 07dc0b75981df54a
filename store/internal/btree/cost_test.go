package btree_test

import (
	"context"
	"math"
	"testing"
)

// TestCost holds what a walk over a whole table costs: each of its pages is read once, sixty-four leaves a question, and a row
// takes no memory.
func TestCost(t *testing.T) {
	const size, rows = 4096, 20_000
	db := open(t, size)
	do(t, db, "CREATE TABLE t (k INTEGER PRIMARY KEY, b BLOB NOT NULL, c BLOB NOT NULL)")
	do(t, db, "WITH RECURSIVE n (k) AS (VALUES (1) UNION ALL SELECT k + 1 FROM n WHERE k < ?1) INSERT INTO t SELECT k, randomblob(230), randomblob(32) FROM n", rows)
	var leaves, inner int
	if err := db.QueryRow("SELECT SUM(pagetype = 'leaf'), SUM(pagetype = 'internal') FROM dbstat WHERE name = 't'").Scan(&leaves, &inner); err != nil {
		t.Fatal(err)
	}
	tab := table(t, db, "t", size)
	questions, pages, held := 0, map[uint32]int{}, map[uint32][]byte{}
	fetch := tab.Fetch
	tab.Fetch = func(ctx context.Context, numbers []uint32, into []byte) error {
		questions++
		err := fetch(ctx, numbers, into)
		for i, n := range numbers {
			pages[n]++
			held[n] = append([]byte(nil), into[i*size:][:size]...)
		}
		return err
	}
	n, err := all(tab.Scan(math.MinInt64, math.MaxInt64))
	if err != nil || n != rows {
		t.Fatal(n, err)
	}
	for page, times := range pages {
		if times != 1 {
			t.Errorf("page %d was read %d times", page, times)
		}
	}
	if len(pages) != leaves+inner {
		t.Errorf("%d pages were read, the table has %d leaves and %d inner pages", len(pages), leaves, inner)
	}
	if most := leaves/64 + 3*inner + 2; questions > most {
		t.Errorf("%d questions for %d pages, at most %d are wanted", questions, len(pages), most)
	}
	tab.Fetch = func(_ context.Context, numbers []uint32, into []byte) error {
		for i, n := range numbers {
			copy(into[i*size:], held[n])
		}
		return nil
	}
	if each := testing.AllocsPerRun(3, func() { _, _ = all(tab.Scan(math.MinInt64, math.MaxInt64)) }) / rows; each > 0.01 {
		t.Errorf("%.3f allocations a row", each)
	}
}
