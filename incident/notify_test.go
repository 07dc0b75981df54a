package incident_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

// TestLetters: "notified" is a mail that the relay accepted, in both languages, with the account's own certificates and their
// codes and nobody else's; one mail however many chunks an account's certificates are in; an account without an address and
// one whose address refuses are said by name; the partner is told of its customers without their codes; what comes back
// later is said, too.
func TestLetters(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			h, l, p := mailHouse(t, e, func(c *incident.Config) { c.Chunk = 2 })
			h.account("a", "", "mailto:a@a.test")
			h.account("b", "reseller", "mailto:b@b.test")
			h.account("gone", "", "mailto:gone@gone.test")
			h.account("mute", "")
			p.Reject("gone@gone.test")
			mine := h.issue(h.cert("a", "a1.test"), h.cert("a", "a2.test"), h.cert("a", "a3.test"))
			others := h.issue(h.cert("b", "b1.test"), h.cert("gone", "g1.test"), h.cert("mute", "m1.test"))
			yes, needs := true, bulkhead.CampaignNeeds{NewKey: true}
			i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
			c := h.campaign(i, incident.PlanRequest{Tickets: &yes, Needs: &needs})
			h.pass(6 * time.Hour) // every notice is due
			h.tick()
			if it := h.item(mine[0]); it.State != bulkhead.ItemPlanned || len(p.To("a@a.test")) != 0 {
				t.Fatalf("%s before its message left", it.State)
			}
			for range 3 {
				_, err := l.tell.SendCampaigns(t.Context(), 100)
				ok(t, err)
				h.pass(time.Minute)
				h.tick()
			}
			ours := p.To("a@a.test")
			if len(ours) != 1 {
				t.Fatalf("account a got %d mails", len(ours))
			}
			tickets, err := h.store.Tickets(t.Context(), "a", c.ID, 10)
			ok(t, err)
			if len(tickets) != 3 {
				t.Fatalf("%d tickets", len(tickets))
			}
			for id, code := range h.desk.Codes(tickets) {
				if strings.Count(ours[0].Text(), code) != 2 { // once in each language
					t.Errorf("the code of ticket %s stands %d times", id, strings.Count(ours[0].Text(), code))
				}
			}
			for _, want := range []string{"a1.test", "a2.test", "a3.test", "秘密鍵", "new key", "TLS server certificate, ", "無償再発行コード"} {
				if !strings.Contains(ours[0].Text(), want) {
					t.Errorf("the letter lacks %q", want)
				}
			}
			for _, not := range []string{"b1.test", "g1.test", "m1.test"} {
				if strings.Contains(ours[0].Text(), not) {
					t.Errorf("the letter has %q of somebody else", not)
				}
			}
			partner := p.To("desk@reseller.test")
			if len(partner) != 1 || !strings.Contains(partner[0].Text(), "b1.test") || strings.Contains(partner[0].Text(), "code for a free reissue") || strings.Contains(partner[0].Text(), "a1.test") {
				t.Errorf("the partner got %+v", partner)
			}
			for ref, how := range map[bulkhead.CertificateRef]string{mine[0]: "told by message", others[0]: "told by message", others[1]: "every address refused it", others[2]: "no address"} {
				if it := h.item(ref); it.State != bulkhead.ItemNotified || !strings.Contains(it.Detail, how) {
					t.Errorf("%s is %s: %s", it.Name, it.State, it.Detail)
				}
			}
			stale, err := l.tell.Stale(t.Context(), 0, 10)
			ok(t, err)
			if len(stale) != 2 {
				t.Errorf("stale: %+v", stale)
			}
			h.comesBack(l, i.ID, mine)
		})
	}
}

// comesBack hands a delivery report about the mail to account a to the house.
func (h *house) comesBack(l *letters, id string, mine []bulkhead.CertificateRef) {
	h.t.Helper()
	steps, err := l.tell.Steps(h.t.Context(), id)
	ok(h.t, err)
	messages, err := h.store.NoticesTo(h.t.Context(), id, steps[0].Step, []string{"a"})
	ok(h.t, err)
	report := "Content-Type: message/delivery-status\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\nMessage-ID: <" + messages[0].MessageID + ">\r\n"
	_, err = l.tell.Bounced(h.t.Context(), "operator:a", []byte(report))
	ok(h.t, err)
	if it := h.item(mine[2]); !strings.Contains(it.Detail, "came back (5.1.1)") {
		h.t.Errorf("after the report: %s", it.Detail)
	}
}

