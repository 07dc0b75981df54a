package signer

import (
	"sync/atomic"
	"time"
)

// group is a group commit, or one look for many who ask the same: one goroutine takes everything that waits, commits it at once and answers each caller. An
// idle group commits a lone item without delay, while few are under way by its caller; while it commits, the next ones gather.
//
// The channel has no buffer: an item is either with its caller or in a batch, never in between. A caller whose item was
// taken always gets that batch's outcome.
type group[T, R any] struct {
	in      chan waiting[T, R]
	size    int
	delay   time.Duration
	flush   func([]T) []outcome[R]
	crowd   *crowd
	alone   bool         // nobody waits for company, however many are under way
	callers atomic.Int64 // callers inside do
	stop    chan struct{}
	stopped chan struct{}
}

// crowd knows who may still come: certificates under way, less those that wait in one of the groups.
type crowd struct {
	underway, waiting atomic.Int64
	all               bool // a batch waits for all that are under way, and not for a third
}

// begin counts a certificate; call the result at its end.
func (c *crowd) begin() (end func()) {
	c.underway.Add(1)
	return func() { c.underway.Add(-1) }
}

// coming reports whether anybody is on the way to any group.
func (c *crowd) coming() bool { return c.underway.Load() > c.waiting.Load() }

// small reports that so few are under way that company is not worth waiting for, nor handing an item over: writes that meet in the store share
// a transaction there.
func (c *crowd) small() bool { return !c.all && c.underway.Load() <= few }

const few = 4

// plenty reports that so many need not wait for more: a third of all. While they are committed the others are at work; were all
// of them in one batch, the processors would wait for the disk together with the callers.
func (c *crowd) plenty(n int) bool { return !c.all && n >= max(few, int(c.underway.Load()/3)) }

// lookOut is how often a group that waits for company looks whether any can come.
const lookOut = 250 * time.Microsecond

type waiting[T, R any] struct {
	item T
	done chan outcome[R] // capacity 1
}

type outcome[R any] struct {
	value R
	err   error
}

func newGroup[T, R any](size int, delay time.Duration, c *crowd, flush func([]T) []outcome[R]) *group[T, R] {
	g := &group[T, R]{in: make(chan waiting[T, R]), size: size, delay: delay, flush: flush, crowd: c, stop: make(chan struct{}), stopped: make(chan struct{})}
	go g.run()
	return g
}

// do hands item over and waits for its commit. cancel gives up only while the item is still the caller's; the error is
// then errNotTaken or errClosed and nothing happened to the item.
func (g *group[T, R]) do(cancel <-chan struct{}, item T) (R, error) {
	var none R
	defer g.callers.Add(-1)
	if first := g.callers.Add(1) == 1; first && (g.alone || g.crowd.small()) {
		o := g.flush([]T{item})[0]
		return o.value, o.err
	}
	g.crowd.waiting.Add(1)
	defer g.crowd.waiting.Add(-1)
	w := waiting[T, R]{item, make(chan outcome[R], 1)}
	select {
	case g.in <- w:
	case <-cancel:
		return none, errNotTaken
	case <-g.stop:
		return none, errClosed()
	}
	o := <-w.done
	return o.value, o.err
}

func (g *group[T, R]) close() {
	close(g.stop)
	<-g.stopped
}

func (g *group[T, R]) run() {
	defer close(g.stopped)
	for {
		var batch []waiting[T, R]
		select {
		case w := <-g.in:
			batch = g.gather(w)
		case <-g.stop:
			return
		}
		items := make([]T, len(batch))
		for i, w := range batch {
			items[i] = w.item
		}
		for i, o := range g.flush(items) {
			batch[i].done <- o
		}
	}
}

// gather takes who waits already, and with a delay waits for those who are on their way, as long as there are any and the
// batch has not plenty.
func (g *group[T, R]) gather(first waiting[T, R]) []waiting[T, R] {
	batch := []waiting[T, R]{first}
	for len(batch) < g.size {
		select {
		case w := <-g.in:
			batch = append(batch, w)
			continue
		default:
		}
		break
	}
	if g.alone || g.crowd.small() || g.delay <= 0 || !g.crowd.coming() || g.crowd.plenty(len(batch)) {
		return batch
	}
	look := time.NewTicker(min(lookOut, g.delay))
	defer look.Stop()
	for end := time.Now().Add(g.delay); len(batch) < g.size && !g.crowd.plenty(len(batch)); {
		select {
		case w := <-g.in:
			batch = append(batch, w)
		case now := <-look.C:
			if !now.Before(end) || !g.crowd.coming() {
				return batch
			}
		case <-g.stop:
			return batch
		}
	}
	return batch
}
