// Package report writes what a certificate authority owes the public on its worst day: incident reports in the form of the
// CCADB (https://www.ccadb.org/cas/incident-report), with the appendix of certificates, and the plan for mass revocation
// of BR 5.7.1.2.
//
// Purpose: nobody copies a number by hand at 3 a.m. What the record knows is printed from it with the log index that
// proves it; what only people know they set once, field by field; what is computed waits for a person's yes.
//
// Invariant: the same document gives the same bytes. Every element of the template is printed, "N/A" where it does not
// apply: nothing is left out because it is empty. A report with a gap prints the gap and Check names it with the command
// that closes it.
//
// Refuses: nothing silently. It reads no clock, no store and no network; a row of the appendix that does not agree with the
// certificate's own octets is an error.
package report

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"bulkhead"
)

// Kind is one of the reports of the CCADB guidelines.
type Kind string

// Report kinds.
const (
	Preliminary Kind = "preliminary" // 72 hours after the house became aware
	Full        Kind = "full"        // 14 days after the first disclosure
	Delay       Kind = "delay"       // a revocation will be late: stands for itself
	Closure     Kind = "closure"     // everything promised is done
)

// Kinds lists the reports in the order in which they fall due.
var Kinds = []Kind{Preliminary, Full, Delay, Closure}

// ParseKind reads a kind; "" is the full report.
func ParseKind(text string) (Kind, error) {
	if text == "" {
		return Full, nil
	}
	for _, k := range Kinds {
		if string(k) == text {
			return k, nil
		}
	}
	return "", bulkhead.Faultf(bulkhead.KindUsage, "there is no report %q", text).WithHint("one of preliminary, full, delay, closure")
}

// Text is what a person wrote for one field, and the leaf that says so.
type Text struct {
	Text     string
	Actor    string
	At       time.Time
	LogIndex int64
}

// Moment is one line of the timeline.
type Moment struct {
	At       time.Time
	LogIndex int64 // -1 where no leaf speaks of it
	Element  string
	What     string
}

// Progress is how many certificates were replaced and revoked at a time.
type Progress struct {
	At                time.Time
	Replaced, Revoked int64
}

// Stop is whether issuance stopped for the incident.
type Stop struct {
	StoppedAt, ResumedAt time.Time
	LogIndex             int64
	What                 string
}

// Proof points to the result of "bulkhead audit prove": that the authorities' own keys have no part in the incident.
type Proof struct {
	Path   string
	Digest bulkhead.Hash // SHA-256 of the document
}

// Key is the private key of an authority, with where it lives and who has it, as of the report.
type Key struct {
	Use, Where, Custodian string
	Online                bool
}

// House is who reports.
type House struct {
	Name   string
	CCADB  string // A followed by six or more digits; "" when the configuration has none
	Origin string // of the evidence log
}

// Document is everything that a report is made of, as of At.
type Document struct {
	Kind      Kind
	Language  string // en or ja: words of the house; what people wrote stays as it is
	At        time.Time
	House     House
	Incident  bulkhead.Incident
	Tally     bulkhead.IncidentTally
	Counts    []bulkhead.ScopeCount
	Types     map[string]int64 // DV, IV, OV, EV, other → certificates, by policy OID
	FirstBad  time.Time        // first issue of the set
	LastBad   time.Time        // last issue of the set
	LastGone  time.Time        // last revocation of the set
	Stop      *Stop
	Campaigns []Campaign
	Timeline  []Moment
	Curve     []Progress
	Fields    map[string]Text
	Rows      int64 // of the appendix
	Proof     *Proof
	Keys      []Key // of the authorities
}

// Campaign is a mass replacement of the incident.
type Campaign struct {
	ID       string
	State    bulkhead.CampaignState
	Plan     bulkhead.Hash
	Tally    bulkhead.CampaignTally
	Deadline time.Time
	ForceAt  time.Time
}

// Elements are the twelve things that a timeline is expected to show, and what each is.
var Elements = []struct{ Name, EN, JA string }{
	{"change-that-led-in", "changes that led to the incident", "原因となった変更"},
	{"start", "start of the non-compliance", "不適合の開始"},
	{"aware", "the CA became aware", "認証局による認知"},
	{"problem-report", "problem report received", "問題報告の受領"},
	{"preliminary-report", "preliminary report to the reporter", "報告者への一次回答"},
	{"subscribers-told", "subscribers were told", "利用者への通知"},
	{"scope-disclosed", "scope was disclosed", "影響範囲の公表"},
	{"scope-changed", "scope changed", "影響範囲の変更"},
	{"revocation-planned", "planned completion of revocations", "失効完了予定"},
	{"revocation-done", "actual completion of revocations", "失効完了"},
	{"end", "end of the non-compliance", "不適合の終了"},
	{"issuance-stopped-or-resumed", "issuance ceased or resumed", "発行の停止・再開"},
}

// confirmed begins the text of a field in which a person confirmed what was computed.
const confirmed = "confirmed:\n"

// Confirm is the text that confirms a computed value.
func Confirm(value string) string { return confirmed + value }

// Missing is one gap in a report.
type Missing struct {
	Field   string `json:"field"`
	What    string `json:"what"`    // in words
	Command string `json:"command"` // that closes it
}

func (d Document) text(field string) string { return strings.TrimSpace(d.Fields[field].Text) }

// groups returns the numbers that fields like "factor.1.description" have below a prefix, in order.
func (d Document) groups(prefix string) []string {
	seen := map[string]bool{}
	for name, t := range d.Fields {
		rest, ok := strings.CutPrefix(name, prefix+".")
		if !ok || strings.TrimSpace(t.Text) == "" {
			continue
		}
		number, _, _ := strings.Cut(rest, ".")
		seen[number] = true
	}
	var out []string
	for n := range seen {
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return len(out[i]) < len(out[j]) || len(out[i]) == len(out[j]) && out[i] < out[j] })
	return out
}

// Ongoing reports whether the incident goes on: certificates of it still live, or the record is open.
func (d Document) Ongoing() bool {
	return d.Tally.Live > 0 || d.Incident.State == bulkhead.IncidentOpen
}

// Computed returns what the record says for a field that a person confirms; ok is false for other fields.
func (d Document) Computed(field string) (value string, ok bool) {
	switch field {
	case "policies":
		return d.policies(), true
	case "heuristic":
		return d.heuristic(), true
	case "timeline-summary":
		return d.summary(), true
	case "estimate":
		return d.estimate(), true
	}
	return "", false
}

func (d Document) policies() string {
	var out []string
	seen := map[string]bool{}
	for _, x := range d.Incident.Deadlines {
		if line := x.Source + ": " + x.Rule; x.Source != "" && !seen[line] {
			seen[line] = true
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func (d Document) summary() string {
	start, end := d.FirstBad, d.LastBad
	if d.LastGone.After(end) {
		end = d.LastGone
	}
	last := minute(end)
	if d.Tally.Live > 0 {
		last = "not ended: " + count(d.Tally.Live, "certificate") + " neither revoked nor expired"
	}
	return fmt.Sprintf("Non-compliance start date: %s\nNon-compliance identified date: %s\nNon-compliance end date: %s", minute(start), minute(d.Incident.AwareAt), last)
}

func (d Document) estimate() string {
	var force time.Time
	for _, c := range d.Campaigns {
		if c.ForceAt.After(force) && c.State != bulkhead.CampaignClosed {
			force = c.ForceAt
		}
	}
	if force.IsZero() {
		return ""
	}
	return minute(force)
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// minute is UTC to the minute, as the guidelines ask.
func minute(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}
