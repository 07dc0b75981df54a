// Package policy holds the numbers that the field imposes on a certificate authority, as dated rows: lifetimes, reuse
// of validation, revocation deadlines, status intervals, perspectives, reporting times.
//
// Invariant: a number comes from a row that is in force at the date at hand, never from a constant elsewhere. Rows of
// one id do not overlap and leave no gap once they have begun. A row is in force from the first instant of From until
// the last instant before To, both in UTC.
//
// Refuses: a clock (the date is always a parameter), and a guess: where no row is in force the helpers say so with
// false or zero, and a revocation cause that nobody listed gets the shortest deadline.
package policy

import (
	"fmt"
	"slices"
	"time"
)

// Day is 86,400 seconds; any excess counts as another day (BR 6.3.2).
const Day = 24 * time.Hour

// Value is the number of a row. One field is set; a row that only permits or forbids has Count 1 or 0.
type Value struct {
	Duration time.Duration
	Months   int // calendar months, for limits written as "12 months"
	Count    int
}

// After gives t moved on by the value's duration or months.
func (v Value) After(t time.Time) time.Time {
	if v.Months != 0 {
		return t.AddDate(0, v.Months, 0)
	}
	return t.Add(v.Duration)
}

// String prints the value as a document would: "47 d", "8 h", "12 months", "4".
func (v Value) String() string {
	switch {
	case v.Months != 0:
		return fmt.Sprintf("%d months", v.Months)
	case v.Duration == 0:
		return fmt.Sprint(v.Count)
	case v.Duration%Day == 0 && v.Duration > Day:
		return fmt.Sprintf("%d d", v.Duration/Day)
	case v.Duration%time.Hour == 0:
		return fmt.Sprintf("%d h", v.Duration/time.Hour)
	case v.Duration%time.Minute == 0:
		return fmt.Sprintf("%d min", v.Duration/time.Minute)
	default:
		return v.Duration.String()
	}
}

// Row is one rule with its number and the time in which it is in force.
type Row struct {
	ID        string
	Rule      string // one sentence for documents
	Value     Value
	From      time.Time // first instant in force; zero when it was always so
	To        time.Time // first instant no longer in force; zero when no end is known
	Source    string    // "BR 6.3.2"
	AppliesTo string
}

// InForce reports whether the row applies at t.
func (r Row) InForce(t time.Time) bool {
	return (r.From.IsZero() || !t.Before(r.From)) && (r.To.IsZero() || t.Before(r.To))
}

// At returns the row of an id that is in force at t; false when there is none.
func At(id string, t time.Time) (Row, bool) {
	for i := range table {
		if table[i].ID == id && table[i].InForce(t) {
			return table[i], true
		}
	}
	return Row{}, false
}

// Rows returns a copy of the whole table in the order of the sources, so that documents can print it.
func Rows() []Row { return slices.Clone(table) }

func value(id string, t time.Time) Value {
	r, _ := At(id, t)
	return r.Value
}

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func days(n int) Value           { return Value{Duration: time.Duration(n) * Day} }
func hours(n int) Value          { return Value{Duration: time.Duration(n) * time.Hour} }
func count(n int) Value          { return Value{Count: n} }
func months(n int) Value         { return Value{Months: n} }
func span(d time.Duration) Value { return Value{Duration: d} }
