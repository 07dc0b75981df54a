package status

import (
	"testing"
	"time"
)

// TestRefreshAge: for every validity that policy allows, the newer answer is there when BR 4.9.9 wants it, with time left
// to sign it.
func TestRefreshAge(t *testing.T) {
	for v := 8 * time.Hour; v <= 10*24*time.Hour; v += time.Minute {
		latest := v / 2 // after thisUpdate
		if v >= 16*time.Hour {
			latest = min(v-8*time.Hour, 4*24*time.Hour)
		}
		if age := refreshAge(v); latest-age < time.Hour || age < v/5 {
			t.Fatalf("answers for %s are signed again after %s, due after %s", v, age, latest)
		}
	}
}
