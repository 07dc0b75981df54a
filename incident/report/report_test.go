package report_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/csv"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident/report"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./incident/report -update, then look at the diff)", name)
	}
}

func at(day, hour, minute int) time.Time {
	return time.Date(2026, 3, day, hour, minute, 0, 0, time.UTC)
}

// document is a day like that of October 2016, with every human field written.
func document(kind report.Kind, language string) report.Document {
	d := report.Document{Kind: kind, Language: language, At: at(6, 9, 0), House: report.House{Name: "Example CA", CCADB: "A000123", Origin: "example.test/evidence"},
		Incident: bulkhead.Incident{ID: "inc1", Kind: bulkhead.GeneralIncident, State: bulkhead.IncidentClosed, Title: "Domain validation accepted a redirect to another port", Source: bulkhead.SourceReport,
			Cause: "validation unreliable", AwareAt: at(2, 8, 15), OpenedAt: at(2, 8, 20), ClosedAt: at(5, 10, 0),
			Scope:     bulkhead.Scope{Validation: &bulkhead.ValidationScope{Method: "http-01", Since: at(1, 0, 0), Until: at(2, 9, 0)}},
			Deadlines: []bulkhead.Deadline{{Object: "subscriber", Row: "R1", Rule: "revoke within 24 hours", Source: "BR 4.9.1.1 (5)", Due: at(3, 8, 15)}, {Object: "report", Row: "R2", Rule: "first report within 72 hours", Source: "IRG 3.2", Due: at(5, 8, 15)}}},
		Tally: bulkhead.IncidentTally{Total: 1240, Revoked: 1225, Expired: 15, Replaced: 1190},
		Counts: []bulkhead.ScopeCount{{Number: 1, At: at(2, 8, 40), Items: 1200, Live: 1190, Digest: bulkhead.Digest([]byte("one")), Why: "first count", LogIndex: 4711},
			{Number: 2, At: at(2, 14, 5), Items: 1240, Live: 1225, Digest: bulkhead.Digest([]byte("two")), Why: "a second validation node ran the same version", LogIndex: 4802}},
		Types: map[string]int64{"DV": 1200, "OV": 40}, FirstBad: at(1, 3, 2), LastBad: at(2, 8, 31), LastGone: at(3, 7, 50),
		Stop:      &report.Stop{StoppedAt: at(2, 8, 31), ResumedAt: at(2, 16, 0), LogIndex: 4705, What: "method http-01"},
		Campaigns: []report.Campaign{{ID: "cmp1", State: bulkhead.CampaignClosed, ForceAt: at(3, 7, 45), Deadline: at(3, 8, 15)}},
		Curve:     []report.Progress{{At: at(2, 12, 0), Replaced: 300}, {At: at(2, 18, 0), Replaced: 800, Revoked: 250}, {At: at(3, 2, 0), Replaced: 1190, Revoked: 900}, {At: at(3, 7, 50), Replaced: 1190, Revoked: 1225}},
		Rows:      1240, Fields: map[string]report.Text{}}
	for i, e := range report.Elements {
		d.Timeline = append(d.Timeline, report.Moment{At: at(1+i/8, 3+i%8*2, 7), LogIndex: int64(4600 + i), Element: e.Name, What: "what happened: " + e.EN})
	}
	d.Timeline = append(d.Timeline, report.Moment{At: at(2, 8, 31), LogIndex: 4705, What: "stop: method http-01"})
	for field, text := range map[string]string{"description": "A validation server followed a redirect to a port that BR 3.2.2.4.19 does not allow.", "source": "Third Party Reported",
		"issuance-why": "Until the cause was known, nothing could be said about new certificates.", "analysis": "The deadline was met for all but none; N/A.", "remediation": "Redirects to other ports are refused.", "commitments": "N/A: nothing beyond the action items.",
		"related.1.bug": "1883843", "related.1.url": "https://bugzilla.mozilla.org/show_bug.cgi?id=1883843", "related.1.opened": "2024-03-06", "related.1.relation": "mass revocation within days",
		"factor.1.description": "The redirect rule was tested with one port only.", "factor.1.timeline": "Introduced on 1 March.", "factor.1.detection": "A reporter; our own tests had no such case.", "factor.1.interaction": "None.", "factor.1.method": "Five whys.",
		"lesson.well.1": "The stop took one minute.", "lesson.not-well.1": "The first count missed a node.", "lesson.lucky.1": "N/A: nothing was luck.",
		"action.1.text": "Refuse redirects to other ports.", "action.1.kind": "Prevent", "action.1.covers": "factor.1", "action.1.evaluation": "Test with a redirect to each port.", "action.1.due": "2026-03-20", "action.1.status": "Complete",
		"action.2.text": "Count by version of the node | not by name.", "action.2.kind": "Detect", "action.2.covers": "lesson.not-well.1", "action.2.evaluation": "Drill finds both nodes.", "action.2.due": "2026-04-01", "action.2.status": "Complete"} {
		d.Fields[field] = report.Text{Text: text, Actor: "operator:mori", At: at(5, 12, 30), LogIndex: 5000}
	}
	for _, field := range []string{"policies", "heuristic", "timeline-summary", "estimate"} {
		v, _ := d.Computed(field)
		if v == "" {
			v = "2026-03-03 07:50 UTC"
		} else {
			v = report.Confirm(v)
		}
		d.Fields[field] = report.Text{Text: v, Actor: "operator:mori", At: at(5, 12, 40), LogIndex: 5001}
	}
	return d
}

