package quorum

import (
	"context"
	"crypto/ed25519"
	"log/slog"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Detector is the alarm of a request or a change that says approved and is not signed.
const (
	Detector = "quorum"
	Runbook  = "quorum-missing.md"
)

// Statement is what an operator signs: the request, what it would do, and the digest of exactly what was shown.
func Statement(r bulkhead.ApprovalRequest) []byte { return approval.Statement(r) }

// SignApproval signs a request as shown. The digest is computed anew, so that the signature is over what was read and
// not over what a server claims it was.
func SignApproval(key ed25519.PrivateKey, r bulkhead.ApprovalRequest) []byte {
	return ed25519.Sign(key, approval.Statement(r))
}

// SignOrder signs the approval of an order as shown, as a person at a registration partner.
func SignOrder(key ed25519.PrivateKey, partner, person, order string, names []bulkhead.Identifier) []byte {
	return ed25519.Sign(key, approval.OrderStatement(partner, person, order, names))
}

// office works out whose signatures count now.
func (q *Quorum) office(ctx context.Context) (approval.Office, error) {
	var r approval.Record
	var err error
	if r.Operators, err = q.cfg.Store.Operators(ctx); err != nil {
		return approval.Office{}, err
	}
	if r.Keys, err = q.cfg.Store.SecurityKeys(ctx); err != nil {
		return approval.Office{}, err
	}
	if r.Requests, err = q.cfg.Store.OperatorRequests(ctx); err != nil {
		return approval.Office{}, err
	}
	return approval.NewOffice(q.cfg.First, q.cfg.Needed, q.cfg.Origins, r), nil
}

// Signed fails with KindGate unless a quorum of those whose signatures count signed exactly this request.
func (q *Quorum) Signed(ctx context.Context, r bulkhead.ApprovalRequest) error {
	o, err := q.office(ctx)
	if err != nil {
		return err
	}
	return o.Enough(r, q.people(r))
}

// people is how many have to sign a request: it is worked out from what would be done, and not read from the row.
func (q *Quorum) people(r bulkhead.ApprovalRequest) int {
	if q.cfg.People == nil {
		return q.cfg.Needed
	}
	return min(max(q.cfg.People(r.Action, r.Payload, q.cfg.Needed), 1), q.cfg.Needed)
}

// Stands returns a request that a quorum signed and that waits for nothing more; KindGate when it only says so.
func (q *Quorum) Stands(ctx context.Context, id string) (bulkhead.ApprovalRequest, error) {
	r, err := q.cfg.Store.Request(ctx, id)
	if err != nil {
		return r, err
	}
	if r.State != bulkhead.RequestApproved && r.State != bulkhead.RequestExecuted {
		return r, bulkhead.Faultf(bulkhead.KindGate, "request %s is %s", id, r.State).WithHint("bulkhead approve " + id + " --key FILE")
	}
	return r, q.Signed(ctx, r)
}

// refuse ends a request that says approved without the signatures, and raises the alarm.
func (q *Quorum) refuse(ctx context.Context, r bulkhead.ApprovalRequest, why error) (bulkhead.ApprovalRequest, error) {
	if bulkhead.KindOf(why) != bulkhead.KindGate {
		return r, why
	}
	detail := bulkhead.AsFault(why).Detail
	ev := bulkhead.Evidence{Kind: bulkhead.EvUnsigned, At: q.cfg.Now().UTC(), Actor: "role:quorum", Ref: r.ID, Digest: r.Digest, Detail: detail}
	if err := q.cfg.Store.MoveRequest(ctx, r.ID, bulkhead.RequestApproved, bulkhead.RequestRefused, ev); err != nil {
		return r, err
	}
	r.State = bulkhead.RequestRefused
	q.cfg.Log.ErrorContext(ctx, "a request says approved and is not signed", slog.String("request", r.ID), slog.String("detail", detail))
	if q.cfg.Alarm != nil {
		q.cfg.Alarm(ctx, bulkhead.Alarm{Detector: Detector, Key: r.ID, Severity: bulkhead.Critical, Runbook: Runbook, Message: detail + ": nothing was done"})
	}
	return r, why
}

// usedKey moves the counter of a security key; a counter that does not go forward is a copy of the key.
func (q *Quorum) usedKey(ctx context.Context, k approval.Key, signature []byte) error {
	if k.Security == nil {
		return nil
	}
	a, err := approval.ParseAssertion(signature)
	if err != nil {
		return err
	}
	return q.UseKey(ctx, k.Operator, *k.Security, a.Counter())
}

// UseKey records that a security key was used, with its counter. KindForbidden, and an alarm, when the counter does not go
// forward: somebody has a copy of the key (WebAuthn section 6.1.1).
func (q *Quorum) UseKey(ctx context.Context, owner string, k approval.SecurityKey, counter uint32) error {
	err := q.cfg.Store.UseSecurityKey(ctx, k.ID, counter, q.cfg.Now().UTC())
	if bulkhead.KindOf(err) != bulkhead.KindConflict {
		return err
	}
	if q.cfg.Alarm != nil {
		q.cfg.Alarm(ctx, bulkhead.Alarm{Detector: Detector, Key: "copy," + bulkhead.Digest(k.PublicKey).String()[:16], Severity: bulkhead.Critical, Runbook: Runbook,
			Message: "security key " + k.Label + " of operator " + owner + " counts backwards: there is a copy of it"})
	}
	return bulkhead.Faultf(bulkhead.KindForbidden, "security key %q counts backwards: there is a copy of it, and it does not count", k.Label).WithHint("take it away: bulkhead operator keys drop KEY --reason TEXT")
}

// Holder finds whose key in office it is; KindForbidden for a key that no quorum bound, or that counts no more.
func (q *Quorum) Holder(ctx context.Context, key bulkhead.Hash) (approval.Key, error) {
	o, err := q.office(ctx)
	if err != nil {
		return approval.Key{}, err
	}
	k, ok := o.Key(key)
	if !ok {
		return k, bulkhead.NewFault(bulkhead.KindForbidden, "that key belongs to no operator in office").WithHint("bulkhead operator list")
	}
	return k, nil
}
