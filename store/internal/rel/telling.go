package rel

import (
	"context"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

const fieldFields = `incident, field, number, text, actor, at, leaf_seq`

func scanField(r scanner) (bulkhead.IncidentField, error) {
	var f bulkhead.IncidentField
	err := r.Scan(&f.Incident, &f.Field, &f.Number, &f.Text, &f.Actor, timeCol{&f.At}, &f.LogIndex)
	f.LogIndex--
	return f, err
}

// PutIncidentField adds the next text of a field with its leaf; KindNotFound when there is no such incident.
func (s *Store) PutIncidentField(ctx context.Context, f bulkhead.IncidentField, ev bulkhead.Evidence) (bulkhead.IncidentField, error) {
	row, err := tlog.Marshal(ev)
	if err != nil {
		return f, s.fault("PutIncidentField", err)
	}
	err = s.write(ctx, "PutIncidentField", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if _, err := t.incidentSeq(ctx, f.Incident); err != nil {
			return err
		}
		if err := t.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) + 1 FROM incident_fields WHERE incident = $1 AND field = $2`, f.Incident, f.Field).Scan(&f.Number); err != nil {
			return err
		}
		seqs, err := t.append(ctx, [][]byte{row})
		if err != nil {
			return err
		}
		f.LogIndex = seqs[0] - 1
		_, err = exec(ctx, t, `INSERT INTO incident_fields (`+fieldFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`, f.Incident, f.Field, f.Number, text(f.Text), text(f.Actor), unix(f.At), seqs[0])
		return err
	})
	return f, err
}

// IncidentFields returns the newest text of each field of an incident, by field.
func (s *Store) IncidentFields(ctx context.Context, incident string) ([]bulkhead.IncidentField, error) {
	rows, err := list(ctx, s.reader, scanField, `SELECT `+fieldFields+` FROM incident_fields f WHERE incident = $1 AND number =
		(SELECT MAX(number) FROM incident_fields g WHERE g.incident = f.incident AND g.field = f.field) ORDER BY field`, incident)
	return rows, s.fault("IncidentFields", err)
}

const stepFields = `incident, step, day, what, todo, until, actor, at, leaf_seq`

func scanStep(r scanner) (bulkhead.NoticeStep, error) {
	var n bulkhead.NoticeStep
	err := r.Scan(&n.Incident, &n.Step, &n.Day, &n.What, &n.Do, timeCol{&n.Until}, &n.Actor, timeCol{&n.At}, &n.LogIndex)
	n.LogIndex--
	return n, err
}

// PlanNotices keeps a step with the messages that belong to it, all or none. A step that is there is KindConflict: what
// people were told does not change afterwards.
func (s *Store) PlanNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice, ev bulkhead.Evidence) (bulkhead.NoticeStep, error) {
	row, err := tlog.Marshal(ev)
	if err != nil {
		return step, s.fault("PlanNotices", err)
	}
	err = s.write(ctx, "PlanNotices", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if _, err := t.incidentSeq(ctx, step.Incident); err != nil {
			return err
		}
		seqs, err := t.append(ctx, [][]byte{row})
		if err != nil {
			return err
		}
		step.LogIndex = seqs[0] - 1
		n, err := exec(ctx, t, `INSERT INTO notice_steps (`+stepFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			step.Incident, step.Step, step.Day, text(step.What), text(step.Do), unix(step.Until), text(step.Actor), unix(step.At), seqs[0])
		if err != nil {
			return err
		}
		if n == 0 {
			return conflict("step %s of incident %s exists", step.Step, step.Incident)
		}
		_, err = t.addNotices(ctx, step, messages)
		return err
	})
	return step, err
}

// NoticeSteps returns the steps of an incident, oldest first; those of every incident when it is "".
func (s *Store) NoticeSteps(ctx context.Context, incident string) ([]bulkhead.NoticeStep, error) {
	rows, err := list(ctx, s.reader, scanStep, `SELECT `+stepFields+` FROM notice_steps WHERE ($1 = '' OR incident = $1) ORDER BY at, leaf_seq LIMIT 10000`, incident)
	return rows, s.fault("NoticeSteps", err)
}

const noticeFields = `seq, incident, step, channel, recipient, account_id, partner, language, items, message_id, state, tries, moved_at, problem`

func scanNotice(r scanner) (bulkhead.IncidentNotice, error) {
	var n bulkhead.IncidentNotice
	err := r.Scan(&n.Seq, &n.Incident, &n.Step, &n.Channel, &n.Recipient, &n.Account, &n.Partner, &n.Language, &n.Items, &n.MessageID, &n.State, &n.Tries, timeCol{&n.MovedAt}, &n.Problem)
	return n, err
}

// IncidentNotices returns messages of a step after a sequence, in any of the states (all when none is given).
func (s *Store) IncidentNotices(ctx context.Context, incident, step string, after int64, limit int, states ...bulkhead.NoticeState) ([]bulkhead.IncidentNotice, error) {
	where, args := oneOf("state", 5, states)
	rows, err := list(ctx, s.reader, scanNotice, `SELECT `+noticeFields+` FROM incident_notices WHERE incident = $1 AND step = $2 AND seq > $3 AND `+where+` ORDER BY seq LIMIT $4`,
		append([]any{incident, step, after, atMost(limit)}, args...)...)
	return rows, s.fault("IncidentNotices", err)
}

