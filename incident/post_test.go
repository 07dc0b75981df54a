package incident_test

import (
	"context"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/notice"
	"bulkhead/notice/mailtest"
)

// letters is the desk's notifier as the composed house has it: real messages by a real relay.
type letters struct {
	h    *house
	tell *notice.Tell
}

// Notify implements incident.Notifier.
func (l *letters) Notify(ctx context.Context, i bulkhead.Incident, c bulkhead.Campaign, accounts map[string]int64, alone int64) (map[string]incident.Reached, error) {
	got, err := l.tell.Call(ctx, notice.CampaignCall{Incident: i.ID, Campaign: c.ID, Generation: c.Generation, NewKey: c.Needs.NewKey, Until: c.ForceAt, Accounts: accounts, Alone: alone})
	out := map[string]incident.Reached{}
	for id, r := range got {
		out[id] = incident.Reached(r)
	}
	return out, err
}

// open makes the telling side anew, as a process that starts does.
func (l *letters) open(p *mailtest.Relay) {
	l.h.t.Helper()
	m, err := notice.NewMail(notice.MailConfig{Server: p.Addr, From: "ca@house.test", Operator: "operator@house.test", Language: "both"})
	ok(l.h.t, err)
	l.tell, err = notice.NewTell(notice.TellConfig{Store: l.h.store, Gate: open{}, Carriers: []notice.Carrier{m}, Book: l.h.desk, PartnerContacts: map[string]string{"reseller": "desk@reseller.test"},
		Language: "both", House: "Example CA", Domain: "house.test", Lease: 40 * time.Second, Now: l.h.now})
	ok(l.h.t, err)
}

// open is a gate that lets everything pass.
type open struct{}

func (open) MayTell(context.Context, string) error { return nil }

// mailHouse is a house whose campaigns send mail.
func mailHouse(t testing.TB, e engine, change ...func(*incident.Config)) (*house, *letters, *mailtest.Relay) {
	p, l := mailtest.New(t, false), &letters{}
	h := newHouseOn(t, e, append([]func(*incident.Config){func(c *incident.Config) { c.Notifier = l }}, change...)...)
	l.h = h
	l.open(p)
	return h, l, p
}

// account makes one with contacts.
func (h *house) account(id, partner string, contacts ...string) {
	h.t.Helper()
	ok(h.t, h.store.CreateAccount(h.t.Context(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id, JWK: []byte("{}"), Contacts: contacts, Partner: partner, CreatedAt: h.now()}))
}
