package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/incident/report"
)

// TestIncidentReport goes the way of a bad day: an incident over real certificates, the gaps one by one with the commands
// that the check itself gives, until the report has none; then the appendix is held against the certificates.
func TestIncidentReport(t *testing.T) {
	c := houseUp(t)
	for _, name := range []string{"n0.example.test", "n1.example.test"} {
		c.run(t, exitDone, "issue", name, "--out", filepath.Join(c.work, name))
	}
	i := asJSON[console.IncidentView](t, c, "incident", "open", "--title", "a day like 2016", "--playbook", "mass-revocation", "--name", ".example.test")
	gaps := func(code int, args ...string) (out []bulkhead.ReportGap) {
		t.Helper()
		text, _ := c.run(t, code, append([]string{"incident", "report", i.ID, "--check", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err, text)
		}
		return out
	}
	first := gaps(exitRefused)
	if len(first) < 20 {
		t.Fatalf("%d gaps: %+v", len(first), first)
	}
	text, _ := c.run(t, exitDone, "incident", "report", i.ID)
	for _, want := range []string{"# Full Incident Report: a day like 2016", "MISSING", "**Total number of certificates:** 2 "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the report:\n%s", want, text)
		}
	}
	c.run(t, exitUsage, "incident", "set", i.ID, "source", "a rumour")
	c.run(t, exitUsage, "incident", "set", i.ID, "colour", "red")
	c.run(t, exitUsage, "incident", "set", i.ID, "source", "Audit", "--confirm")
	c.run(t, exitDone, "incident", "set", i.ID, "source", "Audit", "--dry-run")
	if again := gaps(exitRefused); len(again) != len(first) {
		t.Errorf("a dry run changed something: %d gaps, then %d", len(first), len(again))
	}
	c.provedLeaves(t, text)
	c.closeGaps(t, i.ID, first)
	left := gaps(exitRefused)
	if len(left) != 1 || left[0].Field != "ccadb-id" {
		t.Fatalf("left: %+v", left)
	}
	out := filepath.Join(c.work, "report")
	c.run(t, exitDone, "incident", "report", i.ID, "--out", out, "--lang", "ja", "--format", "pdf")
	if pdf, err := os.ReadFile(filepath.Join(out, "full.pdf")); err != nil || !strings.HasPrefix(string(pdf), "%PDF-") {
		t.Errorf("no PDF: %v", err)
	}
	table, err := os.ReadFile(filepath.Join(out, "certificates.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := report.ReadAppendixBytes(table)
	if err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	for n, name := range []string{"n0.example.test", "n1.example.test"} {
		if err := report.CheckRow(rows[n], nil, certificateOf(t, filepath.Join(c.work, name), name)); err != nil {
			t.Error(err)
		}
	}
	c.run(t, exitDone, "incident", "report", i.ID, "--out", out)
	c.massPlan(t)
	c.keysClaim(t, i.ID)
	if svg, err := os.ReadFile(filepath.Join(out, "timeline.svg")); err != nil || !strings.HasPrefix(string(svg), "<svg ") {
		t.Errorf("no drawing: %v", err)
	}
}

// provedLeaves is promise P13: every leaf that a report names is there for a stranger who has a copy of the log, its key and
// bulkhead-verify, and says what it is named for.
func (c *cli) provedLeaves(t testing.TB, text string) {
	t.Helper()
	verify := verifier(t, c.work)
	log, key := filepath.Join(c.work, "log"), filepath.Join(c.dir, "evidence.key.pub")
	var last string // the checkpoint covers what was written a moment ago
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := os.RemoveAll(log); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(log, os.DirFS(filepath.Join(c.dir, "evidence"))); err != nil {
			continue // it goes on being written
		}
		if last = leavesNamed(t, verify, log, key, text); last == "" {
			return
		}
	}
	t.Error(last)
}

var namedLeaf = regexp.MustCompile(`\[leaf (\d+)\]`)

// leavesNamed proves each leaf that a text names; what it gives is what is wrong.
func leavesNamed(t testing.TB, verify, log, key, text string) string {
	t.Helper()
	rows, opened := 0, false
	for _, line := range strings.Split(text, "\n") {
		m := namedLeaf.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		rows++
		out, err := exec.Command(verify, "leaf", "--log", log, "--key", key, "--index", m[1]).CombinedOutput()
		var leaf struct {
			Kind   string
			Detail string
		}
		if err != nil || json.Unmarshal(out, &leaf) != nil || leaf.Kind == "" {
			return fmt.Sprintf("leaf %s, which %q names: %v: %s", m[1], line, err, out)
		}
		if strings.Contains(line, "incident-opened: ") {
			opened = leaf.Kind == "incident-opened"
		}
		if strings.Contains(line, "Total number of certificates") && leaf.Kind != "incident-scope" {
			return fmt.Sprintf("the number of certificates names a leaf of kind %s", leaf.Kind)
		}
	}
	if rows < 5 || !opened {
		return fmt.Sprintf("%d leaves are named, the opening of the incident is %v among them", rows, opened)
	}
	return ""
}

// keysClaim is requirement S4-8: that the authorities' own keys have no part is said with the proof that shows it, by digest, and
// not at all without one, or with one that did not reconcile.
func (c *cli) keysClaim(t testing.TB, id string) {
	t.Helper()
	const claim = "have no part in this incident as far as the attached proof shows"
	if text, _ := c.run(t, exitDone, "incident", "report", id); strings.Contains(text, claim) || !strings.Contains(text, "nothing is claimed about them") {
		t.Errorf("without a proof the report says:\n%s", text)
	}
	path := filepath.Join(c.work, "proof.json")
	c.run(t, exitDone, "audit", "prove", "--all", "--out", path)
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := claim + ": proof.json (SHA-256 " + bulkhead.Digest(doc).String() + ")"
	if text, _ := c.run(t, exitDone, "incident", "report", id, "--proof", path); !strings.Contains(text, want) {
		t.Errorf("the report does not refer to the proof by its digest:\n%s", text)
	}
	found := c.file(t, "found.json", strings.Replace(string(doc), "\"ok\": true", "\"ok\": false", 1), 0o600)
	c.run(t, exitRefused, "incident", "report", id, "--proof", found)
	c.run(t, exitUsage, "incident", "report", id, "--proof", c.file(t, "other.json", "{}", 0o600))
}

// closeGaps does what the check says, with a text where a person would have one.
func (c *cli) closeGaps(t testing.TB, id string, all []bulkhead.ReportGap) {
	t.Helper()
	for _, m := range all {
		switch {
		case m.Field == "ccadb-id":
		case strings.HasSuffix(m.Command, "--confirm"):
			c.run(t, exitDone, "incident", "set", id, m.Field, "--confirm")
		default:
			text := map[string]string{"source": "Self Reported", "action.1.kind": "Prevent", "action.1.due": "2027-01-31", "action.1.status": "Ongoing", "action.1.covers": "factor.1, lesson.not-well.1"}[m.Field]
			if text == "" {
				text = "N/A: written by a test"
			}
			c.run(t, exitDone, "incident", "set", id, m.Field, text)
		}
	}
}

func certificateOf(t testing.TB, dir, name string) []byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := pem.Decode(text); b != nil && b.Type == "CERTIFICATE" {
			if x, err := x509.ParseCertificate(b.Bytes); err == nil && x.VerifyHostname(name) == nil {
				return b.Bytes
			}
		}
	}
	t.Fatalf("no certificate of %s among %v", name, found)
	return nil
}

// massPlan: a house that nobody prepared says so, part by part.
func (c *cli) massPlan(t testing.TB) {
	t.Helper()
	plan, _ := c.run(t, exitDone, "report", "mass-revocation-plan")
	for _, want := range []string{"# Mass Revocation Plan", "2 certificates are live", "nobody is named who must be reached", "## 9. Review"} {
		if !strings.Contains(plan, want) {
			t.Errorf("%q is not in the plan:\n%s", want, plan)
		}
	}
	c.run(t, exitRefused, "report", "mass-revocation-plan", "--check", "--lang", "ja")
}
