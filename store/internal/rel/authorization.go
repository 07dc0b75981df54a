package rel

import (
	"context"
	"slices"
	"strconv"
	"time"

	"bulkhead"
)

const authorizationFields = `id, account_id, name_type, name, wildcard, state, challenges, expires_at, created_at`

// challenge is a challenge as the database keeps it.
type challenge struct {
	ID          string                  `json:"id"`
	Method      bulkhead.Method         `json:"method"`
	Token       string                  `json:"token"`
	State       bulkhead.ChallengeState `json:"state"`
	ValidatedAt int64                   `json:"validatedAt,omitempty"`
	Problem     *problem                `json:"problem,omitempty"`
}

func challengesArg(list []bulkhead.Challenge) string {
	p := append(make([]byte, 0, 512), '[')
	for i, c := range list {
		if c.Problem != nil || !plain(c.ID) || !plain(string(c.Method)) || !plain(c.Token) || !plain(string(c.State)) {
			return anyChallengesArg(list)
		}
		if i > 0 {
			p = append(p, ',')
		}
		p = append(append(append(append(p, `{"id":"`...), c.ID...), `","method":"`...), c.Method...)
		p = append(append(append(append(append(p, `","token":"`...), c.Token...), `","state":"`...), c.State...), '"')
		if at := unix(c.ValidatedAt); at != 0 {
			p = strconv.AppendInt(append(p, `,"validatedAt":`...), at, 10)
		}
		p = append(p, '}')
	}
	return string(append(p, ']'))
}

// anyChallengesArg is challengesArg of challenges that JSON text does not hold as they are.
func anyChallengesArg(list []bulkhead.Challenge) string {
	kept := make([]challenge, len(list))
	for i, c := range list {
		kept[i] = challenge{c.ID, c.Method, c.Token, c.State, unix(c.ValidatedAt), keepFault(c.Problem)}
	}
	return jsonArg(kept)
}

func scanAuthorization(r scanner) (bulkhead.Authorization, error) {
	var a bulkhead.Authorization
	var kept []challenge
	err := r.Scan(&a.ID, &a.AccountID, &a.Identifier.Type, &a.Identifier.Value, &a.Wildcard, &a.State, jsonCol{&kept},
		timeCol{&a.ExpiresAt}, timeCol{&a.CreatedAt})
	for _, c := range kept {
		v := bulkhead.Challenge{ID: c.ID, Method: c.Method, Token: c.Token, State: c.State, Problem: c.Problem.fault()}
		if c.ValidatedAt != 0 {
			v.ValidatedAt = time.Unix(c.ValidatedAt, 0).UTC()
		}
		a.Challenges = append(a.Challenges, v)
	}
	return a, err
}

