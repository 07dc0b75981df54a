package rel

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

const stopFields = `id, kind, value, reason, actor, at, ended_at, ended_by, ending`

func scanStop(r scanner) (bulkhead.Stop, error) {
	var s bulkhead.Stop
	err := r.Scan(&s.ID, &s.Kind, &s.Value, &s.Reason, &s.Actor, timeCol{&s.At}, timeCol{&s.EndedAt}, &s.EndedBy, &s.Ending)
	return s, err
}

// PutStop inserts a stop; KindConflict when the id exists.
func (s *Store) PutStop(ctx context.Context, x bulkhead.Stop, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutStop", ev, func(t *tx) error { return t.putStop(ctx, x) })
}

func (t *tx) putStop(ctx context.Context, x bulkhead.Stop) error {
	n, err := exec(ctx, t, `INSERT INTO stops (`+stopFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
		x.ID, string(x.Kind), text(x.Value), text(x.Reason), text(x.Actor), unix(x.At), unix(x.EndedAt), x.EndedBy, text(x.Ending))
	if err == nil && n == 0 {
		return conflict("stop %s exists", x.ID)
	}
	return err
}

// EndStop ends a stop that is in force; KindConflict when it was ended before, KindNotFound when there is none.
func (s *Store) EndStop(ctx context.Context, x bulkhead.Stop, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "EndStop", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE stops SET ended_at = $2, ended_by = $3, ending = $4 WHERE id = $1 AND ended_at = 0`,
			x.ID, unix(x.EndedAt), x.EndedBy, text(x.Ending))
		if err != nil || n > 0 {
			return err
		}
		var at int64
		err = t.QueryRowContext(ctx, `SELECT ended_at FROM stops WHERE id = $1`, x.ID).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("stop", x.ID)
		}
		if err != nil {
			return err
		}
		return conflict("stop %s was ended at %s", x.ID, time.Unix(at, 0).UTC().Format(time.RFC3339))
	})
}

// Stops returns the stops in force, oldest first.
func (s *Store) Stops(ctx context.Context) (bulkhead.Stops, error) {
	rows, err := remembered(s, ofStops, "stops", func() ([]bulkhead.Stop, error) {
		return list(s.brief(ctx), s.looks, scanStop, `SELECT `+stopFields+` FROM stops WHERE ended_at = 0 ORDER BY seq`)
	})
	return slices.Clone(rows), s.fault("Stops", err)
}

// Stop returns one stop; KindNotFound when there is none.
func (s *Store) Stop(ctx context.Context, id string) (bulkhead.Stop, error) {
	x, err := one(ctx, s.reader, scanStop, `SELECT `+stopFields+` FROM stops WHERE id = $1`, id)
	return x, s.fault("Stop", absent(err, "stop", id))
}

// StopHistory returns stops, in force or not, newest first.
func (s *Store) StopHistory(ctx context.Context, limit int) ([]bulkhead.Stop, error) {
	rows, err := list(ctx, s.reader, scanStop, `SELECT `+stopFields+` FROM stops ORDER BY seq DESC LIMIT $1`, atMost(limit))
	return rows, s.fault("StopHistory", err)
}

// StopsEndedSince returns stops that ended at t or later, in the order of their end.
func (s *Store) StopsEndedSince(ctx context.Context, t time.Time) ([]bulkhead.Stop, error) {
	rows, err := list(ctx, s.reader, scanStop, `SELECT `+stopFields+` FROM stops WHERE ended_at >= $1 AND ended_at > 0 ORDER BY ended_at, seq`, unix(t))
	return rows, s.fault("StopsEndedSince", err)
}

// Standing returns an account with its partner and the stops in force. An account that does not exist has no ID. On most
// days it is one statement: nothing is stopped.
func (s *Store) Standing(ctx context.Context, accountID string) (bulkhead.Standing, error) {
	st, err := remembered(s, ofAccounts|ofPartners|ofStops, "standing/"+accountID, func() (bulkhead.Standing, error) {
		st, err := s.readStanding(ctx, accountID)
		st.Account.Contacts = slices.Clip(st.Account.Contacts)
		return st, err
	})
	if st.Partner != nil {
		p := *st.Partner
		st.Partner = &p
	}
	st.Stops = slices.Clone(st.Stops)
	return st, err
}

func (s *Store) readStanding(ctx context.Context, accountID string) (bulkhead.Standing, error) {
	var out bulkhead.Standing
	var p struct {
		id, title, state sql.NullString
		scope            []byte
		created          sql.NullInt64
	}
	stopped := true
	a, err := one(s.brief(ctx), s.looks, func(r scanner) (bulkhead.Account, error) {
		return scanAccountAnd(r, &p.id, &p.title, &p.state, &p.scope, &p.created, &stopped)
	}, `SELECT `+standingFields+`, p.id, p.title, p.state, p.scope, p.created_at, EXISTS (SELECT 1 FROM stops WHERE ended_at = 0)
		FROM accounts a LEFT JOIN partners p ON p.id = a.partner AND a.partner <> '' WHERE a.id = $1`, accountID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return out, s.fault("Standing", err)
	case a.Partner != "" && !p.id.Valid:
		return out, s.fault("Standing", notFound("partner", a.Partner))
	case p.id.Valid:
		partner := bulkhead.Partner{ID: p.id.String, Title: p.title.String, State: bulkhead.PartnerState(p.state.String)}
		if err := (jsonCol{&partner.Scope}).Scan(p.scope); err != nil {
			return out, s.fault("Standing", err)
		}
		if err := (timeCol{&partner.CreatedAt}).Scan(p.created.Int64); err != nil {
			return out, s.fault("Standing", err)
		}
		out.Partner = &partner
	}
	if out.Account = a; stopped {
		out.Stops, err = s.Stops(ctx)
		return out, err
	}
	return out, nil
}

// standingFields are accountFields of the table a.
var standingFields = "a." + strings.ReplaceAll(accountFields, ", ", ", a.")

const compromiseFields = `key_hash, actor, reason, at, revoked, changes, settled_at`

func scanCompromise(r scanner) (bulkhead.Compromise, error) {
	var c bulkhead.Compromise
	err := r.Scan(hashCol{&c.KeyHash}, &c.Actor, &c.Reason, timeCol{&c.At}, &c.Revoked, jsonCol{&c.Changes}, timeCol{&c.SettledAt})
	return c, err
}

// PutCompromise blocks the key, unless it is blocked already, and opens the compromise, or opens it again. Reserve sees
// the block from this commit on.
func (s *Store) PutCompromise(ctx context.Context, c bulkhead.Compromise, ev ...bulkhead.Evidence) error {
	if c.KeyHash.IsZero() {
		return bulkhead.NewFault(bulkhead.KindMalformed, "a compromise needs the hash of a key")
	}
	return s.write(ctx, "PutCompromise", nil, func(t *tx) error {
		leaves, err := marshal(ev)
		if err != nil {
			return err
		}
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if _, err := exec(ctx, t, `INSERT INTO blocked_keys (key_hash, blocked_at, reason, actor) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			hashArg(c.KeyHash), unix(c.At), text(c.Reason), text(c.Actor)); err != nil {
			return err
		}
		if _, err := exec(ctx, t, `INSERT INTO compromises (`+compromiseFields+`) VALUES ($1, $2, $3, $4, 0, '[]', 0)
			ON CONFLICT (key_hash) DO UPDATE SET settled_at = 0`, hashArg(c.KeyHash), text(c.Actor), text(c.Reason), unix(c.At)); err != nil {
			return err
		}
		_, err = t.append(ctx, leaves)
		return err
	})
}

