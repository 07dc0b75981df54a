package status

import (
	"testing"
	"time"
)

// TestRefreshAge: for every validity that policy allows, the newer answer is there when BR 4.9.9 wants it, with time left
// to sign it.
func TestRefreshAge(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for v := 8 * time.Hour; v <= 10*24*time.Hour; v += time.Minute {
		latest := v / 2 // after thisUpdate
		if v >= 16*time.Hour {
			latest = min(v-8*time.Hour, 4*24*time.Hour)
		}
		if age := refreshAge(v, at); latest-age < time.Hour || age < v/5 {
			t.Fatalf("answers for %s are signed again after %s, due after %s", v, age, latest)
		}
	}
}

// TestTurnAge: a new list is there within the four days of BR 4.9.7, whatever its validity.
func TestTurnAge(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for v := time.Hour; v <= 10*24*time.Hour; v += time.Minute {
		if age := turnAge(v, at); age > v/2 || age > 4*24*time.Hour-time.Hour || age < v/3 {
			t.Fatalf("a list for %s is made again after %s", v, age)
		}
	}
}
