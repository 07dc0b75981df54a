package notice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// IncidentStore is the durable record as telling people of an incident needs it.
type IncidentStore interface {
	Incident(ctx context.Context, id string) (bulkhead.Incident, error)
	IncidentItems(ctx context.Context, id, account string, heldOnly bool, after int64, limit int) ([]bulkhead.IncidentItem, error)
	NoticeAccounts(ctx context.Context, incident, after string, limit int) ([]bulkhead.NoticeAccount, error)
	Account(ctx context.Context, id string) (bulkhead.Account, error)
	// PlanNotices keeps a step with its messages, all or none; KindConflict when the step is there.
	PlanNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice, ev bulkhead.Evidence) (bulkhead.NoticeStep, error)
	// AddNotices keeps messages of a step, and the step with the first of them; what is there stays as it is.
	AddNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice, leaf func(fresh int64) bulkhead.Evidence) (fresh int64, err error)
	NoticesTo(ctx context.Context, incident, step string, accounts []string) ([]bulkhead.IncidentNotice, error)
	OpenNoticeSteps(ctx context.Context, prefix string) ([]bulkhead.NoticeStep, error)
	NoticeSteps(ctx context.Context, incident string) ([]bulkhead.NoticeStep, error)
	IncidentNotices(ctx context.Context, incident, step string, after int64, limit int, states ...bulkhead.NoticeState) ([]bulkhead.IncidentNotice, error)
	BadNotices(ctx context.Context, after int64, limit int) ([]bulkhead.IncidentNotice, error)
	NoticeByMessage(ctx context.Context, messageID string) (bulkhead.IncidentNotice, error)
	// MoveNotices moves all, or none with KindConflict when one is elsewhere.
	MoveNotices(ctx context.Context, messages []bulkhead.IncidentNotice, expect bulkhead.NoticeState, ev ...bulkhead.Evidence) error
	CountNotices(ctx context.Context, incident string) ([]bulkhead.NoticeCount, error)
}

// Gate says whether customers may be told yet: nil, or KindGate with what comes first. The house's own estate does.
type Gate interface {
	MayTell(ctx context.Context, incident string) error
}

// Outgoing is one message on its way.
type Outgoing struct {
	To, MessageID, Subject, Body string
	About                        bulkhead.IncidentNotice
	Letter                       Letter
}

// Outcome is what became of a message. The zero value is: not sent, to be tried again.
type Outcome struct {
	State   bulkhead.NoticeState // sent, bounced, in-doubt, or planned for another try
	Problem string
}

// Carrier takes messages out of the house, several at a time. It answers for each in its order.
type Carrier interface {
	Channel() bulkhead.NoticeChannel
	Carry(ctx context.Context, batch []Outgoing) []Outcome
}

// TellConfig is what telling people of an incident needs. Store and Gate are required.
type TellConfig struct {
	Store    IncidentStore
	Gate     Gate
	Carriers []Carrier
	// Channels are the ways out for which messages are kept; nil: those of the carriers. A process that plans and does not
	// send has no carrier.
	Channels []bulkhead.NoticeChannel
	Book     CampaignBook // nil: no letters of campaigns
	// PartnerContacts are mail addresses of registration partners, who are told of their own customers' certificates.
	PartnerContacts       map[string]string
	Language              string // en, ja or both
	House                 string
	Domain                string // of message ids
	Portal, Page, Contact string
	Product               func(profile string) string // tls, smime, code-signing; nil: letters do not say
	PerHour               int                         // messages in an hour; 0 is no limit
	Lease                 time.Duration
	Now                   func() time.Time
}

// Tell tells people of incidents. A message is claimed in the record before it leaves and settled after it did: whatever
// is lost in between, nobody is told twice, and who may not have been told is known by name (in-doubt).
type Tell struct{ cfg TellConfig }

