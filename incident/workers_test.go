package incident_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/pki/tlog"
)

// gated is a revoker of one worker that says which certificates it was asked to revoke, and waits at a step until it may go on.
type gated struct {
	incident.Revoker
	t       *testing.T
	at      string        // "planning" or "activating"; where the first call waits
	arrived chan struct{} // closed when it is there
	leave   chan struct{} // closed when it may go on

	once  sync.Once
	mu    sync.Mutex
	asked []bulkhead.CertificateRef
}

func (g *gated) wait(step string) {
	if step != g.at {
		return
	}
	g.once.Do(func() {
		close(g.arrived)
		select {
		case <-g.leave:
		case <-time.After(time.Minute):
			g.t.Error("nobody let the worker go on")
		}
	})
}

// PlanRead implements incident.Revoker.
func (g *gated) PlanRead(ctx context.Context, actor, why string, items iter.Seq2[bulkhead.ChangeItem, bulkhead.Certificate]) (bulkhead.Change, error) {
	g.wait("planning")
	c, err := g.Revoker.PlanRead(ctx, actor, why, items)
	if err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		for it := range items {
			g.asked = append(g.asked, it.CertificateRef)
		}
	}
	return c, err
}

// ActivateForCampaign implements incident.Revoker.
func (g *gated) ActivateForCampaign(ctx context.Context, c bulkhead.Campaign, change bulkhead.Change) error {
	g.wait("activating")
	return g.Revoker.ActivateForCampaign(ctx, c, change)
}

// worker is another process over the record of the house, whose revocations wait at a step.
func (h *house) worker(t *testing.T, at string) (*incident.Service, *gated) {
	g := &gated{Revoker: h.cfg.Revoker, t: t, at: at, arrived: make(chan struct{}), leave: make(chan struct{})}
	cfg := h.cfg
	cfg.Revoker = g
	s, err := incident.New(cfg)
	ok(t, err)
	return s, g
}

// within fails the test when nothing comes.
func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal(what + " did not happen")
	}
}

// TestTwoWorkers: of two processes that work on a campaign at the same time, each with a change of its own under way while the other
// has one, none does what the other does: no certificate is in changes of both, each was revoked once, and has one step for it.
func TestTwoWorkers(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			h := newHouseOn(t, e, func(c *incident.Config) { c.Chunk, c.Together = 5, 1 })
			refs := h.many(40, 8)
			i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
			c := h.campaign(i, incident.PlanRequest{})
			h.pass(c.ForceAt.Sub(h.now()) + time.Second)
			one, first := h.worker(t, "planning")
			two, second := h.worker(t, "planning")
			var wg sync.WaitGroup
			wg.Go(func() { _ = one.Tick(t.Context()) })
			within(t, "the first worker's change", first.arrived)
			wg.Go(func() { _ = two.Tick(t.Context()) })
			within(t, "the second worker's change", second.arrived) // both have work in hand, and none of it is done
			close(first.leave)
			close(second.leave)
			wg.Wait()
			h.pass(time.Minute)
			h.tick()
			if len(first.asked) == 0 || len(second.asked) == 0 {
				t.Fatalf("one worked on %d certificates and the other on %d: this tested nothing", len(first.asked), len(second.asked))
			}
			by := map[bulkhead.CertificateRef]int{}
			for _, ref := range append(first.asked, second.asked...) {
				if by[ref]++; by[ref] > 1 {
					t.Errorf("%s stands in changes of both", ref)
				}
			}
			h.revokedOnce(refs)
		})
	}
}

// TestTakenOver: a worker that slept longer than its lease, with its change planned or about to be activated, finds its work done
// by another, and does nothing of it again. Without a record of the lease both would have revoked.
func TestTakenOver(t *testing.T) {
	for _, e := range engines() {
		for _, at := range []string{"planning", "activating"} {
			t.Run(e.name+"/"+at, func(t *testing.T) {
				h := newHouseOn(t, e)
				refs := h.many(4, 2)
				i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
				c := h.campaign(i, incident.PlanRequest{})
				h.pass(c.ForceAt.Sub(h.now()) + time.Second)
				sleeper, g := h.worker(t, at)
				var wg sync.WaitGroup
				wg.Go(func() { _ = sleeper.Tick(t.Context()) })
				within(t, "the sleeper's change", g.arrived)
				h.tick()
				if n := len(evidenceOf(h, bulkhead.EvRevocation)); n != 0 {
					t.Fatalf("%d certificates were revoked of a job that is somebody's", n)
				}
				h.pass(6 * time.Minute)
				h.tick()
				h.revokedOnce(refs)
				close(g.leave)
				wg.Wait()
				h.revokedOnce(refs)
			})
		}
	}
}

// revokedOnce holds the record against "exactly once".
func (h *house) revokedOnce(refs []bulkhead.CertificateRef) {
	h.t.Helper()
	revoked := map[bulkhead.CertificateRef]int{}
	for _, r := range evidenceOf(h, bulkhead.EvRevocation) {
		ev, err := tlog.Parse(r.Leaf)
		ok(h.t, err)
		revoked[bulkhead.CertificateRef{Issuer: ev.Authority, Serial: ev.Serial}]++
	}
	for _, ref := range refs {
		_, it, steps, err := h.desk.History(h.t.Context(), ref)
		ok(h.t, err)
		n := 0
		for _, s := range steps {
			if s.State == bulkhead.ItemRevoked {
				n++
			}
		}
		if it.State != bulkhead.ItemRevoked || revoked[ref] != 1 || n != 1 {
			h.t.Errorf("%s is %s, was revoked %d times, and has %d steps for it", ref, it.State, revoked[ref], n)
		}
	}
}
