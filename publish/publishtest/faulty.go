package publishtest

import (
	"context"
	"errors"
	"sync"

	"bulkhead"
	"bulkhead/publish"
)

// Fault is what becomes of one write.
type Fault int

// Faults: a write that never happened, and one that happened and is only reported lost.
const (
	None Fault = iota
	Lost
	PersistedButReportedLost
)

// ErrInjected is the cause of every injected fault.
var ErrInjected = errors.New("injected")

// Faulty is a Store whose writes fail on demand; reads pass through. Safe for concurrent use.
type Faulty struct {
	publish.Store
	mu   sync.Mutex
	plan func(op, name string) Fault
}

// NewFaulty wraps a store; without a plan it fails nothing.
func NewFaulty(s publish.Store) *Faulty { return &Faulty{Store: s} }

// Plan sets what becomes of each write from now on. op is "put", "head" or "delete"; the name of a head is "head".
func (f *Faulty) Plan(plan func(op, name string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = plan
}

func (f *Faulty) do(op, name string, write func() error) error {
	f.mu.Lock()
	fault := None
	if f.plan != nil {
		fault = f.plan(op, name)
	}
	f.mu.Unlock()
	if fault != Lost {
		if err := write(); err != nil || fault == None {
			return err
		}
	}
	return bulkhead.Faultf(bulkhead.KindUnavailable, "published objects: %s %s", op, name).WithCause(ErrInjected)
}

// Put implements publish.Store.
func (f *Faulty) Put(ctx context.Context, o publish.Object) error {
	return f.do("put", o.Name, func() error { return f.Store.Put(ctx, o) })
}

// Draft implements publish.Drafter where the store does: nothing is published by it.
func (f *Faulty) Draft(ctx context.Context) (publish.Draft, error) {
	if d, is := f.Store.(publish.Drafter); is {
		return d.Draft(ctx)
	}
	return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "this store takes no drafts")
}

// SetHead implements publish.Store.
func (f *Faulty) SetHead(ctx context.Context, signed []byte) error {
	return f.do("head", "head", func() error { return f.Store.SetHead(ctx, signed) })
}

// Delete implements publish.Store.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.do("delete", name, func() error { return f.Store.Delete(ctx, name) })
}
