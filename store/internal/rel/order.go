package rel

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"bulkhead"
)

const orderFields = `id, account_id, state, identifiers, authorizations, profile, authority, csr, issuer, serial,
	replaces_issuer, replaces_serial, problem, expires_at, created_at, processing_since`

func scanOrder(r scanner) (bulkhead.Order, error) { return scanOrderAnd(r) }

// scanOrderAnd reads more columns after those of the order.
func scanOrderAnd(r scanner, more ...any) (bulkhead.Order, error) {
	var o bulkhead.Order
	var p *problem
	err := r.Scan(append([]any{&o.ID, &o.AccountID, &o.State, jsonCol{&o.Identifiers}, jsonCol{&o.Authorizations}, &o.Profile,
		&o.Authority, bytesCol{&o.CSR}, &o.Certificate.Issuer, serialCol{&o.Certificate.Serial},
		&o.Replaces.Issuer, serialCol{&o.Replaces.Serial}, jsonCol{&p}, timeCol{&o.ExpiresAt}, timeCol{&o.CreatedAt},
		timeCol{&o.ProcessingSince}}, more...)...)
	o.Problem = p.fault()
	return o, err
}

// problemArg is the text of a fault, "" for none.
func problemArg(f *bulkhead.Fault) string {
	if f == nil {
		return ""
	}
	return jsonArg(keepFault(f))
}

// CreateOrder inserts the order and those of its authorisations that are new, in one transaction. KindAlreadyReplaced
// when o.Replaces is claimed by another order that is not invalid (RFC 9773 section 5); KindConflict when the id exists
// or an authorisation that it names does not.
func (s *Store) CreateOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization) error {
	return s.writeAgain(ctx, "CreateOrder", nil, func(t *tx) error { return t.createOrder(ctx, o, fresh) })
}

func (t *tx) createOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization) error {
	for _, a := range fresh {
		if err := t.insertAuthorization(ctx, a); err != nil {
			return err
		}
	}
	if o.Replaces != (bulkhead.CertificateRef{}) {
		// An order that ran out of time is invalid, also when nobody has looked at it since: it claims nothing.
		_, err := t.writing(ctx, ofOrders, orderKey, `UPDATE orders SET state = 'invalid', problem = $1 WHERE replaces_issuer = $2 AND replaces_serial = $3
			AND state IN ('pending', 'ready') AND expires_at < $4 RETURNING id`, problemArg(bulkhead.NewFault(bulkhead.KindMalformed, "the order expired").WithHint("place a new order")),
			string(o.Replaces.Issuer), serialArg(o.Replaces.Serial), unix(o.CreatedAt))
		if err != nil {
			return err
		}
	}
	key := orderKey(o.ID)
	defer t.only(ofOrders, key)()
	args := []any{o.ID, o.AccountID, string(o.State), namesArg(o.Identifiers), wordsArg(o.Authorizations), o.Profile,
		string(o.Authority), blob(o.CSR), string(o.Certificate.Issuer), serialArg(o.Certificate.Serial),
		string(o.Replaces.Issuer), serialArg(o.Replaces.Serial), problemArg(o.Problem), unix(o.ExpiresAt),
		unix(o.CreatedAt), unix(o.ProcessingSince)}
	inserted, bare, err := t.insertOrder(ctx, args)
	if err != nil {
		return err
	}
	if !inserted {
		return t.whyNoOrder(ctx, o)
	}
	var orders, authorizations column[string]
	for _, id := range distinct(o.Authorizations) {
		orders, authorizations = append(orders, o.ID), append(authorizations, id)
	}
	if kept, fit := keepOrder(o); fit {
		t.leave(key, orderRow{kept, nil, bare})
	}
	return t.batch(ctx, insertOrderAuthorization, orders, authorizations)
}

const (
	orderValues = `$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16`
	orderOnce   = `INSERT INTO orders (` + orderFields + `) VALUES (` + orderValues + `) ON CONFLICT DO NOTHING`
	orderBare   = `INSERT INTO orders (` + orderFields + `) SELECT ` + orderValues + ` WHERE NOT EXISTS (SELECT 1 FROM caa_checks WHERE order_id = $1) ON CONFLICT DO NOTHING`
)

// insertOrder reports whether the row was inserted, and, where something is remembered of it, whether nobody has looked at CAA for an
// order of this id.
func (t *tx) insertOrder(ctx context.Context, args []any) (inserted, bare bool, err error) {
	if t.memo != nil {
		if n, err := exec(ctx, t, orderBare, args...); err != nil || n > 0 {
			return n > 0, true, err
		}
	}
	n, err := exec(ctx, t, orderOnce, args...)
	return n > 0, false, err
}

