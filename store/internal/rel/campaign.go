package rel

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

const campaignFields = `id, incident, state, generation, plan_hash, parent_hash, plan, needs, tickets, reason, items, deadline, force_at, approval, actor, created_at, started_at, closed_at, cursor`

func scanCampaign(r scanner) (bulkhead.Campaign, error) {
	var c bulkhead.Campaign
	var tickets int64
	err := r.Scan(&c.ID, &c.Incident, &c.State, &c.Generation, hashCol{&c.PlanHash}, hashCol{&c.ParentHash}, bytesCol{&c.Plan}, jsonCol{&c.Needs}, &tickets, &c.Reason, &c.Items,
		timeCol{&c.Deadline}, timeCol{&c.ForceAt}, &c.Approval, &c.Actor, timeCol{&c.CreatedAt}, timeCol{&c.StartedAt}, timeCol{&c.ClosedAt}, &c.Cursor)
	c.Tickets = tickets != 0
	return c, err
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (t *tx) campaignSeq(ctx context.Context, id string) (seq int64, err error) {
	err = t.QueryRowContext(ctx, `SELECT seq FROM campaigns WHERE id = $1`, id).Scan(&seq)
	return seq, absent(err, "campaign", id)
}

// PlanCampaign stores a plan with its items and jobs. expect is the generation that it follows: 0 makes the campaign,
// KindConflict when another plan came first or the incident has an open campaign. A later plan keeps how far its items
// have come and drops those that it does not name, unless they are done.
func (s *Store) PlanCampaign(ctx context.Context, c bulkhead.Campaign, expect int64, items iter.Seq[bulkhead.CampaignItem], jobs []bulkhead.CampaignJob, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PlanCampaign", ev, func(t *tx) error {
		var err error
		if expect == 0 {
			err = t.insertCampaign(ctx, c)
		} else {
			err = t.followCampaign(ctx, c, expect)
		}
		if err != nil {
			return err
		}
		seq, err := t.campaignSeq(ctx, c.ID)
		if err != nil {
			return err
		}
		if err := t.putItems(ctx, seq, items); err != nil {
			return err
		}
		if _, err := exec(ctx, t, `DELETE FROM campaign_items WHERE campaign_seq = $1 AND ordinal < 0 AND state NOT IN ('old-revoked', 'expired')`, seq); err != nil {
			return err
		}
		return t.putJobs(ctx, seq, c.Generation, jobs)
	})
}

