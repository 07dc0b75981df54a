package incident_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/pki/tlog"
)

// TestKilledAtEveryStep fails one commit after another of a whole campaign, once so that it is lost and once so that only
// its acknowledgement is, and goes on with another process each time. Every item ends revoked, by exactly one activated
// revocation, with exactly one ticket, and was told of by exactly one notice.
func TestKilledAtEveryStep(t *testing.T) {
	step := 4 // a different part of the commits in each of the two ways
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		step = 1
	}
	for way, persisted := range []bool{false, true} {
		fault := 1 + 2*way
		for killed(t, fault, persisted) {
			fault += step
		}
		if fault < 12 {
			t.Errorf("only %d commits could fail", fault)
		}
	}
}

type mailbox struct {
	mu   sync.Mutex
	keys map[string]bool
	told map[bulkhead.CertificateRef]int
}

// Notify implements incident.Notifier: a notice that was sent before is not sent again.
func (m *mailbox) Notify(_ context.Context, n incident.Notice) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[n.Key] {
		return nil
	}
	m.keys[n.Key] = true
	for _, it := range n.Items {
		m.told[it.CertificateRef]++
	}
	return nil
}

// killed runs a campaign in which the fault-th commit fails; false when there are not so many.
func killed(t *testing.T, fault int, persisted bool) bool {
	t.Helper()
	box := &mailbox{keys: map[string]bool{}, told: map[bulkhead.CertificateRef]int{}}
	h := newHouse(t, func(c *incident.Config) { c.Notifier, c.Chunk, c.Lease = box, 2, time.Minute })
	refs := h.many(4, 2)
	yes, needs := true, bulkhead.CampaignNeeds{NewKey: true}
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{Tickets: &yes, Needs: &needs})
	commits, failed := 0, false
	hook := func(_ string, commit func() error) error {
		if commits++; commits != fault {
			return commit()
		}
		failed = true
		if persisted {
			if err := commit(); err != nil {
				return err
			}
		}
		return errors.New("killed")
	}
	h.hook.Store(&hook)
	for round := range 16 {
		before := failed
		_ = h.desk.Tick(t.Context())
		if failed && !before { // the process is gone; another one starts
			h.desk = h.process()
			ok(t, h.status.Start(t.Context()))
		}
		if round == 3 {
			h.pass(c.ForceAt.Sub(h.now()) + time.Second)
			continue
		}
		h.pass(20 * time.Second)
	}
	h.hook.Store(nil)
	h.tick()
	h.once(c, refs, box)
	return failed
}

// once holds the record against "exactly once".
func (h *house) once(c bulkhead.Campaign, refs []bulkhead.CertificateRef, box *mailbox) {
	h.t.Helper()
	revoked := map[bulkhead.CertificateRef]int{}
	rows, err := h.store.EvidenceOfKinds(h.t.Context(), 0, []bulkhead.EvidenceKind{bulkhead.EvRevocation}, 1000)
	ok(h.t, err)
	for _, r := range rows {
		ev, err := tlog.Parse(r.Leaf)
		ok(h.t, err)
		revoked[bulkhead.CertificateRef{Issuer: ev.Authority, Serial: ev.Serial}]++
	}
	tickets, err := h.store.Tickets(h.t.Context(), "", c.ID, 100)
	ok(h.t, err)
	ticketed := map[bulkhead.CertificateRef]int{}
	for _, k := range tickets {
		ticketed[k.Replaces]++
	}
	for _, ref := range refs {
		if it := h.item(ref); it.State != bulkhead.ItemRevoked || revoked[ref] != 1 || ticketed[ref] != 1 || box.told[ref] != 1 {
			h.t.Fatalf("%s is %s (%s): revoked %d times, %d tickets, told %d times", ref, it.State, it.Detail, revoked[ref], ticketed[ref], box.told[ref])
		}
		_, _, steps, err := h.desk.History(h.t.Context(), ref)
		ok(h.t, err)
		if len(steps) != 2 || steps[0].State != bulkhead.ItemNotified || steps[1].State != bulkhead.ItemRevoked {
			h.t.Fatalf("%s went through %+v", ref, steps)
		}
	}
}

// TestTwoWorkers: two processes work on one campaign at the same time; each item is revoked once.
func TestTwoWorkers(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			h := newHouseOn(t, e, func(c *incident.Config) { c.Chunk = 5 })
			refs := h.many(40, 8)
			i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
			c := h.campaign(i, incident.PlanRequest{})
			h.pass(c.ForceAt.Sub(h.now()) + time.Second)
			var wg sync.WaitGroup
			for range 2 {
				desk := h.process()
				wg.Go(func() {
					for range 3 {
						_ = desk.Tick(t.Context())
					}
				})
			}
			wg.Wait()
			h.pass(time.Minute)
			h.tick()
			for _, ref := range refs {
				if h.item(ref).State != bulkhead.ItemRevoked {
					t.Fatalf("%s is %s", ref, h.item(ref).State)
				}
			}
			if n := len(evidenceOf(h, bulkhead.EvRevocation)); n != len(refs) {
				t.Fatalf("%d revocations of %d certificates", n, len(refs))
			}
		})
	}
}

func evidenceOf(h *house, kind bulkhead.EvidenceKind) []bulkhead.EvidenceRow {
	h.t.Helper()
	rows, err := h.store.EvidenceOfKinds(h.t.Context(), 0, []bulkhead.EvidenceKind{kind}, 10_000)
	ok(h.t, err)
	return rows
}

// TestRefusedChange: a certificate that its holder revoked meanwhile spoils the change of its chunk, and not the chunk.
func TestRefusedChange(t *testing.T) {
	h := newHouse(t)
	refs := h.many(3, 3)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{})
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	_, err := h.status.RevokeCertificates(t.Context(), "account:a1", "its holder asks", []bulkhead.ChangeItem{{CertificateRef: refs[1], Reason: bulkhead.Superseded}})
	ok(t, err)
	h.tick()
	for _, ref := range refs {
		if h.item(ref).State != bulkhead.ItemRevoked {
			t.Fatalf("%s", h.item(ref).State)
		}
	}
	if n := len(evidenceOf(h, bulkhead.EvRevocation)); n != 3 {
		t.Fatal(fmt.Sprint(n, " revocations"))
	}
}
