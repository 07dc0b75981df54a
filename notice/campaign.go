package notice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// campaignPrefix begins the names of a campaign's own steps. People's have no dots.
const campaignPrefix = "campaign."

// CampaignStep names the step in which the accounts of a campaign are told of one plan.
func CampaignStep(campaign string, generation int64) string {
	return campaignPrefix + campaign + "." + strconv.FormatInt(generation, 10)
}

// AloneStep names the step in which an account is told of one certificate by itself, by the row of the certificate.
func AloneStep(campaign string, generation, alone int64) string {
	return CampaignStep(campaign, generation) + "." + strconv.FormatInt(alone, 10)
}

// ParseCampaignStep is the inverse of CampaignStep, for which alone is 0, and AloneStep; false for a step that people planned.
func ParseCampaignStep(step string) (campaign string, generation, alone int64, ok bool) {
	rest, ok := strings.CutPrefix(step, campaignPrefix)
	if !ok {
		return "", 0, 0, false
	}
	campaign, number, ok := strings.Cut(rest, ".")
	number, row, single := strings.Cut(number, ".")
	generation, err := strconv.ParseInt(number, 10, 64)
	if ok = ok && err == nil; single && ok {
		alone, err = strconv.ParseInt(row, 10, 64)
		ok = err == nil && alone > 0
	}
	return campaign, generation, alone, ok
}

// CampaignBook is what letters of a campaign ask of it.
type CampaignBook interface {
	// LetterItems returns up to limit certificates of an account of which nobody was told yet, in the order of the plan, and
	// how many there are; with the row of a certificate, alone, that one. With codes they have their ticket codes, the same ones
	// each time.
	LetterItems(ctx context.Context, campaign, account string, alone int64, codes bool, limit int) ([]bulkhead.LetterItem, int64, error)
	// Goes reports whether the campaign runs with this plan.
	Goes(ctx context.Context, campaign string, generation int64) (bool, error)
	// CameBack keeps that a message to an account was refused for good after it had been accepted.
	CameBack(ctx context.Context, campaign, account, why string) error
}

// CampaignCall asks that accounts are told of one plan of a campaign.
type CampaignCall struct {
	Incident, Campaign string
	Generation         int64
	NewKey             bool             // their keys are refused: the letter says why
	Until              time.Time        // when the clock revokes
	Accounts           map[string]int64 // id → certificates
	Alone              int64            // row of the one certificate that this is about; 0 for all
}

// Reached is how far telling one account has come.
type Reached struct {
	Settled bool   // nothing more is tried
	How     string // in words, without addresses
}

// Call keeps a message for each account and each way to reach it, once for each plan, and says how far each account has come.
// It sends nothing: SendCampaigns does, in this process or another.
func (t *Tell) Call(ctx context.Context, c CampaignCall) (map[string]Reached, error) {
	s, err := t.campaignStep(ctx, c)
	if err != nil {
		return nil, err
	}
	ids := sortedKeys(c.Accounts)
	there, err := t.cfg.Store.NoticesTo(ctx, s.Incident, s.Step, ids)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, m := range there {
		known[m.Account] = true
	}
	var fresh []bulkhead.IncidentNotice
	for _, id := range ids {
		if known[id] {
			continue
		}
		a, err := t.cfg.Store.Account(ctx, id)
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return nil, err
		}
		a.ID = id
		for _, m := range append(t.reach(bulkhead.NoticeAccount{Account: a, Items: c.Accounts[id]}), t.toPartner(a.Partner)...) {
			fresh = append(fresh, t.stamp(s, m))
		}
	}
	if len(fresh) > 0 {
		if _, err := t.cfg.Store.AddNotices(ctx, s, fresh, func(n int64) bulkhead.Evidence {
			return bulkhead.Evidence{Kind: bulkhead.EvNoticesPlanned, At: t.cfg.Now().UTC(), Actor: s.Actor, Ref: s.Incident, Count: n, Digest: bulkhead.Digest([]byte(s.Day + "\n" + s.What + "\n" + s.Do)), Detail: s.Step + ": " + s.Day}
		}); err != nil {
			return nil, err
		}
		if there, err = t.cfg.Store.NoticesTo(ctx, s.Incident, s.Step, ids); err != nil {
			return nil, err
		}
	}
	return reached(ids, there), nil
}

// toPartner is the message to the registration partner of an account: one for all of its customers, without their codes.
func (t *Tell) toPartner(partner string) []bulkhead.IncidentNotice {
	if partner == "" {
		return nil
	}
	m := bulkhead.IncidentNotice{Channel: bulkhead.NoticeMail, Partner: partner, Recipient: t.cfg.PartnerContacts[partner], State: bulkhead.NoticePlanned}
	if m.Recipient == "" {
		m.State = bulkhead.NoticeNoContact
	}
	return []bulkhead.IncidentNotice{m}
}

