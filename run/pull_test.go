package run

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/sqlite"
	"bulkhead/watch"
)

// serials judges sightings as D1 would with a record that knows one serial, and keeps what it was shown.
type serials struct {
	mu    sync.Mutex
	known bulkhead.Serial
	saw   int
}

func (*serials) ID() string                      { return "D1" }
func (*serials) Wants(k watch.SightingKind) bool { return k == watch.UnassignedAsked }
func (d *serials) Judge(_ context.Context, s watch.Sighting) (*bulkhead.Alarm, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.saw++; s.Serial == d.known {
		return nil, nil
	}
	return &bulkhead.Alarm{Detector: "D1", Key: s.Serial.String(), Severity: bulkhead.Critical, FirstAt: s.At, LastAt: s.At, Count: 1, Message: "asked"}, nil
}

// TestPull: a watch in its own process sees what an edge in another one saw, across restarts of the edge; what was dropped in
// between and an edge that does not answer are alarms; without a fault there is none.
func TestPull(t *testing.T) {
	t.Parallel()
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "bulkhead.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	serial := func(n byte) bulkhead.Serial {
		s, err := bulkhead.SerialFromBytes([]byte{0x5a, n})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	h := &House{store: store, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}
	d := &serials{known: serial(1)}
	if h.watch, err = watch.New(watch.Config{Store: store, Detectors: []watch.Detector{d}, Now: h.now}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	judged := make(chan error, 1)
	go func() { judged <- h.watch.Run(ctx) }()
	t.Cleanup(func() { stop(); <-judged })

	edge := &sightings{}
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		edge.serve(w, r)
	}))
	t.Cleanup(server.Close)
	client := &http.Client{Timeout: 10 * time.Second}
	s := &source{base: server.URL, good: now}
	pull := func() {
		t.Helper()
		if err := h.pull(t.Context(), client, s); err != nil {
			t.Fatal(err)
		}
	}
	saw := func(n int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			d.mu.Lock()
			got := d.saw
			d.mu.Unlock()
			if got == n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d sightings were judged, not %d", got, n)
			}
		}
	}
	keys := func() map[string]bool {
		t.Helper()
		all, err := store.Alarms(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, a := range all {
			key, _, _ := strings.Cut(a.Key, ",")
			out[key] = true
		}
		return out
	}
	asked := func(n byte) { edge.add(watch.Sighting{Kind: watch.UnassignedAsked, Serial: serial(n), At: now}) }

	pull() // nothing yet
	asked(1)
	pull()
	pull()
	saw(1)
	if got := keys(); len(got) != 0 {
		t.Errorf("alarms %v without a fault", got)
	}
	asked(2)
	pull()
	saw(2)
	asked(3)
	mu.Lock()
	edge = &sightings{} // it died with what nobody had fetched, and comes back
	mu.Unlock()
	for range 5 {
		asked(4) // more than were fetched from the one before
	}
	pull()
	saw(7)
	for range sightingsKept + 10 {
		asked(1)
	}
	pull()
	for end := time.Now().Add(time.Minute); !keys()["dropped"]; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing said that an edge dropped sightings")
		}
	}
	if got := keys(); !got[serial(2).String()] || !got[serial(4).String()] || got[serial(1).String()] || got["blind"] {
		t.Errorf("alarms %v", got)
	}

	// The whole loop, with an edge that is away.
	server.Close()
	h.cfg.Watch.Sightings = []string{server.URL}
	var clock sync.Mutex
	h.now = func() time.Time { clock.Lock(); defer clock.Unlock(); now = now.Add(3 * time.Minute); return now }
	loop, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.runPull(loop) }()
	for until := time.Now().Add(time.Minute); !keys()["blind"]; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("nothing said that an edge does not answer")
		}
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPullRefuses: an address is that of a listener, and an answer is one of an edge.
func TestPullRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"10.0.0.5:14090", "ftp://edge", "http://", "http://edge/?x=1"} {
		if err := (Watch{Sightings: []string{bad}}).checkSightings(); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := (Watch{Sightings: []string{"http://10.0.0.5:14090", "https://edge.internal"}}).checkSightings(); err != nil {
		t.Error(err)
	}
	for _, body := range []string{`{`, `{"first":-1}`, `{"first":1,"sightings":[{"Kind":"certificate-on-wire"}]}`} {
		if _, err := parseSightings([]byte(body)); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// FuzzSightings: no answer makes the watch see what an edge cannot.
func FuzzSightings(f *testing.F) {
	f.Add([]byte(`{"process":"p","first":1,"sightings":[{"Kind":"unassigned-asked","Issuer":"a","Serial":"5a02","At":"2026-11-26T12:00:00Z"}]}`))
	f.Add([]byte(`{"sightings":[{"Kind":"partner-ordered"}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		page, err := parseSightings(body)
		if err != nil {
			return
		}
		for _, s := range page.Sightings {
			if s.Kind != watch.UnassignedAsked && s.Kind != watch.BlockedKeyShown {
				t.Errorf("%q was passed on", s.Kind)
			}
		}
	})
}