// whyNoOrder says which of its two unique keys kept an order out.
func (t *tx) whyNoOrder(ctx context.Context, o bulkhead.Order) error {
	var id string
	err := t.QueryRowContext(ctx, `SELECT id FROM orders WHERE replaces_issuer = $1 AND replaces_serial = $2
		AND replaces_issuer <> '' AND state <> 'invalid'`, string(o.Replaces.Issuer), serialArg(o.Replaces.Serial)).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return conflict("order %s exists", o.ID)
	case err != nil:
		return err
	default:
		return bulkhead.Faultf(bulkhead.KindAlreadyReplaced, "certificate %s is being replaced, or was replaced, by another order", o.Replaces).
			WithHint("order again without \"replaces\"")
	}
}

// Order returns an order; KindNotFound when there is none.
func (s *Store) Order(ctx context.Context, id string) (bulkhead.Order, error) {
	o, err := recalled(s, orderKey(id), func() (orderRow, bool, error) {
		o, err := one(s.brief(ctx), s.looks, scanOrder, `SELECT `+orderFields+` FROM orders WHERE id = $1`, id)
		return orderRow{Order: o}, o.Problem == nil, err
	})
	return o.order(), s.fault("Order", absent(err, "order", id))
}

// OrdersByAccount returns ids, newest first, after the cursor id. KindNotFound for a cursor that is no order of the
// account.
func (s *Store) OrdersByAccount(ctx context.Context, accountID, after string, limit int) ([]string, error) {
	var below int64 = 1<<63 - 1
	if after != "" {
		err := s.reader.QueryRowContext(ctx, `SELECT seq FROM orders WHERE id = $1 AND account_id = $2`, after, accountID).Scan(&below)
		if err != nil {
			return nil, s.fault("OrdersByAccount", absent(err, "order", after))
		}
	}
	ids, err := list(ctx, s.reader, func(r scanner) (id string, err error) {
		err = r.Scan(&id)
		return id, err
	}, `SELECT id FROM orders WHERE account_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`, accountID, below, atMost(limit))
	return ids, s.fault("OrdersByAccount", err)
}

// UpdateOrder stores state, CSR, authority, profile, certificate, problem and times if the state is still expect.
func (s *Store) UpdateOrder(ctx context.Context, o bulkhead.Order, expect bulkhead.OrderState, ev ...bulkhead.Evidence) error {
	var k *kin
	if len(ev) == 0 && o.Problem == nil {
		k = movedTogether
	}
	return s.writeKin(ctx, "UpdateOrder", k, &movedOrder{o, expect}, ev, func(t *tx) error { return t.updateOrder(ctx, o, expect) })
}

// EndOrder is UpdateOrder of one in processing that has its certificate, for which nobody waits: it goes with the next
// writes that somebody waits for, or alone when there are none for a while.
func (s *Store) EndOrder(ctx context.Context, o bulkhead.Order) error {
	return s.writeKinAs(ctx, "EndOrder", movedTogether, &movedOrder{o, bulkhead.OrderProcessing}, nil, func(t *tx) error { return t.updateOrder(ctx, o, bulkhead.OrderProcessing) }, never)
}

// never is how long EndOrder is patient.
var never = make(chan struct{})

// ProcessOrder is UpdateOrder of a ready one, with looks at CAA in the same transaction. Unless until is nil it goes with the next writes that
// somebody waits for, or alone once until is closed or there were none for a while.
func (s *Store) ProcessOrder(ctx context.Context, o bulkhead.Order, checks []bulkhead.CAACheck, until <-chan struct{}, ev ...bulkhead.Evidence) error {
	return s.writeKinAs(ctx, "ProcessOrder", nil, nil, ev, func(t *tx) error {
		if err := t.updateOrder(ctx, o, bulkhead.OrderReady); err != nil {
			return err
		}
		return t.putCAAChecks(ctx, checks)
	}, until)
}

const (
	moveOrder       = `UPDATE orders SET ` + movedColumns + ` WHERE id = $9 AND state || '' = $10`
	moveOrderAndEnd = `UPDATE orders SET ` + movedColumns + `, expires_at = $9 WHERE id = $10 AND state || '' = $11`

	movedColumns = `state = $1, profile = $2, authority = $3, csr = $4, issuer = $5, serial = $6, problem = $7, processing_since = $8`
)