// NewTell checks the configuration.
func NewTell(cfg TellConfig) (*Tell, error) {
	if cfg.Store == nil || cfg.Gate == nil {
		return nil, errors.New("notice: store and gate are required")
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 15 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Language == "" {
		cfg.Language = "both"
	}
	if cfg.Channels == nil {
		for _, c := range cfg.Carriers {
			cfg.Channels = append(cfg.Channels, c.Channel())
		}
	}
	return &Tell{cfg}, nil
}

var stepName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// Announcement is what shall be told in a step.
type Announcement struct {
	Incident, Step, Day string
	What, Do            Words
	Until               time.Time
}

func (t *Tell) now() time.Time { return t.cfg.Now().UTC().Truncate(time.Second) }

func (t *Tell) step(ctx context.Context, actor string, a Announcement) (bulkhead.NoticeStep, error) {
	s := bulkhead.NoticeStep{Incident: a.Incident, Step: a.Step, Day: a.Day, Until: a.Until.UTC().Truncate(time.Second), Actor: actor, At: t.now()}
	if !stepName.MatchString(a.Step) {
		return s, bulkhead.Faultf(bulkhead.KindUsage, "%q is no name of a step: small letters, digits and hyphens, 40 at most", a.Step).WithHint("--step first")
	}
	if !slices.Contains(Days, a.Day) {
		return s, bulkhead.Faultf(bulkhead.KindUsage, "there is no letter for %q", a.Day).WithHint("--day " + strings.Join(Days, ", "))
	}
	for name, w := range map[string]Words{"what": a.What, "do": a.Do} {
		if t.cfg.Language != "ja" && strings.TrimSpace(w.EN) == "" || t.cfg.Language != "en" && strings.TrimSpace(w.JA) == "" {
			return s, bulkhead.Faultf(bulkhead.KindUsage, "%s is not said in every language that goes out (%s)", name, t.cfg.Language).WithHint("--" + name + "-en TEXT --" + name + "-ja TEXT")
		}
	}
	if a.Until.IsZero() && a.Day != "resolved" {
		return s, bulkhead.NewFault(bulkhead.KindUsage, "people must know until when").WithHint("--until TIME")
	}
	what, err := json.Marshal(a.What)
	if err != nil {
		return s, fmt.Errorf("notice: %w", err)
	}
	do, err := json.Marshal(a.Do)
	if err != nil {
		return s, fmt.Errorf("notice: %w", err)
	}
	s.What, s.Do = string(what), string(do)
	_, err = t.cfg.Store.Incident(ctx, a.Incident)
	return s, err
}

// Draft says whom a step would tell, and changes nothing.
func (t *Tell) Draft(ctx context.Context, actor string, a Announcement) (bulkhead.NoticeStep, []bulkhead.IncidentNotice, error) {
	s, err := t.step(ctx, actor, a)
	if err != nil {
		return s, nil, err
	}
	m, err := t.messages(ctx, s)
	return s, m, err
}

// Plan keeps a step: its words do not change any more, and each recipient of it is told once.
func (t *Tell) Plan(ctx context.Context, actor string, a Announcement) (bulkhead.NoticeStep, []bulkhead.IncidentNotice, error) {
	s, m, err := t.Draft(ctx, actor, a)
	if err != nil {
		return s, nil, err
	}
	s, err = t.cfg.Store.PlanNotices(ctx, s, m, bulkhead.Evidence{Kind: bulkhead.EvNoticesPlanned, At: t.cfg.Now().UTC(), Actor: actor, Ref: s.Incident, Count: int64(len(m)),
		Digest: bulkhead.Digest([]byte(s.Day + "\n" + s.What + "\n" + s.Do)), Detail: s.Step + ": " + s.Day})
	return s, m, err
}

// messages finds the recipients: each account by its contacts on each channel, and each partner for its own customers.
func (t *Tell) messages(ctx context.Context, s bulkhead.NoticeStep) ([]bulkhead.IncidentNotice, error) {
	var out []bulkhead.IncidentNotice
	partners := map[string]int64{}
	add := func(m bulkhead.IncidentNotice) { out = append(out, t.stamp(s, m)) }
	for after := ""; ; {
		rows, err := t.cfg.Store.NoticeAccounts(ctx, s.Incident, after, page)
		if err != nil {
			return nil, err
		}
		for _, a := range rows {
			after = a.ID
			if a.Partner != "" {
				partners[a.Partner] += a.Items
			}
			for _, m := range t.reach(a) {
				add(m)
			}
		}
		if len(rows) < page {
			break
		}
	}
	for _, p := range sortedKeys(partners) {
		m := bulkhead.IncidentNotice{Channel: bulkhead.NoticeMail, Partner: p, Items: partners[p], Recipient: t.cfg.PartnerContacts[p], State: bulkhead.NoticePlanned}
		if m.Recipient == "" {
			m.State = bulkhead.NoticeNoContact
		}
		add(m)
	}
	return out, nil
}

// stamp makes a message one of a step. The same message has the same id however often it is made.
func (t *Tell) stamp(s bulkhead.NoticeStep, m bulkhead.IncidentNotice) bulkhead.IncidentNotice {
	m.Incident, m.Step, m.Language, m.MovedAt = s.Incident, s.Step, t.cfg.Language, s.At
	id := bulkhead.Digest([]byte(strings.Join([]string{s.Incident, s.Step, string(m.Channel), m.Recipient, m.Account, m.Partner}, "\x00")))
	m.MessageID = id.String()[:40] + "@" + t.cfg.Domain
	return m
}

// reach is how one account is told.
func (t *Tell) reach(a bulkhead.NoticeAccount) (out []bulkhead.IncidentNotice) {
	m := bulkhead.IncidentNotice{Account: a.ID, Items: a.Items, State: bulkhead.NoticePlanned}
	for _, m.Channel = range t.cfg.Channels {
		if m.Channel != bulkhead.NoticeMail {
			m.Recipient = string(m.Channel)
			out = append(out, m)
			continue
		}
		for _, contact := range a.Contacts {
			if to, ok := Address(contact); ok {
				m.Recipient = to
				out = append(out, m)
			}
		}
	}
	if !slices.ContainsFunc(out, func(m bulkhead.IncidentNotice) bool { return m.Channel == bulkhead.NoticeMail }) {
		m.Channel, m.Recipient, m.State = bulkhead.NoticeMail, "", bulkhead.NoticeNoContact
		out = append(out, m)
	}
	return out
}

// letter composes one message: an account's own certificates, or those of a partner's own customers; nobody else's.
func (t *Tell) letter(ctx context.Context, s bulkhead.NoticeStep, m bulkhead.IncidentNotice) (Letter, error) {
	l := Letter{House: t.cfg.House, Incident: s.Incident, Portal: t.cfg.Portal, Page: t.cfg.Page, Contact: t.cfg.Contact, Step: s}
	accounts := []string{m.Account}
	if m.Partner != "" {
		accounts = nil
		for after := ""; ; {
			rows, err := t.cfg.Store.NoticeAccounts(ctx, s.Incident, after, page)
			if err != nil {
				return l, err
			}
			for _, a := range rows {
				if after = a.ID; a.Partner == m.Partner {
					accounts = append(accounts, a.ID)
				}
			}
			if len(rows) < page {
				break
			}
		}
	}
	if campaign, _, alone, ok := ParseCampaignStep(s.Step); ok {
		return l, t.campaignLetter(ctx, campaign, alone, &l, accounts, m.Partner == "")
	}
	for _, a := range accounts {
		if a == "" { // it would select everybody's
			continue
		}
		rows, err := t.cfg.Store.IncidentItems(ctx, s.Incident, a, false, 0, page)
		if err != nil {
			return l, err
		}
		for _, it := range rows {
			l.Items = append(l.Items, t.itemOf(it.Certificate))
		}
	}
	return l, nil
}

func (t *Tell) itemOf(c bulkhead.Certificate) Item {
	i := Item{Issuer: string(c.Issuer), Serial: c.Serial.String(), NotAfter: c.NotAfter.UTC(), Names: []string{}}
	for _, n := range c.Names {
		i.Names = append(i.Names, n.Value)
	}
	if c.Kind == bulkhead.CACertificate {
		i.Product = "ca"
	} else if t.cfg.Product != nil {
		i.Product = t.cfg.Product(c.Profile)
	}
	return i
}

// Preview writes the letter that an account would get.
func (t *Tell) Preview(ctx context.Context, actor string, a Announcement, account, language string) (subject, body string, err error) {
	s, err := t.step(ctx, actor, a)
	if err != nil {
		return "", "", err
	}
	l, err := t.letter(ctx, s, bulkhead.IncidentNotice{Account: account})
	if err != nil {
		return "", "", err
	}
	return l.Write(language)
}

// Steps returns the steps of an incident.
func (t *Tell) Steps(ctx context.Context, incident string) ([]bulkhead.NoticeStep, error) {
	return t.cfg.Store.NoticeSteps(ctx, incident)
}

// Counts counts the messages of an incident.
func (t *Tell) Counts(ctx context.Context, incident string) ([]bulkhead.NoticeCount, error) {
	return t.cfg.Store.CountNotices(ctx, incident)
}

// Stale lists messages that reached nobody.
func (t *Tell) Stale(ctx context.Context, after int64, limit int) ([]bulkhead.IncidentNotice, error) {
	return t.cfg.Store.BadNotices(ctx, after, limit)
}
