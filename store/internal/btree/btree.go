// Package btree reads tables of an SQLite file page by page, in the order of their integer keys.
//
// Purpose: whoever goes over every row of a large table (proof, check of evidence, restore) pays more for asking SQLite for each
// row and column than for everything that is done with them. A page holds dozens of rows. The pages come from SQLite itself, inside
// a transaction, so a reader beside a writer sees one moment (https://www.sqlite.org/fileformat2.html, sections 1.5, 1.6 and 2.1).
//
// Invariant: keys rise strictly and every leaf has one, so that no page is read twice and a circle among pages ends; what is handed
// out is what the same query in SQL would give.
//
// Refuses: to write; indexes and tables without integer key; a page, cell or record that is not well formed: the error is
// ErrMalformed, and nothing after it is handed out.
package btree

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrMalformed is a page, a cell or a record that is not what the format says.
var ErrMalformed = errors.New("a page of the database is malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Fetch copies the pages of these numbers, in the same order, into one after another; fewer is an error.
type Fetch func(ctx context.Context, pages []uint32, into []byte) error

const (
	ahead     = 64       // leaf pages that are asked for at once
	maxDepth  = 20       // of a tree; ten thousand million rows have six
	maxRecord = 16 << 20 // octets
	minUsable = 480      // of a page (section 1.3.4)
)

// Kinds of pages (section 1.6).
const (
	interiorTable = 5
	leafTable     = 13
)

// Table is where a table lies.
type Table struct {
	Root     uint32 // number of its root page
	PageSize int    // octets
	Reserved int    // octets at the end of each page that hold no content
	Fetch    Fetch
}

// Cursor goes over the rows of a table. It belongs to one goroutine.
type Cursor struct {
	t              Table
	usable         int
	after, through int64
	levels         [][]child // what is to be visited, by depth
	leafDepth      int       // -1 until the first leaf is seen
	leaves         []byte    // that were fetched and not read yet
	bulk, one      []byte    // memory of many pages, and of one
	page           []byte    // the leaf that is read
	cell, cells    int
	key            int64
	payload        []byte
	spill          []byte // memory of a payload that has overflow pages
	numbers        []uint32
}

type child struct {
	page uint32
	last int64 // no key below it is larger
}

// Scan begins before the first row with a key above after; rows with a key above through are left out.
func (t Table) Scan(after, through int64) *Cursor {
	return &Cursor{t: t, usable: t.PageSize - t.Reserved, after: after, through: through, key: math.MinInt64, leafDepth: -1, levels: [][]child{{{t.Root, math.MaxInt64}}}}
}

// Next moves to the next row; ok is false at the end.
func (c *Cursor) Next(ctx context.Context) (ok bool, err error) {
	if c.usable < minUsable || c.t.PageSize > 65536 || c.t.Reserved < 0 || c.t.Root < 2 {
		return false, malformed("pages of %d octets, %d reserved, root %d", c.t.PageSize, c.t.Reserved, c.t.Root)
	}
	for {
		for c.cell == c.cells {
			if more, err := c.leaf(ctx); err != nil || !more {
				return false, err
			}
		}
		was := c.key
		if err := c.read(ctx); err != nil {
			return false, err
		}
		if c.key <= was && was != math.MinInt64 {
			return false, malformed("key %d follows key %d", c.key, was)
		}
		if c.key > c.through {
			c.levels, c.leaves, c.cell, c.cells = nil, nil, 0, 0
			return false, nil
		}
		if c.key > c.after {
			return true, nil
		}
	}
}

// Key is the integer key of the row.
func (c *Cursor) Key() int64 { return c.key }

// leaf takes the next leaf page; false at the end.
func (c *Cursor) leaf(ctx context.Context) (bool, error) {
	for len(c.leaves) == 0 {
		d := len(c.levels) - 1
		for d >= 0 && len(c.levels[d]) == 0 {
			d--
		}
		if d < 0 {
			return false, nil
		}
		c.levels = c.levels[:d+1]
		if err := c.descend(ctx, d); err != nil {
			return false, err
		}
	}
	page := c.leaves[:c.usable]
	c.leaves = c.leaves[c.t.PageSize:]
	if page[0] != leafTable {
		return false, malformed("a page among leaves is of kind %d", page[0])
	}
	n := int(binary.BigEndian.Uint16(page[3:]))
	if 8+2*n > len(page) || n == 0 && c.leafDepth > 0 { // only the root of an empty table has none
		return false, malformed("%d cells in a leaf", n)
	}
	c.page, c.cell, c.cells = page, 0, n
	return true, nil
}

// descend fetches what is next at a depth: many pages at once where leaves are known to lie, else one.
func (c *Cursor) descend(ctx context.Context, d int) error {
	n := 1
	if d == c.leafDepth {
		n = min(ahead, len(c.levels[d]))
	}
	c.numbers = c.numbers[:0]
	for _, x := range c.levels[d][:n] {
		c.numbers = append(c.numbers, x.page)
	}
	c.levels[d] = c.levels[d][n:]
	if c.bulk == nil {
		c.bulk = make([]byte, ahead*c.t.PageSize)
	}
	pages := c.bulk[:n*c.t.PageSize]
	if err := c.t.Fetch(ctx, c.numbers, pages); err != nil {
		return err
	}
	switch {
	case d == c.leafDepth, c.leafDepth < 0 && pages[0] == leafTable:
		c.leafDepth, c.leaves = d, pages
		return nil
	case pages[0] != interiorTable || c.leafDepth >= 0 && d > c.leafDepth || d+1 >= maxDepth:
		return malformed("page %d is of kind %d at depth %d", c.numbers[0], pages[0], d)
	}
	return c.interior(pages[:c.usable], d)
}

// interior puts the children of an interior page that hold wanted keys to be visited (section 1.6).
func (c *Cursor) interior(page []byte, d int) error {
	n := int(binary.BigEndian.Uint16(page[3:]))
	if 12+2*n > len(page) {
		return malformed("%d cells in an interior page", n)
	}
	var list []child
	if len(c.levels) > d+1 {
		list = c.levels[d+1][:0]
	}
	last := int64(math.MinInt64)
	add := func(number uint32, key int64) {
		if key > c.after && last < c.through {
			list = append(list, child{number, key})
		}
		last = key
	}
	for i := range n {
		at := int(binary.BigEndian.Uint16(page[12+2*i:]))
		if at+5 > len(page) {
			return malformed("a cell at %d of an interior page", at)
		}
		key, _, ok := varint(page[at+4:])
		if !ok || int64(key) < last {
			return malformed("key of cell %d of an interior page", i)
		}
		add(binary.BigEndian.Uint32(page[at:]), int64(key))
	}
	add(binary.BigEndian.Uint32(page[8:]), math.MaxInt64)
	c.levels = append(c.levels[:d+1], list)
	return nil
}

// read takes the next cell: its key and the whole of its record.
func (c *Cursor) read(ctx context.Context) error {
	page := c.page
	at := int(binary.BigEndian.Uint16(page[8+2*c.cell:]))
	c.cell++
	if at >= len(page) {
		return malformed("a cell at %d of a leaf", at)
	}
	size, n, ok := varint(page[at:])
	if !ok || size > maxRecord {
		return malformed("a record of %d octets", size)
	}
	at += n
	key, n, ok := varint(page[at:])
	if !ok {
		return malformed("the key of a cell is cut off")
	}
	at += n
	c.key = int64(key)
	local := localSize(int(size), c.usable)
	if at+local > len(page) {
		return malformed("a record leaves its page")
	}
	c.payload = page[at : at+local]
	if local == int(size) {
		return nil
	}
	if at+local+4 > len(page) {
		return malformed("the rest of a record is nowhere")
	}
	if c.key <= c.after || c.key > c.through {
		return nil // nobody will look at it
	}
	return c.overflow(ctx, binary.BigEndian.Uint32(page[at+local:]), int(size))
}

// localSize is how much of a record stands in its leaf (section 1.6).
func localSize(size, usable int) int {
	most := usable - 35
	if size <= most {
		return size
	}
	least := (usable-12)*32/255 - 23
	if k := least + (size-least)%(usable-4); k <= most {
		return k
	}
	return least
}

// overflow joins a record that did not fit into its leaf.
func (c *Cursor) overflow(ctx context.Context, next uint32, size int) error {
	c.spill = append(c.spill[:0], c.payload...)
	for len(c.spill) < size {
		if next == 0 {
			return malformed("a record ends after %d of %d octets", len(c.spill), size)
		}
		if c.one == nil {
			c.one = make([]byte, c.t.PageSize)
		}
		c.numbers = append(c.numbers[:0], next)
		if err := c.t.Fetch(ctx, c.numbers, c.one); err != nil {
			return err
		}
		next = binary.BigEndian.Uint32(c.one)
		c.spill = append(c.spill, c.one[4:min(c.usable, 4+size-len(c.spill))]...)
	}
	c.payload = c.spill
	return nil
}

// varint reads a number of one to nine octets (section 1.6): ok is false when p ends within it.
func varint(p []byte) (v uint64, n int, ok bool) {
	if len(p) > 0 && p[0] < 0x80 {
		return uint64(p[0]), 1, true
	}
	for i := range min(8, len(p)) {
		v = v<<7 | uint64(p[i]&0x7f)
		if p[i] < 0x80 {
			return v, i + 1, true
		}
	}
	if len(p) < 9 {
		return 0, 0, false
	}
	return v<<8 | uint64(p[8]), 9, true
}
