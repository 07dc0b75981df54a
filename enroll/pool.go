package enroll

import (
	"context"
	"sync"
	"time"

	"bulkhead"
)

// pool runs keyed tasks: at most one per key, at most workers at once, at most backlog waiting. A task for a key that
// is already under way joins it, which makes repeated requests idempotent. A goroutine that has done its task waits a while for another
// one: it has the stack that a task needs, which grows by copying.
type pool struct {
	slots   chan struct{}
	next    chan job // for a goroutine that waits
	backlog int
	ctx     context.Context // ends when Close loses patience
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	tasks  map[string]*task
	closed bool
}

// job is a task to be done.
type job struct {
	key string
	*task
	fn func(context.Context, *task)
}

// patience is how long a goroutine waits for its next task.
const patience = 5 * time.Second

// task is one under way, or over.
type task struct {
	done chan struct{} // closed when it is known what the task comes to
	once sync.Once     // closes done
	left any           // what it came to, to be read then; nil when it does not say
}

// tell says what the task comes to, to those who wait, while it may have work left; only the first word counts.
func (t *task) tell(left any) {
	t.once.Do(func() {
		t.left = left
		close(t.done)
	})
}

func newPool(workers, backlog int) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	return &pool{slots: make(chan struct{}, workers), next: make(chan job), backlog: workers + backlog, ctx: ctx, cancel: cancel,
		tasks: map[string]*task{}}
}

// start runs fn unless a task with the key is under way, and returns the one that is; joined says that it was there before.
func (p *pool) start(key string, fn func(context.Context, *task)) (t *task, joined bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.tasks[key]; ok {
		return t, true, nil
	}
	if p.closed {
		return nil, false, bulkhead.NewFault(bulkhead.KindUnavailable, "the service is shutting down").WithRetry(10 * time.Second)
	}
	if len(p.tasks) >= p.backlog {
		return nil, false, bulkhead.NewFault(bulkhead.KindUnavailable, "too much validation and issuance is waiting").WithRetry(30 * time.Second)
	}
	t = &task{done: make(chan struct{})}
	p.tasks[key] = t
	p.wg.Add(1)
	j := job{key, t, fn}
	select {
	case p.next <- j:
	default:
		go p.work(j)
	}
	return t, false, nil
}

// work does a job, and those that come while it waits for them.
func (p *pool) work(j job) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		p.run(j)
		late.Reset(patience)
		select {
		case j = <-p.next:
		case <-late.C:
			return
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *pool) run(j job) {
	defer p.wg.Done()
	defer func() {
		p.mu.Lock()
		delete(p.tasks, j.key)
		p.mu.Unlock()
		j.tell(nil)
	}()
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		return
	}
	defer func() { <-p.slots }()
	j.fn(p.ctx, j.task)
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
