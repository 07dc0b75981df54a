package rel

import (
	"context"
	"strings"

	"bulkhead"
)

// validated is the FROM and WHERE that a filter makes: v is the validation, a its valid authorisation.
func validated(f bulkhead.AuthorizationFilter) *conditions {
	c := &conditions{where: []string{"a.state = 'valid'"}}
	for _, m := range []struct{ column, value string }{{"v.method", string(f.Method)}, {"v.account_id", f.AccountID}} {
		if m.value != "" {
			c.add(m.column+" = ?", m.value)
		}
	}
	if strings.HasPrefix(f.Name, ".") {
		c.add(`v.name LIKE ? ESCAPE '\'`, "%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Name))
	} else if f.Name != "" {
		c.add("v.name = ?", f.Name)
	}
	if !f.Since.IsZero() {
		c.add("v.at >= ?", unix(f.Since))
	}
	if !f.Until.IsZero() {
		c.add("v.at < ?", unix(f.Until))
	}
	if !f.AliveAt.IsZero() {
		c.add("a.expires_at >= ?", unix(f.AliveAt))
	}
	return c
}

const fromValidated = ` FROM validations v JOIN authorizations a ON a.id = v.authorization_id WHERE `

// TallyAuthorizations counts what the filter selects and what rests on it.
func (s *Store) TallyAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter) (bulkhead.AuthorizationTally, error) {
	c := validated(f)
	selected := fromValidated + strings.Join(c.where, " AND ")
	var t bulkhead.AuthorizationTally
	err := s.reader.QueryRowContext(ctx, `SELECT COUNT(DISTINCT a.id), COUNT(DISTINCT a.account_id)`+selected, c.args...).Scan(&t.Authorizations, &t.Accounts)
	if err == nil {
		// The row of an order follows its certificate (EndOrder): one in processing that has it is open no more.
		err = s.reader.QueryRowContext(ctx, `SELECT COUNT(CASE WHEN state IN ('pending', 'ready') OR state = 'processing' AND issued = 0 THEN 1 END),
				COUNT(CASE WHEN state = 'valid' OR state = 'processing' AND issued = 1 THEN 1 END)
			FROM (SELECT o.state, CASE WHEN o.state = 'processing' AND EXISTS (SELECT 1 FROM certificates x WHERE x.order_id = o.id AND x.order_id <> '' AND x.outcome_seq > 0) THEN 1 ELSE 0 END AS issued
				FROM orders o WHERE o.id IN (SELECT order_id FROM order_authorizations WHERE authorization_id IN (SELECT a.id`+selected+`))) AS resting`, c.args...).
			Scan(&t.OpenOrders, &t.Certificates)
	}
	return t, s.fault("TallyAuthorizations", err)
}

// SelectAuthorizations returns valid authorisations that the filter selects. Whoever revokes what it returns and asks
// again comes to an end.
func (s *Store) SelectAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter, limit int) ([]bulkhead.Authorization, error) {
	c := validated(f)
	c.add("1 = 1 ORDER BY seq LIMIT ?", atMost(limit)) // the limit is the last argument
	rows, err := list(ctx, s.reader, scanAuthorization, `SELECT `+authorizationFields+` FROM authorizations WHERE id IN (SELECT a.id`+fromValidated+
		strings.Join(c.where[:len(c.where)-1], " AND ")+`) AND `+c.where[len(c.where)-1], c.args...)
	return rows, s.fault("SelectAuthorizations", err)
}

// RevokeAuthorizations makes those of the authorisations that are still valid revoked, each with its evidence, in one
// transaction, and returns how many there were. An order can rest on them no more, and the signer does not see their
// validations.
func (s *Store) RevokeAuthorizations(ctx context.Context, ids []string, ev []bulkhead.Evidence) (int, error) {
	leaves, err := marshal(ev)
	if err == nil && len(leaves) != len(ids) {
		err = bulkhead.NewFault(bulkhead.KindInternal, "each revoked authorisation has its own evidence")
	}
	if err != nil {
		return 0, s.fault("RevokeAuthorizations", err)
	}
	var kept [][]byte
	err = s.write(ctx, "RevokeAuthorizations", nil, func(t *tx) error {
		kept = nil
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		for i, id := range ids {
			n, err := exec(ctx, t, `UPDATE authorizations SET state = 'revoked' WHERE id = $1 AND state = 'valid'`, id)
			if err != nil {
				return err
			}
			if n > 0 {
				kept = append(kept, leaves[i])
			}
		}
		_, err := t.append(ctx, kept)
		return err
	})
	return len(kept), err
}
