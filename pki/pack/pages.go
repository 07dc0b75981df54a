package pack

import (
	"crypto/sha256"
	"errors"
	"math/bits"
	"sync/atomic"

	"bulkhead"
)

// ErrDamaged is what looking something up ends with when the pack's bytes are not those that its Tail speaks of. What the
// pack says of the serial is then not known: no older pack may be asked in its place.
var ErrDamaged = errors.New("pack: damaged")

// pages are the digests of a pack's pages, and which pages were held against theirs.
type pages struct {
	digests []byte          // copied: what is mapped may change
	good    []atomic.Uint32 // a bit for each page
	bad     atomic.Int64    // 1 + a page that was not what its digest says, 0 when there was none
}

// Tail is the pack's own last digest: whoever knows it from a head that he believes may believe what is found in the pack,
// because the tail is verified by Open and each page before anything is found in it. Zero for version 1, of which nothing
// is verified but by Verify.
func (p *Pack) Tail() bulkhead.Hash { return p.tail }

// Pages is the number of pages that are verified one by one; 0 for version 1.
func (p *Pack) Pages() int { return len(p.pages.digests) / sha256.Size }

// Paged is how many octets from its beginning lie in pages; the last page may be short.
func (p *Pack) Paged() int { return p.size }

// Verified is the number of pages that were held against their digests and found as they were written.
func (p *Pack) Verified() (n int) {
	for i := range p.pages.good {
		n += bits.OnesCount32(p.pages.good[i].Load())
	}
	return n
}

// Damaged reports where in the pack, in octets, a page lies that was found damaged; false when none was.
func (p *Pack) Damaged() (offset int64, damaged bool) {
	n := p.pages.bad.Load()
	return max(n-1, 0) * PageSize, n > 0
}

// CheckPage verifies page n as somebody read it, who can say that the pack's bytes are the same. It reports false, and the pack is
// Damaged, when it is not what the tail says.
func (p *Pack) CheckPage(n int, page []byte) bool {
	if sum := sha256.Sum256(page); string(sum[:]) != string(p.pages.digests[n*sha256.Size:(n+1)*sha256.Size]) {
		p.pages.bad.CompareAndSwap(0, int64(n)+1)
		return false
	}
	p.pages.good[n/32].Or(1 << (n % 32))
	return true
}

// sound reports whether the pages from octet from up to octet to are as they were written, looking at each page once. to is at
// most the size of the pages.
func (p *Pack) sound(from, to int) bool {
	if p.pages.good == nil {
		return true
	}
	for n := from / PageSize; n*PageSize < to; n++ {
		if p.pages.good[n/32].Load()&(1<<(n%32)) == 0 && !p.CheckPage(n, p.data[n*PageSize:min((n+1)*PageSize, p.size)]) {
			return false
		}
	}
	return true
}

// vouch takes all pages for verified.
func (p *Pack) vouch() {
	for n := range p.Pages() {
		p.pages.good[n/32].Or(1 << (n % 32))
	}
}
