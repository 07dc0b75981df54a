package scan_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/scan"
	"bulkhead/store/sqlite"
)

var noon = time.Date(2014, 4, 8, 12, 0, 0, 0, time.UTC)

// shown is one look at one host.
func shown(host string, v bulkhead.LookReason, certificate, key string, at time.Time) scan.Result {
	ep := bulkhead.Endpoint{Host: host, Address: netip.MustParseAddr("192.0.2.1"), Port: 443}
	l := bulkhead.Look{Endpoint: ep, At: at, Verdict: bulkhead.LookReasons[v], Reason: v, Detail: "seen"}
	if key != "" {
		l.Chain = &bulkhead.ServedChain{DER: [][]byte{[]byte(certificate)}, Key: bulkhead.KeyFacts{SPKI: bulkhead.Digest([]byte(key))}}
	}
	return scan.Result{Target: host, Host: host, Verdict: l.Verdict, Reason: v, At: at, Endpoints: []scan.Endpoint{{Look: l, Tries: 1}}}
}

func rules(r scan.Result) (out []string) {
	for _, f := range r.Endpoints[0].Findings {
		out = append(out, f.Rule)
	}
	return out
}

// TestHistory is the month of April 2014 as the record keeps it (S3-3): a leak, a new certificate with the same key, two hosts
// with one key, a key that is blocked; and silence where nothing is wrong. Each change is a row, the same again is none.
func TestHistory(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := noon
	h := scan.NewHistory(s, func() time.Time { return now }, 24*time.Hour, 400*24*time.Hour)
	house := bulkhead.HouseLooks
	see := func(book bulkhead.LookBook, want []string, all ...scan.Result) {
		t.Helper()
		now = now.Add(time.Minute)
		for i := range all {
			all[i].Endpoints[0].At = now
		}
		if err := h.Keep(t.Context(), book, all); err != nil {
			t.Fatal(err)
		}
		if got := rules(all[0]); !slices.Equal(got, want) {
			t.Errorf("findings %v, want %v", got, want)
		}
	}
	see(house, nil, shown("a.test", bulkhead.ReasonOverread, "old", "k1", noon))
	see(house, []string{"key-kept"}, shown("a.test", bulkhead.ReasonOverread, "old", "k1", noon))  // and no other row
	see(house, []string{"key-kept"}, shown("a.test", bulkhead.ReasonDiscarded, "new", "k1", noon)) // Netcraft's case
	see(house, nil, shown("a.test", bulkhead.ReasonConnectTimeout, "", "", noon))                  // nothing is known
	see(house, []string{"key-kept"}, shown("a.test", bulkhead.ReasonDiscarded, "new", "k1", noon)) // and it was not forgotten
	see(house, nil, shown("a.test", bulkhead.ReasonDiscarded, "newest", "k2", noon))               // at last
	see(house, []string{"key-unchanged"}, shown("a.test", bulkhead.ReasonDiscarded, "newest", "k2", noon))
	see(bulkhead.PublicLooks, nil, shown("b.test", bulkhead.ReasonDiscarded, "b", "k2", noon)) // strangers are told of strangers' looks
	see(house, []string{"key-shared"}, shown("b.test", bulkhead.ReasonDiscarded, "b", "k2", noon))
	see(house, []string{"key-shared"}, shown("c.test", bulkhead.ReasonDiscarded, "c", "k3", noon), shown("d.test", bulkhead.ReasonDiscarded, "d", "k3", noon))
	stolen := bulkhead.Digest([]byte("k4"))
	ev := bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: noon, Actor: "test", KeyHash: stolen}
	if err := s.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: stolen, BlockedAt: noon, Reason: "stolen", Actor: "test"}, ev); err != nil {
		t.Fatal(err)
	}
	see(house, []string{"key-blocked"}, shown("e.test", bulkhead.ReasonNotNegotiated, "e", "k4", noon))

	rows, err := h.Of(t.Context(), house, "a.test", 0)
	if err != nil {
		t.Fatal(err)
	}
	var story []string
	for _, r := range slices.Backward(rows) {
		story = append(story, strings.Join(r.Changed, "; "))
	}
	want := []string{"", "new: key-kept", "vulnerable before, patched now; another certificate with the SAME key", "patched before, unreachable now; no certificate was seen",
		"unreachable before, patched now; the certificate of before is seen again", "another certificate with another key; gone: key-kept"}
	if !slices.Equal(story, want) || rows[0].Looks != 2 {
		t.Errorf("%d looks at the last; the story is\n%s", rows[0].Looks, strings.Join(story, "\n"))
	}
	now = now.Add(48 * time.Hour) // strangers' looks are forgotten
	see(bulkhead.PublicLooks, nil, shown("z.test", bulkhead.ReasonDiscarded, "z", "k9", noon))
	if rows, err := h.Of(t.Context(), bulkhead.PublicLooks, "b.test", 0); err != nil || len(rows) != 0 {
		t.Errorf("%+v, %v", rows, err)
	}
	if rows, err := h.Of(t.Context(), house, "b.test", 0); err != nil || len(rows) != 1 {
		t.Errorf("%+v, %v", rows, err)
	}
}
