package outside

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// tally is D3: what the leaves say of each key's signatures, from the first leaf on, to be held against the counters that the
// record keeps. Both are read at one moment: the counters come with the number of the newest leaf, and the leaves are counted
// up to exactly that one, over as many ticks as it takes. It keeps a few numbers for each key.
type tally struct {
	through int64 // leaves counted
	target  int64 // the leaf that given stands for
	given   map[bulkhead.Hash]bulkhead.SignatureCounter
	keys    map[bulkhead.Hash]*keyTally
}

// keyTally is what the leaves say of one key.
type keyTally struct {
	of              bulkhead.AuthorityID // "" for the house's own
	announced, made int64
	since, last     int64 // leaves counted: the first and the last that speak of the key
	compared        bool  // with a counter, which from then on stands for the same leaves
}

func newTally() *tally { return &tally{keys: map[bulkhead.Hash]*keyTally{}} }

// counters counts the next leaves, and compares when it is where the counters were read.
func (r *Reconciler) counters(ctx context.Context) error {
	t := r.tally
	if t.given == nil {
		head, list, err := r.cfg.Record.SignatureCounters(ctx)
		if err != nil {
			return err
		}
		t.given, t.target = map[bulkhead.Hash]bulkhead.SignatureCounter{}, head
		for _, c := range list {
			t.given[c.Key] = c
		}
	}
	for left := int64(r.cfg.Leaves); left > 0 && t.through < t.target; left -= leavesPage {
		rows, err := r.cfg.Record.EvidenceAfter(ctx, t.through, int(min(leavesPage, left, t.target-t.through)))
		if err != nil {
			return err
		}
		if len(rows) == 0 { // the newest rows are gone
			rows = []bulkhead.EvidenceRow{{Seq: t.target + 1}}
		}
		for _, row := range rows {
			if row.Seq != t.through+1 { // rows never go by themselves
				r.raise(ctx, "D4", fmt.Sprintf("leaf,%d", t.through), bulkhead.Critical, "d4-record-evidence.md", "evidence has no leaf %d any more, up to leaf %d: its rows were removed from the database", t.through, row.Seq-2)
			}
			if err := t.add(row); err != nil {
				return err
			}
		}
	}
	r.state.Counted = t.through
	if t.through < t.target {
		return nil
	}
	r.disagree(ctx)
	t.given = nil
	return nil
}

// add counts one leaf. A record that is older than its counters has leaves that no counter stands for.
func (t *tally) add(row bulkhead.EvidenceRow) error {
	t.through = min(row.Seq, t.target)
	switch tlog.KindOf(row.Leaf) {
	case bulkhead.EvCertificateIntent, bulkhead.EvCertificateOutcome, bulkhead.EvBatchIntent, bulkhead.EvBatchOutcome, bulkhead.EvLiveWindow, bulkhead.EvLiveOutcome:
	default:
		return nil
	}
	e, err := tlog.Parse(row.Leaf)
	if err != nil {
		return err
	}
	announced, made := tlog.Uses(e)
	if e.Signer.IsZero() || announced+made == 0 {
		return nil
	}
	k := t.keys[e.Signer]
	if c, ok := t.given[e.Signer]; k == nil || ok && !k.compared && k.since < c.Since && row.Seq >= c.Since {
		k = &keyTally{of: e.Authority, since: row.Seq}
		t.keys[e.Signer] = k
	}
	k.announced, k.made, k.last = k.announced+announced, k.made+made, row.Seq
	return nil
}

// disagree raises D3 for each key whose counter is not what the leaves say.
func (r *Reconciler) disagree(ctx context.Context) {
	t := r.tally
	first := int64(0) // the first leaf that any counter stands for
	for _, c := range t.given {
		if first == 0 || c.Since < first {
			first = c.Since
		}
	}
	sorted := func(keys map[bulkhead.Hash]*keyTally) []bulkhead.Hash {
		return slices.SortedFunc(maps.Keys(keys), func(a, b bulkhead.Hash) int { return slices.Compare(a[:], b[:]) })
	}
	const alarm, page = "D3", "d3-signature-counter.md"
	for _, key := range sorted(t.keys) {
		k := t.keys[key]
		c, ok := t.given[key]
		k.compared = k.compared || ok
		switch name := keyName(key, k.of); {
		case !ok && first > 0 && k.last >= first:
			r.raise(ctx, alarm, "gone,"+key.String(), bulkhead.Critical, page, "the signature counter of %s is gone; evidence has %d signatures by it: somebody wrote to the database", name, k.made)
		case ok && (c.Made > k.made || c.Announced > k.announced):
			r.raise(ctx, alarm, "ahead,"+key.String(), bulkhead.Critical, page,
				"%s was used more often than evidence explains: its counter says %d signatures (%d announced), evidence %d (%d announced): look for certificates that nobody recorded", name, c.Made, c.Announced, k.made, k.announced)
		case ok && (c.Made < k.made || c.Announced < k.announced):
			r.raise(ctx, alarm, "behind,"+key.String(), bulkhead.Critical, page,
				"the signature counter of %s was set back: it says %d signatures (%d announced), evidence %d (%d announced)", name, c.Made, c.Announced, k.made, k.announced)
		}
	}
	for key, c := range t.given {
		if t.keys[key] == nil && c.Announced+c.Made > 0 {
			r.raise(ctx, alarm, "ahead,"+key.String(), bulkhead.Critical, page,
				"key %s was used by its counter (%d signatures, %d announced), and evidence does not know it at all", key, c.Made, c.Announced)
		}
	}
}

func keyName(key bulkhead.Hash, of bulkhead.AuthorityID) string {
	if of == "" {
		return "the house's own key " + key.String()
	}
	return "a key of " + string(of) + " (SHA-256 of its SPKI " + key.String() + ")"
}