// TestPausedCampaignSendsNothing: a pause holds the messages that are kept already, and a new plan tells in its own step only
// those who were not told.
func TestPausedCampaignSendsNothing(t *testing.T) {
	h, l, p := mailHouse(t, engines()[0])
	h.account("a", "", "mailto:a@a.test")
	h.issue(h.cert("a", "a1.test"))
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{})
	h.pass(6 * time.Hour)
	h.tick()
	_, err := h.desk.Pause(t.Context(), "operator:a", c.ID, "wait")
	ok(t, err)
	if n, err := l.tell.SendCampaigns(t.Context(), 100); err != nil || n != 0 || len(p.To("a@a.test")) != 0 {
		t.Fatalf("a paused campaign sent %d: %v", n, err)
	}
	_, err = h.desk.Resume(t.Context(), "operator:a", c.ID, "go on")
	ok(t, err)
	again := func() {
		t.Helper()
		for range 2 {
			_, err = l.tell.SendCampaigns(t.Context(), 100)
			ok(t, err)
			h.pass(time.Minute)
			h.tick()
		}
	}
	again()
	if len(p.To("a@a.test")) != 1 {
		t.Fatal("the resumed campaign did not send")
	}
	h.issue(h.cert("a", "a2.test"))
	_, err = h.desk.Scope(t.Context(), "operator:a", i.ID, bulkhead.Scope{}, "one more")
	ok(t, err)
	h.campaign(i, incident.PlanRequest{})
	h.pass(3 * time.Hour)
	h.tick()
	again()
	got := p.To("a@a.test")
	if len(got) != 2 || strings.Contains(got[1].Text(), "a1.test") || !strings.Contains(got[1].Text(), "a2.test") {
		t.Fatalf("%d mails; the second: %q", len(got), got[len(got)-1].Text())
	}
}

// TestLetterAfterHold: a certificate whose legal hold ends after the letter of its account left is told of by a letter of its
// own, once, whether it was on hold when the plan was made or later, and then revoked in its turn. One that its holder knew of
// before gets no second letter.
func TestLetterAfterHold(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) { lettersAfterHold(t, e) })
	}
}

func lettersAfterHold(t *testing.T, e engine) {
	h, l, p := mailHouse(t, e)
	h.account("a", "", "mailto:a@a.test")
	refs := h.issue(h.cert("a", "early.test"), h.cert("a", "late.test"), h.cert("a", "told.test"), h.cert("a", "plain.test"))
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	hold := func(n int) { ok(t, h.desk.Hold(t.Context(), "operator:a", i.ID, refs[n], "a court")) }
	release := func(n int) { ok(t, h.desk.Release(t.Context(), "operator:a", i.ID, refs[n], "the court is done")) }
	rounds := func() {
		t.Helper()
		for range 3 {
			h.tick()
			_, err := l.tell.SendCampaigns(t.Context(), 100)
			ok(t, err)
			h.pass(time.Minute)
		}
	}
	hold(0) // when the plan is made
	c := h.campaign(i, incident.PlanRequest{})
	hold(1)
	h.pass(6 * time.Hour)
	rounds()
	hold(2)
	rounds()
	told := func(name string) (n int) {
		for _, m := range p.To("a@a.test") {
			if strings.Contains(m.Text(), name) {
				n++
			}
		}
		return n
	}
	if len(p.To("a@a.test")) != 1 || told("early.test") != 0 || told("late.test") != 0 || told("told.test") == 0 {
		t.Fatalf("%+v", p.To("a@a.test"))
	}
	// The process is killed between the end of the hold and its work: the next round finds it.
	ok(t, h.store.ReleaseItem(t.Context(), i.ID, refs[0], bulkhead.Evidence{Kind: bulkhead.EvIncidentRelease, At: h.now(), Actor: "operator:a", Ref: i.ID}))
	release(1)
	release(2)
	rounds()
	rounds()
	mails := p.To("a@a.test")
	if len(mails) != 3 {
		t.Fatalf("%d letters", len(mails))
	}
	for _, name := range []string{"early.test", "late.test"} {
		n := 0
		for _, m := range mails[1:] {
			if strings.Contains(m.Text(), name) {
				n++
			}
			if strings.Contains(m.Text(), "plain.test") || strings.Contains(m.Text(), "told.test") {
				t.Errorf("told twice: %s", m.Text())
			}
		}
		if n != 1 {
			t.Errorf("%d letters tell of %s", n, name)
		}
	}
	for _, ref := range refs {
		if it := h.item(ref); it.State != bulkhead.ItemNotified || it.RevokeAt.IsZero() {
			t.Errorf("%s is %s, revoked at %s", ref, it.State, it.RevokeAt)
		}
	}
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	rounds()
	for _, ref := range refs {
		if it := h.item(ref); it.State != bulkhead.ItemRevoked {
			t.Errorf("%s is %s: %s", ref, it.State, it.Detail)
		}
	}
}
