package proof

import (
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// empty is a record without certificates.
type empty struct{}

func (empty) SignatureCounters(context.Context) (int64, []bulkhead.SignatureCounter, error) {
	return 0, nil, nil
}

func (empty) SignedRange(context.Context, []bulkhead.AuthorityID, int64, int64) iter.Seq2[*bulkhead.SignedRow, error] {
	return func(func(*bulkhead.SignedRow, error) bool) {}
}

func (empty) ValidationRange(context.Context) iter.Seq2[*bulkhead.Validation, error] {
	return func(func(*bulkhead.Validation, error) bool) {}
}

func (empty) PrunedAfter(context.Context, bulkhead.AuthorityID, bulkhead.Serial, int) ([]bulkhead.Serial, error) {
	return nil, nil
}

func (empty) EvidenceAfter(context.Context, int64, int) ([]bulkhead.EvidenceRow, error) {
	return nil, nil
}

func (empty) AlarmsOf(context.Context, string, int) ([]bulkhead.Alarm, error) { return nil, nil }

// device counts by key; a key that it does not have is not counted.
type device map[bulkhead.Hash]int64

func (d device) Uses(_ context.Context, key bulkhead.Hash) (int64, error) {
	n, ok := d[key]
	if !ok {
		return 0, bulkhead.NewFault(bulkhead.KindNotFound, "this device does not count")
	}
	return n, nil
}

// TestHardwareCounter is D3 against the device: it may have signed less often than was announced, never more. A device that
// does not count is said to, and one that fails ends the proof.
func TestHardwareCounter(t *testing.T) {
	key, at := bulkhead.Digest([]byte("key")), time.Unix(1e9, 0)
	book := func() *Book {
		b := NewBook(2, []bulkhead.SignatureCounter{{Key: key, Announced: 40, Made: 40, Since: 1}})
		b.Add(1, bulkhead.Evidence{Kind: bulkhead.EvBatchIntent, At: at, Authority: "ca", Ref: "b", Signer: key, Count: 40})
		b.Add(2, bulkhead.Evidence{Kind: bulkhead.EvBatchOutcome, At: at, Authority: "ca", Ref: "b", Signer: key, Count: 40})
		return b
	}
	for name, c := range map[string]struct {
		hardware Counter
		rules    []string
		says     string
	}{
		"none":      {nil, nil, "no device reported a counter"},
		"uncounted": {device{}, nil, "no device reported a counter"},
		"equal":     {device{key: 40}, nil, ""},
		"behind":    {device{key: 39}, nil, ""}, // announced, and the device was stopped before it signed
		"ahead":     {device{key: 41}, []string{RuleHardware}, ""},
	} {
		r, err := Prove(t.Context(), Config{Store: empty{}, Book: book(), Authorities: []bulkhead.Authority{{ID: "ca", Kind: bulkhead.IssuingAuthority}}, Issuers: []bulkhead.AuthorityID{"ca"}, Hardware: c.hardware, Now: at}, Outside{})
		if err != nil {
			t.Fatal(err)
		}
		var rules []string
		for _, f := range r.Findings {
			rules = append(rules, f.Rule)
		}
		if strings.Join(rules, " ") != strings.Join(c.rules, " ") || r.OK != (len(c.rules) == 0) || !strings.Contains(r.Text(), c.says) || c.says == "" && strings.Contains(r.Text(), "no device reported") {
			t.Errorf("%s: %v\n%s", name, rules, r.Text())
		}
	}
}
