package rel

import (
	"context"

	"bulkhead"
)

var (
	insertValidation = insert("validations", "id text", "authorization_id text", "account_id text", "name_type text", "name text",
		"wildcard boolean", "method text", "at bigint", "reuse_until bigint", "detail text")
	insertOrderAuthorization = insert("order_authorizations", "order_id text", "authorization_id text")
)

// PlaceOrder is CreateOrder for an order whose names somebody vouches for: its authorisations, all of them new, are valid
// already, and the validations and looks at CAA on which they rest are stored with them, in one transaction with the evidence,
// which must not be empty. KindConflict when the account has left: whoever makes it leave holds the evidence head, too.
func (s *Store) PlaceOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization, validations []bulkhead.Validation, checks []bulkhead.CAACheck, ev ...bulkhead.Evidence) error {
	if len(ev) == 0 {
		return bulkhead.NewFault(bulkhead.KindMalformed, "a validation needs evidence")
	}
	p := &placed{o, fresh, validations, checks}
	k := placedTogether
	if o.Replaces != (bulkhead.CertificateRef{}) { // what it claims may be claimed by another
		k = nil
	}
	return s.writeKin(ctx, "PlaceOrder", k, p, ev, func(t *tx) error {
		var state string
		if err := t.QueryRowContext(ctx, `SELECT state FROM accounts WHERE id = $1`, o.AccountID).Scan(&state); err != nil {
			return absent(err, "account", o.AccountID)
		}
		if state != string(bulkhead.AccountValid) {
			return conflict("account %s is %s", o.AccountID, state)
		}
		if err := t.createOrder(ctx, o, fresh); err != nil {
			return err
		}
		if err := t.putValidations(ctx, validations); err != nil {
			return err
		}
		return t.putCAAChecks(ctx, checks)
	})
}

// placed is what one PlaceOrder writes.
type placed struct {
	order       bulkhead.Order
	fresh       []bulkhead.Authorization
	validations []bulkhead.Validation
	checks      []bulkhead.CAACheck
}

// inOffice finds those of the accounts that are valid. It runs under the evidence head, which whoever makes one leave holds.
const inOffice = `SELECT id FROM accounts WHERE id IN (SELECT unnest($1::text[])) AND state = 'valid'`

// placedTogether writes the rows of several orders in one statement. None is written when anything is wrong with one of them: an
// account that has left, an id that exists.
var placedTogether = &kin{run: func(ctx context.Context, t *tx, items []any) ([]int, error) {
	var accounts, owners, authorizations []string
	var all placed
	orders := make([]bulkhead.Order, len(items))
	for i, it := range items {
		p := it.(*placed)
		orders[i] = p.order
		accounts = append(accounts, p.order.AccountID)
		for _, id := range distinct(p.order.Authorizations) {
			owners, authorizations = append(owners, p.order.ID), append(authorizations, id)
		}
		all.fresh, all.validations, all.checks = append(all.fresh, p.fresh...), append(all.validations, p.validations...), append(all.checks, p.checks...)
	}
	accounts = distinct(accounts)
	found, err := t.allAnd(ctx, inOffice, []any{accounts}, part{insertAuthorizations, authorizationColumns(all.fresh)}, part{insertOrder, orderColumns(orders)},
		part{insertOrderAuthorization, []values{column[string](owners), column[string](authorizations)}},
		part{insertValidation, validationColumns(all.validations)}, part{insertCAA, caaColumns(all.checks)})
	if err == nil && found != len(accounts) {
		err = conflict("an account is not in office")
	}
	return nil, err
}}

var (
	insertAuthorizations = insert("authorizations", "id text", "account_id text", "name_type text", "name text", "wildcard boolean", "state text", "challenges text",
		"expires_at bigint", "created_at bigint")
	insertOrder = insert("orders", "id text", "account_id text", "state text", "identifiers text", "authorizations text", "profile text", "authority text", "csr bytea",
		"issuer text", "serial bytea", "replaces_issuer text", "replaces_serial bytea", "problem text", "expires_at bigint", "created_at bigint", "processing_since bigint")
	// updateOrders says which orders it moved.
	updateOrders = `UPDATE orders o SET state = v.state, profile = v.profile, authority = v.authority, csr = v.csr, issuer = v.issuer, serial = v.serial,
		expires_at = v.expires_at, processing_since = v.processing_since, problem = ''
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::bytea[], $9::bigint[], $10::bigint[])
			AS v (id, expect, state, profile, authority, csr, issuer, serial, expires_at, processing_since)
		WHERE o.id = v.id AND o.state || '' = v.expect RETURNING o.id`
)

