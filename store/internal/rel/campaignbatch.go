package rel

import (
	"context"
	"iter"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// moveItem moves items by their rows. SQLite, which knows nothing of how many items a campaign has, has to be told by which
// index: for eight or more it reads the whole campaign otherwise.
func (d *Dialect) moveItem(in string) string {
	return `UPDATE campaign_items` + d.by("campaign_items_intent") + takeStep + `intent_seq IN ` + in
}

// takeStep is what a step does to an item.
const takeStep = ` SET state = $3, detail = $4, moved_at = $5, move_seq = $12, path = path || CAST($11 AS text),
	replacement_issuer = CASE WHEN $3 = 'reopened' THEN '' WHEN $6 <> '' THEN $6 ELSE replacement_issuer END, replacement_serial = CASE WHEN $3 = 'reopened' THEN $10 WHEN $6 <> '' THEN $7 ELSE replacement_serial END,
	change_id = CASE WHEN $8 <> '' THEN $8 ELSE change_id END, vulnerable = CASE WHEN $9 > vulnerable THEN $9 ELSE vulnerable END
	WHERE campaign_seq = $1 AND state = $2 AND `

// moveStretch moves a stretch of the plan: one statement, in the order in which items lie. They do not repeat what the step
// says: rows that keep their size keep their page.
const moveStretch = `UPDATE campaign_items` + takeStep + `ordinal BETWEEN $13 AND $14`

// by names the index that a statement has to use, where the engine has no statistics to choose it by: SQLite reads a campaign
// through rather than look up what an account has in it.
func (d *Dialect) by(index string) string {
	if !d.IndexedBy {
		return ""
	}
	return " INDEXED BY " + index
}

// going are the states that campaign_items_going knows; a statement says it in these words to be given that index.
const going = `i.state <> 'planned' AND i.state <> 'old-revoked' AND i.state <> 'expired'`

// alike reports whether two moves are the same step, by whatever items.
func alike(a, b bulkhead.ItemMove) bool {
	b.IntentSeq, b.First, b.Last = a.IntentSeq, a.First, a.Last
	return a == b
}

// moveItems moves items, those that take the same step together: one statement for hundreds, or for a stretch of the plan.
func (t *tx) moveItems(ctx context.Context, seq int64, moves []bulkhead.ItemMove, seqs []int64) error {
	for len(moves) > 0 {
		n := 1
		for n < len(moves) && alike(moves[n], moves[0]) {
			n++
		}
		if err := t.moveAlike(ctx, seq, moves[:n], seqs[moves[0].Leaf]); err != nil {
			return err
		}
		moves = moves[n:]
	}
	return nil
}

// moveAlike takes one step with many items; the step is kept once, and each item has its number.
func (t *tx) moveAlike(ctx context.Context, seq int64, moves []bulkhead.ItemMove, leaf int64) error {
	m := moves[0]
	var step int64
	if err := t.QueryRowContext(ctx, `INSERT INTO campaign_moves (campaign_seq, state, at, leaf_seq, detail, change_id) VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq`,
		seq, string(m.To), unix(m.At), leaf, text(m.Detail), m.Change).Scan(&step); err != nil {
		return err
	}
	run := func(query, detail, change string, want int64, which ...any) error {
		n, err := exec(ctx, t, query, append([]any{seq, string(m.From), string(m.To), detail, unix(m.At), string(m.Replacement.Issuer), serialArg(m.Replacement.Serial), change,
			unix(m.Vulnerable), []byte{}, "," + strconv.FormatInt(step, 10), step}, which...)...)
		if err == nil && n != want {
			err = conflict("%d of %d items of the campaign are no longer %s", want-n, want, m.From)
		}
		return err
	}
	var items []int64
	for _, m := range moves {
		if m.First == 0 {
			items = append(items, m.IntentSeq)
		} else if err := run(moveStretch, "", "", m.Last-m.First+1, m.First, m.Last); err != nil { // ordinals are unique: so many rows are exactly these items
			return err
		}
	}
	return inChunks(items, 13, func(n int64) any { return n }, func(part []int64, in string, args []any) error {
		return run(t.dialect.moveItem(in), text(m.Detail), m.Change, int64(len(part)), args...)
	})
}

// campaignWork looks for holds among those that there are, which are few, and not item by item.
const campaignWork = `SELECT i.issuer, i.serial, i.intent_seq, i.ordinal, i.state, i.revoke_at, i.not_after, COALESCE(x.state, ''), COALESCE(x.kind, ''), COALESCE(x.not_before, 0), COALESCE(x.revoked_at, 0),
		COALESCE(x.reason, 0), CASE WHEN i.intent_seq IN (SELECT h.intent_seq FROM incident_items h WHERE h.held_at > 0
			AND h.incident_seq = (SELECT n.seq FROM incidents n JOIN campaigns c ON c.incident = n.id WHERE c.id = $1)) THEN 1 ELSE 0 END
		FROM campaign_items i LEFT JOIN certificates x ON x.intent_seq = i.intent_seq
		WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND i.ordinal BETWEEN $2 AND $3 ORDER BY i.ordinal`

// CampaignWork returns the items of a chunk, in the order of the plan, with what the record says at this moment of their
// certificates and of holds on them. One statement reads a hundred thousand.
func (s *Store) CampaignWork(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignWork, error) {
	var w bulkhead.CampaignWork // one for all rows: words are copied when they change
	var held int64
	into := []any{wordCol[bulkhead.AuthorityID]{&w.Issuer}, serialCol{&w.Serial}, intCol[int64]{&w.IntentSeq}, intCol[int64]{&w.Ordinal}, wordCol[bulkhead.ItemState]{&w.State}, timeCol{&w.RevokeAt},
		timeCol{&w.NotAfter}, wordCol[bulkhead.CertificateState]{&w.Recorded}, wordCol[bulkhead.CertificateKind]{&w.Kind}, timeCol{&w.NotBefore}, timeCol{&w.RevokedAt}, intCol[bulkhead.Reason]{&w.Reason}, intCol[int64]{&held}}
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.CampaignWork, error) {
		err := r.Scan(into...)
		w.Held = held > 0
		return w, err
	}, campaignWork, id, first, last)
	return rows, s.fault("CampaignWork", err)
}