// TestGolden holds each report in each language against what people reviewed, and shows that a whole document has no gap.
func TestGolden(t *testing.T) {
	for _, k := range report.Kinds {
		for _, l := range []string{"en", "ja"} {
			d := document(k, l)
			if missing := report.Check(d); len(missing) != 0 {
				t.Errorf("%s: %+v", k, missing)
			}
			golden(t, string(k)+"."+l+".md", report.Markdown(d))
			if strings.Contains(report.Markdown(d), "MISSING") || strings.Contains(report.Markdown(d), "未記入") {
				t.Errorf("%s %s prints a gap", k, l)
			}
		}
	}
	golden(t, "full.ja.html", report.HTML(document(report.Full, "ja")))
	for name, svg := range report.Pictures(document(report.Full, "en")) {
		golden(t, name, svg)
	}
}

// TestEachGapIsNamed takes each field away in turn: the check names it with the command that sets it, and the page prints
// the gap instead of leaving it out.
func TestEachGapIsNamed(t *testing.T) {
	for _, k := range report.Kinds {
		whole := document(k, "en")
		used := 0
		for field := range whole.Fields {
			d := document(k, "en")
			delete(d.Fields, field)
			var found bool
			for _, m := range report.Check(d) {
				found = found || m.Field == field && strings.HasPrefix(m.Command, "bulkhead incident set inc1 "+field+" ")
			}
			if found {
				used++
			}
			text := report.Markdown(d)
			if found != (strings.Contains(text, "MISSING") || strings.Contains(text, "not yet confirmed")) {
				t.Errorf("%s without %s: named %v, but the page disagrees", k, field, found)
			}
		}
		if want := map[report.Kind]int{report.Preliminary: 3, report.Full: 30, report.Delay: 3, report.Closure: 16}[k]; used != want {
			t.Errorf("%s has %d mandatory fields, not %d", k, used, want)
		}
	}
	d := document(report.Full, "en")
	d.House.CCADB, d.Counts, d.Timeline = "", nil, d.Timeline[1:]
	got := map[string]bool{}
	for _, m := range report.Check(d) {
		got[m.Field] = true
	}
	for _, f := range []string{"ccadb-id", "scope", "element.change-that-led-in"} {
		if !got[f] {
			t.Errorf("%s is not named: %v", f, got)
		}
	}
}

// TestConfirmationGoesStale: a count that moved after somebody confirmed it needs a new yes.
func TestConfirmationGoesStale(t *testing.T) {
	d := document(report.Full, "en")
	d.Tally.Live = 3
	missing := report.Check(d)
	if len(missing) != 1 || missing[0].Field != "timeline-summary" || !strings.HasSuffix(missing[0].Command, "--confirm") {
		t.Errorf("%+v", missing)
	}
	if !strings.Contains(report.Markdown(d), "MISSING confirmation") {
		t.Error("the page does not say so")
	}
}

