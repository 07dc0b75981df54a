package signer_test

import (
	"fmt"
	"testing"
	"time"
)

// TestCost holds the numbers of issuing that do not depend on the machine: commits and allocations per certificate.
func TestCost(t *testing.T) {
	h := newHouse(t)
	var began int64
	restart := func() { began, _ = h.store.Commits() }
	commits := func() int64 { n, _ := h.store.Commits(); return n - began }
	req := h.request("www.example.test")
	h.issue("warm.example.test")
	restart()
	const n = 64
	allocs := testing.AllocsPerRun(n, func() {
		if _, err := h.signer.Issue(t.Context(), req); err != nil {
			t.Error(err)
		}
	})
	if got := commits(); got != 2*(n+1) { // AllocsPerRun runs once more to warm up
		t.Errorf("%d commits for %d certificates one after the other, want two each: intent and outcome", got, n+1)
	}
	if most := 1600.0; allocs > most {
		t.Errorf("%.0f allocations per certificate, at most %.0f", allocs, most)
	}
	reqs := make([]func(), 32)
	for i := range reqs {
		r := h.request(fmt.Sprintf("n%d.example.test", i))
		reqs[i] = func() {
			for range 8 {
				if _, err := h.signer.Issue(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		}
	}
	// A disk that takes its time: how many share a sync must not depend on how fast this one is.
	h.onCommit(func(_ string, commit func() error) error {
		time.Sleep(5 * time.Millisecond)
		return commit()
	})
	restart()
	together(len(reqs), func(i int) { reqs[i]() })
	if got := commits(); got > 32*8/4 {
		t.Errorf("%d commits for %d certificates at once: too few shared one", got, 32*8)
	}
	t.Logf("%.0f allocations per certificate, %.2f commits per certificate at once", allocs, float64(commits())/256)
}