const itemsToTell = `SELECT i.issuer, i.serial, i.intent_seq, i.ordinal, i.wave, i.state, i.account_id, i.own, i.notify_at FROM campaign_items i
		WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND i.ordinal BETWEEN $2 AND $3 ORDER BY i.ordinal`

// ItemsToTell returns the items of a chunk by ordinals, both included, in the order of the plan, with as much as telling their
// holders asks of them: their places, waves and states, whose they are, and when to tell.
func (s *Store) ItemsToTell(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignItem, error) {
	var i bulkhead.CampaignItem
	var own int64
	into := []any{wordCol[bulkhead.AuthorityID]{&i.Issuer}, serialCol{&i.Serial}, intCol[int64]{&i.IntentSeq}, intCol[int64]{&i.Ordinal}, intCol[int]{&i.Wave}, wordCol[bulkhead.ItemState]{&i.State},
		wordCol[string]{&i.AccountID}, intCol[int64]{&own}, timeCol{&i.NotifyAt}}
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.CampaignItem, error) {
		err := r.Scan(into...)
		i.Own = own != 0
		return i, err
	}, itemsToTell, id, first, last)
	return rows, s.fault("ItemsToTell", err)
}

// OwnProgress counts the house's own estate in a campaign, and how much of it is reissued or further.
func (s *Store) OwnProgress(ctx context.Context, id string) (total, replaced int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT COUNT(*), COUNT(CASE WHEN state IN ('reissued', 'installed', 'old-revoked', 'expired') THEN 1 END) FROM campaign_items`+s.dialect.by("campaign_items_own")+`
		WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND own = 1`, id).Scan(&total, &replaced)
	return total, replaced, s.fault("OwnProgress", err)
}

// EarlyItems returns items that were told of and have a replacement, in the order of the plan after an ordinal.
func (s *Store) EarlyItems(ctx context.Context, id string, after int64, limit int) ([]bulkhead.CampaignItem, error) {
	rows, err := list(ctx, s.reader, scanPlainItem, `SELECT `+itemFields+` FROM campaign_items i`+s.dialect.by("campaign_items_early")+` WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)
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

// ItemsToPlan goes through the items of an incident that are issued and have not ended at now, by IntentSeq after one and up to
// another, with as much of their certificates as a plan asks for. It reads millions: an item is good until the next one.
func (s *Store) ItemsToPlan(ctx context.Context, id string, now time.Time, after, through int64) iter.Seq2[*bulkhead.IncidentItem, error] {
	return func(yield func(*bulkhead.IncidentItem, error) bool) {
		rows, err := s.reader.QueryContext(ctx, `SELECT `+planFields+` FROM incident_items i JOIN certificates c ON c.intent_seq = i.intent_seq
			WHERE i.incident_seq = (SELECT seq FROM incidents WHERE id = $1) AND i.dropped = 0 AND i.intent_seq > $2 AND i.intent_seq <= $3 AND c.state = 'issued' AND c.not_after >= $4
			ORDER BY i.intent_seq`, id, after, through, unix(now))
		if err != nil {
			yield(nil, s.fault("ItemsToPlan", err))
			return
		}
		defer rows.Close()
		var i bulkhead.IncidentItem
		c := &i.Certificate
		c.State = bulkhead.Issued
		into := []any{intCol[int64]{&c.IntentSeq}, wordCol[bulkhead.AuthorityID]{&c.Issuer}, serialCol{&c.Serial}, wordCol[bulkhead.CertificateKind]{&c.Kind}, wordCol[string]{&c.Profile}, namesCol{&c.Names},
			hashCol{&c.KeyHash}, wordCol[string]{&c.AccountID}, wordCol[string]{&c.OrderID}, timeCol{&c.NotBefore}, timeCol{&c.NotAfter}, timeCol{&c.ReservedAt},
			wordCol[bulkhead.AuthorityID]{&c.ReplacedBy.Issuer}, serialCol{&c.ReplacedBy.Serial}, wordCol[string]{&i.HeldWhy}}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				yield(nil, s.fault("ItemsToPlan", err))
				return
			}
			if !yield(&i, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, s.fault("ItemsToPlan", err))
		}
	}
}

// PlanSpan returns between which IntentSeq the items of an incident lie, both included; zeros when it has none.
func (s *Store) PlanSpan(ctx context.Context, id string) (first, last int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT COALESCE((SELECT MIN(intent_seq) FROM incident_items WHERE incident_seq = n.seq), 0), COALESCE((SELECT MAX(intent_seq) FROM incident_items WHERE incident_seq = n.seq), 0)
		FROM incidents n WHERE n.id = $1`, id).Scan(&first, &last)
	return first, last, s.fault("PlanSpan", absent(err, "incident", id))
}
