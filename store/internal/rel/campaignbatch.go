package rel

import (
	"context"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

const moveItem = `UPDATE campaign_items SET state = $3, detail = $4, moved_at = $5,
	replacement_issuer = CASE WHEN $3 = 'reopened' THEN '' WHEN $6 <> '' THEN $6 ELSE replacement_issuer END, replacement_serial = CASE WHEN $3 = 'reopened' THEN $10 WHEN $6 <> '' THEN $7 ELSE replacement_serial END,
	change_id = CASE WHEN $8 <> '' THEN $8 ELSE change_id END, vulnerable = CASE WHEN $9 > vulnerable THEN $9 ELSE vulnerable END
	WHERE campaign_seq = $1 AND state = $2 AND intent_seq IN `

const addStep = `INSERT INTO campaign_steps (campaign_seq, intent_seq, number, state, at, leaf_seq, detail)
	SELECT i.campaign_seq, i.intent_seq, (SELECT COUNT(*) + 1 FROM campaign_steps s WHERE s.campaign_seq = i.campaign_seq AND s.intent_seq = i.intent_seq),
		$2, CAST($3 AS bigint), CAST($4 AS bigint), $5 FROM campaign_items i WHERE i.campaign_seq = $1 AND i.intent_seq IN `

// moveItems moves items, those that take the same step together: two statements for hundreds.
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

// moveAlike takes one step with many items.
func (t *tx) moveAlike(ctx context.Context, seq int64, m bulkhead.ItemMove, items []int64, leaf int64) error {
	self := func(n int64) any { return n }
	err := inChunks(items, 11, self, func(part []int64, in string, args []any) error {
		n, err := exec(ctx, t, moveItem+in, append([]any{seq, string(m.From), string(m.To), text(m.Detail), unix(m.At), string(m.Replacement.Issuer), serialArg(m.Replacement.Serial), m.Change,
			unix(m.Vulnerable), []byte{}}, args...)...)
		if err == nil && n != int64(len(part)) {
			err = conflict("%d of %d items of the campaign are no longer %s", int64(len(part))-n, len(part), m.From)
		}
		return err
	})
	if err != nil {
		return err
	}
	return inChunks(items, 6, self, func(_ []int64, in string, args []any) error {
		_, err := exec(ctx, t, addStep+in, append([]any{seq, string(m.To), unix(m.At), leaf, text(m.Detail)}, args...)...)
		return err
	})
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
		size := inSizes[len(inSizes)-1]
		for _, n := range inSizes {
			if len(rows) <= n {
				size = n
				break
			}
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
