// Package drill rehearses bad days: it composes the real compartments of a house over a shadow directory and a clock of
// its own, plays the world outside (foreign responders, caches, clients, subscribers), and says what happened when, beside
// what happened on the historic day.
//
// Purpose: the day that a source document tells of, with one command, before it comes (BR 5.7.1.2: a test every year in
// which no certificate of a subscriber is revoked).
//
// Invariant: a rehearsal works in a directory of its own, which it removes; keys are its own and throw-away. What is
// claimed is a check with a name, which can fail, and fails the drill. A report says of every figure whether it was
// measured on real compartments or simulated.
//
// Refuses: the data directory of a house; to call a day rehearsed when a check failed or was never reached.
package drill

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Moment is one line of the historic timeline.
type Moment struct {
	After time.Duration `json:"after"` // since the day began
	Clock string        `json:"clock"` // as the source gives it
	What  string        `json:"what"`
}

// Day is a bad day that can be rehearsed.
type Day struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Source   string   `json:"source"`
	Historic []Moment `json:"historic"`
	// Hour is the hour (UTC) at which the rehearsed day begins, the next one from now on; 0 begins at once.
	Hour int `json:"hour,omitempty"`
	// Wants are the checks that the day must reach, by requirement row.
	Wants []string `json:"wants"`
	run   func(ctx context.Context, s *Stage) error
}

// days are all of them, by name.
var days = []Day{crossRoot2016, heartbleed2014, intrusion2011, ocspEKU2020, massRevocation}

// Days lists what can be rehearsed.
func Days() []Day { return append([]Day{}, days...) }

// Options say how a day is rehearsed; the zero value is good.
type Options struct {
	Scale    int    // how many subscribers or certificates, where the day has them; 0 is the day's default
	Scenario string // which of a day's scenarios, where it has them; "" is the day's default
	Notices  int    // messages an hour that the relay takes, where the day tells many; 0: enough for every account within the hour
	// RealCaches has the tiers of a day be Varnish and nginx, where the day has tiers; both must be installed.
	RealCaches bool
	Progress   func(Step) // told each step as it ends
	Log        *slog.Logger
	Version    string
}

// Step is something that happened in the rehearsal.
type Step struct {
	After time.Duration `json:"after"` // of the rehearsed day, since it began
	Took  time.Duration `json:"took"`  // real time since the step before
	What  string        `json:"what"`
	More  []string      `json:"more,omitempty"`
}

// Check is a claim that the day makes good, or not.
type Check struct {
	Row    string `json:"row"` // of the requirements: "S2-2"
	What   string `json:"what"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail,omitempty"`
}

// Report is what a rehearsal leaves.
type Report struct {
	Name      string        `json:"name"`
	Title     string        `json:"title"`
	Source    string        `json:"source"`
	Began     time.Time     `json:"began"`
	Took      time.Duration `json:"took"`
	Version   string        `json:"version"`
	Historic  []Moment      `json:"historic"`
	Steps     []Step        `json:"steps"`
	Checks    []Check       `json:"checks"`
	Measured  []string      `json:"measured"`  // done by real compartments
	Simulated []string      `json:"simulated"` // played
	Passed    bool          `json:"passed"`
	Problem   string        `json:"problem,omitempty"` // why the day broke off
}

// Stage is where a day is played.
type Stage struct {
	ctx    context.Context
	o      Options
	dir    string
	clock  *clock
	began  time.Time // of the rehearsed day, on its clock
	mark   time.Time // real time of the last step
	report Report
	ends   []func() error
}

// Run rehearses the day of that name. The error is for a day that could not be played; a day that was played and failed a
// check is a report with Passed false.
func Run(ctx context.Context, name string, o Options) (Report, error) {
	day, err := find(name)
	if err != nil {
		return Report{}, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "bulkhead-drill-")
	if err != nil {
		return Report{}, bulkhead.NewFault(bulkhead.KindUnavailable, "there is no room for a rehearsal").WithHint("set TMPDIR to a folder with space").WithCause(err)
	}
	now := time.Now()
	at := day.begin(now)
	s := &Stage{ctx: ctx, o: o, dir: dir, clock: newClock(at), began: at.UTC().Truncate(time.Second), mark: now}
	s.report = Report{Name: day.Name, Title: day.Title, Source: day.Source, Began: now.UTC(), Version: o.Version, Historic: day.Historic, Steps: []Step{}, Checks: []Check{}, Measured: []string{}, Simulated: []string{}}
	played := day.run(ctx, s)
	for i := len(s.ends) - 1; i >= 0; i-- {
		if err := s.ends[i](); err != nil && played == nil {
			played = err
		}
	}
	if err := os.RemoveAll(dir); err != nil && played == nil {
		played = err
	}
	s.report.Took = time.Since(now)
	s.judge(day, played)
	return s.report, nil
}

// begin is when the rehearsed day begins, for a rehearsal that is asked for at t.
func (d Day) begin(t time.Time) time.Time {
	if d.Hour == 0 {
		return t
	}
	at := t.UTC().Truncate(24 * time.Hour).Add(time.Duration(d.Hour) * time.Hour)
	if at.Before(t) {
		at = at.Add(24 * time.Hour)
	}
	return at
}

