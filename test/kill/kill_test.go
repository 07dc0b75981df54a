package kill

import (
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/store/storetest/pgtest"
)

// kills is how often each store is killed.
func kills() int {
	if torture() {
		return 1000
	}
	return 8
}

func TestKillSQLite(t *testing.T) { killing(t) }

func TestKillPostgreSQL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(file, []byte(pgtest.New(t)+"\n"), 0o600))
	killing(t, "--store", "postgres:"+file)
}

func killing(t *testing.T, flags ...string) {
	s := seed(t)
	r := mrand.New(mrand.NewPCG(s, 0))
	h := newHouse(t, flags...)
	began := time.Now()
	// The first start takes longest and makes most: it dies twice before anything exists.
	for range 2 {
		h.launch()
		time.Sleep(time.Duration(r.IntN(600)) * time.Millisecond)
		h.kill()
	}
	h.launch()
	d := newDriver(t, 4, s)
	d.server.Store(h.ready())
	starts := 0
	for i := range kills() {
		// A busy machine serves little in a second: there must be something to lose before the kill.
		for want, end := d.count()+2+r.IntN(20), time.Now().Add(5*time.Second); d.count() < want && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		d.server.Store(nil)
		h.kill()
		h.launch()
		if i%4 == 3 { // and in the middle of coming back
			time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			h.kill()
			h.launch()
			starts++
		}
		d.server.Store(h.ready())
		if i%100 == 99 {
			h.t.Logf("%d kills, %s", i+1, d.summary())
		}
	}
	time.Sleep(500 * time.Millisecond)
	d.end()
	d.judge(h)
	h.stop()
	h.fsck()
	t.Logf("seed %d: killed %d times under load, %d times while starting, twice during the first start, in %s: %s", s, kills(), starts, time.Since(began).Round(time.Millisecond), d.summary())
	if len(d.all) < kills() {
		t.Errorf("only %d certificates were received: this tested nothing", len(d.all))
	}
}