func (t *tx) insertAuthorization(ctx context.Context, a bulkhead.Authorization) error {
	key := authorizationKey(a.ID)
	defer t.only(ofAuthorizations, key)()
	n, err := exec(ctx, t, `INSERT INTO authorizations (`+authorizationFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT DO NOTHING`, a.ID, a.AccountID, string(a.Identifier.Type), a.Identifier.Value, a.Wildcard,
		string(a.State), challengesArg(a.Challenges), unix(a.ExpiresAt), unix(a.CreatedAt))
	if err == nil && n == 0 {
		return conflict("authorisation %s exists", a.ID)
	}
	if kept, fit := keepAuthorization(a); fit {
		t.leave(key, authorizationRow{kept, nil, true})
	}
	return err
}

// Authorization returns an authorisation; KindNotFound when there is none.
func (s *Store) Authorization(ctx context.Context, id string) (bulkhead.Authorization, error) {
	a, err := recalled(s, authorizationKey(id), func() (authorizationRow, bool, error) {
		a, err := one(s.brief(ctx), s.looks, scanAuthorization, `SELECT `+authorizationFields+` FROM authorizations WHERE id = $1`, id)
		_, fit := keepAuthorization(a)
		return authorizationRow{Authorization: a}, fit, err
	})
	return a.authorization(), s.fault("Authorization", absent(err, "authorisation", id))
}

// Authorizations returns authorisations in the order of their ids; KindNotFound when one is missing.
func (s *Store) Authorizations(ctx context.Context, ids ...string) ([]bulkhead.Authorization, error) {
	if len(ids) == 1 {
		a, err := s.Authorization(ctx, ids[0])
		return []bulkhead.Authorization{a}, err
	}
	if rows, all := recallAll[authorizationRow](s, keysOf(ids, authorizationKey)); all {
		out := make([]bulkhead.Authorization, len(rows))
		for i, a := range rows {
			out[i] = a.authorization()
		}
		return out, nil
	}
	found := make(map[string]bulkhead.Authorization, len(ids))
	err := among(&s.dialect, ids, 1, "text", func(id string) string { return id }, func(_ []string, in string, args []any) error {
		rows, err := list(s.brief(ctx), s.looks, scanAuthorization, `SELECT `+authorizationFields+` FROM authorizations WHERE id IN `+in, args...)
		for _, a := range rows {
			found[a.ID] = a
		}
		return err
	})
	out := make([]bulkhead.Authorization, 0, len(ids))
	for _, id := range ids {
		a, ok := found[id]
		if err == nil && !ok {
			err = notFound("authorisation", id)
		}
		out = append(out, a)
	}
	if err != nil {
		return nil, s.fault("Authorizations", err)
	}
	return out, nil
}

// UpdateAuthorization stores state, challenges and expiry if the state is still expect; v, when not nil, is inserted
// as evidence of validation in the same transaction.
func (s *Store) UpdateAuthorization(ctx context.Context, a bulkhead.Authorization, expect bulkhead.AuthorizationState, v *bulkhead.Validation, ev ...bulkhead.Evidence) error {
	return s.writeKeyed(ctx, "UpdateAuthorization", ev, func(t *tx) error { return t.updateAuthorization(ctx, a, expect, v) })
}

// ConcludeAuthorization is UpdateAuthorization of a pending one with its validation, as long as its account is in office
// with the thumbprint; KindConflict otherwise. In the same transaction those pending orders on it become ready of which
// every authorisation is valid and lasts beyond the validation, as the order itself does. Two that conclude at the same
// time see each other, because both hold the evidence head: ev must not be empty.
func (s *Store) ConcludeAuthorization(ctx context.Context, a bulkhead.Authorization, v bulkhead.Validation, thumbprint string, ev ...bulkhead.Evidence) error {
	if len(ev) == 0 {
		return bulkhead.NewFault(bulkhead.KindMalformed, "a validation needs evidence")
	}
	return s.writeAgain(ctx, "ConcludeAuthorization", ev, func(t *tx) error {
		if err := t.changeAuthorization(ctx, a, &v, func() error {
			n, err := exec(ctx, t, `UPDATE authorizations SET state = $1, challenges = $2, expires_at = $3 WHERE id = $4 AND state = 'pending'
				AND EXISTS (SELECT 1 FROM accounts c WHERE c.id = authorizations.account_id AND c.state = 'valid' AND c.thumbprint = $5)`,
				string(a.State), challengesArg(a.Challenges), unix(a.ExpiresAt), a.ID, thumbprint)
			if err == nil && n == 0 {
				err = t.whyNotConcluded(ctx, a.ID)
			}
			return err
		}); err != nil {
			return err
		}
		return t.makeReady(ctx, a.ID, v.At)
	})
}

const (
	restsOn  = `(SELECT order_id FROM order_authorizations WHERE authorization_id = $1)`
	nowReady = `state || '' = 'pending' AND expires_at + 0 >= $2 AND NOT EXISTS (SELECT 1 FROM order_authorizations x JOIN authorizations y ON y.id = x.authorization_id
		WHERE x.order_id = orders.id AND (y.state <> 'valid' OR y.expires_at < $2))`
	readyAll  = `UPDATE orders SET state = 'ready' WHERE id IN ` + restsOn + ` AND ` + nowReady
	readyIDs  = `SELECT orders.id FROM order_authorizations l JOIN orders ON orders.id = l.order_id WHERE l.authorization_id = $1 AND ` + nowReady
	readyThis = `UPDATE orders SET state = 'ready' WHERE id = $1`
)

// makeReady makes those orders on an authorisation ready that wait for nothing more. Where rows are remembered they are looked for
// first: a statement for each, of which there is mostly one, is less than one that gives back what it wrote.
func (t *tx) makeReady(ctx context.Context, authorization string, at time.Time) error {
	if t.memo == nil {
		_, err := t.ExecContext(ctx, readyAll, authorization, unix(at))
		return err
	}
	ids, err := list(ctx, t, func(r scanner) (id string, err error) { return id, r.Scan(&id) }, readyIDs, authorization, unix(at))
	for _, id := range ids {
		if err == nil {
			err = t.readyOne(ctx, orderKey(id))
		}
	}
	return err
}

func (t *tx) readyOne(ctx context.Context, key rowKey) error {
	o, known := knownRow[orderRow](t, key)
	defer t.only(ofOrders, key)()
	_, err := t.ExecContext(ctx, readyThis, key.id)
	if o.State = bulkhead.OrderReady; err == nil && known {
		t.leave(key, o)
	}
	return err
}

// changeAuthorization runs update, which stores state, challenges and expiry of a, inserts v unless it is nil, and says what became of
// the row.
func (t *tx) changeAuthorization(ctx context.Context, a bulkhead.Authorization, v *bulkhead.Validation, update func() error) error {
	key := authorizationKey(a.ID)
	was, known := knownRow[authorizationRow](t, key)
	defer t.only(ofAuthorizations, key)()
	if err := update(); err != nil {
		return err
	}
	kept, fit := keepAuthorization(a)
	was.State, was.Challenges, was.ExpiresAt = kept.State, kept.Challenges, kept.ExpiresAt
	if v != nil {
		seq, err := t.insertValidation(ctx, *v)
		if err != nil {
			return err
		}
		good, plain := keepValidation(*v)
		if fit = fit && plain && v.AuthorizationID == a.ID; was.whole {
			was.validations = append(slices.Clip(was.validations), numbered{good, seq})
		}
	}
	if known && fit {
		t.leave(key, was)
	}
	return nil
}

// whyNotConcluded tells which of the conditions does not hold.
func (t *tx) whyNotConcluded(ctx context.Context, id string) error {
	var state bulkhead.AuthorizationState
	err := t.QueryRowContext(ctx, `SELECT state FROM authorizations WHERE id = $1`, id).Scan(&state)
	switch {
	case err != nil:
		return absent(err, "authorisation", id)
	case state != bulkhead.AuthorizationPending:
		return conflict("authorisation %s is %s, not pending", id, state)
	default:
		return conflict("the account of authorisation %s is not in office with this key any more", id)
	}
}

func (t *tx) updateAuthorization(ctx context.Context, a bulkhead.Authorization, expect bulkhead.AuthorizationState, v *bulkhead.Validation) error {
	return t.changeAuthorization(ctx, a, v, func() error {
		n, err := exec(ctx, t, `UPDATE authorizations SET state = $3, challenges = $4, expires_at = $5 WHERE id = $1 AND state = $2`,
			a.ID, string(expect), string(a.State), challengesArg(a.Challenges), unix(a.ExpiresAt))
		return t.moved(ctx, n, err, "authorizations", "authorisation", a.ID, string(expect))
	})
}

// insertValidation returns the number of the row where something is remembered by it, else 0.
func (t *tx) insertValidation(ctx context.Context, v bulkhead.Validation) (seq int64, err error) {
	res, err := t.ExecContext(ctx, `INSERT INTO validations (id, authorization_id, account_id, name_type, name, wildcard, method,
		at, reuse_until, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, v.ID, v.AuthorizationID, v.AccountID,
		string(v.Identifier.Type), v.Identifier.Value, v.Wildcard, string(v.Method), unix(v.At), unix(v.ReuseUntil), text(v.Detail))
	if err == nil && t.memo != nil {
		seq, err = res.LastInsertId()
	}
	return seq, err
}

// claim is what an authorisation is for.
type claim struct {
	id       bulkhead.Identifier // without the wildcard label
	wildcard bool
}

func claims(ids []bulkhead.Identifier) map[claim]bool {
	out := map[claim]bool{}
	for _, id := range ids {
		out[claim{id.Base(), id.Wildcard()}] = true
	}
	return out
}

// ReusableAuthorizations returns valid authorisations of the account for the identifiers that do not expire before t,
// at most one per (identifier, wildcard): the one that lasts longest. A wildcard identifier is served by a wildcard
// authorisation only, a plain one by a plain one.
func (s *Store) ReusableAuthorizations(ctx context.Context, accountID string, ids []bulkhead.Identifier, t time.Time) ([]bulkhead.Authorization, error) {
	wanted := claims(ids)
	names := make([]string, 0, len(wanted))
	seen := map[string]bool{}
	for c := range wanted {
		if !seen[c.id.Value] {
			seen[c.id.Value] = true
			names = append(names, c.id.Value)
		}
	}
	var out []bulkhead.Authorization
	err := inChunks(names, 3, func(n string) any { return n }, func(_ []string, in string, args []any) error {
		rows, err := list(ctx, s.reader, scanAuthorization, `SELECT `+authorizationFields+` FROM authorizations
			WHERE account_id = $1 AND state = 'valid' AND expires_at >= $2 AND name IN `+in+` ORDER BY seq DESC`,
			append([]any{accountID, unix(t)}, args...)...)
		slices.SortStableFunc(rows, func(a, b bulkhead.Authorization) int { return b.ExpiresAt.Compare(a.ExpiresAt) })
		for _, a := range rows {
			if c := (claim{a.Identifier, a.Wildcard}); wanted[c] {
				delete(wanted, c)
				out = append(out, a)
			}
		}
		return err
	})
	return out, s.fault("ReusableAuthorizations", err)
}

// HoldsAuthorizations reports whether the account has a valid authorisation, not expired at t, for every identifier.
func (s *Store) HoldsAuthorizations(ctx context.Context, accountID string, ids []bulkhead.Identifier, t time.Time) (bool, error) {
	found, err := s.ReusableAuthorizations(ctx, accountID, ids, t)
	return err == nil && len(ids) > 0 && len(found) == len(claims(ids)), err
}
