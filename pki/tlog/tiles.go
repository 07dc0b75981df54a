package tlog

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/mod/sumdb/tlog"

	"bulkhead"
)

// width is the number of hashes in a full tile and of leaves in a full bundle; height its binary logarithm.
const (
	height = 8
	width  = 1 << height
)

// TileReader returns the bytes of an object of the log by its path, such as "tile/0/x001/067" or
// "tile/entries/000.p/12". It answers an error that is fs.ErrNotExist when there is no such object. The caller closes
// over its own context and deadline.
type TileReader func(path string) ([]byte, error)

// VerifyInclusion proves from the tiles alone that leaf is number index (from 0) of the log that cp covers. Errors
// wrap ErrLeaf when another leaf stands there, ErrTile when the tiles do not hash to cp, fs.ErrNotExist when a tile is
// missing.
func VerifyInclusion(read TileReader, cp Checkpoint, index int64, leaf []byte) error {
	if index < 0 || index >= cp.Size {
		return fmt.Errorf("leaf %d is not covered by a checkpoint of %d leaves: %w", index, cp.Size, ErrLeaf)
	}
	hashes := newTiles(read).hashes(cp)
	proof, err := tlog.ProveRecord(cp.Size, index, hashes)
	if err != nil {
		return fmt.Errorf("leaf %d: %w", index, err)
	}
	if err := tlog.CheckRecord(proof, cp.Size, tlog.Hash(cp.Root), index, tlog.RecordHash(leaf)); err != nil {
		return fmt.Errorf("leaf %d: %w", index, ErrLeaf)
	}
	return nil
}

// VerifyConsistency proves from the tiles alone that the log of newer begins with the whole log of older. Errors wrap
// ErrFork when it does not (older being larger is a fork too), ErrTile when the tiles do not hash to newer.
func VerifyConsistency(read TileReader, older, newer Checkpoint) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("origins %q and %q: %w", older.Origin, newer.Origin, ErrFork)
	case older.Size > newer.Size:
		return fmt.Errorf("the older checkpoint has %d leaves, the newer only %d: %w", older.Size, newer.Size, ErrFork)
	case older.Size == newer.Size && older.Root != newer.Root, older.Size == 0 && older.Root != bulkhead.Digest(nil):
		return fmt.Errorf("two roots for %d leaves: %w", older.Size, ErrFork)
	case older.Size == newer.Size, older.Size == 0:
		return nil
	}
	proof, err := tlog.ProveTree(newer.Size, older.Size, newTiles(read).hashes(newer))
	if err != nil {
		return fmt.Errorf("consistency of %d with %d leaves: %w", newer.Size, older.Size, err)
	}
	if err := tlog.CheckTree(proof, newer.Size, tlog.Hash(newer.Root), older.Size, tlog.Hash(older.Root)); err != nil {
		return fmt.Errorf("the first %d leaves differ: %w", older.Size, ErrFork)
	}
	return nil
}

