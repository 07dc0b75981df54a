package incident_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/notice"
	"bulkhead/notice/mailtest"
	"bulkhead/pki/tlog"
)

// TestKilledAtEveryStep ends the process at one commit after another of a whole campaign, on both stores, once so that the
// commit is lost and once so that only its acknowledgement is, and goes on with another process each time. Every item ends
// revoked, by exactly one activated revocation, with exactly one ticket, and its holder got exactly one mail about it; a mail
// whose arrival nobody knows is in doubt by name, and not sent again.
func TestKilledAtEveryStep(t *testing.T) {
	step := 12 // a different part of the commits in each of the four ways
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		step = 1
	}
	for n, e := range engines() {
		for way, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/persisted=%v", e.name, persisted), func(t *testing.T) {
				fault := 1 + (2*(2*n+way))%step
				for more := true; more; fault += step {
					t.Run(strconv.Itoa(fault), func(t *testing.T) { more = killedAt(t, e, fault, persisted) }) // its house is closed before the next
				}
				if fault < 20 {
					t.Errorf("only %d commits could fail", fault)
				}
			})
		}
	}
}

// killedAt runs a campaign in which the process dies at the fault-th commit; false when there are not so many.
func killedAt(t *testing.T, e engine, fault int, persisted bool) bool {
	t.Helper()
	h, l, p := mailHouse(t, e, func(c *incident.Config) { c.Chunk, c.Together, c.Lease = 2, 1, time.Minute })
	h.account("a0", "", "mailto:a0@a.test")
	h.account("a1", "", "mailto:a1@a.test")
	refs := h.many(4, 2)
	yes, needs := true, bulkhead.CampaignNeeds{NewKey: true}
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{Tickets: &yes, Needs: &needs})
	var mu sync.Mutex // the process does two jobs at once
	commits, failed, dead := 0, false, false
	hook := func(_ string, commit func() error) error {
		mu.Lock()
		commits++
		now, before := commits == fault, dead
		failed, dead = failed || now, dead || now // nothing of this process is kept from here on
		mu.Unlock()
		if !now && !before {
			return commit()
		}
		if persisted && now && !before {
			if err := commit(); err != nil {
				return err
			}
		}
		return errors.New("killed")
	}
	h.hook.Store(&hook)
	for round := range 24 {
		_ = h.desk.Tick(t.Context())
		if !dead {
			_, _ = l.tell.SendCampaigns(t.Context(), 100)
		}
		if dead { // the process is gone; another one starts
			dead = false
			h.desk = h.process()
			l.open(p)
			ok(t, h.status.Start(t.Context()))
		}
		if round == 14 {
			h.pass(c.ForceAt.Sub(h.now()) + time.Second)
			continue
		}
		h.pass(20 * time.Second)
	}
	h.hook.Store(nil)
	h.tick()
	h.once(i, c, refs, p)
	return failed
}

// once holds the record against "exactly once".
func (h *house) once(i bulkhead.Incident, c bulkhead.Campaign, refs []bulkhead.CertificateRef, p *mailtest.Relay) {
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
		if it := h.item(ref); it.State != bulkhead.ItemRevoked || revoked[ref] != 1 || ticketed[ref] != 1 {
			h.t.Fatalf("%s is %s (%s): revoked %d times, %d tickets", ref, it.State, it.Detail, revoked[ref], ticketed[ref])
		}
		_, _, steps, err := h.desk.History(h.t.Context(), ref)
		ok(h.t, err)
		if len(steps) != 2 || steps[0].State != bulkhead.ItemNotified || steps[1].State != bulkhead.ItemRevoked {
			h.t.Fatalf("%s went through %+v", ref, steps)
		}
	}
	h.toldOnce(i, c, p)
}

// toldOnce: each account got one mail that names all of its certificates, or its message is in doubt by name and arrived at
// most once.
func (h *house) toldOnce(i bulkhead.Incident, c bulkhead.Campaign, p *mailtest.Relay) {
	h.t.Helper()
	messages, err := h.store.NoticesTo(h.t.Context(), i.ID, notice.CampaignStep(c.ID, c.Generation), []string{"a0", "a1"})
	ok(h.t, err)
	if len(messages) != 2 {
		h.t.Fatalf("%d messages of 2 accounts", len(messages))
	}
	for _, m := range messages {
		got := p.To(m.Recipient)
		switch {
		case m.State == bulkhead.NoticeInDoubt && len(got) <= 1:
		case m.State != bulkhead.NoticeSent || len(got) != 1:
			h.t.Fatalf("%s: %s, and %d mails arrived", m.Account, m.State, len(got))
		}
		for n, name := range []string{"w0.", "w1.", "w2.", "w3."} {
			if own := m.Account == "a"+strconv.Itoa(n%2); len(got) == 1 && strings.Contains(got[0].Text(), name+"example.com") != own {
				h.t.Fatalf("%s is told of %s: %v (its message is %s, %q): %s", m.Account, name, !own, m.State, m.Problem, got[0].Text())
			}
		}
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