// updateOrder compares the state so that its index cannot serve: a plan that is kept must look for the id.
func (t *tx) updateOrder(ctx context.Context, o bulkhead.Order, expect bulkhead.OrderState) error {
	key := orderKey(o.ID)
	was, known := knownRow[orderRow](t, key)
	defer t.only(ofOrders, key)()
	kept, fit := keepOrder(o)
	args := append(make([]any, 0, 11), string(o.State), o.Profile, string(o.Authority), blob(o.CSR), string(o.Certificate.Issuer),
		serialArg(o.Certificate.Serial), problemArg(o.Problem), unix(o.ProcessingSince))
	query := moveOrder
	if !known || !was.ExpiresAt.Equal(kept.ExpiresAt) { // else its index need not be touched
		query, args = moveOrderAndEnd, append(args, unix(o.ExpiresAt))
	}
	n, err := exec(ctx, t, query, append(args, o.ID, string(expect))...)
	if err == nil && n > 0 && known && fit {
		was.State, was.Profile, was.Authority, was.CSR, was.Certificate = kept.State, kept.Profile, kept.Authority, kept.CSR, kept.Certificate
		was.ExpiresAt, was.ProcessingSince = kept.ExpiresAt, kept.ProcessingSince
		t.leave(key, was)
	}
	return t.moved(ctx, n, err, "orders", "order", o.ID, string(expect))
}

// OrdersInState returns orders in a state, oldest first. Those at their end are looked for among all.
func (s *Store) OrdersInState(ctx context.Context, state bulkhead.OrderState, limit int) ([]bulkhead.Order, error) {
	query := ordersInState
	if state == bulkhead.OrderValid || state == bulkhead.OrderInvalid {
		query = strings.Replace(query, openOrders, "", 1)
	}
	rows, err := list(ctx, s.reader, scanOrder, query, string(state), atMost(limit))
	return rows, s.fault("OrdersInState", err)
}

const (
	ordersInState = `SELECT ` + orderFields + ` FROM orders WHERE state = $1` + openOrders + ` ORDER BY seq LIMIT $2`
	openOrders    = ` AND (state = 'pending' OR state = 'ready' OR state = 'processing')` // as their index says it
)

// OrdersByAuthorization returns the pending and ready orders that rest on an authorisation, oldest first.
func (s *Store) OrdersByAuthorization(ctx context.Context, authorizationID string) ([]bulkhead.Order, error) {
	rows, err := list(ctx, s.reader, scanOrder, `SELECT `+orderFields+` FROM orders
		WHERE id IN (SELECT order_id FROM order_authorizations WHERE authorization_id = $1) AND state IN ('pending', 'ready') ORDER BY seq`,
		authorizationID)
	return rows, s.fault("OrdersByAuthorization", err)
}

// OpenOrdersByAccount returns the pending and ready orders of an account, oldest first.
func (s *Store) OpenOrdersByAccount(ctx context.Context, accountID string, limit int) ([]bulkhead.Order, error) {
	rows, err := list(ctx, s.reader, scanOrder, `SELECT `+orderFields+` FROM orders
		WHERE account_id = $1 AND state IN ('pending', 'ready') ORDER BY seq LIMIT $2`, accountID, atMost(limit))
	return rows, s.fault("OpenOrdersByAccount", err)
}

// OrderEvidence returns the validations and CAA checks on which an order rests, oldest first: every validation of those
// of its authorisations that are valid (one that was revoked or given up vouches for nothing), every CAA check made
// for it. KindNotFound when there is no such order.
func (s *Store) OrderEvidence(ctx context.Context, orderID string) ([]bulkhead.Validation, []bulkhead.CAACheck, error) {
	found, err := s.OrdersEvidence(ctx, orderID)
	if err == nil && found[orderID] == nil {
		err = s.fault("OrderEvidence", absent(sql.ErrNoRows, "order", orderID))
	}
	if err != nil {
		return nil, nil, err
	}
	return found[orderID].Validations, found[orderID].Checks, nil
}

