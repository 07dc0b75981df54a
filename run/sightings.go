package run

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"bulkhead/watch"
)

// sightingsKept bounds what an edge remembers for a watch that does not ask.
const sightingsKept = 4096

// sightings are what this process saw and the watch in another one has not fetched yet. They are numbered from 1 without
// gaps; one that was dropped shows as a gap, and the watch raises an alarm for it.
type sightings struct {
	mu      sync.Mutex // guards below
	process string     // random, made at the first question
	kept    []watch.Sighting
	next    int64 // number of the next sighting, less one
}

func (s *sightings) add(x watch.Sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	if s.kept = append(s.kept, x); len(s.kept) > sightingsKept {
		s.kept = append(s.kept[:0:0], s.kept[len(s.kept)-sightingsKept:]...)
	}
}

// seen is one page of sightings.
type seen struct {
	Process   string           `json:"process"` // that numbers them: another one after a restart
	First     int64            `json:"first"`   // number of the first one below
	Sightings []watch.Sighting `json:"sightings"`
}

// after returns the sightings whose number is above n, oldest first. A number from an earlier process starts over.
func (s *sightings) after(n int64) seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.next - int64(len(s.kept)) + 1
	if n > s.next {
		n = 0
	}
	if s.process == "" {
		s.process = rand.Text()
	}
	from := max(n+1, oldest)
	return seen{Process: s.process, First: from, Sightings: append([]watch.Sighting{}, s.kept[from-oldest:]...)}
}

// serve answers GET /sightings?after=N on the listener for metrics, which is the house's own.
func (s *sightings) serve(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		n = 0
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(s.after(max(n, 0)))
}
