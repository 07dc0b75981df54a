package proof

import (
	"testing"
	"time"

	"bulkhead"
)

// TestEarlyBook: counters that come after the leaves count as they do before, or the book says that it cannot tell.
func TestEarlyBook(t *testing.T) {
	key, other := bulkhead.Digest([]byte("key")), bulkhead.Digest([]byte("other"))
	fill := func(b *Book) *Book {
		for seq, e := range []bulkhead.Evidence{
			{Kind: bulkhead.EvBatchIntent, Ref: "a", Signer: key, Count: 2}, {Kind: bulkhead.EvBatchOutcome, Ref: "a", Signer: key, Count: 2},
			{Kind: bulkhead.EvBatchIntent, Ref: "b", Signer: other, Count: 3}, {Kind: bulkhead.EvBatchOutcome, Ref: "b", Signer: other, Count: 3},
		} {
			e.Authority, e.At = "ca", time.Unix(1e9, 0)
			b.Add(int64(seq+1), e)
		}
		return b
	}
	for name, c := range map[string]struct {
		head     int64
		counters []bulkhead.SignatureCounter
		stands   bool
	}{
		"all counted":            {4, []bulkhead.SignatureCounter{{Key: key, Announced: 2, Made: 2, Since: 1}, {Key: other, Announced: 3, Made: 3, Since: 2}}, true},
		"a key without counter":  {9, []bulkhead.SignatureCounter{{Key: key, Announced: 2, Made: 2, Since: 1}}, true},
		"a counter without key":  {4, []bulkhead.SignatureCounter{{Key: bulkhead.Digest([]byte("nobody")), Made: 1, Since: 1}}, true},
		"a counter that differs": {4, []bulkhead.SignatureCounter{{Key: key, Announced: 5, Made: 5, Since: 1}}, true},
		"some leaves before it":  {4, []bulkhead.SignatureCounter{{Key: key, Announced: 2, Made: 2, Since: 2}}, false},
		"leaves behind the head": {3, nil, false},
	} {
		early := fill(NewEarlyBook())
		if got := early.Stand(c.head, c.counters); got != c.stands {
			t.Errorf("%s: stands: %v", name, got)
		}
		if !c.stands {
			continue
		}
		cfg := Config{Store: empty{}, Authorities: []bulkhead.Authority{{ID: "ca"}}, Issuers: []bulkhead.AuthorityID{"ca"}, All: true, Now: time.Unix(1e9, 0)}
		cfg.Book = early
		got, err := Prove(t.Context(), cfg, Outside{})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Book = fill(NewBook(c.head, c.counters))
		want, err := Prove(t.Context(), cfg, Outside{})
		if err != nil || len(got.Findings) != len(want.Findings) || len(got.Keys) != len(want.Keys) {
			t.Fatalf("%s: %v %+v, want %+v", name, err, got, want)
		}
		for i := range got.Findings {
			if got.Findings[i].Message != want.Findings[i].Message {
				t.Errorf("%s: %s, want %s", name, got.Findings[i].Message, want.Findings[i].Message)
			}
		}
	}
}
