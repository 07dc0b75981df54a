package outside

import (
	"context"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// TestLedger: a signature is known by key and time; nothing is claimed of what the ledger does not reach.
func TestLedger(t *testing.T) {
	l := newLedger()
	key, other := bulkhead.Digest([]byte("key")), bulkhead.Digest([]byte("other"))
	l.since = start.Add(-time.Hour)
	l.note(7, bulkhead.Evidence{Kind: bulkhead.EvBatchIntent, At: start.Add(300 * time.Millisecond), Signer: key, Ref: "b-1"})
	l.note(8, bulkhead.Evidence{Kind: bulkhead.EvLiveWindow, At: start, Signer: other, Ref: "w-1"})
	l.note(9, bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: start, Signer: key})
	now := start.Add(time.Hour)
	for _, c := range []struct {
		name      string
		key       bulkhead.Hash
		at        time.Time
		ready     bool
		ok, known bool
	}{
		{"its batch", key, start, false, true, true},
		{"encoded for a while before", key, start.Add(-9 * time.Minute), true, true, true},
		{"long before", key, start.Add(-11 * time.Minute), true, false, true},
		{"after it", key, start.Add(time.Minute), true, false, true},
		{"not caught up", key, start.Add(time.Minute), false, false, false},
		{"before its memory", key, start.Add(-2 * time.Hour), true, false, false},
		{"just now", key, now.Add(-30 * time.Second), true, false, false},
		{"in a live window", other, start.Add(50 * time.Minute), true, true, true},
		{"a key that never signed", bulkhead.Digest([]byte("third")), start, true, false, true},
	} {
		l.ready = c.ready
		s, ok, known := l.signed(c.key, c.at, now)
		if ok != c.ok || known != c.known || ok && s.ref == "" {
			t.Errorf("%s: %v %v %+v", c.name, ok, known, s)
		}
	}
	for i := range maxBatches + 1 {
		l.note(int64(i+10), bulkhead.Evidence{Kind: bulkhead.EvBatchIntent, At: start.Add(time.Duration(i) * 5 * time.Second), Signer: key})
	}
	if l.n > maxBatches || !l.since.After(start) {
		t.Errorf("%d batches are kept, since %s", l.n, l.since)
	}
}

// leaves is evidence alone.
type leaves struct {
	Record
	at    []time.Time
	reads int
}

func (l *leaves) EvidenceHead(context.Context) (int64, bulkhead.Hash, error) {
	return int64(len(l.at)), bulkhead.Hash{}, nil
}

func (l *leaves) EvidenceAfter(_ context.Context, seq int64, limit int) (out []bulkhead.EvidenceRow, err error) {
	l.reads++
	for i := seq; i < int64(len(l.at)) && len(out) < limit; i++ {
		leaf, err := tlog.Marshal(bulkhead.Evidence{Kind: bulkhead.EvStart, At: l.at[i]})
		if err != nil {
			return nil, err
		}
		out = append(out, bulkhead.EvidenceRow{Seq: i + 1, Leaf: leaf})
	}
	return out, nil
}

// TestFirstSince finds the place in a few reads, however long the log is.
func TestFirstSince(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1000} {
		l := &leaves{}
		for i := range n {
			l.at = append(l.at, start.Add(time.Duration(i)*time.Minute))
		}
		for _, want := range []int{0, n / 2, n} {
			l.reads = 0
			got, err := firstSince(t.Context(), l, start.Add(time.Duration(want)*time.Minute))
			if err != nil || got != int64(want) || l.reads > 12 {
				t.Errorf("%d leaves: %d in %d reads, want %d: %v", n, got, l.reads, want, err)
			}
		}
	}
}

// FuzzHeaders: headers of strangers never make a time that the answer does not have, nor a panic.
func FuzzHeaders(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nAge: 120\r\nCache-Control: public, max-age=3600\r\n\r\n")
	f.Add("Cache-Control: no-store\nAge: -1\nDate: x")
	f.Add("Cache-Control: max-age=99999999999999999999, s-maxage=\"5\"\nAge: 5\n: \n\x00:\xff")
	f.Fuzz(func(t *testing.T, text string) {
		v := (&Explainer{}).cache(text)
		if v == nil {
			return
		}
		if !v.KeepUntil.IsZero() && v.FetchedAt.IsZero() && v.MaxAge != "no-store" {
			t.Errorf("kept until %s without a date", v.KeepUntil)
		}
	})
}
