package rel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A transaction takes in waiting writes until it has groupSize of them or is groupAge old: nobody waits long for others.
const (
	groupSize = 64
	groupAge  = 20 * time.Millisecond
)

// group is the group commit: writes that wait share a transaction, and with it the sync of the disk. There is no
// goroutine of its own: of the writers that wait, one gets the turn and does the work of all. Each write stands behind a
// savepoint, so that one that fails is undone alone; a commit that fails, or is reported lost, fails for everybody in it. SQLite pays
// for a savepoint with a copy of every page that is written behind it: where all that was done can be done again nothing stands
// behind one, and when a write fails after all, all are undone and done again behind savepoints.
// A writer may give up while it waits. Once its work has begun it gets the outcome, whatever its context says.
type group struct {
	pool  *pool         // whose transactions are shared
	lane  *lane         // the connection of whoever has the turn; nil where any of the pool will do
	turn  chan struct{} // holds one token while nobody works
	mu    sync.Mutex
	queue []*write
}

// write is one write on its way.
type write struct {
	op     string
	leaves [][]byte
	fn     func(t *tx) error
	kin    *kin            // of those that the same statements do; nil when it is done alone
	item   any             // of kin
	again  bool            // fn may be run twice: after others of its like the write needs no savepoint
	until  <-chan struct{} // of one that is patient: closed when somebody waits for it after all
	done   chan struct{}   // closed when the fields below are settled
	seqs   []int64
	err    error
	panic  any // what fn panicked with
}

func newGroup(p *pool, begin string) *group {
	g := &group{pool: p, turn: make(chan struct{}, 1)}
	if begin != "" {
		g.lane = &lane{db: p.DB, begin: begin}
	}
	g.turn <- struct{}{}
	return g
}

func (g *group) begin(ctx context.Context) (transaction, error) {
	if g.lane != nil {
		return g.lane.open(ctx)
	}
	return g.pool.BeginTx(ctx, nil)
}

// tally counts transactions and the writes in them.
type tally struct{ commits, writes atomic.Int64 }

// Commits returns how many write transactions this process has committed, and how many writes were in them.
func (s *Store) Commits() (transactions, writes int64) {
	return s.tally.commits.Load(), s.tally.writes.Load()
}

// together runs a write in a transaction with whoever else waits in the group.
func (s *Store) together(ctx context.Context, g *group, w *write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.done = make(chan struct{})
	g.mu.Lock()
	g.queue = append(g.queue, w)
	g.mu.Unlock()
	given := ctx.Done()
	if w.until != nil && g.waits(w, given) {
		return w.outcome()
	}
	for settled := false; !settled; {
		select {
		case <-w.done:
			settled = true
		case <-g.turn:
			s.takeTurn(g)
		case <-given:
			if g.withdraw(w) {
				return ctx.Err()
			}
			given = nil
		}
	}
	return w.outcome()
}

// outcome is what a settled write came to, for its caller.
func (w *write) outcome() error {
	if w.panic != nil {
		panic(w.panic)
	}
	return w.err
}

// groupPatience is how long a patient write takes no turn of its own and goes with others, so that a lone client's certificate costs
// one sync less; and with it how long an order that was fulfilled may be called so by its certificate alone.
const groupPatience = 40 * time.Millisecond

// waits waits for others to do a patient write; false when it has to see to itself.
func (g *group) waits(w *write, given <-chan struct{}) bool {
	late := time.NewTimer(groupPatience)
	defer late.Stop()
	select {
	case <-w.done:
		return true
	case <-late.C:
	case <-w.until:
	case <-given:
	}
	return false
}

func (s *Store) takeTurn(g *group) {
	defer func() { g.turn <- struct{}{} }()
	s.lead(g)
}

