package notice

import (
	"context"
	"fmt"
	"time"

	"bulkhead"
)

// sendBatch is how many messages are claimed at once: what one connection to a relay carries.
const sendBatch = 50

// settleTries is how often the outcome of a batch is written before it stays in doubt.
const settleTries = 5

// Send sends up to limit messages of a step and returns how many it handled. Fewer than limit means that none is left.
func (t *Tell) Send(ctx context.Context, incident, step string, limit int) (done int, err error) {
	s, err := t.find(ctx, incident, step)
	if err != nil {
		return 0, err
	}
	if _, _, _, own := ParseCampaignStep(step); own {
		return 0, bulkhead.Faultf(bulkhead.KindUsage, "%s is sent by its campaign as that goes on", step).WithHint("bulkhead notice status " + incident)
	}
	if err := t.cfg.Gate.MayTell(ctx, incident); err != nil {
		return 0, err
	}
	return t.send(ctx, s, limit)
}

// send is Send without its gates.
func (t *Tell) send(ctx context.Context, s bulkhead.NoticeStep, limit int) (done int, err error) {
	if err := t.doubt(ctx, s); err != nil {
		return 0, err
	}
	var after int64
	for done < limit {
		rows, err := t.cfg.Store.IncidentNotices(ctx, s.Incident, s.Step, after, min(sendBatch, limit-done), bulkhead.NoticePlanned)
		if err != nil || len(rows) == 0 {
			return done, err
		}
		after = rows[len(rows)-1].Seq
		if err := t.pace(ctx, len(rows)); err != nil {
			return done, err
		}
		n, err := t.batch(ctx, s, rows)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (t *Tell) find(ctx context.Context, incident, step string) (bulkhead.NoticeStep, error) {
	steps, err := t.cfg.Store.NoticeSteps(ctx, incident)
	for _, s := range steps {
		if s.Step == step {
			return s, err
		}
	}
	if err == nil {
		err = bulkhead.Faultf(bulkhead.KindNotFound, "incident %s has no step %q", incident, step).WithHint("bulkhead notice plan " + incident + " --step " + step)
	}
	return bulkhead.NoticeStep{}, err
}

// pace keeps within the messages of an hour that the relay takes.
func (t *Tell) pace(ctx context.Context, n int) error {
	if t.cfg.PerHour <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(n) * time.Hour / time.Duration(t.cfg.PerHour)):
		return nil
	}
}

// doubt marks what somebody claimed and never settled: it may have gone out.
func (t *Tell) doubt(ctx context.Context, s bulkhead.NoticeStep) error {
	rows, err := t.cfg.Store.IncidentNotices(ctx, s.Incident, s.Step, 0, page, bulkhead.NoticeSending)
	if err != nil {
		return err
	}
	for _, m := range rows {
		if t.now().Sub(m.MovedAt) < t.cfg.Lease {
			continue
		}
		m.State, m.MovedAt, m.Problem = bulkhead.NoticeInDoubt, t.now(), "the process ended before the answer of the other side was kept"
		if err := t.cfg.Store.MoveNotices(ctx, []bulkhead.IncidentNotice{m}, bulkhead.NoticeSending); err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict {
			return err
		}
	}
	return nil
}

// batch claims messages, carries them, and settles what became of each.
func (t *Tell) batch(ctx context.Context, s bulkhead.NoticeStep, rows []bulkhead.IncidentNotice) (int, error) {
	var out []Outgoing
	rows, letters, err := t.compose(ctx, s, rows)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		m, l := &rows[i], letters[i]
		subject, body, err := l.Write(m.Language)
		if err != nil {
			return 0, err
		}
		m.State, m.Tries, m.MovedAt, m.Problem = bulkhead.NoticeSending, m.Tries+1, t.now(), ""
		out = append(out, Outgoing{To: m.Recipient, MessageID: m.MessageID, Subject: subject, Body: body, About: *m, Letter: l})
	}
	// A claim of which nothing is known is not one of ours: its messages are in doubt later, by name.
	if err := t.cfg.Store.MoveNotices(ctx, rows, bulkhead.NoticePlanned); err != nil {
		if bulkhead.KindOf(err) == bulkhead.KindConflict {
			return 0, nil // somebody else sends this step
		}
		return 0, err
	}
	done := 0
	for _, c := range t.cfg.Carriers {
		var mine []Outgoing
		for _, o := range out {
			if o.About.Channel == c.Channel() {
				mine = append(mine, o)
			}
		}
		if len(mine) == 0 {
			continue
		}
		got := c.Carry(ctx, mine)
		if err := t.settle(context.WithoutCancel(ctx), s, mine, got); err != nil {
			return done, err
		}
		done += len(mine)
	}
	return done, nil
}

