package status_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// TestTogether revokes from many sides, two of them the same certificate, while the service looks after new
// certificates by itself: nothing gets lost and nothing is done twice.
func TestTogether(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.Interval = 5 * time.Millisecond; p.MaxDeltas = 3 })
	refs := append(h.issue(caA, 12), h.issue(caB, 12)...)
	ctx, cancel := context.WithCancel(t.Context())
	var running, asking sync.WaitGroup
	running.Go(func() {
		if err := h.status.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	acked := map[bulkhead.CertificateRef]int{}
	for side := range 4 {
		asking.Go(func() {
			for i := range refs[:18] {
				if (i+side)%2 == 0 {
					continue // every certificate is asked for by two sides
				}
				_, err := h.status.RevokeCertificates(ctx, fmt.Sprint("side ", side), "together", items(bulkhead.Superseded, refs[i]))
				switch bulkhead.KindOf(err) {
				case "":
					mu.Lock()
					acked[refs[i]]++
					mu.Unlock()
				case bulkhead.KindAlreadyRevoked, bulkhead.KindGate: // the other side was faster, before or after our preview
				default:
					t.Errorf("%s: %v", refs[i], err)
				}
			}
		})
	}
	asking.Wait()
	cancel()
	running.Wait()
	h.settle()
	for i, r := range refs {
		if want := i < 18; (h.state(r) == bulkhead.Revoked) != want || (acked[r] == 1) != want {
			t.Errorf("certificate %d: %s, acknowledged %d times", i, h.state(r), acked[r])
		}
	}
	open, err := h.store.Changes(t.Context(), 100, bulkhead.ChangePlanned, bulkhead.ChangeApproved, bulkhead.ChangeStaged, bulkhead.ChangeActivated, bulkhead.ChangePublished)
	ok(t, err)
	if len(open) > 0 {
		t.Errorf("change %s is left %s", open[0].ID, open[0].State)
	}
	h.agree()
}