func find(name string) (Day, error) {
	var names []string
	for _, d := range days {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Day{}, bulkhead.Faultf(bulkhead.KindUsage, "there is no drill %q", name).WithHint("bulkhead drill run " + strings.Join(names, ", or "))
}

// judge decides whether the day passed: played to its end, every wanted row reached, and every check good.
func (s *Stage) judge(day Day, played error) {
	r := &s.report
	r.Passed = played == nil
	if played != nil {
		r.Problem = bulkhead.AsFault(played).Error()
	}
	reached := map[string]bool{}
	for _, c := range r.Checks {
		reached[c.Row] = true
		r.Passed = r.Passed && c.Passed
	}
	for _, row := range day.Wants {
		if !reached[row] {
			r.Passed = false
			r.Checks = append(r.Checks, Check{Row: row, What: "never reached", Detail: "the day broke off before it"})
		}
	}
}

// end has f called when the day is over, last things first.
func (s *Stage) end(f func() error) { s.ends = append(s.ends, f) }

// say notes a step at the present moment of the rehearsed day.
func (s *Stage) say(what string, more ...string) {
	now := time.Now()
	st := Step{After: s.clock.now().Sub(s.began).Truncate(time.Second), Took: now.Sub(s.mark), What: what, More: more}
	s.mark = now
	s.report.Steps = append(s.report.Steps, st)
	if s.o.Progress != nil {
		s.o.Progress(st)
	}
}

// check notes a claim and whether it is good.
func (s *Stage) check(row string, passed bool, what, detail string, args ...any) {
	for i, a := range args {
		switch x := a.(type) {
		case nil: // the error of what was not refused
			args[i] = "not refused"
		case *bulkhead.Fault:
			args[i] = x.Detail
		}
	}
	c := Check{Row: row, What: what, Passed: passed, Detail: fmt.Sprintf(detail, args...)}
	s.report.Checks = append(s.report.Checks, c)
	if s.o.Progress != nil {
		verdict := "ok"
		if !passed {
			verdict = "FAILED"
		}
		s.o.Progress(Step{After: s.clock.now().Sub(s.began).Truncate(time.Second), What: fmt.Sprintf("  %-6s %s  %s", verdict, row, what)})
	}
}

// counted tells how many of each: "7 domain-ssl, 6 organisation-ssl".
func counted[K ~string, N ~int | ~int64](of map[K]N) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		out = append(out, fmt.Sprintf("%d %s", of[name], name))
	}
	return strings.Join(out, ", ")
}

// measured and simulated say what was what.
func (s *Stage) measured(what string)  { s.report.Measured = append(s.report.Measured, what) }
func (s *Stage) simulated(what string) { s.report.Simulated = append(s.report.Simulated, what) }

// Write prints the report for a person.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Drill %s\n\n%s\n\nSource: %s. Rehearsed %s, in %s, with bulkhead %s.\n", r.Name, r.Title, r.Source, r.Began.Format(time.RFC3339), r.Took.Round(100*time.Millisecond), r.Version)
	verdict := "passed"
	if !r.Passed {
		verdict = "FAILED"
	}
	fmt.Fprintf(&b, "\n**Result: %s**\n", verdict)
	if r.Problem != "" {
		fmt.Fprintf(&b, "\nThe day broke off: %s\n", r.Problem)
	}
	b.WriteString("\n## The two days, side by side\n\n| since the start | on the day | | since the start | in this rehearsal |\n|---|---|---|---|---|\n")
	for i := range max(len(r.Historic), len(r.Steps)) {
		then, what, now, ours := "", "", "", ""
		if i < len(r.Historic) {
			then, what = Elapsed(r.Historic[i].After), r.Historic[i].Clock+" "+r.Historic[i].What
		}
		if i < len(r.Steps) {
			now, ours = Elapsed(r.Steps[i].After), r.Steps[i].What
		}
		fmt.Fprintf(&b, "| %s | %s | | %s | %s |\n", then, cell(what), now, cell(ours))
	}
	b.WriteString("\n## Checks\n\n| row | claim | | detail |\n|---|---|---|---|\n")
	for _, c := range r.Checks {
		mark := "ok"
		if !c.Passed {
			mark = "**FAILED**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Row, cell(c.What), mark, cell(c.Detail))
	}
	b.WriteString("\n## What happened, step by step\n\n")
	for _, st := range r.Steps {
		fmt.Fprintf(&b, "- **%s** %s (took %s)\n", Elapsed(st.After), st.What, st.Took.Round(time.Millisecond))
		for _, m := range st.More {
			for _, line := range strings.Split(strings.TrimRight(m, "\n"), "\n") {
				fmt.Fprintf(&b, "      %s\n", line)
			}
		}
	}
	list := func(title string, items []string) {
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		for _, x := range items {
			fmt.Fprintf(&b, "- %s\n", x)
		}
	}
	list("Measured on real compartments", r.Measured)
	list("Simulated", r.Simulated)
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(text)
}

// Elapsed prints hours and minutes since the start, with days where there are.
func Elapsed(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	if d >= 48*time.Hour {
		return fmt.Sprintf("%s%d d %d:%02d", sign, d/(24*time.Hour), d%(24*time.Hour)/time.Hour, d%time.Hour/time.Minute)
	}
	if d < time.Minute && d > 0 {
		return fmt.Sprintf("%s0:00:%02d", sign, d/time.Second)
	}
	return fmt.Sprintf("%s%d:%02d", sign, d/time.Hour, d%time.Hour/time.Minute)
}
