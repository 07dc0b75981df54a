package rel

import (
	"context"

	"bulkhead"
)

// HeldNoMore returns the items of a campaign that are on hold there and not in the incident.
func (s *Store) HeldNoMore(ctx context.Context, id string) ([]bulkhead.CampaignItem, error) {
	rows, err := list(ctx, s.reader, scanPlainItem, `SELECT `+itemFields+` FROM campaign_items i`+s.dialect.by("campaign_items_going")+` WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND i.state = 'held' AND `+going+`
		AND NOT EXISTS (SELECT 1 FROM incident_items h JOIN incidents n ON n.seq = h.incident_seq JOIN campaigns c ON c.incident = n.id
			WHERE c.id = $1 AND h.intent_seq = i.intent_seq AND h.held_at > 0) ORDER BY i.ordinal LIMIT 1000`, id)
	return rows, s.fault("HeldNoMore", err)
}

// AfterHold moves an item whose hold ended, with the dates that it has from now on, and adds the work that it takes, in one
// transaction. KindConflict when the item is elsewhere, or the campaign has another plan.
func (s *Store) AfterHold(ctx context.Context, c bulkhead.Campaign, m bulkhead.ItemMove, it bulkhead.CampaignItem, jobs []bulkhead.CampaignJob, ev bulkhead.Evidence) error {
	leaves, err := marshal([]bulkhead.Evidence{ev})
	if err != nil {
		return s.fault("AfterHold", err)
	}
	return s.write(ctx, "AfterHold", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		n, err := exec(ctx, t, `UPDATE campaign_items SET notify_at = $4, revoke_at = $5 WHERE intent_seq = $3 AND campaign_seq = (SELECT seq FROM campaigns WHERE id = $1 AND generation = $2)`,
			c.ID, c.Generation, m.IntentSeq, unix(it.NotifyAt), unix(it.RevokeAt))
		if err == nil && n == 0 {
			err = conflict("campaign %s has another plan by now", c.ID)
		}
		if err != nil {
			return err
		}
		seq, err := t.campaignSeq(ctx, c.ID)
		if err != nil {
			return err
		}
		seqs, err := t.append(ctx, leaves)
		if err != nil {
			return err
		}
		if err := t.moveItems(ctx, seq, []bulkhead.ItemMove{m}, seqs); err != nil {
			return err
		}
		return t.putJobs(ctx, seq, c.Generation, jobs)
	})
}

// ToldAlone returns the ordinals of those items of the plan in force that are told of by themselves, after a hold.
func (s *Store) ToldAlone(ctx context.Context, id string) (map[int64]bool, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (n int64, err error) { return n, r.Scan(&n) }, `SELECT j.first FROM campaign_jobs j
		JOIN campaigns c ON c.seq = j.campaign_seq AND c.generation = j.generation WHERE c.id = $1 AND j.kind = 'after-hold'`, id)
	out := make(map[int64]bool, len(rows))
	for _, n := range rows {
		out[n] = true
	}
	return out, s.fault("ToldAlone", err)
}
