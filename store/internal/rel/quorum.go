package rel

import (
	"context"

	"bulkhead"
)

// PutOperator inserts or replaces by name.
func (s *Store) PutOperator(ctx context.Context, o bulkhead.Operator, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutOperator", ev, func(t *tx) error {
		_, err := exec(ctx, t, `INSERT INTO operators (name, public_key, roles, added_at, removed_at, reviewed_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (name) DO UPDATE SET public_key = excluded.public_key, roles = excluded.roles,
			added_at = excluded.added_at, removed_at = excluded.removed_at, reviewed_at = excluded.reviewed_at`,
			o.Name, blob(o.PublicKey), jsonArg(o.Roles), unix(o.AddedAt), unix(o.RemovedAt), unix(o.ReviewedAt))
		return err
	})
}

// Operators returns every operator, those out of office included, by name.
func (s *Store) Operators(ctx context.Context) ([]bulkhead.Operator, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (o bulkhead.Operator, err error) {
		err = r.Scan(&o.Name, bytesCol{&o.PublicKey}, jsonCol{&o.Roles}, timeCol{&o.AddedAt}, timeCol{&o.RemovedAt}, timeCol{&o.ReviewedAt})
		return o, err
	}, `SELECT name, public_key, roles, added_at, removed_at, reviewed_at FROM operators ORDER BY name`)
	return rows, s.fault("Operators", err)
}

const requestFields = `id, action, payload, digest, needed, state, actor, reason, created_at, expires_at`

func scanRequest(r scanner) (bulkhead.ApprovalRequest, error) {
	var q bulkhead.ApprovalRequest
	err := r.Scan(&q.ID, &q.Action, bytesCol{&q.Payload}, hashCol{&q.Digest}, &q.Needed, &q.State, &q.Actor, &q.Reason,
		timeCol{&q.CreatedAt}, timeCol{&q.ExpiresAt})
	return q, err
}

// CreateRequest inserts a request, and the approvals that it brings; KindConflict when the id exists.
func (s *Store) CreateRequest(ctx context.Context, r bulkhead.ApprovalRequest, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "CreateRequest", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO requests (`+requestFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT DO NOTHING`, r.ID, r.Action, blob(r.Payload), hashArg(r.Digest), int64(r.Needed), string(r.State),
			text(r.Actor), text(r.Reason), unix(r.CreatedAt), unix(r.ExpiresAt))
		if err != nil {
			return err
		}
		if n == 0 {
			return conflict("request %s exists", r.ID)
		}
		for _, a := range r.Approvals {
			a.RequestID = r.ID
			if err := t.addApproval(ctx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// Request returns a request with its approvals; KindNotFound when there is none.
func (s *Store) Request(ctx context.Context, id string) (bulkhead.ApprovalRequest, error) {
	r, err := one(ctx, s.reader, scanRequest, `SELECT `+requestFields+` FROM requests WHERE id = $1`, id)
	if err != nil {
		return r, s.fault("Request", absent(err, "request", id))
	}
	with, err := s.withApprovals(ctx, []bulkhead.ApprovalRequest{r})
	if err != nil {
		return r, s.fault("Request", err)
	}
	return with[0], nil
}

// Requests returns requests in any of the states (all when none is given) with their approvals, newest first.
func (s *Store) Requests(ctx context.Context, limit int, states ...bulkhead.RequestState) ([]bulkhead.ApprovalRequest, error) {
	where, args := oneOf("state", 2, states)
	rows, err := list(ctx, s.reader, scanRequest, `SELECT `+requestFields+` FROM requests WHERE `+where+` ORDER BY seq DESC LIMIT $1`,
		append([]any{atMost(limit)}, args...)...)
	if err != nil {
		return nil, s.fault("Requests", err)
	}
	rows, err = s.withApprovals(ctx, rows)
	return rows, s.fault("Requests", err)
}

// ActionRequests returns the requests for any of the actions, whatever became of them, with their approvals, oldest first.
func (s *Store) ActionRequests(ctx context.Context, actions ...string) ([]bulkhead.ApprovalRequest, error) {
	where, args := oneOf("action", 1, actions)
	rows, err := list(ctx, s.reader, scanRequest, `SELECT `+requestFields+` FROM requests WHERE `+where+` ORDER BY seq`, args...)
	if err != nil {
		return nil, s.fault("ActionRequests", err)
	}
	rows, err = s.withApprovals(ctx, rows)
	return rows, s.fault("ActionRequests", err)
}

// withApprovals fills in the approvals, in the order of their time.
func (s *Store) withApprovals(ctx context.Context, requests []bulkhead.ApprovalRequest) ([]bulkhead.ApprovalRequest, error) {
	at := map[string]int{}
	for i, r := range requests {
		at[r.ID] = i
	}
	return requests, inChunks(requests, 1, func(r bulkhead.ApprovalRequest) any { return r.ID },
		func(_ []bulkhead.ApprovalRequest, in string, args []any) error {
			rows, err := list(ctx, s.reader, func(r scanner) (a bulkhead.Approval, err error) {
				err = r.Scan(&a.RequestID, &a.Operator, hashCol{&a.KeyHash}, bytesCol{&a.Signature}, timeCol{&a.At})
				return a, err
			}, `SELECT request_id, operator, key_hash, signature, at FROM approvals WHERE request_id IN `+in+` ORDER BY at, operator`, args...)
			for _, a := range rows {
				r := &requests[at[a.RequestID]]
				r.Approvals = append(r.Approvals, a)
			}
			return err
		})
}

// AddApproval inserts; KindConflict when the operator approved this request before, KindNotFound when there is no such
// request.
func (s *Store) AddApproval(ctx context.Context, a bulkhead.Approval, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "AddApproval", ev, func(t *tx) error {
		var seq int64
		if err := t.QueryRowContext(ctx, `SELECT seq FROM requests WHERE id = $1`, a.RequestID).Scan(&seq); err != nil {
			return absent(err, "request", a.RequestID)
		}
		return t.addApproval(ctx, a)
	})
}

func (t *tx) addApproval(ctx context.Context, a bulkhead.Approval) error {
	n, err := exec(ctx, t, `INSERT INTO approvals (request_id, operator, key_hash, signature, at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT DO NOTHING`, a.RequestID, a.Operator, hashArg(a.KeyHash), blob(a.Signature), unix(a.At))
	if err == nil && n == 0 {
		return conflict("operator %s approved request %s before", a.Operator, a.RequestID)
	}
	return err
}

// MoveRequest changes the state if it is still expect; KindConflict otherwise.
func (s *Store) MoveRequest(ctx context.Context, id string, expect, to bulkhead.RequestState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveRequest", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE requests SET state = $3 WHERE id = $1 AND state = $2`, id, string(expect), string(to))
		return t.moved(ctx, n, err, "requests", "request", id, string(expect))
	})
}
