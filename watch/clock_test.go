package watch_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/watch"
)

// TestClockStep is D15: steps of the wall clock against time itself, both ways; drift and slewing are silent.
func TestClockStep(t *testing.T) {
	for _, c := range []struct {
		name       string
		wall, mono time.Duration
		severity   bulkhead.Severity
	}{
		{"steady", 5 * time.Second, 5 * time.Second, ""},
		{"slewed", 5*time.Second + 900*time.Millisecond, 5 * time.Second, ""},
		{"a late look", time.Hour, time.Hour, ""},
		{"forward", 65 * time.Second, 5 * time.Second, bulkhead.Warning},
		{"back", -55 * time.Second, 5 * time.Second, bulkhead.Critical},
		{"stood still", 0, 5 * time.Second, bulkhead.Critical},
	} {
		s := watch.Step{Tolerance: 2 * time.Second}
		if a := s.Look(now, 0); a != nil {
			t.Errorf("%s: the first look says %s", c.name, a.Message)
		}
		a := s.Look(now.Add(c.wall), c.mono)
		if a == nil != (c.severity == "") || a != nil && (a.Detector != "D15" || a.Severity != c.severity || a.Runbook == "") {
			t.Errorf("%s: %+v", c.name, a)
		}
		if a := s.Look(now.Add(c.wall+5*time.Second), c.mono+5*time.Second); a != nil {
			t.Errorf("%s: said twice: %s", c.name, a.Message)
		}
	}
}

// TestClockWatched: the watch looks at the clocks by itself. While they agree it says nothing; a step back is an alarm in the
// record within two looks, one however often it happens, and a step forward is another.
func TestClockWatched(t *testing.T) {
	s := open(t)
	var looks, off atomic.Int64 // of the wall clock, in nanoseconds
	w, err := watch.New(watch.Config{Store: s, Now: func() time.Time { return now }, ClockEvery: time.Millisecond, Clocks: func() (time.Time, time.Duration) {
		mono := time.Duration(looks.Add(1)) * 5 * time.Second
		return now.Add(mono + time.Duration(off.Load())), mono
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.WatchClock(ctx) }()
	defer func() { cancel(); <-done }()
	after := func(step time.Duration) []bulkhead.Alarm {
		t.Helper()
		off.Add(int64(step))
		for from, end := looks.Load(), time.Now().Add(10*time.Second); looks.Load() < from+3; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nobody looks at the clock")
			}
		}
		all, err := w.Alarms(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := after(time.Second); len(all) != 0 { // as much as a clock that is slewed may differ
		t.Fatalf("%+v", all)
	}
	for i := range int64(2) {
		if all := after(-time.Minute); len(all) != 1 || all[0].Detector != "D15" || all[0].Severity != bulkhead.Critical || all[0].Count != i+1 || !strings.Contains(all[0].Message, "back by 1m0s") {
			t.Fatalf("%+v", all)
		}
	}
	if all := after(time.Hour); len(all) != 2 {
		t.Errorf("%+v", all)
	}
}

// TestAcknowledge: taking an alarm wants a reason, is evidence, and happens once.
func TestAcknowledge(t *testing.T) {
	s := open(t)
	w, err := watch.New(watch.Config{Store: s, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	raise := func(at time.Time) {
		w.Raise(ctx, bulkhead.Alarm{Detector: "D8", Key: "k", Severity: bulkhead.Critical, Message: "m", Runbook: "r.md", FirstAt: at, LastAt: at, Count: 1})
	}
	raise(now)
	all, err := w.Alarms(ctx, 10)
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %+v", err, all)
	}
	id := all[0].ID
	for _, c := range []struct {
		id     int64
		reason string
		want   bulkhead.Kind
	}{{id, " ", bulkhead.KindUsage}, {id + 1, "why", bulkhead.KindNotFound}, {id, "known fault", ""}, {id, "again", bulkhead.KindConflict}} {
		if _, err := w.Acknowledge(ctx, "operator:alice", c.id, c.reason); bulkhead.KindOf(err) != c.want {
			t.Errorf("%d %q: %v", c.id, c.reason, err)
		}
	}
	raise(now.Add(30 * time.Minute))
	if a, _ := s.Alarm(ctx, id); a.Open() || a.AckedBy != "operator:alice" || a.Count != 2 {
		t.Errorf("while it goes on: %+v", a)
	}
	raise(now.Add(91 * time.Minute))
	if a, _ := s.Alarm(ctx, id); !a.Open() || a.Count != 3 {
		t.Errorf("when it comes back: %+v", a)
	}
	if n, _, _ := s.EvidenceHead(ctx); n != 3 {
		t.Errorf("%d leaves, want raised, taken, raised again", n)
	}
}
