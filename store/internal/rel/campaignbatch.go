package rel

import (
	"context"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// moveItem moves items by their rows. SQLite, which knows nothing of how many items a campaign has, has to be told by which
// index: for eight or more it reads the whole campaign otherwise.
func (d *Dialect) moveItem(in string) string {
	by := ""
	if d.IndexedBy {
		by = " INDEXED BY campaign_items_intent"
	}
	return `UPDATE campaign_items` + by + ` SET state = $3, detail = $4, moved_at = $5, path = path || CAST($11 AS text),
	replacement_issuer = CASE WHEN $3 = 'reopened' THEN '' WHEN $6 <> '' THEN $6 ELSE replacement_issuer END, replacement_serial = CASE WHEN $3 = 'reopened' THEN $10 WHEN $6 <> '' THEN $7 ELSE replacement_serial END,
	change_id = CASE WHEN $8 <> '' THEN $8 ELSE change_id END, vulnerable = CASE WHEN $9 > vulnerable THEN $9 ELSE vulnerable END
	WHERE campaign_seq = $1 AND state = $2 AND intent_seq IN ` + in
}

// moveItems moves items, those that take the same step together: one statement for hundreds.
func (t *tx) moveItems(ctx context.Context, seq int64, moves []bulkhead.ItemMove, seqs []int64) error {
	for len(moves) > 0 {
		same := moves[0]
		items := []int64{same.IntentSeq}
		for _, m := range moves[1:] {
			id := m.IntentSeq
			if m.IntentSeq = same.IntentSeq; m != same {
				break
			}
			items = append(items, id)
		}
		moves = moves[len(items):]
		if err := t.moveAlike(ctx, seq, same, items, seqs[same.Leaf]); err != nil {
			return err
		}
	}
	return nil
}

// moveAlike takes one step with many items; the step is kept once, and each item has its number.
func (t *tx) moveAlike(ctx context.Context, seq int64, m bulkhead.ItemMove, items []int64, leaf int64) error {
	var step int64
	if err := t.QueryRowContext(ctx, `INSERT INTO campaign_moves (campaign_seq, state, at, leaf_seq, detail) VALUES ($1, $2, $3, $4, $5) RETURNING seq`,
		seq, string(m.To), unix(m.At), leaf, text(m.Detail)).Scan(&step); err != nil {
		return err
	}
	self := func(n int64) any { return n }
	return inChunks(items, 12, self, func(part []int64, in string, args []any) error {
		n, err := exec(ctx, t, t.dialect.moveItem(in), append([]any{seq, string(m.From), string(m.To), text(m.Detail), unix(m.At), string(m.Replacement.Issuer), serialArg(m.Replacement.Serial), m.Change,
			unix(m.Vulnerable), []byte{}, "," + strconv.FormatInt(step, 10)}, args...)...)
		if err == nil && n != int64(len(part)) {
			err = conflict("%d of %d items of the campaign are no longer %s", int64(len(part))-n, len(part), m.From)
		}
		return err
	})
}

const campaignWork = `SELECT i.issuer, i.serial, i.intent_seq, i.state, i.revoke_at, i.not_after, COALESCE(x.state, ''), COALESCE(x.revoked_at, 0), COALESCE(x.reason, 0), COALESCE(h.held_at, 0)
		FROM campaign_items i LEFT JOIN certificates x ON x.intent_seq = i.intent_seq
		LEFT JOIN incident_items h ON h.incident_seq = (SELECT n.seq FROM incidents n JOIN campaigns c ON c.incident = n.id WHERE c.id = $1) AND h.intent_seq = i.intent_seq
		WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND i.ordinal BETWEEN $2 AND $3 ORDER BY i.ordinal`

// CampaignWork returns the items of a chunk, in the order of the plan, with what the record says at this moment of their
// certificates and of holds on them. One statement reads a hundred thousand.
func (s *Store) CampaignWork(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignWork, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (w bulkhead.CampaignWork, err error) {
		var held int64
		err = r.Scan(&w.Issuer, serialCol{&w.Serial}, &w.IntentSeq, &w.State, timeCol{&w.RevokeAt}, timeCol{&w.NotAfter}, &w.Recorded, timeCol{&w.RevokedAt}, &w.Reason, &held)
		w.Held = held > 0
		return w, err
	}, campaignWork, id, first, last)
	return rows, s.fault("CampaignWork", err)
}

