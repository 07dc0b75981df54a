package tlog

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

func serialOf(t testing.TB, n uint64) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.SerialFromBytes(append([]byte{0x4a, 1, 2, 3, 4, 5, 6, 7}, binary.BigEndian.AppendUint64(nil, n)...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRevocations: a leaf takes as many serials as its detail holds, of one reason and time, and gives back exactly those.
func TestRevocations(t *testing.T) {
	at := time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)
	var r Revocations
	var want []bulkhead.Serial
	for r.Add(serialOf(t, uint64(len(want))), bulkhead.Superseded, at) {
		want = append(want, serialOf(t, uint64(len(want))))
	}
	if len(want) < 100 {
		t.Errorf("%d serials fit", len(want))
	}
	e := bulkhead.Evidence{Kind: bulkhead.EvRevocations, At: at, Authority: "a", Count: int64(r.Len()), Detail: r.Detail()}
	leaf, err := Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = Parse(leaf); err != nil {
		t.Fatal(err)
	}
	got, err := RevokedIn(e)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d serials, %v", len(got), err)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("serial %d is %s", i, got[i])
		}
	}
	var other Revocations
	other.Add(want[0], bulkhead.Superseded, at)
	if other.Add(want[1], bulkhead.KeyCompromise, at) || other.Add(want[1], bulkhead.Superseded, at.Add(time.Second)) || other.Len() != 1 {
		t.Error("another reason or time went into the same leaf")
	}
	for name, spoil := range map[string]func(*bulkhead.Evidence){
		"count":   func(e *bulkhead.Evidence) { e.Count++ },
		"kind":    func(e *bulkhead.Evidence) { e.Kind = bulkhead.EvStart },
		"serial":  func(e *bulkhead.Evidence) { e.Detail = strings.ToUpper(e.Detail) },
		"no time": func(e *bulkhead.Evidence) { e.Detail = strings.Replace(e.Detail, "2026", "x", 1) },
		"nothing": func(e *bulkhead.Evidence) { e.Detail, e.Count = "", 0 },
	} {
		bad := e
		spoil(&bad)
		if _, err := RevokedIn(bad); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzRevokedIn(f *testing.F) {
	f.Add("superseded 2026-11-26T17:00:00Z: 03ab9c 03ab9d", int64(2))
	f.Add("keyCompromise 2026-11-26T17:00:00Z:", int64(0))
	f.Fuzz(func(t *testing.T, detail string, count int64) {
		got, err := RevokedIn(bulkhead.Evidence{Kind: bulkhead.EvRevocations, Detail: detail, Count: count})
		if err == nil && (len(got) == 0 || int64(len(got)) != count || !strings.HasSuffix(detail, got[len(got)-1].String())) {
			t.Fatalf("%q is %v", detail, got)
		}
	})
}