// compose writes the letters of messages. Those of a campaign that have nothing left to tell are not sent.
func (t *Tell) compose(ctx context.Context, s bulkhead.NoticeStep, rows []bulkhead.IncidentNotice) (to []bulkhead.IncidentNotice, letters []Letter, err error) {
	_, _, _, campaign := ParseCampaignStep(s.Step)
	var idle []bulkhead.IncidentNotice
	for _, m := range rows {
		l, err := t.letter(ctx, s, m)
		if err != nil {
			return nil, nil, err
		}
		if campaign && len(l.Items) == 0 {
			m.State, m.MovedAt, m.Problem = bulkhead.NoticeNotNeeded, t.now(), "every certificate was replaced, revoked or expired before"
			idle = append(idle, m)
			continue
		}
		to, letters = append(to, m), append(letters, l)
	}
	if len(idle) > 0 {
		if err := t.cfg.Store.MoveNotices(ctx, idle, bulkhead.NoticePlanned); err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict {
			return nil, nil, err
		}
	}
	return to, letters, nil
}

// settle keeps what became of the messages. A commit that is reported as lost may have happened: moves are from
// "sending", so that a repetition of one that did is a conflict and changes nothing.
func (t *Tell) settle(ctx context.Context, s bulkhead.NoticeStep, batch []Outgoing, got []Outcome) error {
	var moved []bulkhead.IncidentNotice
	sent, bounced := int64(0), int64(0)
	for i, o := range batch {
		m := o.About
		m.MovedAt = t.now()
		m.State, m.Problem = bulkhead.NoticePlanned, "no answer"
		if i < len(got) {
			m.State, m.Problem = got[i].State, got[i].Problem
		}
		switch m.State {
		case bulkhead.NoticeSent:
			sent++
		case bulkhead.NoticeBounced:
			bounced++
		case "":
			m.State = bulkhead.NoticePlanned
		}
		moved = append(moved, m)
	}
	var ev []bulkhead.Evidence
	if sent > 0 {
		ev = append(ev, bulkhead.Evidence{Kind: bulkhead.EvNoticesSent, At: t.cfg.Now().UTC(), Actor: "role:notice", Ref: s.Incident, Count: sent, Detail: s.Step})
	}
	if bounced > 0 {
		ev = append(ev, bulkhead.Evidence{Kind: bulkhead.EvNoticesBounced, At: t.cfg.Now().UTC(), Actor: "role:notice", Ref: s.Incident, Count: bounced, Detail: s.Step + ": refused at once"})
	}
	var err error
	for range settleTries {
		err = t.cfg.Store.MoveNotices(ctx, moved, bulkhead.NoticeSending, ev...)
		if err == nil || bulkhead.KindOf(err) == bulkhead.KindConflict {
			return nil
		}
	}
	return fmt.Errorf("notice: what became of %d messages could not be kept; they will be in doubt: %w", len(moved), err)
}

// Resend puts messages in doubt back, on a person's word that telling twice is better than not at all.
func (t *Tell) Resend(ctx context.Context, incident, step string) (int, error) {
	s, err := t.find(ctx, incident, step)
	if err != nil {
		return 0, err
	}
	if err := t.doubt(ctx, s); err != nil {
		return 0, err
	}
	rows, err := t.cfg.Store.IncidentNotices(ctx, incident, step, 0, page, bulkhead.NoticeInDoubt)
	for i := range rows {
		rows[i].State, rows[i].MovedAt, rows[i].Problem = bulkhead.NoticePlanned, t.now(), "sent again on a person's word"
	}
	if err == nil && len(rows) > 0 {
		err = t.cfg.Store.MoveNotices(ctx, rows, bulkhead.NoticeInDoubt)
	}
	return len(rows), err
}

// Bounced takes a report that came back (RFC 3464, or a mail that quotes ours) and marks the message that it is about.
func (t *Tell) Bounced(ctx context.Context, actor string, mail []byte) (bulkhead.IncidentNotice, error) {
	b, err := ParseBounce(mail)
	if err != nil {
		return bulkhead.IncidentNotice{}, err
	}
	m, err := t.cfg.Store.NoticeByMessage(ctx, b.MessageID)
	if err != nil {
		return m, err
	}
	if !b.Permanent {
		return m, bulkhead.Faultf(bulkhead.KindConflict, "the report about %s is of a delay (%s), not of a failure", m.Recipient, b.Status).WithHint("nothing is to be done; the other side goes on trying")
	}
	if m.State == bulkhead.NoticeBounced {
		return m, nil
	}
	from := m.State
	if !from.CanMove(bulkhead.NoticeBounced) {
		return m, bulkhead.Faultf(bulkhead.KindConflict, "message %s is %s: nothing can have come back", b.MessageID, from)
	}
	m.State, m.MovedAt, m.Problem = bulkhead.NoticeBounced, t.now(), b.Status+" "+b.Diagnostic
	if err := t.cfg.Store.MoveNotices(ctx, []bulkhead.IncidentNotice{m}, from, bulkhead.Evidence{Kind: bulkhead.EvNoticesBounced, At: t.cfg.Now().UTC(), Actor: actor, Ref: m.Incident, Count: 1, Detail: m.Step + ": " + b.Status}); err != nil {
		return m, err
	}
	if campaign, _, _, ok := ParseCampaignStep(m.Step); ok && m.Account != "" && t.cfg.Book != nil {
		return m, t.cfg.Book.CameBack(ctx, campaign, m.Account, b.Status)
	}
	return m, nil
}