func reached(ids []string, messages []bulkhead.IncidentNotice) map[string]Reached {
	by := map[string]map[bulkhead.NoticeState]int{}
	for _, m := range messages {
		if by[m.Account] == nil {
			by[m.Account] = map[bulkhead.NoticeState]int{}
		}
		by[m.Account][m.State]++
	}
	out := map[string]Reached{}
	for _, id := range ids {
		n := by[id]
		r := Reached{Settled: n[bulkhead.NoticePlanned]+n[bulkhead.NoticeSending] == 0}
		switch {
		case !r.Settled:
			r.How = "its message is on its way"
		case n[bulkhead.NoticeSent] > 0:
			r.How = "told by message"
		case n[bulkhead.NoticeInDoubt] > 0:
			r.How = "a message went out whose arrival is not known (bulkhead notice status)"
		case n[bulkhead.NoticeNotNeeded] > 0:
			r.How = "replaced before its message left"
		case n[bulkhead.NoticeBounced] > 0:
			r.How = "not reached by message: every address refused it (bulkhead notice stale)"
		default:
			r.How = "not reached by message: the account has no address (bulkhead notice stale)"
		}
		out[id] = r
	}
	return out
}

// standard is what a campaign says where nobody wrote words for its incident.
var standard = map[string][2]Words{
	"key-compromise": {{EN: "The private keys of the certificates listed below have to be taken as known to others.", JA: "下記の証明書の秘密鍵が、第三者に知られた可能性があります。"},
		{EN: "Replace each certificate, with a new key, within its time below.", JA: "下記の期間内に、新しい鍵で証明書の再発行と設定をお願いいたします。"}},
	"ca-incident": {{EN: "The certificates listed below were issued in a way that the rules do not allow.", JA: "下記の証明書の発行において、規程に沿わない点がございました。"},
		{EN: "Replace each certificate within its time below.", JA: "下記の期間内に、証明書の再発行と設定をお願いいたします。"}},
}

// campaignStep is the step of a campaign's plan: with the newest words that people wrote for the incident, else with the
// standard ones.
func (t *Tell) campaignStep(ctx context.Context, c CampaignCall) (bulkhead.NoticeStep, error) {
	s := bulkhead.NoticeStep{Incident: c.Incident, Step: CampaignStep(c.Campaign, c.Generation), Day: "ca-incident", Until: c.Until.UTC().Truncate(time.Second), Actor: "role:incident", At: t.now()}
	if c.Alone != 0 {
		s.Step = AloneStep(c.Campaign, c.Generation, c.Alone)
	}
	if c.NewKey {
		s.Day = "key-compromise"
	}
	all, err := t.cfg.Store.NoticeSteps(ctx, c.Incident)
	if err != nil {
		return s, err
	}
	for _, x := range slices.Backward(all) {
		if x.Step == s.Step {
			return x, nil
		}
	}
	for _, x := range slices.Backward(all) {
		if _, _, _, own := ParseCampaignStep(x.Step); !own && x.Day == s.Day {
			s.What, s.Do = x.What, x.Do
			return s, nil
		}
	}
	what, err := json.Marshal(standard[s.Day][0])
	if err != nil {
		return s, fmt.Errorf("notice: %w", err)
	}
	do, err := json.Marshal(standard[s.Day][1])
	s.What, s.Do = string(what), string(do)
	return s, err
}

// campaignLetter composes a message of a campaign: what an account, or the customers of a partner, were not told yet.
func (t *Tell) campaignLetter(ctx context.Context, campaign string, alone int64, l *Letter, accounts []string, codes bool) error {
	for _, a := range accounts {
		if a == "" {
			continue
		}
		rows, all, err := t.cfg.Book.LetterItems(ctx, campaign, a, alone, codes, most)
		if err != nil {
			return err
		}
		for _, r := range rows {
			l.Items = append(l.Items, Item{Issuer: string(r.Issuer), Serial: r.Serial.String(), Names: []string{r.Name}, NotAfter: r.NotAfter.UTC(), Product: r.Product,
				Replace: &Replacement{Order: r.OrderID, Code: r.Code, From: r.WindowStart.UTC(), To: r.WindowEnd.UTC(), Revoked: r.RevokeAt.UTC(), Seen: r.Seen}})
		}
		l.More += int(all) - len(rows)
	}
	return nil
}

// SendCampaigns sends up to limit messages of campaigns that run, oldest step first, and returns how many it handled.
func (t *Tell) SendCampaigns(ctx context.Context, limit int) (done int, err error) {
	if t.cfg.Book == nil {
		return 0, errors.New("notice: there is no book of campaigns")
	}
	steps, err := t.cfg.Store.OpenNoticeSteps(ctx, campaignPrefix)
	if err != nil {
		return 0, err
	}
	for _, s := range steps {
		campaign, generation, _, ok := ParseCampaignStep(s.Step)
		if !ok {
			continue
		}
		goes, err := t.cfg.Book.Goes(ctx, campaign, generation)
		if err != nil {
			return done, err
		}
		if !goes { // paused, or another plan is in force, which tells in its own step
			continue
		}
		n, err := t.send(ctx, s, limit-done)
		if done += n; err != nil || done >= limit {
			return done, err
		}
	}
	return done, nil
}

// RunCampaigns sends what campaigns have to tell every interval until ctx ends.
func (t *Tell) RunCampaigns(ctx context.Context, every time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := t.SendCampaigns(ctx, sendRound); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "messages of a campaign could not be sent; they are tried again", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sendRound bounds one round: a campaign that is paused meanwhile sends no more than this.
const sendRound = 500
