package incident

import (
	"context"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
)

// askAgain is how soon a chunk asks whether the messages of its accounts have left.
const askAgain = 20 * time.Second

// notify tells the holders of a chunk, with tickets where the campaign gives them. Tickets come to the same code and
// messages to the same id each time, so that a repetition tells nobody twice. An item is notified when nothing more is tried
// to reach its holder; one whose message is on its way waits for it.
func (s *Service) notify(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob, items []bulkhead.CampaignItem) error {
	now := s.now()
	wait, err := s.MayTellCustomers(ctx, c)
	if err != nil {
		return err
	}
	apart, err := s.cfg.Store.ToldAlone(ctx, c.ID)
	if err != nil {
		return err
	}
	alone := j.Kind == bulkhead.JobAfterHold
	j.Done, j.LeaseUntil, j.Problem = true, now, ""
	later := func(at time.Time, why string) {
		if j.Done || at.Before(j.DueAt) {
			j.DueAt = at
		}
		j.Done, j.Problem = false, why
	}
	var due []bulkhead.CampaignItem
	for _, it := range items {
		switch {
		case it.State != bulkhead.ItemPlanned || apart[it.Ordinal] != alone:
		case it.NotifyAt.After(now):
			later(it.NotifyAt, j.Problem)
		case wait != "" && !it.Own && it.Wave != int(plan.Replaced):
			later(now.Add(time.Minute), wait)
		default:
			due = append(due, it)
		}
	}
	if _, err := s.ticketsFor(ctx, c, due); err != nil {
		return err
	}
	reached, err := s.tell(ctx, c, due, alone)
	if err != nil {
		return err
	}
	told := map[string][]bulkhead.CampaignItem{} // by how
	var ways []string
	for _, it := range due {
		r := Reached{true, noMessage}
		if x, asked := reached[it.AccountID]; asked && it.Wave != int(plan.Replaced) {
			r = x
		}
		if !r.Settled {
			later(now.Add(askAgain), j.Problem)
			continue
		}
		if told[r.How] == nil {
			ways = append(ways, r.How)
		}
		told[r.How] = append(told[r.How], it)
	}
	return overtaken(s.moveTold(ctx, c, ways, told, &j))
}

// toTell reads a chunk: whole items where their holders get tickets, else no more than it takes to tell.
func (s *Service) toTell(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob) ([]bulkhead.CampaignItem, error) {
	if c.Tickets {
		return s.cfg.Store.CampaignItems(ctx, c.ID, bulkhead.CampaignItemFilter{First: j.First, Last: j.Last, Limit: int(j.Last - j.First + 1)})
	}
	return s.cfg.Store.ItemsToTell(ctx, c.ID, j.First, j.Last)
}

const noMessage = "nothing was sent"

// moveTold moves the items of each way of telling together.
func (s *Service) moveTold(ctx context.Context, c bulkhead.Campaign, ways []string, told map[string][]bulkhead.CampaignItem, j *bulkhead.CampaignJob) error {
	slices.Sort(ways)
	at := s.now()
	var moves []bulkhead.ItemMove
	var evs []bulkhead.Evidence
	for leaf, how := range ways {
		detail := how + "; by renewal information and the account's own list"
		for _, it := range told[how] {
			moves = addStep(moves, it.Ordinal, bulkhead.ItemMove{From: it.State, To: bulkhead.ItemNotified, At: at, Detail: detail, Leaf: leaf})
		}
		evs = append(evs, s.itemsLeaf(c, "role:incident", told[how], "notified: "+detail))
	}
	return s.cfg.Store.MoveItems(ctx, c.ID, moves, j, evs...)
}

