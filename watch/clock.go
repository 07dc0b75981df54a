package watch

import (
	"context"
	"fmt"
	"time"

	"bulkhead"
)

// Step is D15: the wall clock moved by another amount than time did. Dates in certificates, answers and evidence come from the
// wall clock; a step makes some of them wrong, and a step back can make new answers look older than old ones.
type Step struct {
	// Tolerance is what drift and slewing may make between two looks.
	Tolerance time.Duration

	begun bool
	wall  time.Time
	mono  time.Duration
}

// Look compares two clocks with those of the look before: the wall clock, and the time since some moment that no
// adjustment moves. nil when they agree.
func (s *Step) Look(wall time.Time, mono time.Duration) *bulkhead.Alarm {
	wall = wall.Round(0) // without Go's monotonic reading
	stepped := wall.Sub(s.wall) - (mono - s.mono)
	begun, was := s.begun, s.wall
	s.begun, s.wall, s.mono = true, wall, mono
	if !begun || stepped.Abs() <= s.Tolerance {
		return nil
	}
	way, severity := "forward", bulkhead.Warning
	if stepped < 0 {
		way, severity = "back", bulkhead.Critical
	}
	return &bulkhead.Alarm{Detector: "D15", Key: way, Severity: severity, Runbook: "clock.md", FirstAt: wall.UTC(), LastAt: wall.UTC(), Count: 1,
		Message: fmt.Sprintf("the clock of this machine stepped %s by %s, after %s", way, stepped.Abs().Round(time.Millisecond), was.UTC().Format(time.RFC3339))}
}

const (
	clockEvery     = 5 * time.Second
	clockTolerance = 2 * time.Second
)

// WatchClock looks at the clock until ctx ends.
func (w *Watch) WatchClock(ctx context.Context) error {
	step := Step{Tolerance: clockTolerance}
	t := time.NewTicker(w.cfg.ClockEvery)
	defer t.Stop()
	for {
		if a := step.Look(w.cfg.Clocks()); a != nil {
			w.Raise(ctx, *a)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
