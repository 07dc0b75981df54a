package enroll

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestPool: a task for a key joins the one under way, no more are at work than there are slots, what is too many is turned away, and one
// goroutine after the other serves tasks that follow each other.
func TestPool(t *testing.T) {
	p := newPool(2, 3)
	var working, most atomic.Int64
	hold := make(chan struct{})
	fn := func(_ context.Context, t *task) {
		if n := working.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-hold
		working.Add(-1)
		t.tell("done")
	}
	var all []*task
	for i := range 5 {
		a, joined, err := p.start(fmt.Sprint(i), fn)
		if err != nil || joined {
			t.Fatal(err)
		}
		if again, joined, err := p.start(fmt.Sprint(i), fn); err != nil || again != a || !joined {
			t.Fatalf("a second task for a key: %v", err)
		}
		all = append(all, a)
	}
	if _, _, err := p.start("6", fn); err == nil {
		t.Error("more than the backlog was taken")
	}
	close(hold)
	for _, a := range all {
		<-a.done
		if a.left != "done" {
			t.Errorf("%v", a.left)
		}
	}
	for i := range 50 { // some of these go to a goroutine that waits
		a, _, err := p.start(fmt.Sprint("x", i), fn)
		if err != nil {
			t.Fatal(err)
		}
		<-a.done
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			p.mu.Lock()
			left := len(p.tasks)
			p.mu.Unlock()
			if left == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("a task stays")
			}
		}
	}
	if most.Load() > 2 {
		t.Errorf("%d at work", most.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.close(ctx); err != nil {
		t.Error(err)
	}
	if _, _, err := p.start("late", fn); err == nil {
		t.Error("a closed pool takes a task")
	}
}
