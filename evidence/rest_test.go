package evidence

import (
	"testing"
	"time"
)

// TestRest: a busy log makes no more batches durable than checkpoints can cover, a quiet one looks more often, and a row is
// covered within an interval after its commit: one rest, and the pause of whoever publishes.
func TestRest(t *testing.T) {
	for _, interval := range []time.Duration{MinInterval, DefaultInterval} {
		published := interval / 2 // as open says to the tiles
		busy, quiet := restAfter(interval, true), restAfter(interval, false)
		if busy < published || quiet >= busy || busy+published > interval {
			t.Errorf("interval %s: rests of %s and %s", interval, busy, quiet)
		}
	}
}