// tell has the notifier tell the accounts of some items: each of all that it has in the campaign, not of this chunk alone.
// After a hold it is of the one certificate alone, unless its holder knew of it before.
func (s *Service) tell(ctx context.Context, c bulkhead.Campaign, items []bulkhead.CampaignItem, alone bool) (map[string]Reached, error) {
	var accounts []string
	for _, it := range items {
		if it.Wave != int(plan.Replaced) && it.AccountID != "" {
			accounts = append(accounts, it.AccountID)
		}
	}
	if s.cfg.Notifier == nil || len(accounts) == 0 {
		return nil, nil
	}
	slices.Sort(accounts)
	counts, err := s.cfg.Store.OpenItemCounts(ctx, c.ID, slices.Compact(accounts))
	if err != nil {
		return nil, err
	}
	i, err := s.cfg.Store.Incident(ctx, c.Incident)
	if err != nil {
		return nil, err
	}
	if !alone {
		return s.cfg.Notifier.Notify(ctx, i, c, counts, 0)
	}
	told, err := s.toldBefore(ctx, c, items[0])
	if err != nil || told {
		return map[string]Reached{items[0].AccountID: {true, "told before its hold"}}, err
	}
	return s.cfg.Notifier.Notify(ctx, i, c, map[string]int64{items[0].AccountID: 1}, items[0].IntentSeq)
}

// LetterItems are up to limit certificates of an account in a campaign of which it was not told yet, in the order of the
// plan, and how many there are. With codes they have their tickets; one that does not exist yet is made. What is told of by
// itself, after a hold, is in no letter but that of its row, alone, and alone there.
func (s *Service) LetterItems(ctx context.Context, campaign, account string, alone int64, codes bool, limit int) ([]bulkhead.LetterItem, int64, error) {
	c, err := s.cfg.Store.Campaign(ctx, campaign)
	if err != nil || account == "" {
		return nil, 0, err
	}
	apart, err := s.cfg.Store.ToldAlone(ctx, campaign)
	if err != nil {
		return nil, 0, err
	}
	var items []bulkhead.CampaignItem
	var all, first int64
	for {
		rows, err := s.cfg.Store.CampaignItems(ctx, campaign, bulkhead.CampaignItemFilter{AccountID: account, States: []bulkhead.ItemState{bulkhead.ItemPlanned}, First: first, Limit: page})
		if err != nil {
			return nil, 0, err
		}
		for _, it := range rows {
			first = it.Ordinal + 1
			if it.Wave == int(plan.Replaced) || alone != 0 && it.IntentSeq != alone || apart[it.Ordinal] != (alone != 0) {
				continue
			}
			if all++; len(items) < limit {
				items = append(items, it)
			}
		}
		if len(rows) < page {
			break
		}
	}
	given := map[bulkhead.CertificateRef]string{}
	if codes {
		if given, err = s.ticketsFor(ctx, c, items); err != nil {
			return nil, 0, err
		}
	}
	out := make([]bulkhead.LetterItem, len(items))
	for i, it := range items {
		out[i] = bulkhead.LetterItem{CertificateRef: it.CertificateRef, Name: it.Name, OrderID: it.OrderID, Product: it.Product, NotAfter: it.NotAfter, WindowStart: it.WindowStart, WindowEnd: it.WindowEnd,
			RevokeAt: it.RevokeAt, Code: given[it.CertificateRef]}
		if s.cfg.Adviser == nil {
			continue
		}
		if out[i].Seen, err = s.cfg.Adviser.Words(ctx, it.CertificateRef); err != nil {
			return nil, 0, err
		}
	}
	return out, all, nil
}

// Goes reports whether a campaign runs with the plan of a generation.
func (s *Service) Goes(ctx context.Context, campaign string, generation int64) (bool, error) {
	c, err := s.cfg.Store.Campaign(ctx, campaign)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return false, nil
	}
	return c.State == bulkhead.CampaignRunning && c.Generation == generation, err
}

// CameBack keeps that what an account was sent came back: its open items say so, and somebody has to reach it otherwise.
func (s *Service) CameBack(ctx context.Context, campaign, account, why string) error {
	detail := "not reached: its message came back (" + why + "); bulkhead notice stale"
	ev := s.leaf(bulkhead.EvCampaignItems, campaign, "role:incident", "account "+account+" "+detail)
	return s.cfg.Store.NoteAccount(ctx, campaign, account, detail, ev)
}