// BadNotices returns messages that reached nobody, of every incident, after a sequence.
func (s *Store) BadNotices(ctx context.Context, after int64, limit int) ([]bulkhead.IncidentNotice, error) {
	rows, err := list(ctx, s.reader, scanNotice, `SELECT `+noticeFields+` FROM incident_notices WHERE state IN ('bounced', 'no-contact') AND seq > $1 ORDER BY seq LIMIT $2`, after, atMost(limit))
	return rows, s.fault("BadNotices", err)
}

// NoticeByMessage returns a message by its Message-ID; KindNotFound when there is none.
func (s *Store) NoticeByMessage(ctx context.Context, messageID string) (bulkhead.IncidentNotice, error) {
	n, err := one(ctx, s.reader, scanNotice, `SELECT `+noticeFields+` FROM incident_notices WHERE message_id = $1`, messageID)
	return n, s.fault("NoticeByMessage", absent(err, "message", messageID))
}

// MoveNotices moves messages that are still in the state expect, all or none; KindConflict when one is elsewhere.
func (s *Store) MoveNotices(ctx context.Context, messages []bulkhead.IncidentNotice, expect bulkhead.NoticeState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveNotices", ev, func(t *tx) error {
		for _, m := range messages {
			n, err := exec(ctx, t, `UPDATE incident_notices SET state = $3, tries = $4, moved_at = $5, problem = $6 WHERE seq = $1 AND state = $2`,
				m.Seq, string(expect), string(m.State), m.Tries, unix(m.MovedAt), text(m.Problem))
			if err != nil {
				return err
			}
			if n == 0 {
				return conflict("message %d is not %s any more", m.Seq, expect)
			}
		}
		return nil
	})
}

// CountNotices counts the messages of an incident by step, channel and state.
func (s *Store) CountNotices(ctx context.Context, incident string) ([]bulkhead.NoticeCount, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (c bulkhead.NoticeCount, err error) {
		return c, r.Scan(&c.Step, &c.Channel, &c.State, &c.N)
	}, `SELECT step, channel, state, COUNT(*) FROM incident_notices WHERE incident = $1 GROUP BY step, channel, state ORDER BY step, channel, state`, incident)
	return rows, s.fault("CountNotices", err)
}

// NoticeAccounts returns the accounts that have certificates in an incident after an account's id, with how many of them
// are issued and not revoked.
func (s *Store) NoticeAccounts(ctx context.Context, incident, after string, limit int) ([]bulkhead.NoticeAccount, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (a bulkhead.NoticeAccount, err error) {
		return a, r.Scan(&a.ID, &a.State, jsonCol{&a.Contacts}, &a.Operator, &a.Partner, &a.Items)
	}, `SELECT a.id, a.state, a.contacts, a.operator, a.partner, n.items FROM accounts a JOIN (SELECT i.account_id, COUNT(CASE WHEN c.state = 'issued' THEN 1 END) AS items
			FROM incident_items i JOIN certificates c ON c.intent_seq = i.intent_seq WHERE i.incident_seq = (SELECT seq FROM incidents WHERE id = $1) AND i.dropped = 0 AND i.account_id > $2
			GROUP BY i.account_id ORDER BY i.account_id LIMIT $3) n ON n.account_id = a.id ORDER BY a.id`, incident, after, atMost(limit))
	return rows, s.fault("NoticeAccounts", err)
}

// LiveLeaves counts subscribers' certificates that are neither revoked nor expired at now, by issuer.
func (s *Store) LiveLeaves(ctx context.Context, now time.Time) (map[bulkhead.AuthorityID]int64, error) {
	type row struct {
		issuer string
		n      int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (v row, err error) { return v, r.Scan(&v.issuer, &v.n) },
		`SELECT issuer, COUNT(*) FROM certificates WHERE state = 'issued' AND kind = 'leaf' AND not_after >= $1 GROUP BY issuer`, unix(now))
	out := map[bulkhead.AuthorityID]int64{}
	for _, r := range rows {
		out[bulkhead.AuthorityID(r.issuer)] = r.n
	}
	return out, s.fault("LiveLeaves", err)
}

// Reach counts the accounts that hold such certificates, and those of them with a mail contact from which nothing came back.
func (s *Store) Reach(ctx context.Context, now time.Time) (accounts, reachable int64, err error) {
	type pair struct{ all, good int64 }
	p, err := one(ctx, s.reader, func(r scanner) (v pair, err error) { return v, r.Scan(&v.all, &v.good) },
		`SELECT COUNT(*), COUNT(CASE WHEN a.contacts LIKE '%"mailto:%' AND NOT EXISTS (SELECT 1 FROM incident_notices n WHERE n.account_id = a.id AND n.state = 'bounced') THEN 1 END)
			FROM accounts a WHERE EXISTS (SELECT 1 FROM certificates c WHERE c.account_id = a.id AND c.state = 'issued' AND c.kind = 'leaf' AND c.not_after >= $1)`, unix(now))
	return p.all, p.good, s.fault("Reach", err)
}