// TestCoverage: a root cause or something that did not go well without an action item is named; a closure with an open item
// neither passes nor prints the closing sentence.
func TestCoverage(t *testing.T) {
	d := document(report.Full, "en")
	d.Fields["action.2.covers"] = report.Text{Text: "factor.1"}
	if m := report.Check(d); len(m) != 1 || m[0].Field != "lesson.not-well.1" {
		t.Errorf("%+v", m)
	}
	d = document(report.Closure, "en")
	if !strings.Contains(report.Markdown(d), report.Closing) {
		t.Error("no closing sentence")
	}
	d.Fields["action.1.status"] = report.Text{Text: "Ongoing"}
	if m := report.Check(d); len(m) != 1 || m[0].Field != "action.1.status" {
		t.Errorf("%+v", m)
	}
	if strings.Contains(report.Markdown(d), report.Closing) {
		t.Error("a closing sentence with an open item")
	}
}

// TestSameBytes: the document has maps inside, the report shows none of their order.
func TestSameBytes(t *testing.T) {
	one := report.HTML(document(report.Full, "en"))
	for range 20 {
		if report.HTML(document(report.Full, "en")) != one {
			t.Fatal("two different pages of one document")
		}
	}
}

func TestNothingOfStrangersIsMarkup(t *testing.T) {
	d := document(report.Full, "en")
	d.Incident.Title = `<script>alert(1)</script>`
	d.Timeline[0].What = `<img src=x onerror=y>`
	if page := report.HTML(d); strings.Contains(page, "<script") || strings.Contains(page, "<img") {
		t.Error("markup of strangers is in the page")
	}
}

func TestCheckField(t *testing.T) {
	for field, text := range map[string]string{"description": "x", "source": "Audit", "factor.2.method": "x", "lesson.not-well.1": "x", "action.1.kind": "Detect", "action.1.due": "2026-01-02", "element.end": "N/A: x", "related.1.opened": "2026-01-02"} {
		if err := report.CheckField(field, text); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, text := range map[string]string{"": "x", "description": " ", "source": "rumour", "factor.0.method": "x", "factor.1": "x", "lesson.bad.1": "x", "action.1.kind": "Pray", "action.1.due": "soon", "element.nothing": "x",
		"action": "x", "related.1.opened": "x", "factor.1.method.x": "x", "source.1.x": "y"} {
		if err := report.CheckField(field, text); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s %q: %v", field, text, err)
		}
	}
}

func certificate(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ov, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 2})
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: new(big.Int).SetBytes([]byte{0, 0x8f, 1, 2, 3, 4, 5, 6, 7}), Subject: pkix.Name{CommonName: `=HYPERLINK("x"), "quoted"`, Organization: []string{"株式会社例"}},
		DNSNames: []string{"a.example.test", "*.b.example.test"}, NotBefore: at(1, 0, 0), NotAfter: at(30, 23, 59), Policies: []x509.OID{ov}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestAppendixRoundTrips writes rows, reads them back and holds each against the octets; a row in which one column was
// changed is refused.
func TestAppendixRoundTrips(t *testing.T) {
	der, pre := certificate(t), []byte("a precertificate")
	if got := report.Type(der); got != "OV" {
		t.Errorf("type %s", got)
	}
	row, err := report.Row(pre, der, report.Revocation{State: "Yes", At: at(3, 7, 50), Reason: bulkhead.Superseded})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for _, r := range [][]string{report.Columns, report.Safe(row)} {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	rows, err := report.ReadAppendix(&b)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	if err := report.CheckRow(rows[0], pre, der); err != nil {
		t.Fatal(err)
	}
	for i := range report.Columns {
		wrong := append([]string(nil), rows[0]...)
		wrong[i] += "x"
		if report.CheckRow(wrong, pre, der) == nil {
			t.Errorf("a wrong %q passes", report.Columns[i])
		}
	}
}

func FuzzReadAppendix(f *testing.F) {
	f.Add([]byte(strings.Join(report.Columns, ",") + "\na,b,c,d,e,f,g,h,Yes,2026-01-02T03:04:05Z,superseded\n"))
	f.Add([]byte("x,y\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		rows, err := report.ReadAppendixBytes(p)
		if err != nil {
			return
		}
		for _, r := range rows {
			if len(r) < len(report.Columns) {
				t.Fatalf("a short row came through: %q", r)
			}
		}
	})
}