func (t *tx) insertCampaign(ctx context.Context, c bulkhead.Campaign) error {
	n, err := exec(ctx, t, `INSERT INTO campaigns (`+campaignFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) ON CONFLICT DO NOTHING`,
		c.ID, c.Incident, string(c.State), c.Generation, hashArg(c.PlanHash), hashArg(c.ParentHash), blob(c.Plan), jsonArg(c.Needs), flag(c.Tickets), int64(c.Reason), c.Items,
		unix(c.Deadline), unix(c.ForceAt), c.Approval, text(c.Actor), unix(c.CreatedAt), unix(c.StartedAt), unix(c.ClosedAt), c.Cursor)
	if err == nil && n == 0 {
		return conflict("incident %s has an open campaign already", c.Incident)
	}
	return err
}

func (t *tx) followCampaign(ctx context.Context, c bulkhead.Campaign, expect int64) error {
	n, err := exec(ctx, t, `UPDATE campaigns SET state = $3, generation = $4, plan_hash = $5, parent_hash = $6, plan = $7, needs = $8, tickets = $9, reason = $10, items = $11,
		deadline = $12, force_at = $13, approval = $14 WHERE id = $1 AND generation = $2 AND state <> 'closed'`, c.ID, expect, string(c.State), c.Generation, hashArg(c.PlanHash), hashArg(c.ParentHash),
		blob(c.Plan), jsonArg(c.Needs), flag(c.Tickets), int64(c.Reason), c.Items, unix(c.Deadline), unix(c.ForceAt), c.Approval)
	if err != nil {
		return err
	}
	if n == 0 {
		return conflict("campaign %s has another plan by now, or is closed", c.ID)
	}
	// Positions are given anew; what keeps a negative one is not in the new plan.
	_, err = exec(ctx, t, `UPDATE campaign_items SET ordinal = -intent_seq WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)`, c.ID)
	return err
}

// itemRows is how many items one statement inserts: SQLite keeps, for each statement of several rows, a copy of every page that
// it writes, so that it could be undone alone.
const (
	itemRows        = 128
	itemColumnCount = 26
)

var putItem = func() statement {
	s := insert("campaign_items", "campaign_seq bigint", "intent_seq bigint", "ordinal bigint", "issuer text", "serial bytea", "wave bigint", "state text", "product text", "account_id text",
		"order_id text", "name text", "key_hash bytea", "own bigint", "critical bigint", "notify_at bigint", "window_start bigint", "window_end bigint", "revoke_at bigint", "deadline bigint",
		"not_after bigint", "replacement_issuer text", "replacement_serial bytea", "vulnerable bigint", "change_id text", "detail text", "moved_at bigint")
	const keep = ` ON CONFLICT (campaign_seq, intent_seq) DO UPDATE SET ordinal = excluded.ordinal, wave = excluded.wave, own = excluded.own, critical = excluded.critical,
		notify_at = excluded.notify_at, window_start = excluded.window_start, window_end = excluded.window_end, revoke_at = excluded.revoke_at, deadline = excluded.deadline`
	// "WHERE TRUE" keeps the parser from taking ON for a join.
	group := strings.Replace(s.group, namelessRows(groupRows, itemColumnCount), namelessRows(itemRows, itemColumnCount), 1)
	return statement{each: s.each + keep, many: s.many + " WHERE TRUE" + keep, group: group + keep, rows: itemRows}
}()

// itemColumns holds rows for putItem, column by column.
type itemColumns struct {
	issuer, state, product, account, order, name, newIssuer, change, detail                                                       column[string]
	serial, key, newSerial                                                                                                        column[[]byte]
	campaign, intent, ordinal, wave, own, critical, notify, windowStart, windowEnd, revoke, deadline, notAfter, vulnerable, moved column[int64]
}

func (r *itemColumns) add(seq int64, it bulkhead.CampaignItem) {
	r.campaign, r.intent, r.ordinal = append(r.campaign, seq), append(r.intent, it.IntentSeq), append(r.ordinal, it.Ordinal)
	r.issuer, r.serial = append(r.issuer, string(it.Issuer)), append(r.serial, serialArg(it.Serial))
	r.wave, r.state, r.product = append(r.wave, int64(it.Wave)), append(r.state, string(it.State)), append(r.product, it.Product)
	r.account, r.order, r.name = append(r.account, it.AccountID), append(r.order, it.OrderID), append(r.name, text(it.Name))
	r.key, r.own, r.critical = append(r.key, hashArg(it.KeyHash)), append(r.own, flag(it.Own)), append(r.critical, flag(it.Critical))
	r.notify, r.windowStart, r.windowEnd = append(r.notify, unix(it.NotifyAt)), append(r.windowStart, unix(it.WindowStart)), append(r.windowEnd, unix(it.WindowEnd))
	r.revoke, r.deadline, r.notAfter = append(r.revoke, unix(it.RevokeAt)), append(r.deadline, unix(it.Deadline)), append(r.notAfter, unix(it.NotAfter))
	r.newIssuer, r.newSerial = append(r.newIssuer, string(it.Replacement.Issuer)), append(r.newSerial, serialArg(it.Replacement.Serial))
	r.vulnerable, r.change, r.detail, r.moved = append(r.vulnerable, unix(it.Vulnerable)), append(r.change, it.Change), append(r.detail, text(it.Detail)), append(r.moved, unix(it.MovedAt))
}

func (r *itemColumns) values() []values {
	return []values{r.campaign, r.intent, r.ordinal, r.issuer, r.serial, r.wave, r.state, r.product, r.account, r.order, r.name, r.key, r.own, r.critical, r.notify, r.windowStart, r.windowEnd,
		r.revoke, r.deadline, r.notAfter, r.newIssuer, r.newSerial, r.vulnerable, r.change, r.detail, r.moved}
}

func (t *tx) putItems(ctx context.Context, seq int64, items iter.Seq[bulkhead.CampaignItem]) error {
	var rows itemColumns
	for it := range items {
		rows.add(seq, it)
		if len(rows.intent) == itemChunk {
			if err := t.batch(ctx, putItem, rows.values()...); err != nil {
				return err
			}
			rows = itemColumns{}
		}
	}
	return t.batch(ctx, putItem, rows.values()...)
}

var insertJob = insert("campaign_jobs", "campaign_seq bigint", "generation bigint", "kind text", "first bigint", "last bigint", "due_at bigint", "done bigint", "holder text", "lease_until bigint",
	"change_id text", "tries bigint", "problem text")

func (t *tx) putJobs(ctx context.Context, seq, generation int64, jobs []bulkhead.CampaignJob) error {
	var campaign, generations, first, last, due, zero column[int64]
	var kind, empty column[string]
	for _, j := range jobs {
		campaign, generations, first, last = append(campaign, seq), append(generations, generation), append(first, j.First), append(last, j.Last)
		due, zero, kind, empty = append(due, unix(j.DueAt)), append(zero, 0), append(kind, string(j.Kind)), append(empty, "")
	}
	return t.batch(ctx, insertJob, campaign, generations, kind, first, last, due, zero, empty, zero, empty, zero, empty)
}

// Campaign returns one campaign; KindNotFound when there is none.
func (s *Store) Campaign(ctx context.Context, id string) (bulkhead.Campaign, error) {
	c, err := one(ctx, s.reader, scanCampaign, `SELECT `+campaignFields+` FROM campaigns WHERE id = $1`, id)
	return c, s.fault("Campaign", absent(err, "campaign", id))
}

// Campaigns returns campaigns in any of the states (all when none is given), newest first.
func (s *Store) Campaigns(ctx context.Context, limit int, states ...bulkhead.CampaignState) ([]bulkhead.Campaign, error) {
	where, args := oneOf("state", 2, states)
	rows, err := list(ctx, s.reader, scanCampaign, `SELECT `+campaignFields+` FROM campaigns WHERE `+where+` ORDER BY seq DESC LIMIT $1`, append([]any{atMost(limit)}, args...)...)
	return rows, s.fault("Campaigns", err)
}

// MoveCampaign stores state, approval, cursor and times if state and generation are as expected.
func (s *Store) MoveCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveCampaign", ev, func(t *tx) error { return t.moveCampaign(ctx, c, expect) })
}

func (t *tx) moveCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState) error {
	n, err := exec(ctx, t, `UPDATE campaigns SET state = $4, approval = $5, started_at = $6, closed_at = $7, cursor = $8 WHERE id = $1 AND state = $2 AND generation = $3`,
		c.ID, string(expect), c.Generation, string(c.State), c.Approval, unix(c.StartedAt), unix(c.ClosedAt), c.Cursor)
	if err == nil && n == 0 {
		if _, err := t.campaignSeq(ctx, c.ID); err != nil {
			return err
		}
		return conflict("campaign %s is no longer %s, or has another plan by now", c.ID, expect)
	}
	return err
}

// StartCampaign is MoveCampaign, and blocks every key of the campaign, and keeps that it does, in the same transaction, with the leaf made of how
// many were blocked anew and the digest over all of them, when leaf is not nil.
func (s *Store) StartCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState, leaf func(fresh int64, keys bulkhead.Hash) bulkhead.Evidence, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "StartCampaign", ev, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil { // Reserve decides under it that a key is not blocked
			return err
		}
		if err := t.moveCampaign(ctx, c, expect); err != nil || leaf == nil {
			return err
		}
		h := sha256.New()
		keys, err := list(ctx, t, scanHash,
			`SELECT DISTINCT key_hash FROM campaign_items WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND length(key_hash) = 32 ORDER BY key_hash`, c.ID)
		if err != nil {
			return err
		}
		for _, k := range keys {
			h.Write(k[:])
		}
		if _, err := exec(ctx, t, `INSERT INTO campaign_keys (key_hash, campaign_seq) SELECT DISTINCT key_hash, campaign_seq FROM campaign_items
			WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND length(key_hash) = 32 ON CONFLICT DO NOTHING`, c.ID); err != nil {
			return err
		}
		n, err := exec(ctx, t, `INSERT INTO blocked_keys (key_hash, blocked_at, reason, actor) SELECT DISTINCT key_hash, CAST($2 AS bigint), $3, $4 FROM campaign_items
			WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND length(key_hash) = 32 ON CONFLICT DO NOTHING`, c.ID, unix(c.StartedAt), "key of campaign "+c.ID, text(c.Actor))
		if err != nil {
			return err
		}
		row, err := tlog.Marshal(leaf(n, bulkhead.Hash(h.Sum(nil))))
		if err != nil {
			return err
		}
		_, err = t.append(ctx, [][]byte{row})
		return err
	})
}

var itemFields = `i.issuer, i.serial, i.intent_seq, i.ordinal, i.wave, i.state, i.product, i.account_id, i.order_id, i.name, i.key_hash, i.own, i.critical, i.notify_at, i.window_start,
	i.window_end, i.revoke_at, i.deadline, i.not_after, i.replacement_issuer, i.replacement_serial, i.vulnerable, ` + ofStep("change_id") + `, ` + ofStep("detail") + `, i.moved_at`

// ofStep is what an item says, or, where it took its last step with many others, what the step says.
func ofStep(column string) string {
	return `CASE WHEN i.` + column + ` <> '' OR i.move_seq = 0 THEN i.` + column + ` ELSE (SELECT m.` + column + ` FROM campaign_moves m WHERE m.seq = i.move_seq) END`
}

func scanItem(r scanner, more ...any) (bulkhead.CampaignItem, error) {
	var i bulkhead.CampaignItem
	var own, critical int64
	err := r.Scan(append([]any{&i.Issuer, serialCol{&i.Serial}, &i.IntentSeq, &i.Ordinal, &i.Wave, &i.State, &i.Product, &i.AccountID, &i.OrderID, &i.Name, hashCol{&i.KeyHash}, &own, &critical,
		timeCol{&i.NotifyAt}, timeCol{&i.WindowStart}, timeCol{&i.WindowEnd}, timeCol{&i.RevokeAt}, timeCol{&i.Deadline}, timeCol{&i.NotAfter}, &i.Replacement.Issuer,
		serialCol{&i.Replacement.Serial}, timeCol{&i.Vulnerable}, &i.Change, &i.Detail, timeCol{&i.MovedAt}}, more...)...)
	i.Own, i.Critical = own != 0, critical != 0
	return i, err
}

func scanPlainItem(r scanner) (bulkhead.CampaignItem, error) { return scanItem(r) }

// CampaignItems returns items in the order of the plan, from f.First on.
func (s *Store) CampaignItems(ctx context.Context, id string, f bulkhead.CampaignItemFilter) ([]bulkhead.CampaignItem, error) {
	c := &conditions{where: []string{"i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)", "i.ordinal >= $2"}, args: []any{id, f.First}}
	by := s.dialect.itemsBy(f, c)
	either(c, "i.state", f.States, func(v bulkhead.ItemState) any { return string(v) })
	if f.AccountID != "" {
		c.add("i.account_id = ?", f.AccountID)
	}
	if f.Product != "" {
		c.add("i.product = ?", f.Product)
	}
	if f.OwnOnly {
		c.where = append(c.where, "i.own = 1")
	}
	if f.Last > 0 {
		c.add("i.ordinal <= ?", f.Last)
	}
	c.add("1 = 1 ORDER BY i.ordinal LIMIT ?", atMost(f.Limit))
	rows, err := list(ctx, s.reader, scanPlainItem, `SELECT `+itemFields+` FROM campaign_items i`+by+` WHERE `+strings.Join(c.where, " AND "), c.args...)
	return rows, s.fault("CampaignItems", err)
}

// itemsBy is the index by which items are found: those of an account, of the own estate, or under way; else in the order of
// the plan.
func (d *Dialect) itemsBy(f bulkhead.CampaignItemFilter, c *conditions) string {
	switch {
	case f.AccountID != "":
		return d.by("campaign_items_account")
	case f.OwnOnly:
		return d.by("campaign_items_own")
	case len(f.States) > 0 && !slices.ContainsFunc(f.States, func(v bulkhead.ItemState) bool { return v.Done() || v == bulkhead.ItemPlanned }):
		c.where = append(c.where, going)
		return d.by("campaign_items_going")
	}
	return ""
}

var membershipOf = `SELECT ` + itemFields + `, c.id FROM certificates x
		JOIN campaigns c ON c.started_at > 0 AND c.state <> 'closed' JOIN campaign_items i ON i.campaign_seq = c.seq AND i.intent_seq = x.intent_seq
		WHERE x.issuer = $1 AND x.serial = $2 ORDER BY c.seq DESC LIMIT 1`

// MembershipOf returns the item that a certificate is in a campaign that was started and is not closed, with the campaign;
// KindNotFound when there is none.
func (s *Store) MembershipOf(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Campaign, bulkhead.CampaignItem, error) {
	var id string
	item, err := one(ctx, s.reader, func(r scanner) (bulkhead.CampaignItem, error) { return scanItem(r, &id) }, membershipOf,
		string(ref.Issuer), serialArg(ref.Serial))
	if err != nil {
		return bulkhead.Campaign{}, item, s.fault("MembershipOf", absent(err, "campaign with", ref.String()))
	}
	c, err := s.Campaign(ctx, id)
	return c, item, err
}

// OpenItemsOf returns the items of a campaign by account and first name that are neither revoked nor expired.
func (s *Store) OpenItemsOf(ctx context.Context, id, account, name string) ([]bulkhead.CampaignItem, error) {
	rows, err := list(ctx, s.reader, scanPlainItem, `SELECT `+itemFields+` FROM campaign_items i WHERE i.account_id = $2 AND i.account_id <> '' AND i.name = $3
		AND i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND i.state NOT IN ('old-revoked', 'expired') ORDER BY i.intent_seq LIMIT 1000`, id, account, name)
	return rows, s.fault("OpenItemsOf", err)
}

// ItemSteps returns what an item went through, oldest first.
func (s *Store) ItemSteps(ctx context.Context, id string, intentSeq int64) ([]bulkhead.ItemStep, error) {
	scan := func(r scanner) (v bulkhead.ItemStep, err error) {
		err = r.Scan(&v.State, timeCol{&v.At}, &v.LogIndex, &v.Detail)
		v.LogIndex--
		return v, err
	}
	// Steps of earlier versions of this program stand one by one.
	steps, err := list(ctx, s.reader, scan, `SELECT state, at, leaf_seq, detail FROM campaign_steps WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND intent_seq = $2 ORDER BY number`, id, intentSeq)
	if err != nil {
		return nil, s.fault("ItemSteps", err)
	}
	paths, err := list(ctx, s.reader, func(r scanner) (v string, err error) { return v, r.Scan(&v) },
		`SELECT path FROM campaign_items WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND intent_seq = $2`, id, intentSeq)
	if err != nil || len(paths) == 0 || paths[0] == "" {
		return steps, s.fault("ItemSteps", err)
	}
	for move := range strings.SplitSeq(paths[0][1:], ",") {
		n, err := strconv.ParseInt(move, 10, 64)
		if err != nil {
			return nil, s.fault("ItemSteps", err)
		}
		v, err := one(ctx, s.reader, scan, `SELECT state, at, leaf_seq, detail FROM campaign_moves WHERE seq = $1`, n)
		if err != nil {
			return nil, s.fault("ItemSteps", err)
		}
		steps = append(steps, v)
	}
	return steps, nil
}

// MoveItems moves items and appends their evidence, in one transaction; every move names its piece by Leaf. Nothing moves
// and it fails with KindConflict when an item is not where the move says, or, for the work of a job, when the job is held
// by somebody else, is of an older plan, or the campaign is not running. The job is stored as it is given: done, or due
// again.
func (s *Store) MoveItems(ctx context.Context, id string, moves []bulkhead.ItemMove, job *bulkhead.CampaignJob, ev ...bulkhead.Evidence) error {
	for _, m := range moves {
		if m.Leaf < 0 || m.Leaf >= len(ev) {
			return bulkhead.NewFault(bulkhead.KindMalformed, "a move without evidence")
		}
		if m.First != 0 && (job == nil || m.First < job.First || m.Last < m.First || m.Last > job.Last) {
			return bulkhead.NewFault(bulkhead.KindMalformed, "a move of a stretch that is not in the job") // only the job says that the plan is still the same
		}
	}
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault("MoveItems", err)
	}
	return s.write(ctx, "MoveItems", nil, func(t *tx) error {
		if len(leaves) > 0 {
			if err := t.lockEvidence(ctx); err != nil {
				return err
			}
		}
		seq, err := t.campaignSeq(ctx, id)
		if err != nil {
			return err
		}
		if job != nil {
			if err := t.keepJob(ctx, *job); err != nil {
				return err
			}
		}
		seqs, err := t.append(ctx, leaves)
		if err != nil {
			return err
		}
		return t.moveItems(ctx, seq, moves, seqs)
	})
}

// NoteItem keeps what was seen of an item without moving it: detail, when it was seen with the fault, and a replacement that
// cannot count yet.
func (s *Store) NoteItem(ctx context.Context, id string, n bulkhead.ItemMove) error {
	return s.write(ctx, "NoteItem", nil, func(t *tx) error {
		_, err := exec(ctx, t, `UPDATE campaign_items SET detail = $3, vulnerable = CASE WHEN $4 > vulnerable THEN $4 ELSE vulnerable END,
			replacement_issuer = CASE WHEN $5 <> '' THEN $5 ELSE replacement_issuer END, replacement_serial = CASE WHEN $5 <> '' THEN $6 ELSE replacement_serial END
			WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) AND intent_seq = $2`, id, n.IntentSeq, text(n.Detail), unix(n.Vulnerable),
			string(n.Replacement.Issuer), serialArg(n.Replacement.Serial))
		return err
	})
}

const jobFields = `j.seq, c.id, j.generation, j.kind, j.first, j.last, j.due_at, j.done, j.holder, j.lease_until, j.change_id, j.tries, j.problem`

func scanJob(r scanner) (bulkhead.CampaignJob, error) {
	var j bulkhead.CampaignJob
	var done int64
	err := r.Scan(&j.ID, &j.Campaign, &j.Generation, &j.Kind, &j.First, &j.Last, timeCol{&j.DueAt}, &done, &j.Holder, timeCol{&j.LeaseUntil}, &j.Change, &j.Tries, &j.Problem)
	j.Done = done != 0
	return j, err
}

// nextJob is the first due job of all running campaigns, of each of which the first is found by an index.
const nextJob = `SELECT ` + jobFields + ` FROM campaigns c JOIN campaign_jobs j ON j.seq = (SELECT x.seq FROM campaign_jobs x WHERE x.campaign_seq = c.seq AND x.generation = c.generation
			AND x.done = 0 AND x.due_at <= $1 AND x.lease_until <= $1 ORDER BY x.due_at, x.seq LIMIT 1) WHERE c.state = 'running' ORDER BY j.due_at, j.seq LIMIT 1`

// ClaimJob gives the first due job of a running campaign to holder until lease, when nobody holds it at now; false when
// there is none. One claim stands.
func (s *Store) ClaimJob(ctx context.Context, holder string, now, lease time.Time) (bulkhead.CampaignJob, bool, error) {
	var j bulkhead.CampaignJob
	err := s.write(ctx, "ClaimJob", nil, func(t *tx) error {
		var err error
		if j, err = one(ctx, t, scanJob, nextJob, unix(now)); err != nil {
			return err
		}
		n, err := exec(ctx, t, `UPDATE campaign_jobs SET holder = $2, lease_until = $3, tries = tries + 1 WHERE seq = $1 AND done = 0 AND lease_until <= $4`, j.ID, holder, unix(lease), unix(now))
		if err == nil && n == 0 {
			err = sql.ErrNoRows // somebody else was first
		}
		j.Holder, j.LeaseUntil, j.Tries = holder, lease, j.Tries+1
		return err
	})
	if errors.Is(err, sql.ErrNoRows) || bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return bulkhead.CampaignJob{}, false, nil
	}
	return j, err == nil, err
}

// KeepJob stores change, due time, lease, problem and end of a job that holder still holds, of the plan in force of a
// running campaign; KindConflict otherwise.
func (s *Store) KeepJob(ctx context.Context, j bulkhead.CampaignJob) error {
	return s.write(ctx, "KeepJob", nil, func(t *tx) error { return t.keepJob(ctx, j) })
}

func (t *tx) keepJob(ctx context.Context, j bulkhead.CampaignJob) error {
	n, err := exec(ctx, t, `UPDATE campaign_jobs SET change_id = $3, due_at = $4, lease_until = $5, problem = $6, done = $7 WHERE seq = $1 AND holder = $2 AND done = 0
		AND EXISTS (SELECT 1 FROM campaigns c WHERE c.seq = campaign_jobs.campaign_seq AND c.generation = campaign_jobs.generation AND c.state = 'running')`,
		j.ID, j.Holder, j.Change, unix(j.DueAt), unix(j.LeaseUntil), text(j.Problem), flag(j.Done))
	if err == nil && n == 0 {
		return conflict("campaign %s has another plan by now, is paused, or somebody else took over its work", j.Campaign)
	}
	return err
}

// HoldJob makes the lease of a job that its holder still holds longer; a job that is done, or somebody else's, stays as it is.
func (s *Store) HoldJob(ctx context.Context, j bulkhead.CampaignJob) error {
	return s.write(ctx, "HoldJob", nil, func(t *tx) error {
		_, err := exec(ctx, t, `UPDATE campaign_jobs SET lease_until = $3 WHERE seq = $1 AND holder = $2 AND done = 0 AND lease_until < $3`, j.ID, j.Holder, unix(j.LeaseUntil))
		return err
	})
}

// CampaignJobs returns the jobs of the plan in force, those that are not done first, by due time.
func (s *Store) CampaignJobs(ctx context.Context, id string, limit int) ([]bulkhead.CampaignJob, error) {
	rows, err := list(ctx, s.reader, scanJob, `SELECT `+jobFields+` FROM campaign_jobs j JOIN campaigns c ON c.seq = j.campaign_seq AND c.generation = j.generation
		WHERE c.id = $1 ORDER BY j.done, j.due_at, j.seq LIMIT $2`, id, atMost(limit))
	return rows, s.fault("CampaignJobs", err)
}
