package rel

import (
	"context"
	"time"

	"bulkhead"
)

// TallyCampaign counts items by how far they have come; the states sum to Total.
func (s *Store) TallyCampaign(ctx context.Context, id string, now time.Time) (bulkhead.CampaignTally, error) {
	type row struct {
		state, product           string
		n, overdue, own, ownDone int64
		toldDue, told, doneDue   int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (v row, err error) {
		err = r.Scan(&v.state, &v.product, &v.n, &v.overdue, &v.own, &v.ownDone, &v.toldDue, &v.told, &v.doneDue)
		return v, err
	}, `SELECT state, product, COUNT(*), COUNT(CASE WHEN state NOT IN ('old-revoked', 'expired') AND deadline > 0 AND deadline < $2 THEN 1 END), COUNT(CASE WHEN own = 1 THEN 1 END),
			COUNT(CASE WHEN own = 1 AND state IN ('reissued', 'installed', 'old-revoked', 'expired') THEN 1 END),
			COUNT(CASE WHEN wave BETWEEN 2 AND 4 AND notify_at <= $2 THEN 1 END), COUNT(CASE WHEN wave BETWEEN 2 AND 4 AND state NOT IN ('planned', 'held') THEN 1 END), COUNT(CASE WHEN wave BETWEEN 2 AND 4 AND window_end > 0 AND window_end <= $2 THEN 1 END)
		FROM campaign_items WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1) GROUP BY state, product`, id, unix(now))
	t := bulkhead.CampaignTally{ByState: map[bulkhead.ItemState]int64{}, ByProduct: map[string]int64{}}
	for _, r := range rows {
		t.Total, t.Overdue, t.OwnTotal, t.OwnReplaced = t.Total+r.n, t.Overdue+r.overdue, t.OwnTotal+r.own, t.OwnReplaced+r.ownDone
		t.ByState[bulkhead.ItemState(r.state)] += r.n
		t.ToldDue, t.Told, t.DoneDue = t.ToldDue+r.toldDue, t.Told+r.told, t.DoneDue+r.doneDue
		t.ByProduct[r.product] += r.n
	}
	if err == nil {
		err = s.reader.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM campaign_attempts WHERE campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)),
			(SELECT COUNT(*) FROM tickets WHERE campaign = $1 AND campaign <> ''), (SELECT COUNT(*) FROM tickets WHERE campaign = $1 AND campaign <> '' AND redeemed_at > 0)`, id).Scan(&t.SameKeyAttempts, &t.Tickets, &t.TicketsUsed)
	}
	return t, s.fault("TallyCampaign", err)
}

const campaignsOfKey = `SELECT ` + campaignFields + ` FROM campaigns WHERE started_at > 0 AND state <> 'closed' AND seq IN (SELECT k.campaign_seq FROM campaign_keys k WHERE k.key_hash = $1) ORDER BY seq`

// CampaignsOfKey returns the campaigns, started and not closed, that refuse the key.
func (s *Store) CampaignsOfKey(ctx context.Context, key bulkhead.Hash) ([]bulkhead.Campaign, error) {
	rows, err := list(ctx, s.reader, scanCampaign, campaignsOfKey, hashArg(key))
	return rows, s.fault("CampaignsOfKey", err)
}

// AddAttempt keeps that a key of the campaign came back in a request.
func (s *Store) AddAttempt(ctx context.Context, a bulkhead.CampaignAttempt, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "AddAttempt", ev, func(t *tx) error {
		seq, err := t.campaignSeq(ctx, a.Campaign)
		if err != nil {
			return err
		}
		_, err = exec(ctx, t, `INSERT INTO campaign_attempts (campaign_seq, key_hash, account_id, order_id, at) VALUES ($1, $2, $3, $4, $5)`,
			seq, hashArg(a.KeyHash), a.AccountID, a.OrderID, unix(a.At))
		return err
	})
}

// IssuedAfter returns subscriber certificates whose outcome has an evidence sequence above seq, in that order, with as much
// as a search for replacements asks of them: name, row and end, profile, names, account and key, and what it says that it
// replaces. It reads millions.
func (s *Store) IssuedAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.Certificate, error) {
	c := bulkhead.Certificate{Kind: bulkhead.LeafCertificate, State: bulkhead.Issued} // one for all rows: words are copied when they change
	into := []any{intCol[int64]{&c.IntentSeq}, intCol[int64]{&c.OutcomeSeq}, wordCol[bulkhead.AuthorityID]{&c.Issuer}, serialCol{&c.Serial}, wordCol[string]{&c.Profile}, namesCol{&c.Names},
		hashCol{&c.KeyHash}, wordCol[string]{&c.AccountID}, timeCol{&c.NotAfter}, wordCol[bulkhead.AuthorityID]{&c.Replaces.Issuer}, serialCol{&c.Replaces.Serial}}
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.Certificate, error) {
		c.Names = nil // each has its own
		err := r.Scan(into...)
		return c, err
	}, `SELECT intent_seq, outcome_seq, issuer, serial, profile, names, key_hash, account_id, not_after, replaces_issuer, replaces_serial FROM certificates
		WHERE outcome_seq > 0 AND outcome_seq > $1 AND kind = 'leaf' AND state = 'issued' ORDER BY outcome_seq LIMIT $2`, seq, atMost(limit))
	return rows, s.fault("IssuedAfter", err)
}

// SameKeyReissues returns items of a campaign that have a good certificate with their own key which came after them: the
// replacement that replaced nothing. Those found already, and those with another replacement, are left out.
func (s *Store) SameKeyReissues(ctx context.Context, id string, limit int) ([]bulkhead.CampaignItem, error) {
	rows, err := list(ctx, s.reader, scanPlainItem, `SELECT `+itemFields+` FROM campaign_items i`+s.dialect.by("campaign_items_going")+` WHERE i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)
		AND i.state IN ('notified', 'patched') AND `+going+` AND i.replacement_issuer = '' AND i.detail NOT LIKE 'same key:%'
		AND EXISTS (SELECT 1 FROM certificates c WHERE c.key_hash = i.key_hash AND c.intent_seq > i.intent_seq AND c.kind = 'leaf' AND c.state = 'issued' AND c.account_id = i.account_id)
		ORDER BY i.ordinal LIMIT $2`, id, atMost(limit))
	return rows, s.fault("SameKeyReissues", err)
}

const knownKey = `SELECT k.key_hash FROM campaign_keys k WHERE k.key_hash = $2 AND k.campaign_seq = (SELECT seq FROM campaigns WHERE id = $1)`

// KnownKeys returns those of the hashes that a started campaign refuses.
func (s *Store) KnownKeys(ctx context.Context, id string, keys ...bulkhead.Hash) ([]bulkhead.Hash, error) {
	var out []bulkhead.Hash
	for _, k := range keys {
		rows, err := list(ctx, s.reader, scanHash, knownKey, id, hashArg(k))
		if err != nil {
			return nil, s.fault("KnownKeys", err)
		}
		out = append(out, rows...)
	}
	return out, nil
}

func scanHash(r scanner) (k bulkhead.Hash, err error) {
	err = r.Scan(hashCol{&k})
	return k, err
}

const changeOutside = `SELECT x.issuer, x.serial FROM change_items x WHERE x.change_seq = (SELECT seq FROM changes WHERE id = $1) AND NOT EXISTS
		(SELECT 1 FROM certificates y JOIN campaign_items i ON i.intent_seq = y.intent_seq AND i.campaign_seq = (SELECT seq FROM campaigns WHERE id = $2)
			WHERE y.issuer = x.issuer AND y.serial = x.serial) LIMIT 1`

// ChangeOutside returns a certificate that a change touches and a campaign does not have; false when there is none.
func (s *Store) ChangeOutside(ctx context.Context, change, campaign string) (bulkhead.CertificateRef, bool, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (ref bulkhead.CertificateRef, err error) {
		err = r.Scan(&ref.Issuer, serialCol{&ref.Serial})
		return ref, err
	}, changeOutside, change, campaign)
	if err != nil || len(rows) == 0 {
		return bulkhead.CertificateRef{}, false, s.fault("ChangeOutside", err)
	}
	return rows[0], true, nil
}

const windowOf = `SELECT i.state, i.window_start, i.window_end, i.revoke_at, i.replacement_issuer, c.deadline, c.started_at, x.state FROM certificates x
		JOIN campaigns c ON c.started_at > 0 AND c.state <> 'closed' JOIN campaign_items i ON i.campaign_seq = c.seq AND i.intent_seq = x.intent_seq
		WHERE x.issuer = $1 AND x.serial = $2 ORDER BY c.seq DESC LIMIT 1`

// WindowOf is MembershipOf with as much as renewal information asks for, in one reading: the item's state, window, date and
// replacement, the campaign's deadline and start, and whether the certificate is revoked. False when it is in no campaign that
// was started and is not closed.
func (s *Store) WindowOf(ctx context.Context, ref bulkhead.CertificateRef) (c bulkhead.Campaign, it bulkhead.CampaignItem, revoked, found bool, err error) {
	var state string
	rows, err := s.reader.QueryContext(ctx, windowOf, string(ref.Issuer), serialArg(ref.Serial))
	if err != nil {
		return c, it, false, false, s.fault("WindowOf", err)
	}
	defer rows.Close()
	if rows.Next() {
		found = true
		err = rows.Scan(&it.State, timeCol{&it.WindowStart}, timeCol{&it.WindowEnd}, timeCol{&it.RevokeAt}, &it.Replacement.Issuer, timeCol{&c.Deadline}, timeCol{&c.StartedAt}, &state)
	}
	if err == nil {
		err = rows.Err()
	}
	return c, it, state == string(bulkhead.Revoked), found, s.fault("WindowOf", err)
}
