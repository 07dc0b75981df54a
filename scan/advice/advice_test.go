package advice

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

var update = flag.Bool("update", false, "write the snapshots")

var day = time.Date(2014, 4, 10, 3, 0, 0, 0, time.UTC)

// cases are the people of April 2014.
var cases = map[string]State{
	"vulnerable": {Host: "www.example.jp", Verdict: bulkhead.Vulnerable, Looked: day, OldKey: bulkhead.Digest([]byte("old")), ServedKey: bulkhead.Digest([]byte("old")), Ticket: true, RevokeAt: day.Add(72 * time.Hour)},
	"same-key":   {Host: "www.example.jp", Verdict: bulkhead.Patched, OldKey: bulkhead.Digest([]byte("old")), ServedKey: bulkhead.Digest([]byte("old")), Chain: []string{chain2013}, RevokeAt: day.Add(72 * time.Hour)},
	"half-way":   {Host: "www.example.jp", Verdict: bulkhead.Patched, OldKey: bulkhead.Digest([]byte("old")), ServedKey: bulkhead.Digest([]byte("new")), Replaced: true, Stale: []string{"192.0.2.2:443", "192.0.2.3:443"}},
	"all-done":   {Host: "www.example.jp", Verdict: bulkhead.Patched, OldKey: bulkhead.Digest([]byte("old")), ServedKey: bulkhead.Digest([]byte("new")), Replaced: true, Installed: true, Revoked: day.Add(24 * time.Hour)},
	"stranger":   {Host: "www.example.jp", Verdict: bulkhead.Patched},
	"immune":     {Host: "www.example.jp", Verdict: bulkhead.NotSupported},
	"silent":     {Host: "www.example.jp", Verdict: bulkhead.Inconclusive},
	"hostile":    {Host: "<script>alert(1)</script>", Verdict: bulkhead.Unreachable},
}

// TestSnapshots holds every text in both languages; a change of words is a change that somebody reads.
func TestSnapshots(t *testing.T) {
	for name, s := range cases {
		for _, l := range []Language{English, Japanese} {
			a := For(s, l)
			doc, err := json.MarshalIndent(a, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			for ext, got := range map[string]string{"txt": a.Text(), "html": a.HTML(), "json": string(doc) + "\n"} {
				path := filepath.Join("testdata", name+"."+string(l)+"."+ext)
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(path); err != nil || string(want) != got {
					t.Errorf("%s: %v; run with -update and read the difference:\n%s", path, err, got)
				}
			}
		}
	}
}

// TestOrderAndTruth: nothing is done that was not seen, a new key is never passed over, markup is escaped.
func TestOrderAndTruth(t *testing.T) {
	for name, want := range map[string][5]Done{
		"vulnerable": {No, No, No, No, No}, "same-key": {Yes, No, No, No, No}, "half-way": {Yes, Yes, Yes, No, Open}, "all-done": {Yes, Yes, Yes, Yes, Yes},
		"stranger": {Yes, Open, Open, Open, Open}, "silent": {Open, Open, Open, Open, Open},
	} {
		a := For(cases[name], English)
		for i, s := range a.Steps {
			if s.State != want[i] || s.Number != i+1 {
				t.Errorf("%s step %d: %s, want %s", name, i+1, s.State, want[i])
			}
		}
	}
	if a := For(cases["immune"], English); a.Needed || len(a.Steps) != 0 {
		t.Errorf("%+v", a)
	}
	if h := For(cases["hostile"], English).HTML(); strings.Contains(h, "<script") {
		t.Error(h)
	}
	for _, w := range words {
		for _, v := range bulkhead.Verdicts {
			if w.headline[v] == "" {
				t.Errorf("no words for %s", v)
			}
		}
		for _, v := range []bulkhead.Verdict{bulkhead.Unreachable, bulkhead.Inconclusive} {
			if strings.Contains(strings.ToLower(w.headline[v]), "immune") {
				t.Error(w.headline[v])
			}
		}
	}
}

func TestLanguageOf(t *testing.T) {
	for header, want := range map[string]Language{"": English, "ja": Japanese, "ja-JP,en;q=0.5": Japanese, "de, ja;q=0.8": Japanese, "en-GB, ja": English, "fr": English, ";;,": English} {
		if got := LanguageOf(header); got != want {
			t.Errorf("%q: %s", header, got)
		}
	}
}
