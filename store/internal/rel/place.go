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
	return s.writeKeyed(ctx, "PlaceOrder", ev, func(t *tx) error {
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

func (t *tx) putValidations(ctx context.Context, list []bulkhead.Validation) error {
	var id, authorization, account, kind, name, method, detail column[string]
	var wildcard column[bool]
	var at, until column[int64]
	for _, v := range list {
		id, authorization, account = append(id, v.ID), append(authorization, v.AuthorizationID), append(account, v.AccountID)
		kind, name, wildcard = append(kind, string(v.Identifier.Type)), append(name, v.Identifier.Value), append(wildcard, v.Wildcard)
		method, detail = append(method, string(v.Method)), append(detail, text(v.Detail))
		at, until = append(at, unix(v.At)), append(until, unix(v.ReuseUntil))
	}
	if len(list) == 0 {
		return nil
	}
	return t.batch(ctx, insertValidation, id, authorization, account, kind, name, wildcard, method, at, until, detail)
}