// OrdersEvidence is OrderEvidence for several orders in one go; it leaves out orders that do not exist.
func (s *Store) OrdersEvidence(ctx context.Context, orders ...string) (map[string]*bulkhead.OrderEvidence, error) {
	out := map[string]*bulkhead.OrderEvidence{}
	of := func(order string) *bulkhead.OrderEvidence {
		if out[order] == nil {
			out[order] = &bulkhead.OrderEvidence{}
		}
		return out[order]
	}
	if rows, known := s.recalledEvidence(orders); known {
		return rows, nil
	}
	err := among(&s.dialect, distinct(orders), 1, "text", func(id string) string { return id }, func(part []string, in string, args []any) error {
		_, err := list(ctx, s.looks, func(r scanner) (v bulkhead.Validation, err error) {
			var order string
			err = r.Scan(&order, &v.ID, &v.AuthorizationID, &v.AccountID, &v.Identifier.Type, &v.Identifier.Value, &v.Wildcard,
				&v.Method, timeCol{&v.At}, timeCol{&v.ReuseUntil}, &v.Detail)
			if err == nil {
				of(order).Validations = append(of(order).Validations, v)
			}
			return v, err
		}, `SELECT o.order_id, v.id, v.authorization_id, v.account_id, v.name_type, v.name, v.wildcard, v.method, v.at, v.reuse_until, v.detail
			FROM order_authorizations o JOIN authorizations a ON a.id = o.authorization_id AND a.state = 'valid'
			JOIN validations v ON v.authorization_id = a.id WHERE o.order_id IN `+in+` ORDER BY v.seq`, args...)
		if err != nil {
			return err
		}
		_, err = list(ctx, s.looks, func(r scanner) (c bulkhead.CAACheck, err error) {
			err = r.Scan(&c.OrderID, &c.Identifier.Type, &c.Identifier.Value, timeCol{&c.At}, timeCol{&c.ValidUntil}, &c.Result, &c.Detail)
			if err == nil {
				of(c.OrderID).Checks = append(of(c.OrderID).Checks, c)
			}
			return c, err
		}, `SELECT order_id, name_type, name, at, valid_until, result, detail FROM caa_checks WHERE order_id IN `+in+` ORDER BY seq`, args...)
		for _, id := range part {
			if err != nil || out[id] != nil {
				continue
			}
			// Nothing to show, or nothing there.
			switch err = s.looks.QueryRowContext(ctx, `SELECT 1 FROM orders WHERE id = $1`, id).Scan(new(int64)); {
			case err == nil:
				of(id)
			case errors.Is(err, sql.ErrNoRows):
				err = nil
			}
		}
		return err
	})
	return out, s.fault("OrdersEvidence", err)
}

// recalledEvidence is OrdersEvidence of orders of which everything is remembered.
func (s *Store) recalledEvidence(ids []string) (map[string]*bulkhead.OrderEvidence, bool) {
	if s.memo == nil {
		return nil, false
	}
	m := s.memo
	out := make(map[string]*bulkhead.OrderEvidence, len(ids))
	m.mu.RLock()
	for _, id := range ids {
		e, known := m.recent.evidence(id)
		if !known {
			m.mu.RUnlock()
			return nil, false
		}
		out[id] = e
	}
	m.mu.RUnlock()
	if !m.sole.Quiet() {
		return nil, false
	}
	m.given.Add(1)
	return out, true
}

// distinct leaves out what stands there already.
func distinct(items []string) []string {
	out := make([]string, 0, len(items))
	for _, x := range items {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// PutCAAChecks records looks at CAA.
func (s *Store) PutCAAChecks(ctx context.Context, checks []bulkhead.CAACheck, ev ...bulkhead.Evidence) error {
	return s.writeKeyed(ctx, "PutCAAChecks", ev, func(t *tx) error { return t.putCAAChecks(ctx, checks) })
}

func (t *tx) putCAAChecks(ctx context.Context, checks []bulkhead.CAACheck) error {
	rows := map[rowKey]orderRow{}
	keys := make([]rowKey, 0, len(checks))
	for _, c := range checks {
		key := orderKey(c.OrderID)
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
			if o, known := knownRow[orderRow](t, key); known {
				rows[key] = o
			}
		}
		if o, known := rows[key]; known {
			if o.whole = o.whole && faithful(c.OrderID, string(c.Identifier.Type), c.Identifier.Value, string(c.Result)); o.whole {
				c.At, c.ValidUntil, c.Detail = stored(c.At), stored(c.ValidUntil), text(c.Detail)
				o.looks = append(slices.Clip(o.looks), c)
			}
			rows[key] = o
		}
	}
	defer t.only(ofOrders, keys...)()
	if err := t.all(ctx, part{insertCAA, caaColumns(checks)}); err != nil {
		return err
	}
	for key, o := range rows {
		t.leave(key, o)
	}
	return nil
}

func caaColumns(checks []bulkhead.CAACheck) []values {
	var order, kind, name, result, detail column[string]
	var at, until column[int64]
	for _, c := range checks {
		order, kind, name = append(order, c.OrderID), append(kind, string(c.Identifier.Type)), append(name, c.Identifier.Value)
		at, until = append(at, unix(c.At)), append(until, unix(c.ValidUntil))
		result, detail = append(result, string(c.Result)), append(detail, text(c.Detail))
	}
	return []values{order, kind, name, at, until, result, detail}
}

var insertCAA = insert("caa_checks", "order_id text", "name_type text", "name text", "at bigint", "valid_until bigint",
	"result text", "detail text")
