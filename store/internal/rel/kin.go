package rel

import (
	"context"
	"fmt"

	"bulkhead"
)

// kin is a kind of writes of which a few statements do as many as wait. It exists for engines with arrays, where a statement costs a
// round trip however many rows it writes.
type kin struct {
	// run does all of the items; or none, with an error; or all but those that it names, which the record refuses. What it
	// left or could not do is done again as writes of their own, each of which says what is wrong with it alone.
	run func(ctx context.Context, t *tx, items []any) (left []int, err error)
	// tame says that run fails only with the whole transaction: it needs no savepoint.
	tame bool
}

// writeKin is writeKeyed for a write that can be done together with its kin; fn does it alone. Without a kind it is one like any other.
func (s *Store) writeKin(ctx context.Context, op string, k *kin, item any, ev []bulkhead.Evidence, fn func(t *tx) error) error {
	return s.writeKinAs(ctx, op, k, item, ev, fn, nil)
}

// writeKinAs is writeKin, and fn as for writeAgain; one that is patient until somebody waits for it lets others take it along (groupPatience).
func (s *Store) writeKinAs(ctx context.Context, op string, k *kin, item any, ev []bulkhead.Evidence, fn func(t *tx) error, until <-chan struct{}) error {
	if !s.dialect.GroupsEvidence || !s.dialect.Arrays {
		k = nil
	}
	if k == nil && !s.dialect.Groups {
		return s.writeKeyed(ctx, op, ev, fn)
	}
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault(op, err)
	}
	return s.fault(op, s.together(ctx, s.brisk, &write{op: op, leaves: leaves, fn: fn, kin: k, item: item, until: until, again: s.dialect.Groups}))
}

// writeAgain is writeKeyed for one whose fn may be run a second time, after the first was undone: what it leaves outside the transaction
// it leaves anew. Those of a shared transaction that are all such need no savepoints.
func (s *Store) writeAgain(ctx context.Context, op string, ev []bulkhead.Evidence, fn func(t *tx) error) error {
	return s.writeKinAs(ctx, op, nil, nil, ev, fn, nil)
}

// jointly does first, and its kin that wait, by the same statements, and returns those that are done. The others are at the head
// of the queue again. An error says that the transaction is lost with all of them, who are told.
func (s *Store) jointly(g *group, t *tx, first *write, others bool) (done []*write, err error) {
	all := append([]*write{first}, g.takeKin(first.kin, groupSize-1)...)
	defer func() {
		if err != nil {
			s.settle(err, all, nil)
		}
	}()
	guarded := others && !first.kin.tame
	if guarded {
		if _, err := t.ExecContext(t.ctx, "SAVEPOINT w"); err != nil {
			return nil, err
		}
	}
	head, used, waiting := t.head, t.uses, t.waiting
	left, failed := t.kindred(all)
	if failed == nil {
		var again []*write
		for i, w := range all {
			if len(left) > 0 && left[0] == i {
				left, again = left[1:], append(again, w)
			} else {
				done = append(done, w)
			}
		}
		g.alone(again)
		return done, nil
	}
	t.head, t.uses, t.waiting = head, used, waiting
	switch {
	case guarded:
		for _, text := range []string{"ROLLBACK TO w", "RELEASE w"} {
			if _, err := t.ExecContext(t.ctx, text); err != nil {
				return nil, err
			}
		}
	case others:
		return nil, failed
	default: // nothing is before them
		_ = t.Rollback()
		if t.transaction, err = g.begin(t.ctx); err != nil {
			return nil, err
		}
		t.head = nil
	}
	g.alone(all)
	return nil, nil
}

// kindred runs the writes and sequences the evidence of those that it did not leave.
func (t *tx) kindred(all []*write) (left []int, err error) {
	defer func() {
		if p := recover(); p != nil { // the one who panics does so again alone, and its caller gets it
			err = fmt.Errorf("writes of a kind panicked: %v", p)
		}
	}()
	if err := t.lockEvidence(t.ctx); err != nil {
		return nil, err
	}
	items := make([]any, len(all))
	for i, w := range all {
		items[i] = w.item
	}
	if left, err = all[0].kin.run(t.ctx, t, items); err != nil {
		return nil, err
	}
	rest := left
	for i, w := range all {
		if len(rest) > 0 && rest[0] == i {
			rest = rest[1:]
			continue
		}
		if w.seqs, err = t.appendAs(t.ctx, w.leaves, true); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// takeKin takes those of a kind out of the queue, at most so many.
func (g *group) takeKin(k *kin, most int) (out []*write) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.queue[:0]
	for _, w := range g.queue {
		if w.kin == k && len(out) < most {
			out = append(out, w)
		} else {
			kept = append(kept, w)
		}
	}
	clear(g.queue[len(kept):])
	g.queue = kept
	return out
}

// alone puts writes before all others, to be done one by one.
func (g *group) alone(ws []*write) {
	if len(ws) == 0 {
		return
	}
	for _, w := range ws {
		w.kin, w.again, w.seqs, w.err, w.panic = nil, false, nil, nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(ws[:len(ws):len(ws)], g.queue...)
}