// Walk reads the leaves from index from (0 for all) to the end of cp, in order, and calls visit for each after it is
// proved to be in the log. It stops at the first error. Memory is bounded by a few bundles; a leaf is never written over, so visit
// may keep it.
func Walk(read TileReader, cp Checkpoint, from int64, visit func(index int64, leaf []byte) error) error {
	if cp.Size == 0 && cp.Root != bulkhead.Digest(nil) {
		return fmt.Errorf("a root other than that of an empty log, for 0 leaves: %w", ErrTile)
	}
	t := newTiles(read)
	for n := from / width; n*width < cp.Size; n++ {
		w := int(min(width, cp.Size-n*width))
		leaves, err := t.bundle(cp, n, w)
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			if index := n*width + int64(i); index >= from {
				if err := visit(index, leaf); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// VerifyLeaves proves that leaves are those from number first on in the log that cp covers; they come from one bundle, so first
// is a multiple of 256. It is for logs whose bundles have another form (static-ct-api).
func VerifyLeaves(read TileReader, cp Checkpoint, first int64, leaves [][]byte) error {
	if first < 0 || first%width != 0 || len(leaves) > width || first+int64(len(leaves)) > cp.Size {
		return fmt.Errorf("leaves %d to %d are not one bundle of %d: %w", first, first+int64(len(leaves)), cp.Size, ErrLeaf)
	}
	indexes := make([]int64, len(leaves))
	for i := range leaves {
		indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	hashes, err := newTiles(read).hashes(cp).ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("leaves from %d: %w", first, err)
	}
	for i, leaf := range leaves {
		if tlog.RecordHash(leaf) != hashes[i] {
			return fmt.Errorf("leaf %d: %w", first+int64(i), ErrLeaf)
		}
	}
	return nil
}

// ReadLeaf reads leaf number index (from 0) and proves it against cp.
func ReadLeaf(read TileReader, cp Checkpoint, index int64) ([]byte, error) {
	if index < 0 || index >= cp.Size {
		return nil, fmt.Errorf("leaf %d is not covered by a checkpoint of %d leaves: %w", index, cp.Size, ErrLeaf)
	}
	n := index / width
	leaves, err := newTiles(read).bundle(cp, n, int(min(width, cp.Size-n*width)))
	if err != nil {
		return nil, err
	}
	return leaves[index%width], nil
}

// Path is the tlog-tiles path of a tile or, with level -1, of an entry bundle; w is 256 for a full one.
func Path(level int, n int64, w int) string {
	kind := fmt.Sprint(level)
	if level < 0 {
		kind = "entries"
	}
	num := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		num = fmt.Sprintf("x%03d/%s", n%1000, num)
	}
	if w < width {
		return fmt.Sprintf("tile/%s/%s.p/%d", kind, num, w)
	}
	return "tile/" + kind + "/" + num
}

// tiles reads tiles for the proof code of x/mod/sumdb/tlog and keeps those that were proved.
type tiles struct {
	read  TileReader
	saved map[tlog.Tile][]byte
}

// maxSaved bounds the cache; a proof touches at most one tile per level.
const maxSaved = 64

func newTiles(read TileReader) *tiles {
	return &tiles{read: read, saved: make(map[tlog.Tile][]byte)}
}

// Height implements tlog.TileReader.
func (t *tiles) Height() int { return height }

// ReadTiles implements tlog.TileReader.
func (t *tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, tile := range list {
		p, ok := t.saved[tile]
		if !ok {
			var err error
			if p, err = t.object(tile.L, tile.N, tile.W); err != nil {
				return nil, err
			}
			if len(p) < tile.W*tlog.HashSize {
				return nil, fmt.Errorf("%s has %d bytes instead of %d: %w", Path(tile.L, tile.N, tile.W), len(p), tile.W*tlog.HashSize, ErrTile)
			}
			p = p[:tile.W*tlog.HashSize]
		}
		out[i] = p
	}
	return out, nil
}

// SaveTiles implements tlog.TileReader; the tiles are proved when it is called.
func (t *tiles) SaveTiles(list []tlog.Tile, data [][]byte) {
	if len(t.saved)+len(list) > maxSaved {
		clear(t.saved)
	}
	for i, tile := range list {
		t.saved[tile] = data[i]
	}
}

// object reads a tile or bundle of w members. A partial one may have been removed once the full one exists
// (tlog-tiles, "Partial Tiles"), so that is tried next; the caller cuts it.
func (t *tiles) object(level int, n int64, w int) ([]byte, error) {
	p, err := t.read(Path(level, n, w))
	if w < width && errors.Is(err, fs.ErrNotExist) {
		if full, ferr := t.read(Path(level, n, width)); ferr == nil {
			return full, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Path(level, n, w), err)
	}
	return p, nil
}

// hashes reads proved hashes of the tree that cp covers.
func (t *tiles) hashes(cp Checkpoint) tlog.HashReader {
	r := tlog.TileHashReader(tlog.Tree{N: cp.Size, Hash: tlog.Hash(cp.Root)}, t)
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		h, err := r.ReadHashes(indexes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrTile) {
			return nil, fmt.Errorf("%w: %w", ErrTile, err)
		}
		return h, err
	})
}

// bundle reads the first w leaves of bundle n and proves each against cp.
func (t *tiles) bundle(cp Checkpoint, n int64, w int) ([][]byte, error) {
	raw, err := t.object(-1, n, w)
	if err != nil {
		return nil, err
	}
	s := cryptobyte.String(raw)
	leaves := make([][]byte, w)
	for i := range leaves {
		var leaf cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&leaf) {
			return nil, fmt.Errorf("%s ends within leaf %d: %w", Path(-1, n, w), n*width+int64(i), ErrLeaf)
		}
		leaves[i] = leaf
	}
	// The leaves of a bundle are the hashes of one tile, which is proved as a whole, whichever of them is asked for.
	if _, err := t.hashes(cp).ReadHashes([]int64{tlog.StoredHashIndex(0, n*width)}); err != nil {
		return nil, fmt.Errorf("leaves from %d: %w", n*width, err)
	}
	tile := t.saved[tlog.Tile{H: height, L: 0, N: n, W: w}]
	if len(tile) != w*tlog.HashSize {
		return nil, fmt.Errorf("leaves from %d: %w", n*width, ErrTile)
	}
	for i, leaf := range leaves {
		if sum := tlog.RecordHash(leaf); string(sum[:]) != string(tile[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
			return nil, fmt.Errorf("leaf %d: %w", n*width+int64(i), ErrLeaf)
		}
	}
	return leaves, nil
}
