package rel

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"bulkhead"
)

const partnerFields = `id, title, state, scope, created_at`

func scanPartner(r scanner) (bulkhead.Partner, error) {
	var p bulkhead.Partner
	err := r.Scan(&p.ID, &p.Title, &p.State, jsonCol{&p.Scope}, timeCol{&p.CreatedAt})
	return p, err
}

const personFields = `partner, name, token_hash, created_at, revoked_at`

func scanPerson(r scanner) (bulkhead.PartnerPerson, error) {
	var p bulkhead.PartnerPerson
	err := r.Scan(&p.Partner, &p.Name, hashCol{&p.TokenHash}, timeCol{&p.CreatedAt}, timeCol{&p.RevokedAt})
	return p, err
}

// CreatePartner inserts; KindConflict when the id exists.
func (s *Store) CreatePartner(ctx context.Context, p bulkhead.Partner, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "CreatePartner", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO partners (`+partnerFields+`) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			p.ID, text(p.Title), string(p.State), jsonArg(p.Scope), unix(p.CreatedAt))
		if err == nil && n == 0 {
			return conflict("partner %s exists", p.ID)
		}
		return err
	})
}

// UpdatePartner stores title, state and scope if the state is still expect, and the stops that come with it.
func (s *Store) UpdatePartner(ctx context.Context, p bulkhead.Partner, expect bulkhead.PartnerState, stops []bulkhead.Stop, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "UpdatePartner", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE partners SET title = $3, state = $4, scope = $5 WHERE id = $1 AND state = $2`, p.ID, string(expect),
			text(p.Title), string(p.State), jsonArg(p.Scope))
		if err := t.moved(ctx, n, err, "partners", "partner", p.ID, string(expect)); err != nil {
			return err
		}
		for _, x := range stops {
			if err := t.putStop(ctx, x); err != nil {
				return err
			}
		}
		return nil
	})
}

// Partner returns one; KindNotFound when there is none.
func (s *Store) Partner(ctx context.Context, id string) (bulkhead.Partner, error) {
	p, err := one(ctx, s.reader, scanPartner, `SELECT `+partnerFields+` FROM partners WHERE id = $1`, id)
	return p, s.fault("Partner", absent(err, "partner", id))
}

// Partners returns all, by id.
func (s *Store) Partners(ctx context.Context) ([]bulkhead.Partner, error) {
	rows, err := list(ctx, s.reader, scanPartner, `SELECT `+partnerFields+` FROM partners ORDER BY id`)
	return rows, s.fault("Partners", err)
}

// PutPerson inserts a person, or replaces the token of one; KindNotFound when there is no such partner.
func (s *Store) PutPerson(ctx context.Context, p bulkhead.PartnerPerson, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutPerson", ev, func(t *tx) error {
		if _, err := one(ctx, t, scanPartner, `SELECT `+partnerFields+` FROM partners WHERE id = $1`, p.Partner); err != nil {
			return absent(err, "partner", p.Partner)
		}
		_, err := exec(ctx, t, `INSERT INTO partner_people (`+personFields+`) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (partner, name) DO UPDATE SET token_hash = excluded.token_hash, created_at = excluded.created_at, revoked_at = excluded.revoked_at`,
			p.Partner, text(p.Name), hashArg(p.TokenHash), unix(p.CreatedAt), unix(p.RevokedAt))
		return err
	})
}

// People returns the people of a partner, by name.
func (s *Store) People(ctx context.Context, partner string) ([]bulkhead.PartnerPerson, error) {
	rows, err := list(ctx, s.reader, scanPerson, `SELECT `+personFields+` FROM partner_people WHERE partner = $1 ORDER BY name`, partner)
	return rows, s.fault("People", err)
}

// PersonByToken returns who holds a token that is good, with the partner; KindNotFound when nobody does.
func (s *Store) PersonByToken(ctx context.Context, tokenHash bulkhead.Hash) (bulkhead.PartnerPerson, bulkhead.Partner, error) {
	p, err := one(ctx, s.reader, scanPerson, `SELECT `+personFields+` FROM partner_people WHERE token_hash = $1 AND length(token_hash) > 0 AND revoked_at = 0`, hashArg(tokenHash))
	if err != nil {
		return p, bulkhead.Partner{}, s.fault("PersonByToken", absent(err, "person", "with this token"))
	}
	partner, err := s.Partner(ctx, p.Partner)
	return p, partner, err
}

// PartnerAccounts returns the accounts that a partner brought, newest first.
func (s *Store) PartnerAccounts(ctx context.Context, partner string, limit int) ([]bulkhead.Account, error) {
	rows, err := list(ctx, s.reader, scanAccount, `SELECT `+accountFields+` FROM accounts WHERE partner = $1 AND partner <> '' ORDER BY seq DESC LIMIT $2`, partner, atMost(limit))
	return rows, s.fault("PartnerAccounts", err)
}

// PartnerOrders returns the orders of a partner's accounts, newest first, before the cursor, which is a sequence number
// of this method; next is 0 after the last.
func (s *Store) PartnerOrders(ctx context.Context, partner string, before int64, limit int) (rows []bulkhead.Order, next int64, err error) {
	limit = atMost(limit)
	if before <= 0 {
		before = 1 << 62
	}
	type numbered struct {
		seq int64
		o   bulkhead.Order
	}
	got, err := list(ctx, s.reader, func(r scanner) (n numbered, err error) {
		n.o, err = scanOrderAnd(r, &n.seq)
		return n, err
	}, `SELECT `+orderFields+`, seq FROM orders WHERE account_id IN (SELECT id FROM accounts WHERE partner = $1 AND partner <> '')
		AND seq < $2 ORDER BY seq DESC LIMIT $3`, partner, before, limit+1)
	if err != nil {
		return nil, 0, s.fault("PartnerOrders", err)
	}
	for i, n := range got {
		if i == limit {
			next = got[i-1].seq
			break
		}
		rows = append(rows, n.o)
	}
	return rows, next, nil
}

// PartnerUse returns what a partner used in each hour since t, oldest first; hours without use are not there.
func (s *Store) PartnerUse(ctx context.Context, partner string, since time.Time) ([]bulkhead.PartnerUse, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (u bulkhead.PartnerUse, err error) {
		err = r.Scan(timeCol{&u.Hour}, &u.Used)
		return u, err
	}, `SELECT hour, used FROM partner_use WHERE partner = $1 AND hour >= $2 ORDER BY hour`, partner, unix(since.UTC().Truncate(time.Hour)))
	return rows, s.fault("PartnerUse", err)
}

// PartnerKnows reports whether the partner's accounts had a certificate reserved, before t, for the domain or a name
// below it.
func (s *Store) PartnerKnows(ctx context.Context, partner, domain string, t time.Time) (bool, error) {
	exact := reverse(domain)
	var n int
	err := s.reader.QueryRowContext(ctx, `SELECT 1 FROM certificates WHERE reserved_at < $2
		AND account_id IN (SELECT id FROM accounts WHERE partner = $1 AND partner <> '')
		AND intent_seq IN (SELECT intent_seq FROM certificate_names WHERE reversed = $3 OR (reversed >= $4 AND reversed < $5)) LIMIT 1`,
		partner, unix(t), exact, exact+".", exact+"/").Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return n == 1, s.fault("PartnerKnows", err)
}

// takeVolume counts reservations against their partners, in the order of the items, and marks those for which there is
// nothing left. The evidence head must be held.
func (t *tx) takeVolume(ctx context.Context, items []bulkhead.Reservation, errs []error) error {
	type slot struct {
		partner string
		hour    int64
	}
	hours, days, fresh := map[slot]int{}, map[slot]int{}, map[slot]int{}
	const day = 24 * 60 * 60
	for i, it := range items {
		if it.Volume == nil || errs[i] != nil {
			continue
		}
		v := *it.Volume
		hour := unix(v.At.UTC().Truncate(time.Hour))
		at, whole := slot{v.Partner, hour}, slot{v.Partner, hour - hour%day}
		if _, known := hours[at]; !known {
			var inHour, inDay int
			err := t.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN hour = $2 THEN used ELSE 0 END), 0), COALESCE(SUM(used), 0) FROM partner_use
				WHERE partner = $1 AND hour >= $3 AND hour < $4`, v.Partner, hour, whole.hour, whole.hour+day).Scan(&inHour, &inDay)
			if err != nil {
				return err
			}
			hours[at] = inHour
			if _, known := days[whole]; !known {
				days[whole] = inDay
			}
		}
		if hours[at] >= v.PerHour || days[whole] >= v.PerDay {
			errs[i] = bulkhead.Faultf(bulkhead.KindRateLimited, "registration partner %s has used up its volume: %d an hour, %d a day", v.Partner, v.PerHour, v.PerDay).
				WithHint("wait for the next hour, or ask for a higher limit: bulkhead partner limit").WithRetry(v.At.UTC().Truncate(time.Hour).Add(time.Hour).Sub(v.At))
			continue
		}
		hours[at]++
		days[whole]++
		fresh[at]++
	}
	for at, n := range fresh {
		if _, err := exec(ctx, t, `INSERT INTO partner_use (partner, hour, used) VALUES ($1, $2, $3)
			ON CONFLICT (partner, hour) DO UPDATE SET used = partner_use.used + excluded.used`, at.partner, at.hour, int64(n)); err != nil {
			return err
		}
	}
	return nil
}

// PutSecondApproval records who approved an order; the first word of a person stays.
func (s *Store) PutSecondApproval(ctx context.Context, a bulkhead.SecondApproval, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutSecondApproval", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO second_approvals (order_id, actor, at, signature) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, a.OrderID, text(a.Actor), unix(a.At), blob(a.Signature))
		if err == nil && n == 0 {
			return conflict("%s approved order %s before", a.Actor, a.OrderID)
		}
		return err
	})
}

// SecondApprovals returns who approved an order, oldest first.
func (s *Store) SecondApprovals(ctx context.Context, orderID string) ([]bulkhead.SecondApproval, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (a bulkhead.SecondApproval, err error) {
		err = r.Scan(&a.OrderID, &a.Actor, timeCol{&a.At}, bytesCol{&a.Signature})
		return a, err
	}, `SELECT order_id, actor, at, signature FROM second_approvals WHERE order_id = $1 ORDER BY at, actor`, orderID)
	return rows, s.fault("SecondApprovals", err)
}
