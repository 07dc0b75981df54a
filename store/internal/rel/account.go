package rel

import (
	"context"
	"database/sql"
	"errors"

	"bulkhead"
)

const accountFields = `id, state, thumbprint, jwk, token_hash, contacts, terms_at, operator, created_at, partner, creator, roll_due`

func scanAccount(r scanner) (bulkhead.Account, error) { return scanAccountAnd(r) }

// scanAccountAnd reads more columns after those of the account.
func scanAccountAnd(r scanner, more ...any) (bulkhead.Account, error) {
	var a bulkhead.Account
	err := r.Scan(append([]any{&a.ID, &a.State, &a.Thumbprint, bytesCol{&a.JWK}, hashCol{&a.TokenHash}, jsonCol{&a.Contacts},
		timeCol{&a.TermsAt}, &a.Operator, timeCol{&a.CreatedAt}, &a.Partner, &a.Creator, timeCol{&a.RollDue}}, more...)...)
	return a, err
}

// CreateAccount inserts; KindConflict when the id, thumbprint or token hash exists.
func (s *Store) CreateAccount(ctx context.Context, a bulkhead.Account, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "CreateAccount", ev, func(t *tx) error { return t.insertAccount(ctx, a) })
}

func (t *tx) insertAccount(ctx context.Context, a bulkhead.Account) error {
	n, err := exec(ctx, t, `INSERT INTO accounts (`+accountFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT DO NOTHING`, a.ID, string(a.State), a.Thumbprint, blob(a.JWK), hashArg(a.TokenHash),
		jsonArg(a.Contacts), unix(a.TermsAt), a.Operator, unix(a.CreatedAt), a.Partner, text(a.Creator), unix(a.RollDue))
	if err == nil && n == 0 {
		return conflict("an account with this id or key exists")
	}
	return err
}

func (s *Store) account(ctx context.Context, where, shown string, arg any) (bulkhead.Account, error) {
	a, err := one(s.brief(ctx), s.looks, scanAccount, `SELECT `+accountFields+` FROM accounts WHERE `+where, arg)
	return a, s.fault("Account", absent(err, "account", shown))
}

// Account returns an account by id; KindNotFound when there is none.
func (s *Store) Account(ctx context.Context, id string) (bulkhead.Account, error) {
	return s.account(ctx, `id = $1`, id, id)
}

// AccountByThumbprint returns an account by the RFC 7638 thumbprint of its key; KindNotFound when there is none.
func (s *Store) AccountByThumbprint(ctx context.Context, thumbprint string) (bulkhead.Account, error) {
	return s.account(ctx, `thumbprint = $1 AND thumbprint <> ''`, "with this key", thumbprint)
}

// AccountByToken returns an account by the hash of its token; KindNotFound when there is none.
func (s *Store) AccountByToken(ctx context.Context, tokenHash bulkhead.Hash) (bulkhead.Account, error) {
	return s.account(ctx, `token_hash = $1 AND length(token_hash) > 0`, "with this token", hashArg(tokenHash))
}

// UpdateAccount stores everything but id, partner and creation if the state is still expect. KindConflict when it moved, or
// when another account has the key.
func (s *Store) UpdateAccount(ctx context.Context, a bulkhead.Account, expect bulkhead.AccountState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "UpdateAccount", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE accounts SET state = $3, thumbprint = $4, jwk = $5, token_hash = $6, contacts = $7,
			terms_at = $8, operator = $9, roll_due = $10 WHERE id = $1 AND state = $2`, a.ID, string(expect), string(a.State), a.Thumbprint,
			blob(a.JWK), hashArg(a.TokenHash), jsonArg(a.Contacts), unix(a.TermsAt), a.Operator, unix(a.RollDue))
		return t.moved(ctx, n, err, "accounts", "account", a.ID, string(expect))
	})
}

// moved judges an update that compared a state: nil when it touched a row, else KindNotFound or KindConflict.
func (t *tx) moved(ctx context.Context, n int64, err error, table, what, id, expect string) error {
	if err != nil || n > 0 {
		return err
	}
	var state string
	err = t.QueryRowContext(ctx, `SELECT state FROM `+table+` WHERE id = $1`, id).Scan(&state)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return notFound(what, id)
	case err != nil:
		return err
	default:
		return conflict("%s %s is %s, not %s", what, id, state, expect)
	}
}
