package main

import (
	"testing"

	"bulkhead"
)

// TestProofOfAReport: a report claims with a proof only what the proof says.
func TestProofOfAReport(t *testing.T) {
	for text, want := range map[string]bulkhead.Kind{
		`{"ok":true,"negatives":[{}]}`:  "",
		`{"ok":false,"negatives":[{}]}`: bulkhead.KindGate,
		`{"ok":true}`:                   bulkhead.KindUsage,
		`{"negatives":[{}]}`:            bulkhead.KindUsage,
		`not a document`:                bulkhead.KindUsage,
		``:                              bulkhead.KindUsage,
	} {
		if err := reconciled("proof.json", []byte(text)); bulkhead.KindOf(err) != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
