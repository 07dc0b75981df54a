package drill

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"bulkhead"
)

// played rehearses a day and shows what failed.
func played(t *testing.T, name string, o Options) Report {
	t.Helper()
	o.Progress = func(s Step) { t.Log(Elapsed(s.After), s.What, strings.Join(s.More, "\n")) }
	r, err := Run(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed {
		t.Errorf("%s did not pass: %s", name, r.Problem)
		for _, c := range r.Checks {
			if !c.Passed {
				t.Errorf("%s %s: %s", c.Row, c.What, c.Detail)
			}
		}
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"side by side", "Simulated", "Measured", r.Historic[0].What} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	return r
}

func TestCrossRoot2016(t *testing.T) { played(t, "cross-root-2016", Options{Scale: 2}) }

// TestAFailedCheckFailsTheDay: a drill that cannot fail would be a film.
func TestAFailedCheckFailsTheDay(t *testing.T) {
	keep := days
	t.Cleanup(func() { days = keep })
	day := Day{Name: "test", Title: "t", Wants: []string{"S1", "S2"}}
	for name, c := range map[string]struct {
		run  func(context.Context, *Stage) error
		pass bool
	}{
		"good": {func(_ context.Context, s *Stage) error {
			s.check("S1", true, "a", "")
			s.check("S2", true, "b", "")
			return nil
		}, true},
		"failed": {func(_ context.Context, s *Stage) error {
			s.check("S1", true, "a", "")
			s.check("S2", false, "b", "")
			return nil
		}, false},
		"never reached": {func(_ context.Context, s *Stage) error { s.check("S1", true, "a", ""); return nil }, false},
		"broke off": {func(_ context.Context, s *Stage) error {
			s.check("S1", true, "a", "")
			s.check("S2", true, "b", "")
			return errors.New("x")
		}, false},
	} {
		d := day
		d.run = c.run
		days = []Day{d}
		r, err := Run(t.Context(), "test", Options{})
		if err != nil || r.Passed != c.pass {
			t.Errorf("%s: passed %t, %v", name, r.Passed, err)
		}
	}
	if _, err := Run(t.Context(), "no such day", Options{}); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("an unknown day: %v", err)
	}
}

func TestHeartbleed2014(t *testing.T) { played(t, "heartbleed-2014", Options{Scale: 11}) }

func TestIntrusion2011(t *testing.T) { played(t, "intrusion-2011", Options{Scale: 3}) }

func TestOCSPEKU2020(t *testing.T) { played(t, "ocsp-eku-2020", Options{Scale: 4}) }
