package headroom

import (
	"runtime"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 2000}, {mb, 2000}, {16 * mb, 1200}, {48 * mb, 400}, {192 * mb, 100}, {4096 * mb, 100}} {
		if got := Percent(Room, c.live); got != c.want {
			t.Errorf("with %d MB alive the target is %d, want %d", c.live/mb, got, c.want)
		}
	}
}

// TestKeep: rubbish does not make the heap larger than the room, and few collections are run for it.
func TestKeep(t *testing.T) {
	t.Setenv("GOGC", "") // whatever the shell says
	t.Setenv("GOMEMLIMIT", "")
	const room = 32 << 20
	Keep(room)
	churn := func() (collections uint32, peak uint64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		before := m.NumGC
		for range 200 {
			for range 1000 {
				sink = make([]byte, 1024)
			}
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
		return m.NumGC - before, peak
	}
	runtime.GC()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // the finalizer runs in its own time
		n, peak := churn() // 200 MB of rubbish
		if n <= 20 && peak < 4*room {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d collections, the heap at %d MB", n, peak>>20)
		}
	}
}

var sink []byte
