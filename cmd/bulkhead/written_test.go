package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"bulkhead/scan/probe"
)

// TestScanVersion: a site owner has a text, and learns what it says, what it does not, and what to do.
func TestScanVersion(t *testing.T) {
	for _, c := range []struct {
		text, in string
		code     int
		state    probe.StringState
		words    string
	}{
		{"OpenSSL 1.0.1e 11 Feb 2013", "", exitRefused, probe.StringAffected, "affected by CVE-2014-0160"},
		{"-", "libssl1.0.0:amd64\t1.0.1e-2+deb7u5\n", exitDone, probe.StringFixed, "DSA-2896-1"},
		{"OpenSSL 0.9.8y 5 Feb 2013", "", exitDone, probe.StringNotAffected, "not affected"},
		{"nginx/1.4.6", "", exitPartly, probe.StringUnclear, "cannot be told"},
	} {
		var out, errOut bytes.Buffer
		if code := execute(t.Context(), []string{"scan", "version", c.text}, strings.NewReader(c.in), &out, &errOut); code != c.code || !strings.Contains(out.String(), c.words) || !strings.Contains(errOut.String(), "next: ") {
			t.Errorf("%q ended with %d: %s%s", c.text, code, out.String(), errOut.String())
		}
		out.Reset()
		var j probe.StringJudgement
		execute(t.Context(), []string{"scan", "version", "--json", c.text}, strings.NewReader(c.in), &out, &errOut)
		if err := json.Unmarshal(out.Bytes(), &j); err != nil || j.State != c.state {
			t.Errorf("%q: %s, %v", c.text, out.String(), err)
		}
	}
	var out, errOut bytes.Buffer
	if code := execute(t.Context(), []string{"scan", "version", "-"}, strings.NewReader(" \n"), &out, &errOut); code != exitUsage || out.Len() > 0 || !strings.Contains(errOut.String(), "openssl version -a") {
		t.Errorf("no text ended with %d: %s%s", code, out.String(), errOut.String())
	}
}

// TestPolicyTable: the numbers by date, as the checks go by them.
func TestPolicyTable(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		has  []string
	}{
		{[]string{"--at", "2026-03-14", "life-max"}, exitDone, []string{"398 d", "2026-03-14", "BR 6.3.2"}},
		{[]string{"--at", "2026-03-15", "LIFE-MAX"}, exitDone, []string{"200 d", "2026-03-15 to 2027-03-14"}},
		{[]string{"--all", "LIFE-MAX", "DCV-REUSE"}, exitDone, []string{"398 d", "200 d", "100 d", "47 d", "10 d"}},
		{[]string{"--json", "--at", "2029-03-15", "DCV-REUSE"}, exitDone, []string{`"value": "10 d"`, `"from": "2029-03-15T00:00:00Z"`}},
		{[]string{"--at", "soon"}, exitUsage, []string{"next: "}},
		{[]string{"NO-SUCH"}, exitFailed, []string{"bulkhead policy --all"}},
	} {
		var out, errOut bytes.Buffer
		code := execute(t.Context(), append([]string{"policy"}, c.args...), nil, &out, &errOut)
		for _, want := range c.has {
			if code != c.code || !strings.Contains(out.String()+errOut.String(), want) {
				t.Errorf("%v ended with %d, without %q: %s%s", c.args, code, want, out.String(), errOut.String())
			}
		}
	}
}
