package drill

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
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
	for _, jargon := range []string{"<nil>", "map[", "%!"} {
		if strings.Contains(b.String(), jargon) {
			t.Errorf("the report says %q to a tired person:\n%s", jargon, &b)
		}
	}
	return r
}

func TestCrossRoot2016(t *testing.T) {
	r := played(t, "cross-root-2016", Options{Scale: 2})
	if text := strings.Join(r.Simulated, "\n"); !strings.Contains(text, "caches of the drill's own") {
		t.Errorf("it does not say that the caches are simulated: %s", text)
	}
}

// TestCrossRoot2016RealCaches plays the day behind two Varnish, of which one ignores purges, and an nginx.
func TestCrossRoot2016RealCaches(t *testing.T) {
	r := played(t, "cross-root-2016", Options{Scale: 2, RealCaches: true})
	if text := strings.Join(r.Measured, "\n"); !strings.Contains(text, "two Varnish and an nginx") {
		t.Errorf("it does not say what the caches were: %s", text)
	}
}

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

// told asserts that a day has these steps, in this order, and at least as many moments of the historic one beside them.
func told(t *testing.T, r Report, historic int, steps ...string) {
	t.Helper()
	i := 0
	for _, s := range r.Steps {
		if i < len(steps) && strings.Contains(s.What+"\n"+strings.Join(s.More, "\n"), steps[i]) {
			i++
		}
	}
	if i < len(steps) {
		t.Errorf("%s does not come to %q, or not in its place", r.Name, steps[i])
	}
	if len(r.Historic) < historic {
		t.Errorf("%d historic moments", len(r.Historic))
	}
	for i := range r.Historic[1:] {
		if r.Historic[i+1].After < r.Historic[i].After {
			t.Errorf("%q is told out of its order", r.Historic[i+1].What)
		}
	}
}

// TestIntrusion2011 is the day with everything that the house promises of it, in the order of the day.
func TestIntrusion2011(t *testing.T) {
	r := played(t, "intrusion-2011", Options{Scale: 3})
	told(t, r, 5, "06:00: the claim becomes known", "stopped all issuance", "While issuance stands still", "Traces of an intrusion at the web server", "Six times not found", "reset in one action", "with the second signature", "The timeline")
	for _, s := range r.Steps {
		if strings.HasPrefix(s.What, "Six times") {
			six := strings.Join(s.More, "\n")
			for _, n := range []string{"1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "certificate-not-in-log"} {
				if !strings.Contains(six, n) {
					t.Errorf("no %q in %s", n, six)
				}
			}
		}
	}
}

func TestOCSPEKU2020(t *testing.T) {
	r := played(t, "ocsp-eku-2020", Options{Scale: 12})
	told(t, r, 5, "The audit of 6", "Answers forged", "stands at a node", "ceremony with that usage is refused", "new issuing authority, by ceremony", "replaced from the new one and then revoked", "certificate was revoked", "key was destroyed")
}

// TestHour: a day that begins at an hour begins at the next one.
func TestHour(t *testing.T) {
	at := func(h, m int) time.Time { return time.Date(2026, 11, 27, h, m, 0, 0, time.UTC) }
	for _, c := range []struct {
		hour       int
		now, begin time.Time
	}{{0, at(3, 1), at(3, 1)}, {6, at(3, 1), at(6, 0)}, {6, at(6, 0), at(6, 0)}, {6, at(6, 1), at(30, 0)}} {
		if got := (Day{Hour: c.hour}).begin(c.now); !got.Equal(c.begin) {
			t.Errorf("%d at %s: %s", c.hour, c.now, got)
		}
	}
}

func TestMassRevocation(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.key, func(t *testing.T) { played(t, "mass-revocation", Options{Scenario: sc.key, Scale: 60}) })
	}
	if _, err := pickScenario("e"); bulkhead.KindOf(err) != bulkhead.KindUsage || !strings.Contains(bulkhead.AsFault(err).Hint, "bulkhead drill run "+crossRoot2016.Name) {
		t.Errorf("scenario e does not say which day plays it: %v", err)
	}
}

// TestNoticesAreTheBottleneck: a relay that is too slow for the accounts fails the day, and the report names it with the
// command that passes; one that takes every account within the hour does not.
func TestNoticesAreTheBottleneck(t *testing.T) {
	day := func(notices int) Report {
		t.Helper()
		r, err := Run(t.Context(), "mass-revocation", Options{Scale: 20_000, Notices: notices})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	slow := day(100)
	i := slices.IndexFunc(slow.Checks, func(c Check) bool { return c.Row == "P4.2-5" })
	if slow.Passed || i < 0 || slow.Checks[i].Passed || !strings.Contains(slow.Checks[i].Detail, "bulkhead drill run mass-revocation --scenario a --scale 20000 --notices 20000") {
		t.Errorf("a relay of 100 an hour: passed %v, %+v", slow.Passed, slow.Checks)
	}
	if quick := day(0); !quick.Passed {
		t.Errorf("a relay that is quick enough: %+v", quick.Checks)
	}
}

// TestMassScenarios: each scenario at given rates adds up, is the same each time, and shows what makes it bad.
func TestMassScenarios(t *testing.T) {
	run := func(key string, r rates) (*world, outcome) {
		sc, err := pickScenario(key)
		if err != nil {
			t.Fatal(err)
		}
		w := populate(sc, 20_000, time.Unix(1_700_000_000, 0))
		w.rates = r
		if err := w.make(plan.Capacity{Validations: 100_000, Notices: 20_000}); err != nil {
			t.Fatal(err)
		}
		return w, w.run()
	}
	quick := rates{issue: 100, revoke: 100}
	_, a := run("a", quick)
	for _, sc := range scenarios {
		_, o := run(sc.key, quick)
		end := o.hours[len(o.hours)-1]
		if !monotone(o.hours) || end.revoked+end.overdue+o.held != o.total || o.overdue != 0 || o.total != 20_000 {
			t.Errorf("%s: %+v of %d, %d held", sc.key, end, o.total, o.held)
		}
		if _, again := run(sc.key, quick); !slices.Equal(o.hours, again.hours) || o.bottleneck != again.bottleneck {
			t.Errorf("%s: another day at the second time", sc.key)
		}
		if (o.held > 0) != (sc.held > 0) {
			t.Errorf("%s: %d held", sc.key, o.held)
		}
		if sc.noIssuance[1] > 0 && o.hours[7].replaced != o.hours[3].replaced {
			t.Errorf("%s: replaced while nothing is issued: %v", sc.key, o.hours[2:9])
		}
		if sc.noARI > 0 && o.dark <= a.dark {
			t.Errorf("%s: %d went dark, with renewal information %d", sc.key, o.dark, a.dark)
		}
	}
	// Planted: a house that revokes or issues too slowly does not pass, and the bottleneck has its name.
	if _, o := run("a", rates{issue: 100, revoke: 0.1}); o.overdue == 0 || !strings.HasPrefix(o.bottleneck, "revocation") {
		t.Errorf("a slow revocation: %d overdue, %s", o.overdue, o.bottleneck)
	}
	if w, o := run("a", rates{issue: 0.02, revoke: 100}); w.plan.Unplaced == 0 || !strings.HasPrefix(o.bottleneck, "issuance") {
		t.Errorf("a slow issuance: %d unplaced, %s", w.plan.Unplaced, o.bottleneck)
	}
}
