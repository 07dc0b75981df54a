package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/run"
)

func demoJSON(t *testing.T, args ...string) run.ForgedReport {
	t.Helper()
	var out, errOut bytes.Buffer
	if code := execute(t.Context(), append([]string{"demo", "forged-ocsp", "--json"}, args...), nil, &out, &errOut); code != exitDone {
		t.Fatalf("exit %d: %s%s", code, out.String(), errOut.String())
	}
	var r run.ForgedReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return r
}

// TestDemoForged: the verdicts of the four cases beside a real OpenSSL, and the files that show them.
func TestDemoForged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	r := demoJSON(t, "--out", dir)
	want := map[string]string{"A": "accepted", "B": "accepted by OpenSSL: DANGEROUS", "B2": "accepted by OpenSSL: DANGEROUS", "C": "rejected", "D": "rejected"}
	if len(r.Cases) != len(want) || !r.Sound {
		t.Fatalf("%+v", r)
	}
	for _, c := range r.Cases {
		if c.Verdict != want[c.Case] {
			t.Errorf("%s: %s, want %s", c.Case, c.Verdict, want[c.Case])
		}
		if _, err := os.Stat(filepath.Join(dir, c.Case+".der")); err != nil {
			t.Error(err)
		}
	}
	var out, errOut bytes.Buffer
	if code := execute(t.Context(), []string{"demo", "forged-ocsp", "--out", dir}, nil, &out, &errOut); code != exitUsage {
		t.Errorf("a folder that exists: exit %d: %s", code, errOut.String())
	}
	if code := execute(t.Context(), []string{"demo", "forged-ocsp"}, nil, &out, &errOut); code != exitDone || !strings.Contains(out.String(), "OpenSSL believes 2 forgeries") {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

// TestDemoWithoutOpenSSL: without OpenSSL it says so and claims nothing of it.
func TestDemoWithoutOpenSSL(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := demoJSON(t)
	if !strings.Contains(r.OpenSSL, "not on the PATH") || !r.Sound {
		t.Errorf("%+v", r)
	}
	for _, c := range r.Cases {
		if c.OpenSSL != "not asked" || strings.Contains(c.Verdict, "OpenSSL") {
			t.Errorf("%+v", c)
		}
	}
}
