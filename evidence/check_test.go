package evidence_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/tlog"
)

func TestCheckIsSilentOnATrueLog(t *testing.T) {
	t.Parallel()
	h := filled(t, 300)
	r := h.check(t, h.store)
	if len(r.Findings) != 0 || r.Rows != 600 || r.Checkpoint.Size != 600 || r.Uncovered != 0 {
		t.Fatalf("%+v", r)
	}
	if r.Kinds[bulkhead.EvCertificateOutcome] != 300 || r.Keys[digest("ca", 0)].Signatures() != 300 {
		t.Errorf("counts: %v, %v", r.Kinds, r.Keys)
	}
	h.append(t, intent(t, 1000))
	if r := h.check(t, h.store); len(r.Findings) != 0 || r.Uncovered != 1 {
		t.Errorf("with an uncovered row: %+v", r)
	}
}

// TestCheckFinds plants each fault and wants it reported as that and nothing else.
func TestCheckFinds(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(h *house) evidence.Rows
		want  []string
		seq   int64
	}{
		"changed leaf": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, change: rewrite(t, 7, intent(t, 999))}
		}, []string{evidence.RuleRowChain, evidence.RuleRowDiffers}, 7},
		"changed leaf not yet covered": {func(h *house) evidence.Rows {
			h.append(t, intent(t, 500))
			return altered{Rows: h.store, change: rewrite(t, 601, intent(t, 999))}
		}, []string{evidence.RuleRowChain}, 601},
		"changed leaf with a new chain": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, change: rechain(t, 600, outcome(t, 999))}
		}, []string{evidence.RuleRowDiffers}, 600},
		"missing row": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, change: without(7)}
		}, []string{evidence.RuleRowMissing}, 7},
		"missing last row": {func(h *house) evidence.Rows {
			return altered{Rows: h.store, head: 599}
		}, []string{evidence.RuleRowMissing}, 600},
		"no rows at all": {func(h *house) evidence.Rows { return none{} }, []string{evidence.RuleRowMissing}, 1},
		"flipped byte in a tile": {func(h *house) evidence.Rows {
			h.flip(t, "tile/0/001", 40)
			return h.store
		}, []string{evidence.RuleTile}, 0},
		"flipped byte in a bundle": {func(h *house) evidence.Rows {
			h.flip(t, "tile/entries/001", 40)
			return h.store
		}, []string{evidence.RuleTile}, 0},
		"missing tile": {func(h *house) evidence.Rows {
			if err := os.Remove(filepath.Join(h.log(), "tile/0/001")); err != nil {
				t.Fatal(err)
			}
			return h.store
		}, []string{evidence.RuleTile}, 0},
		"forked checkpoint": {func(h *house) evidence.Rows {
			h.sign(t, tlog.Checkpoint{Origin: origin, Size: 600, Root: digest("fork", 0)}, h.signer(t))
			return h.store
		}, []string{evidence.RuleFork}, 0},
		"checkpoint by another key": {func(h *house) evidence.Rows {
			private, _, err := note.GenerateKey(rand.Reader, origin)
			if err != nil {
				t.Fatal(err)
			}
			s, err := note.NewSigner(private)
			if err != nil {
				t.Fatal(err)
			}
			h.sign(t, tlog.Checkpoint{Origin: origin, Size: 0, Root: bulkhead.Digest(nil)}, s)
			return h.store
		}, []string{evidence.RuleCheckpoint}, 0},
		"no checkpoint": {func(h *house) evidence.Rows {
			if err := os.Remove(filepath.Join(h.log(), "checkpoint")); err != nil {
				t.Fatal(err)
			}
			return h.store
		}, []string{evidence.RuleCheckpoint}, 0},
		"outcome without intent": {func(h *house) evidence.Rows {
			h.append(t, outcome(t, 700))
			return h.store
		}, []string{tlog.RuleNoIntent}, 601},
		"two intents": {func(h *house) evidence.Rows {
			h.append(t, intent(t, 3))
			return h.store
		}, []string{tlog.RuleTwoIntents}, 601},
		"two outcomes": {func(h *house) evidence.Rows {
			h.append(t, outcome(t, 3))
			return h.store
		}, []string{tlog.RuleTwoOutcomes}, 601},
		"batch outcome without intent": {func(h *house) evidence.Rows {
			h.append(t, bulkhead.Evidence{Kind: bulkhead.EvBatchOutcome, At: intent(t, 0).At, Ref: "b", Count: 3, Digest: digest("s", 0), Link: digest("i", 0)})
			return h.store
		}, []string{tlog.RuleNoBatchIntent}, 601},
	} {
		t.Run(name, func(t *testing.T) {
			h := copyOf(t)
			rows := c.plant(h)
			r := h.check(t, rows)
			// Read ahead, the same fault is left to the check that names it, unless it stands behind what a checkpoint covers.
			if ahead, err := h.ahead(t, rows); !errors.Is(err, evidence.ErrAnew) && (err != nil || c.seq <= 600 || !slices.Equal(rules(ahead), c.want)) {
				t.Errorf("ahead: %v, %+v", err, ahead)
			}
			if got := rules(r); !slices.Equal(got, c.want) || r.Findings[0].Seq != c.seq {
				t.Errorf("findings %+v, want %v at row %d", r.Findings[:min(4, len(r.Findings))], c.want, c.seq)
			}
		})
	}
}