func authorizationColumns(list []bulkhead.Authorization) []values {
	var id, account, kind, name, state, challenges column[string]
	var wildcard column[bool]
	var expires, created column[int64]
	for _, a := range list {
		id, account, kind, name = append(id, a.ID), append(account, a.AccountID), append(kind, string(a.Identifier.Type)), append(name, a.Identifier.Value)
		wildcard, state, challenges = append(wildcard, a.Wildcard), append(state, string(a.State)), append(challenges, challengesArg(a.Challenges))
		expires, created = append(expires, unix(a.ExpiresAt)), append(created, unix(a.CreatedAt))
	}
	return []values{id, account, kind, name, wildcard, state, challenges, expires, created}
}

func orderColumns(list []bulkhead.Order) []values {
	var id, account, state, identifiers, authorizations, profile, authority, issuer, replacesIssuer, problem column[string]
	var csr, serial, replacesSerial column[[]byte]
	var expires, created, processing column[int64]
	for _, o := range list {
		id, account, state = append(id, o.ID), append(account, o.AccountID), append(state, string(o.State))
		identifiers, authorizations = append(identifiers, namesArg(o.Identifiers)), append(authorizations, wordsArg(o.Authorizations))
		profile, authority, csr = append(profile, o.Profile), append(authority, string(o.Authority)), append(csr, blob(o.CSR))
		issuer, serial = append(issuer, string(o.Certificate.Issuer)), append(serial, serialArg(o.Certificate.Serial))
		replacesIssuer, replacesSerial = append(replacesIssuer, string(o.Replaces.Issuer)), append(replacesSerial, serialArg(o.Replaces.Serial))
		problem, expires = append(problem, problemArg(o.Problem)), append(expires, unix(o.ExpiresAt))
		created, processing = append(created, unix(o.CreatedAt)), append(processing, unix(o.ProcessingSince))
	}
	return []values{id, account, state, identifiers, authorizations, profile, authority, csr, issuer, serial, replacesIssuer, replacesSerial, problem, expires, created, processing}
}

// movedOrder is what one UpdateOrder writes.
type movedOrder struct {
	bulkhead.Order
	expect bulkhead.OrderState
}

// movedTogether moves several orders that have no problem. It leaves those that are not in the state from which they are moved.
var movedTogether = &kin{tame: true, run: func(ctx context.Context, t *tx, items []any) (left []int, err error) {
	var id, expect, state, profile, authority, issuer []string
	var csr, serial [][]byte
	var expires, processing []int64
	first := map[string]int{}
	for i, it := range items {
		o := it.(*movedOrder)
		if _, twice := first[o.ID]; twice {
			continue
		}
		first[o.ID] = i
		id, expect, state = append(id, o.ID), append(expect, string(o.expect)), append(state, string(o.State))
		profile, authority, csr = append(profile, o.Profile), append(authority, string(o.Authority)), append(csr, blob(o.CSR))
		issuer, serial = append(issuer, string(o.Certificate.Issuer)), append(serial, serialArg(o.Certificate.Serial))
		expires, processing = append(expires, unix(o.ExpiresAt)), append(processing, unix(o.ProcessingSince))
	}
	ids, err := list(ctx, t, func(r scanner) (id string, err error) { err = r.Scan(&id); return id, err },
		updateOrders, id, expect, state, profile, authority, csr, issuer, serial, expires, processing)
	if err != nil {
		return nil, err
	}
	done := make([]bool, len(items))
	for _, id := range ids {
		done[first[id]] = true
	}
	for i := range items {
		if !done[i] {
			left = append(left, i)
		}
	}
	return left, nil
}}

func (t *tx) putValidations(ctx context.Context, list []bulkhead.Validation) error {
	return t.all(ctx, part{insertValidation, validationColumns(list)})
}

func validationColumns(list []bulkhead.Validation) []values {
	var id, authorization, account, kind, name, method, detail column[string]
	var wildcard column[bool]
	var at, until column[int64]
	for _, v := range list {
		id, authorization, account = append(id, v.ID), append(authorization, v.AuthorizationID), append(account, v.AccountID)
		kind, name, wildcard = append(kind, string(v.Identifier.Type)), append(name, v.Identifier.Value), append(wildcard, v.Wildcard)
		method, detail = append(method, string(v.Method)), append(detail, text(v.Detail))
		at, until = append(at, unix(v.At)), append(until, unix(v.ReuseUntil))
	}
	return []values{id, authorization, account, kind, name, wildcard, method, at, until, detail}
}
