package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
	"bulkhead/scan"
	"bulkhead/scan/probe/probetest"
)

func serveBehaviour(t testing.TB, b probetest.Behaviour) string {
	t.Helper()
	s, err := probetest.Listen(b, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	at := s.Addr().String()
	if b.STARTTLS != bulkhead.NoSTARTTLS {
		return string(b.STARTTLS) + "://" + at
	}
	return at
}

// bareScan runs the command with no house anywhere.
func bareScan(t testing.TB, code int, args ...string) (string, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	if got := execute(t.Context(), append([]string{"--data", filepath.Join(t.TempDir(), "none"), "scan"}, args...), strings.NewReader(""), &out, &errOut); got != code {
		t.Fatalf("scan %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errOut.String())
	}
	return out.String(), errOut.String()
}

type scanDoc struct {
	Targets  []scan.Result `json:"targets"`
	Summary  scan.Summary  `json:"summary"`
	Complete bool          `json:"complete"`
}

// TestScanMany looks at 240 endpoints of every kind at once, by a file, and wants each verdict right, then the exit code.
func TestScanMany(t *testing.T) {
	var kinds []probetest.Behaviour
	for _, b := range probetest.Behaviours() {
		if !b.TimesOut && b.SNI == "" {
			kinds = append(kinds, b)
		}
	}
	want := map[string]probetest.Behaviour{}
	var list strings.Builder
	for i := range 240 {
		b := kinds[i*7919%len(kinds)]
		at := serveBehaviour(t, b)
		if b.STARTTLS == bulkhead.NoSTARTTLS && i%2 == 0 {
			list.WriteString("# " + b.Name + "\n")
		}
		fmt.Fprintln(&list, at)
		want[at] = b
	}
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	out, _ := bareScan(t, exitRefused, "--file", file, "--json", "--timeout", "20s", "--retries", "0", "--concurrency", "32", "--state", state)
	var doc scanDoc
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Targets) != len(want) || doc.Summary.Targets != len(want) || !doc.Complete {
		t.Fatalf("%d targets, summary %+v", len(doc.Targets), doc.Summary)
	}
	for _, r := range doc.Targets {
		b := want[r.Target]
		if r.Verdict != b.Verdict || r.Reason != b.Reason {
			t.Errorf("%s (%s): %s %s, want %s %s: %s", r.Target, b.Name, r.Verdict, r.Reason, b.Verdict, b.Reason, r.Detail)
		}
	}
	began := time.Now()
	again, _ := bareScan(t, exitRefused, "--file", file, "--json", "--state", state)
	if again != out {
		t.Error("a run that has nothing left to do reports otherwise")
	}
	t.Logf("from the state file: %s", time.Since(began))
}

// TestScanExitCodes: the worst news is the exit code, and what was not seen is never 0.
func TestScanExitCodes(t *testing.T) {
	of := map[bulkhead.Verdict]string{bulkhead.Unreachable: heldport.For(t).String()}
	for _, b := range probetest.Behaviours() {
		if !b.TimesOut && b.SNI == "" && b.STARTTLS == "" && of[b.Verdict] == "" {
			of[b.Verdict] = serveBehaviour(t, b)
		}
	}
	v, p, n, u, i := of[bulkhead.Vulnerable], of[bulkhead.Patched], of[bulkhead.NotSupported], of[bulkhead.Unreachable], of[bulkhead.Inconclusive]
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitDone, []string{p}}, {exitDone, []string{n, p}}, {exitRefused, []string{v}}, {exitRefused, []string{p, u, v, i}}, {exitPartly, []string{p, u}},
		{exitPartly, []string{p, i}}, {exitPartly, []string{i}}, {exitPartly, []string{i, u}}, {exitUnreachable, []string{u}},
		{exitUsage, nil}, {exitUsage, []string{"a b"}}, {exitUsage, []string{p, "--json", "--sarif"}}, {exitUsage, []string{p, "--port", "0"}},
		{exitUsage, []string{p, "--file", "/nowhere"}}, {exitRefused, []string{"127.0.0.0/30"}}, {exitUsage, []string{p, "--concurrency", "0"}},
	} {
		bareScan(t, c.code, append(c.args, "--retries", "0", "--timeout", "2s")...)
	}
	out, talk := bareScan(t, exitRefused, v, p)
	if !strings.Contains(out, "VULNERABLE     "+v) || !strings.Contains(talk, "1 vulnerable, 1 patched") || !strings.Contains(talk, "In this order") {
		t.Errorf("%s%s", out, talk)
	}
	out, _ = bareScan(t, exitPartly, "--jsonl", p, u)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(out, `"verdict":"unreachable"`) {
		t.Errorf("JSON lines: %s", out)
	}
	host, port, _ := strings.Cut(p, ":")
	out, _ = bareScan(t, exitDone, host, "--port", port, "--json")
	if !strings.Contains(out, `"verdict": "patched"`) {
		t.Error(out)
	}
	if out, _ = bareScan(t, exitDone, "localhost", "--port", port, "--json"); !strings.Contains(out, `"verdict": "patched"`) {
		t.Error(out)
	}
}

