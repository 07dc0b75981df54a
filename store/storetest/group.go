package storetest

import (
	"fmt"
	"sync"
	"testing"

	"bulkhead"
)

// testEvidenceTogether: many writers of evidence at once, every third of which is refused: each good leaf stands in the chain
// once, under the number that its writer was told, and of those that were refused there is nothing.
func testEvidenceTogether(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const writers, each = 16, 12
	told := make([]map[int64]string, writers)
	var wg sync.WaitGroup
	for w := range writers {
		told[w] = map[int64]string{}
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("%d/%d", w, i)
				if i%3 == 2 {
					err := s.UpdateOrder(ctx, bulkhead.Order{ID: "absent", State: bulkhead.OrderValid}, bulkhead.OrderReady, event("refused "+name))
					if bulkhead.KindOf(err) != bulkhead.KindNotFound {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				seqs, err := s.AppendEvidence(ctx, event(name), event(name+" again"))
				if err != nil || len(seqs) != 2 || seqs[1] != seqs[0]+1 {
					t.Errorf("%s: %v, %v", name, seqs, err)
					continue
				}
				told[w][seqs[0]] = name
			}
		})
	}
	wg.Wait()
	got := checkEvidence(t, s)
	equal(t, len(got), writers*each*2/3*2)
	for _, m := range told {
		for seq, name := range m {
			equal(t, got[seq-1].Detail, name)
		}
	}
}
