// Package headroom lets the garbage collector work less often while little memory is in use.
//
// Purpose: a house's live data is small (the edge keeps 24 bytes per certificate), so that by Go's default, collecting when
// the heap has doubled, the collector runs many times a second and takes a tenth of the processor from lint and signatures.
//
// Invariant: beyond what is alive a process keeps at most the larger of the room it was given and of what is alive itself,
// which is Go's default. GOGC and GOMEMLIMIT in the environment win: then nothing is changed.
//
// Refuses: to make room in proportion to a large heap: a house of millions keeps Go's default.
package headroom

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Room is what the programs of a house keep, in bytes.
const Room = 192 << 20

const (
	least = 100  // percent: Go's default
	most  = 2000 // percent
)

var once sync.Once

// Keep gives the collector room from now on, and adapts it after every collection. Only the first call of a process counts.
func Keep(room int64) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	once.Do(func() {
		k := &keeper{room: uint64(room), percent: least, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
		k.adapt()
		k.again()
	})
}

// Percent is the garbage-collection target for so many live bytes.
func Percent(room, live uint64) int {
	return int(max(least, min(most, 100*room/max(live, 1))))
}

type keeper struct {
	room    uint64
	percent int
	live    []metrics.Sample
}

// adapt sets the target by what survived the last collection; small steps are left out, each stops the world for a moment.
func (k *keeper) adapt() {
	metrics.Read(k.live)
	if k.live[0].Value.Kind() != metrics.KindUint64 {
		return // a Go that does not tell: the default stays
	}
	want := Percent(k.room, k.live[0].Value.Uint64())
	if diff := want - k.percent; diff > k.percent/8 || diff < -k.percent/8 {
		debug.SetGCPercent(want)
		k.percent = want
	}
}

// again has adapt run after the next collection, when the mark that nobody holds is found dead.
func (k *keeper) again() {
	type mark struct{ _ [16]byte }
	runtime.SetFinalizer(&mark{}, func(*mark) {
		k.adapt()
		k.again()
	})
}