// lead runs one transaction with the writes that wait, and settles each of them.
func (s *Store) lead(g *group) {
	w := g.next()
	if w == nil {
		return
	}
	ctx := context.Background()
	raw, err := g.begin(ctx)
	if err != nil {
		w.settle(err)
		return
	}
	t := &tx{transaction: raw, pool: g.pool, lane: g.lane, dialect: &s.dialect, ctx: ctx, memo: s.memo}
	t.begun()
	defer t.ended(undone)
	defer func() { _ = t.Rollback() }() // after a commit this does nothing
	var kept, refused []*write
	redo := s.dialect.Groups // all that was done can be done again
	for began := time.Now(); w != nil; w = g.next() {
		if w.kin != nil {
			done, err := s.jointly(g, t, w, len(kept) > 0)
			if err != nil { // the transaction is gone, and all that was in it
				s.settle(err, append(kept, refused...), nil)
				return
			}
			if kept = append(kept, done...); len(kept)+len(refused) >= groupSize || time.Since(began) > groupAge {
				break
			}
			continue
		}
		bare := redo && w.again
		switch err := t.attempt(w, len(kept) > 0 && !bare); {
		case err == nil && w.err == nil:
			kept, redo = append(kept, w), bare
		case err == nil && bare && len(kept) > 0: // all are undone with it
			g.alone(append(kept, w))
			return
		case err == nil:
			refused, redo = append(refused, w), false
		default: // the transaction is gone, and all that was in it
			s.settle(err, append(kept, refused...), nil)
			w.settle(cmp.Or(w.err, err))
			return
		}
		if len(kept) == 0 || len(kept)+len(refused) >= groupSize || time.Since(began) > groupAge {
			break // with nothing before it, the write that failed is undone with the transaction
		}
	}
	if len(kept) > 0 {
		err = s.commitGroup(ctx, t, kept)
	}
	s.settle(err, kept, refused)
}

// attempt runs one write, behind a savepoint when others are before it. w.err says that it was refused and undone alone;
// the error, that this could not be and the transaction is lost.
func (t *tx) attempt(w *write, others bool) error {
	if others {
		if _, err := t.ExecContext(t.ctx, "SAVEPOINT w"); err != nil {
			return err
		}
	}
	head, used, waiting, left := t.head, t.uses, t.waiting, len(t.left)
	if w.err = t.guarded(w); w.err == nil {
		if !others || t.dialect.GroupsEvidence { // there the next savepoint hides this one, and a round trip is saved
			return nil
		}
		_, err := t.ExecContext(t.ctx, "RELEASE w")
		return err
	}
	t.head, t.uses, t.waiting, w.seqs = head, used, waiting, nil
	t.left, t.named = t.left[:left], 0
	if !others {
		return nil
	}
	if _, err := t.ExecContext(t.ctx, "ROLLBACK TO w"); err != nil {
		return err
	}
	_, err := t.ExecContext(t.ctx, "RELEASE w")
	return err
}

// guarded keeps a panic of one write from the others; its own caller gets it.
func (t *tx) guarded(w *write) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.panic, err = p, errors.New("the write panicked")
		}
	}()
	w.seqs, err = t.perform(t.ctx, w.leaves, w.fn)
	return err
}

// commitGroup commits, seen by the hook as the commit of each write.
func (s *Store) commitGroup(ctx context.Context, t *tx, in []*write) error {
	if err := t.moveHead(ctx); err != nil {
		return err
	}
	commit := func() error {
		t.committing()
		err := t.Commit()
		if err == nil {
			t.ended(committed)
		} else {
			t.ended(failed)
		}
		if err == nil {
			s.tally.commits.Add(1)
			s.tally.writes.Add(int64(len(in)))
			s.committed()
		}
		return err
	}
	for _, w := range in {
		inner := commit
		commit = func() error { return s.commit(w.op, inner) }
	}
	if err := commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// settle ends writes after the commit: those that were refused because of a row that the same transaction wrote are told
// only now, when everybody can see that row. Without it they are told that nothing was stored.
func (s *Store) settle(err error, kept, refused []*write) {
	for _, w := range append(kept, refused...) {
		w.settle(cmp.Or(err, w.err))
	}
}

func (w *write) settle(err error) {
	if w.err = err; err != nil {
		w.seqs = nil
	}
	close(w.done)
}

// next takes the first of the queue, nil when nobody waits.
func (g *group) next() *write {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return nil
	}
	w := g.queue[0]
	g.queue[0], g.queue = nil, g.queue[1:]
	return w
}

// withdraw takes a write out of the queue; false when its work has begun.
func (g *group) withdraw(w *write) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, x := range g.queue {
		if x == w {
			g.queue = append(g.queue[:i], g.queue[i+1:]...)
			return true
		}
	}
	return false
}
