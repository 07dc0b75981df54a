package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/run"
)

// clock moves when the day says so, and never back.
type clock struct{ at atomic.Int64 }

func newClock(t time.Time) *clock {
	c := &clock{}
	c.at.Store(t.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// shadow is a whole house in a directory of the rehearsal's.
type shadow struct {
	s     *Stage
	dir   string
	open  *run.House
	roles run.Roles
	reh   *run.Rehearsal
}

// profileFor is a profile of a product line.
const profileFor = `name: %s
kind: tls-server
description: product line of a rehearsal
validity: 47d
backdate: 5m
renew_at: 0.67
keys: [p256]
identifiers: [dns, ip]
max_names: 10
wildcard: true
common_name: omit
extended_key_usages: [server-auth]
policies: [2.23.140.1.2.1]
acme: true
`

// house makes and opens a house. change edits its configuration; fault, when not nil, is planted where the house computes
// what it would say.
func (s *Stage) house(name string, products []string, change func(*run.Config), fault func(change string, a *bulkhead.ShadowAnswer)) (*shadow, error) {
	h := &shadow{s: s, dir: filepath.Join(s.dir, name)}
	cfg := run.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	if _, err := run.FirstStart(s.ctx, h.dir, cfg, nil); err != nil {
		return nil, err
	}
	for _, p := range products {
		if err := os.WriteFile(filepath.Join(h.dir, "profiles", p+".yaml"), fmt.Appendf(nil, profileFor, p), 0o644); err != nil {
			return nil, err
		}
	}
	stored, err := run.LoadConfig(h.dir)
	if err != nil {
		return nil, err
	}
	h.open, err = run.OpenWith(s.ctx, run.Options{Dir: h.dir, Config: stored, Log: s.o.Log, Version: s.o.Version, Now: s.clock.now, Rehearsal: true, Planted: fault})
	if err != nil {
		return nil, err
	}
	s.end(h.open.Close)
	h.roles = h.open.Roles()
	if h.reh, err = h.open.Rehearsal(); err != nil {
		return nil, err
	}
	return h, nil
}

// start brings up status and evidence.
func (h *shadow) start() error {
	if err := h.open.Start(h.s.ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.s.ctx))
	done := make(chan error, 1)
	go func() { done <- h.roles.Evidence.Run(ctx) }()
	h.s.end(func() error {
		cancel()
		return <-done
	})
	return nil
}

// look lets every role of the house look once.
func (h *shadow) look() error {
	if err := h.roles.Status.Tick(h.s.ctx); err != nil {
		return err
	}
	h.roles.Status.Wait()
	return h.roles.Edge.Refresh(h.s.ctx)
}
