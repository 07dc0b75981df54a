package tlog

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"bulkhead"
)

// Frontier is the right edge of a tree: enough of it to append leaves and to know the root. The zero value is the
// empty tree. A writer uses it to know, without asking the tiles, which root it must sign.
type Frontier struct {
	size  int64
	nodes []tlog.Hash // roots of the perfect subtrees, largest first
}

// ReadFrontier reads the right edge of the tree that cp covers from the tiles, proved against cp.
func ReadFrontier(read TileReader, cp Checkpoint) (*Frontier, error) {
	if cp.Size == 0 {
		return &Frontier{}, nil
	}
	var indexes []int64
	for at, rest := int64(0), cp.Size; rest > 0; {
		level := bits.Len64(uint64(rest)) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
		at, rest = at+1<<level, rest-1<<level
	}
	nodes, err := newTiles(read).hashes(cp).ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("right edge of %d leaves: %w", cp.Size, err)
	}
	return &Frontier{size: cp.Size, nodes: nodes}, nil
}

// Clone returns a copy that can be appended to on its own.
func (f *Frontier) Clone() *Frontier {
	return &Frontier{size: f.size, nodes: append([]tlog.Hash(nil), f.nodes...)}
}

// Append adds a leaf.
func (f *Frontier) Append(leaf []byte) {
	h := tlog.RecordHash(leaf)
	for n := f.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(f.nodes[len(f.nodes)-1], h)
		f.nodes = f.nodes[:len(f.nodes)-1]
	}
	f.nodes = append(f.nodes, h)
	f.size++
}

// Size is the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Root is the RFC 6962 tree hash.
func (f *Frontier) Root() bulkhead.Hash {
	if f.size == 0 {
		return bulkhead.Digest(nil)
	}
	h := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.nodes[i], h)
	}
	return bulkhead.Hash(h)
}

// TreeRoot computes the root that the tiles claim for size leaves. Nothing is proved: it is for a writer who picks up
// tiles that no checkpoint covers yet and goes on to compare them with its rows.
func TreeRoot(read TileReader, size int64) (bulkhead.Hash, error) {
	if size == 0 {
		return bulkhead.Digest(nil), nil
	}
	t := newTiles(read)
	h, err := tlog.TreeHash(size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			tile := tlog.TileForIndex(height, index)
			tile.W = int(min(width, size>>(tile.L*height)-tile.N*width))
			data, err := t.ReadTiles([]tlog.Tile{tile})
			if err != nil {
				return nil, err
			}
			if out[i], err = tlog.HashFromTile(tile, data[0], index); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrTile, err)
			}
		}
		return out, nil
	}))
	if err != nil {
		return bulkhead.Hash{}, fmt.Errorf("root of %d leaves: %w", size, err)
	}
	return bulkhead.Hash(h), nil
}
