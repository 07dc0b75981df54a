package evidence

import (
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// guard is the signer that the log library gets: it signs a checkpoint only when its root is the one that we computed
// from the rows ourselves. While closed it signs nothing but the empty tree of a new log.
type guard struct {
	signer note.Signer
	origin string

	mu      sync.Mutex // guards below
	open    bool
	roots   map[int64]bulkhead.Hash // trees that may be signed, by size
	refused error                   // the first tree that was not ours
}

var _ note.Signer = (*guard)(nil)

func newGuard(s note.Signer) *guard {
	return &guard{signer: s, origin: s.Name(), roots: map[int64]bulkhead.Hash{0: bulkhead.Digest(nil)}}
}

// Name implements note.Signer.
func (g *guard) Name() string { return g.signer.Name() }

// KeyHash implements note.Signer.
func (g *guard) KeyHash() uint32 { return g.signer.KeyHash() }

// Sign implements note.Signer.
func (g *guard) Sign(msg []byte) ([]byte, error) {
	cp, err := tlog.ParseCheckpoint(string(msg))
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	root, ok := g.roots[cp.Size]
	switch {
	case !g.open && cp.Size > 0:
		return nil, fmt.Errorf("the tree of %d leaves is not yet compared with the rows", cp.Size)
	case cp.Origin != g.origin || !ok || root != cp.Root:
		err := fmt.Errorf("the tiles lead to root %s for %d leaves, which is not that of the rows", cp.Root, cp.Size)
		if g.refused == nil {
			g.refused = err
		}
		return nil, err
	}
	return g.signer.Sign(msg)
}

// shut stops signing until the next allow.
func (g *guard) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
}

// allow adds a tree that is true to the rows, and opens the guard.
func (g *guard) allow(size int64, root bulkhead.Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	g.roots[size] = root
}

// covered forgets trees below size.
func (g *guard) covered(size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.roots {
		if s < size {
			delete(g.roots, s)
		}
	}
}

// root returns the tree allowed for a size.
func (g *guard) root(size int64) (bulkhead.Hash, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, ok := g.roots[size]
	return h, ok
}

// err returns the first refusal since the start, nil when there was none.
func (g *guard) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}