// OwnProgress counts the house's own estate in a campaign, and how much of it is reissued or further.
func (s *Store) OwnProgress(ctx context.Context, id string) (total, replaced int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT COUNT(*), COUNT(CASE WHEN state IN ('reissued', 'installed', 'old-revoked', 'expired') THEN 1 END) FROM campaign_items
		WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND own = 1`, id).Scan(&total, &replaced)
	return total, replaced, s.fault("OwnProgress", err)
}

// EarlyItems returns items that were told of and have a replacement, in the order of the plan after an ordinal.
func (s *Store) EarlyItems(ctx context.Context, id string, after int64, limit int) ([]bulkhead.CampaignItem, error) {
	rows, err := list(ctx, s.reader, scanPlainItem, `SELECT `+itemFields+` FROM campaign_items i WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)
		AND i.state = 'notified' AND i.replacement_issuer <> '' AND i.ordinal > $2 ORDER BY i.ordinal LIMIT $3`, id, after, atMost(limit))
	return rows, s.fault("EarlyItems", err)
}

// nameRow is one account and name of a new certificate.
type nameRow struct {
	account, name string
	seq           int64
}

// Replacing returns, of new certificates, the IntentSeq of those that may replace an item of a campaign: by an account and
// a name that an older open item without a good replacement has.
func (s *Store) Replacing(ctx context.Context, id string, certs []bulkhead.Certificate) (map[int64]bool, error) {
	var rows []nameRow
	for _, c := range certs {
		for _, n := range c.Names {
			if c.AccountID != "" {
				rows = append(rows, nameRow{c.AccountID, n.Value, c.IntentSeq})
			}
		}
	}
	out := map[int64]bool{}
	for len(rows) > 0 {
		size := 1
		if len(rows) > 1 {
			size = 64 // with more, looking up the names of the parameters costs SQLite more than the query
		}
		part := rows[:min(size, len(rows))]
		rows = rows[len(part):]
		found, err := s.replacing(ctx, id, part, size)
		if err != nil {
			return nil, s.fault("Replacing", err)
		}
		for _, n := range found {
			out[n] = true
		}
	}
	return out, nil
}

func (s *Store) replacing(ctx context.Context, id string, part []nameRow, size int) ([]int64, error) {
	var b strings.Builder
	args := []any{id}
	for i := range size {
		r := part[min(i, len(part)-1)]
		n := len(args)
		args = append(args, r.account, r.name, r.seq)
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(CAST($" + strconv.Itoa(n+1) + " AS text), CAST($" + strconv.Itoa(n+2) + " AS text), CAST($" + strconv.Itoa(n+3) + " AS bigint))")
	}
	return list(ctx, s.reader, func(r scanner) (n int64, err error) { return n, r.Scan(&n) },
		`WITH v (account, name, seq) AS (VALUES `+b.String()+`) SELECT v.seq FROM v WHERE EXISTS (SELECT 1 FROM campaign_items i WHERE i.account_id = v.account AND i.name = v.name
			AND i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND i.intent_seq < v.seq AND i.state NOT IN ('old-revoked', 'expired') AND (i.replacement_issuer = '' OR i.state = 'reopened'))`, args...)
}

const planFields = `c.intent_seq, c.issuer, c.serial, c.kind, c.profile, c.names, c.key_hash, c.account_id, c.order_id, c.not_before, c.not_after, c.reserved_at, c.replaced_by_issuer, c.replaced_by_serial, i.held_why`

func scanPlanItem(r scanner) (bulkhead.IncidentItem, error) {
	var i bulkhead.IncidentItem
	c := &i.Certificate
	c.State = bulkhead.Issued
	err := r.Scan(&c.IntentSeq, &c.Issuer, serialCol{&c.Serial}, &c.Kind, &c.Profile, jsonCol{&c.Names}, hashCol{&c.KeyHash}, &c.AccountID, &c.OrderID, timeCol{&c.NotBefore}, timeCol{&c.NotAfter},
		timeCol{&c.ReservedAt}, &c.ReplacedBy.Issuer, serialCol{&c.ReplacedBy.Serial}, &i.HeldWhy)
	return i, err
}

// ItemsToPlan is IncidentItems for a plan: those that are issued and have not ended at now, with as much of their
// certificates as a plan asks for. It reads millions.
func (s *Store) ItemsToPlan(ctx context.Context, id string, now time.Time, after int64, limit int) ([]bulkhead.IncidentItem, error) {
	rows, err := list(ctx, s.reader, scanPlanItem, `SELECT `+planFields+` FROM incident_items i JOIN certificates c ON c.intent_seq = i.intent_seq
		WHERE i.incident_seq = (SELECT seq FROM incidents WHERE id = $1) AND i.dropped = 0 AND i.intent_seq > $2 AND c.state = 'issued' AND c.not_after >= $3 ORDER BY i.intent_seq LIMIT $4`,
		id, after, unix(now), atMost(limit))
	return rows, s.fault("ItemsToPlan", err)
}
