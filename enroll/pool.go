package enroll

import (
	"context"
	"sync"
	"time"

	"bulkhead"
)

// pool runs keyed tasks: at most one per key, at most workers at once, at most backlog waiting. A task for a key that
// is already under way joins it, which makes repeated requests idempotent.
type pool struct {
	slots   chan struct{}
	backlog int
	ctx     context.Context // ends when Close loses patience
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	tasks  map[string]chan struct{} // closed when the task ends
	closed bool
}

func newPool(workers, backlog int) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	return &pool{slots: make(chan struct{}, workers), backlog: workers + backlog, ctx: ctx, cancel: cancel,
		tasks: map[string]chan struct{}{}}
}

// start runs fn unless a task with the key is under way; the channel closes when that task ends.
func (p *pool) start(key string, fn func(context.Context)) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done, ok := p.tasks[key]; ok {
		return done, nil
	}
	if p.closed {
		return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "the service is shutting down").WithRetry(10 * time.Second)
	}
	if len(p.tasks) >= p.backlog {
		return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "too much validation and issuance is waiting").WithRetry(30 * time.Second)
	}
	done := make(chan struct{})
	p.tasks[key] = done
	p.wg.Add(1)
	go p.run(key, done, fn)
	return done, nil
}

func (p *pool) run(key string, done chan struct{}, fn func(context.Context)) {
	defer p.wg.Done()
	defer func() {
		p.mu.Lock()
		delete(p.tasks, key)
		p.mu.Unlock()
		close(done)
	}()
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		return
	}
	defer func() { <-p.slots }()
	fn(p.ctx)
}

func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	idle := make(chan struct{})
	go func() { p.wg.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	p.cancel()
	<-idle // tasks end soon after their context does
	return ctx.Err()
}
