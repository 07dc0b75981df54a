package rel

import (
	"context"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// addNotices inserts messages of a step, those that are there already left as they are, and returns how many are new.
func (t *tx) addNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice) (fresh int64, err error) {
	for _, m := range messages {
		n, err := exec(ctx, t, `INSERT INTO incident_notices (incident, step, channel, recipient, account_id, partner, language, items, message_id, state, tries, moved_at, problem)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, '') ON CONFLICT DO NOTHING`, step.Incident, step.Step, string(m.Channel), text(m.Recipient), m.Account, m.Partner,
			m.Language, m.Items, m.MessageID, string(m.State), unix(m.MovedAt))
		if err != nil {
			return 0, err
		}
		fresh += n
	}
	return fresh, nil
}

// AddNotices keeps messages of a step, and the step with the first of them. What is there already stays as it is; without
// anything new, nothing is appended.
func (s *Store) AddNotices(ctx context.Context, step bulkhead.NoticeStep, messages []bulkhead.IncidentNotice, leaf func(fresh int64) bulkhead.Evidence) (fresh int64, err error) {
	err = s.write(ctx, "AddNotices", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if _, err := t.incidentSeq(ctx, step.Incident); err != nil {
			return err
		}
		var err error
		if fresh, err = t.addNotices(ctx, step, messages); err != nil || fresh == 0 {
			return err
		}
		row, err := tlog.Marshal(leaf(fresh))
		if err != nil {
			return err
		}
		seqs, err := t.append(ctx, [][]byte{row})
		if err != nil {
			return err
		}
		_, err = exec(ctx, t, `INSERT INTO notice_steps (`+stepFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			step.Incident, step.Step, step.Day, text(step.What), text(step.Do), unix(step.Until), text(step.Actor), unix(step.At), seqs[0])
		return err
	})
	return fresh, err
}

// NoticesTo returns the messages of a step to any of the accounts.
func (s *Store) NoticesTo(ctx context.Context, incident, step string, accounts []string) ([]bulkhead.IncidentNotice, error) {
	var out []bulkhead.IncidentNotice
	err := inChunks(accounts, 3, func(a string) any { return a }, func(_ []string, in string, args []any) error {
		rows, err := list(ctx, s.reader, scanNotice, `SELECT `+noticeFields+` FROM incident_notices WHERE incident = $1 AND step = $2 AND account_id IN `+in+` ORDER BY seq`,
			append([]any{incident, step}, args...)...)
		out = append(out, rows...)
		return err
	})
	return out, s.fault("NoticesTo", err)
}

// OpenNoticeSteps returns the steps that have messages on their way and whose names begin with prefix.
func (s *Store) OpenNoticeSteps(ctx context.Context, prefix string) ([]bulkhead.NoticeStep, error) {
	rows, err := list(ctx, s.reader, scanStep, `SELECT `+stepFields+` FROM notice_steps n WHERE substr(step, 1, $2) = $1 AND EXISTS
		(SELECT 1 FROM incident_notices m WHERE m.incident = n.incident AND m.step = n.step AND m.state IN ('planned', 'sending')) ORDER BY at, leaf_seq LIMIT 1000`, prefix, len(prefix))
	return rows, s.fault("OpenNoticeSteps", err)
}

// OpenItemCounts counts the items of a campaign that are neither revoked nor expired, for each of the accounts.
func (s *Store) OpenItemCounts(ctx context.Context, id string, accounts []string) (map[string]int64, error) {
	type row struct {
		account string
		n       int64
	}
	out := map[string]int64{}
	err := inChunks(accounts, 2, func(a string) any { return a }, func(_ []string, in string, args []any) error {
		rows, err := list(ctx, s.reader, func(r scanner) (v row, err error) { return v, r.Scan(&v.account, &v.n) }, `SELECT account_id, COUNT(*) FROM campaign_items`+s.dialect.by("campaign_items_account")+`
			WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND state NOT IN ('old-revoked', 'expired') AND account_id IN `+in+` GROUP BY account_id`, append([]any{id}, args...)...)
		for _, r := range rows {
			out[r.account] = r.n
		}
		return err
	})
	return out, s.fault("OpenItemCounts", err)
}

// NoteAccount keeps what was learnt of an account with all of its open items in a campaign, without moving them.
func (s *Store) NoteAccount(ctx context.Context, id, account, detail string, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "NoteAccount", ev, func(t *tx) error {
		_, err := exec(ctx, t, `UPDATE campaign_items`+t.dialect.by("campaign_items_account")+` SET detail = $3 WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND account_id = $2 AND state = 'notified'`, id, account, text(detail))
		return err
	})
}
