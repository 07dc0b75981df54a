package pack

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync"
)

// directory says for each value of a serial's first bits after the window (less those of the first serial) how many entries
// lie below: a lookup then touches one or two cache lines of the index. It costs at most half an octet for each entry.
type directory struct {
	window int // octets that all serials have in common, where interpolation begins to look
	from   uint64
	shift  int
	ends   []uint32 // nil where it is not worth it
}

// Of the buckets of a pack: how many entries fall into one, and from how many entries on they are worth their memory.
// Packs small enough to stay in the processor's cache go without.
const perBucket, worthwhile = 16, 4096

// directoryOf is an empty directory of n entries between two serials.
func directoryOf(first, last *[keySize]byte, n int) (d directory) {
	for d.window < keySize-8 && first[d.window] == last[d.window] {
		d.window++
	}
	d.from = u64(first[d.window:])
	to := u64(last[d.window:])
	if n >= worthwhile && n <= math.MaxUint32 && to > d.from {
		d.shift = max(0, bits.Len64(to-d.from)-bits.Len(uint(n/perBucket)))
		d.ends = make([]uint32, (to-d.from)>>d.shift+2)
	}
	return d
}

// read takes the ends from a pack. What is not a directory of n entries is refused: lookups count on it.
func (d *directory) read(b []byte, n int) error {
	if len(b) != 4*len(d.ends) {
		return fmt.Errorf("pack: directory is damaged")
	}
	before := uint32(0)
	for i := range d.ends {
		d.ends[i] = u32(b[4*i:])
		if d.ends[i] < before || int(d.ends[i]) > n {
			return fmt.Errorf("pack: directory is damaged")
		}
		before = d.ends[i]
	}
	return nil
}

// fill reads an index once, on all processors: its order, and where in it each bucket ends.
func (d *directory) fill(index []byte, n int) error {
	workers := 1
	if d.ends != nil {
		workers = runtime.GOMAXPROCS(0)
	}
	type end struct{ bucket, next uint64 } // of a worker's part: its last bucket, which the next one may go on with
	ends, wrong := make([]end, workers), make([]int, workers)
	var g sync.WaitGroup
	for w := range workers {
		g.Go(func() {
			first, last := w*n/workers, (w+1)*n/workers
			wrong[w] = -1
			at, before := uint64(0), uint64(0)
			if first > 0 {
				before = u64(keyAt(index, first-1)[:])
			}
			for i := first; i < last; i++ {
				// Nearly always the first octets say it.
				key := keyAt(index, i)
				head := u64(key[:])
				if i > 0 && (head < before || head == before && bytes.Compare(keyAt(index, i-1)[:], key[:]) >= 0) {
					wrong[w] = i
					return
				}
				before = head
				if d.ends == nil {
					continue
				}
				b := (u64(key[d.window:])-d.from)>>d.shift + 1
				if b >= uint64(len(d.ends)) {
					wrong[w] = i
					return
				}
				if b != at && i > first {
					d.ends[at] = uint32(i)
				}
				at = b
			}
			ends[w] = end{at, uint64(last)}
		})
	}
	g.Wait()
	for _, i := range wrong {
		if i >= 0 {
			return fmt.Errorf("pack: index is not sorted at %d", i)
		}
	}
	if d.ends == nil {
		return nil
	}
	for _, e := range ends {
		d.ends[e.bucket] = max(d.ends[e.bucket], uint32(e.next))
	}
	for i := 1; i < len(d.ends); i++ {
		d.ends[i] = max(d.ends[i], d.ends[i-1]) // those that nothing fell into
	}
	return nil
}