// TestProvedAhead: a log that was proved without its rows, and rows that are its leaves, give the report that both together give, with
// rows that no checkpoint covers and without, and every leaf is shown once.
func TestProvedAhead(t *testing.T) {
	h := copyOf(t)
	for range 2 {
		seen := map[int64]int{}
		visit := func(seq int64, _ bulkhead.Evidence) { seen[seq]++ }
		p, err := evidence.Prove(t.Context(), h.log(), h.verifier(t), visit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := evidence.Check(t.Context(), evidence.CheckConfig{Rows: h.store, Dir: h.log(), Verifier: h.verifier(t), Visit: visit, Proved: p})
		if want := h.check(t, h.store); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v, want %+v", err, got, want)
		}
		for seq := int64(1); seq <= got.Rows; seq++ {
			if seen[seq] != 1 {
				t.Errorf("leaf %d was shown %d times", seq-1, seen[seq])
			}
		}
		h.append(t, intent(t, 1000), outcome(t, 1000))
	}
	p, err := evidence.Prove(t.Context(), h.log(), h.verifier(t), func(int64, bulkhead.Evidence) {})
	if err != nil {
		t.Fatal(err)
	}
	h.sign(t, tlog.Checkpoint{Origin: origin, Size: 0, Root: bulkhead.Digest(nil)}, h.signer(t)) // another one since
	if _, err := evidence.Check(t.Context(), evidence.CheckConfig{Rows: h.store, Dir: h.log(), Verifier: h.verifier(t), Proved: p}); !errors.Is(err, evidence.ErrAnew) {
		t.Errorf("with another checkpoint: %v", err)
	}
}

// rechain changes a row and computes the chain hashes from there on anew, as somebody with the database could.
func rechain(t testing.TB, seq int64, e bulkhead.Evidence) func([]bulkhead.EvidenceRow) []bulkhead.EvidenceRow {
	change := rewrite(t, seq, e)
	return func(rows []bulkhead.EvidenceRow) []bulkhead.EvidenceRow {
		rows = change(rows)
		for i := range rows {
			if i > 0 && rows[i].Seq >= seq {
				rows[i].Chain = tlog.Chain(rows[i-1].Chain, rows[i].Leaf)
			}
		}
		return rows
	}
}

// none is a store that lost everything.
type none struct{}

func (none) EvidenceAfter(context.Context, int64, int) ([]bulkhead.EvidenceRow, error) {
	return nil, nil
}

func (none) EvidenceHead(context.Context) (int64, bulkhead.Hash, error) {
	return 0, bulkhead.Hash{}, nil
}

func TestCheckNeedsItsConfig(t *testing.T) {
	if _, err := evidence.Check(context.Background(), evidence.CheckConfig{}); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("%v", err)
	}
}