// UpdateCompromise stores progress: what was revoked, by which changes, and when it settled.
func (s *Store) UpdateCompromise(ctx context.Context, c bulkhead.Compromise, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "UpdateCompromise", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE compromises SET revoked = $2, changes = $3, settled_at = $4 WHERE key_hash = $1`,
			hashArg(c.KeyHash), int64(c.Revoked), jsonArg(c.Changes), unix(c.SettledAt))
		if err == nil && n == 0 {
			return notFound("compromise", c.KeyHash.String())
		}
		return err
	})
}

// Compromise returns one; KindNotFound when there is none for the key.
func (s *Store) Compromise(ctx context.Context, key bulkhead.Hash) (bulkhead.Compromise, error) {
	c, err := one(ctx, s.reader, scanCompromise, `SELECT `+compromiseFields+` FROM compromises WHERE key_hash = $1`, hashArg(key))
	return c, s.fault("Compromise", absent(err, "compromise", key.String()))
}

// Compromises returns them newest first.
func (s *Store) Compromises(ctx context.Context, limit int) ([]bulkhead.Compromise, error) {
	rows, err := list(ctx, s.reader, scanCompromise, `SELECT `+compromiseFields+` FROM compromises ORDER BY seq DESC LIMIT $1`, atMost(limit))
	return rows, s.fault("Compromises", err)
}

// UnsettledCompromises returns those that are open, and those that settled at t or later: a signature that was under way
// at the block may have become durable after it.
func (s *Store) UnsettledCompromises(ctx context.Context, t time.Time) ([]bulkhead.Compromise, error) {
	rows, err := list(ctx, s.reader, scanCompromise, `SELECT `+compromiseFields+` FROM compromises WHERE settled_at = 0 OR settled_at >= $1 ORDER BY seq`, unix(t))
	return rows, s.fault("UnsettledCompromises", err)
}

// KillTokens takes the tokens of up to limit accounts away, each with its evidence, and returns how many it took. The
// tokens are dead when it returns; whoever calls it until it returns 0 has killed all that existed at the last call.
func (s *Store) KillTokens(ctx context.Context, limit int, leaf func(bulkhead.Account) bulkhead.Evidence) (int, error) {
	return killed(ctx, s, "KillTokens", scanAccount, `SELECT `+accountFields+` FROM accounts WHERE length(token_hash) > 0 ORDER BY seq LIMIT $1`, limit,
		func(t *tx, a bulkhead.Account) (string, []any, bulkhead.Evidence) {
			return `UPDATE accounts SET token_hash = $2 WHERE id = $1`, []any{a.ID, []byte{}}, leaf(a)
		})
}

// KillExternalKeys is KillTokens for external account keys that could still make an account, those of one registration
// partner when partner is not "".
func (s *Store) KillExternalKeys(ctx context.Context, partner string, now time.Time, limit int, leaf func(bulkhead.ExternalKey) bulkhead.Evidence) (int, error) {
	return killed(ctx, s, "KillExternalKeys", scanExternal, `SELECT `+externalFields+` FROM external_keys WHERE revoked_at = 0 AND account_id = '' AND ($2 = '' OR partner = $2) ORDER BY seq LIMIT $1`, limit,
		func(t *tx, k bulkhead.ExternalKey) (string, []any, bulkhead.Evidence) {
			return `UPDATE external_keys SET revoked_at = $2 WHERE id = $1`, []any{k.ID, unix(now)}, leaf(k)
		}, partner)
}

// KillPeople is KillTokens for the people of registration partners, of one of them when partner is not "".
func (s *Store) KillPeople(ctx context.Context, partner string, now time.Time, limit int, leaf func(bulkhead.PartnerPerson) bulkhead.Evidence) (int, error) {
	return killed(ctx, s, "KillPeople", scanPerson, `SELECT `+personFields+` FROM partner_people WHERE revoked_at = 0 AND ($2 = '' OR partner = $2) ORDER BY partner, name LIMIT $1`, limit,
		func(t *tx, p bulkhead.PartnerPerson) (string, []any, bulkhead.Evidence) {
			return `UPDATE partner_people SET revoked_at = $3, token_hash = $4 WHERE partner = $1 AND name = $2`, []any{p.Partner, p.Name, unix(now), []byte{}}, leaf(p)
		}, partner)
}

// RollAccounts demands another key of up to limit ACME accounts in office of which none is demanded yet.
func (s *Store) RollAccounts(ctx context.Context, now time.Time, limit int, leaf func(bulkhead.Account) bulkhead.Evidence) (int, error) {
	return killed(ctx, s, "RollAccounts", scanAccount, `SELECT `+accountFields+` FROM accounts WHERE thumbprint <> '' AND state = 'valid' AND roll_due = 0 ORDER BY seq LIMIT $1`, limit,
		func(t *tx, a bulkhead.Account) (string, []any, bulkhead.Evidence) {
			return `UPDATE accounts SET roll_due = $2 WHERE id = $1`, []any{a.ID, unix(now)}, leaf(a)
		})
}

// killed reads rows and writes each with its leaf, in one transaction that holds the evidence head, so that no row
// moves in between.
func killed[T any](ctx context.Context, s *Store, op string, scan func(scanner) (T, error), query string, limit int,
	kill func(*tx, T) (string, []any, bulkhead.Evidence), more ...any) (n int, err error) {
	err = s.write(ctx, op, nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		rows, err := list(ctx, t, scan, query, append([]any{atMost(limit)}, more...)...)
		if err != nil {
			return err
		}
		var evidence []bulkhead.Evidence
		for _, r := range rows {
			statement, args, ev := kill(t, r)
			if _, err := exec(ctx, t, statement, args...); err != nil {
				return err
			}
			evidence = append(evidence, ev)
		}
		leaves, err := marshal(evidence)
		if err != nil {
			return err
		}
		n = len(rows)
		_, err = t.append(ctx, leaves)
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}

// ReviewOperator records that somebody confirmed an operator; KindNotFound when there is none.
func (s *Store) ReviewOperator(ctx context.Context, name string, at time.Time, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "ReviewOperator", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE operators SET reviewed_at = $2 WHERE name = $1`, name, unix(at))
		if err == nil && n == 0 {
			return notFound("operator", name)
		}
		return err
	})
}