// TestScanBlock: with a letter, a block is looked at address by address.
func TestScanBlock(t *testing.T) {
	p := serveBehaviour(t, probetest.Behaviour{})
	_, port, _ := strings.Cut(p, ":")
	letter := filepath.Join(t.TempDir(), "letter")
	if err := os.WriteFile(letter, []byte("- {block: 127.0.0.0/29, by: \"the owner of this machine\", until: 2999-01-01}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := bareScan(t, exitPartly, "127.0.0.0/30", "--port", port, "--authorisation", letter, "--json")
	var doc scanDoc
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Targets) != 2 || doc.Targets[0].Verdict != bulkhead.NotSupported || doc.Targets[1].Verdict != bulkhead.Unreachable {
		t.Errorf("%v: %s", err, out)
	}
	_, talk := bareScan(t, exitRefused, "127.0.0.0/28", "--authorisation", letter)
	if !strings.Contains(talk, "no authorisation names it") {
		t.Error(talk)
	}
}

// TestScanSARIF holds the document against what SARIF 2.1.0 demands of these parts.
func TestScanSARIF(t *testing.T) {
	var v string
	for _, b := range probetest.Behaviours() {
		if b.Verdict == bulkhead.Vulnerable && b.STARTTLS == "" && b.SNI == "" && v == "" {
			v = serveBehaviour(t, b)
		}
	}
	out, _ := bareScan(t, exitRefused, "--sarif", v, heldport.For(t).String(), serveBehaviour(t, probetest.Behaviour{}))
	var doc struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID    string
						Short struct{ Text string } `json:"shortDescription"`
					}
				}
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Kind      string
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					Physical struct {
						Artifact struct{ URI string } `json:"artifactLocation"`
					} `json:"physicalLocation"`
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Version != "2.1.0" || !strings.HasPrefix(doc.Schema, "https://") || len(doc.Runs) != 1 || len(doc.Runs[0].Results) != 3 || doc.Runs[0].Tool.Driver.Name == "" {
		t.Fatal(out)
	}
	for i, want := range [][2]string{{"fail", "error"}, {"open", "none"}, {"pass", "none"}} {
		r := doc.Runs[0].Results[i]
		rules := doc.Runs[0].Tool.Driver.Rules
		if r.Kind != want[0] || r.Level != want[1] || r.Message.Text == "" || len(r.Locations) != 1 || !strings.HasPrefix(r.Locations[0].Physical.Artifact.URI, "tls://127.0.0.1:") ||
			rules[r.RuleIndex].ID != r.RuleID || rules[r.RuleIndex].Short.Text == "" {
			t.Errorf("result %d: %+v", i, r)
		}
		if r.Kind != "fail" && r.Level != "none" {
			t.Errorf("SARIF 3.27.10: level %s with kind %s", r.Level, r.Kind)
		}
	}
}

// TestProgressLine: words first, and a rate that a person can use.
func TestProgressLine(t *testing.T) {
	at := time.Unix(1000, 0)
	p := &progress{what: "scan", total: 400, done: 100, bad: 3, began: at}
	if got := p.line(at.Add(10 * time.Second)); got != "scan [######..................] 100 of 400, 3 vulnerable, 10 a second, 30s left" {
		t.Error(got)
	}
	if quiet := newProgress(&bytes.Buffer{}, "scan"); quiet.w != nil {
		t.Error("a bar is drawn where there is no terminal")
	}
}
