package quorum

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Actions that this package executes itself; other actions are handed to Config.Execute.
const (
	ActionAddOperator    = approval.AddOperator
	ActionRemoveOperator = approval.RemoveOperator
	ActionAddKey         = approval.AddSecurityKey
)

// requestLifetime is how long a request waits for its approvals: a week covers a rota with a holiday in it.
const requestLifetime = 7 * 24 * time.Hour

// Executor carries out an approved action. It must be idempotent: after a crash it runs again.
type Executor func(ctx context.Context, r bulkhead.ApprovalRequest) error

// Config is what a quorum needs. Store is required; the rest has defaults.
type Config struct {
	Store   Store
	Needed  int                 // approvals that make a quorum; default 2
	Execute map[string]Executor // by action
	// People says how many of a quorum have to sign an action, from its payload; nil means all of them for every action.
	People func(action string, payload []byte, quorum int) int
	// First are the operators of the first start, from outside the store: nobody comes into office by a row alone. With nil
	// the rows are believed, with none of them nobody is in office.
	First   []bulkhead.Operator
	Origins []string                                    // where the house's pages are, for security keys
	Alarm   func(ctx context.Context, a bulkhead.Alarm) // nil: alarms are in the log alone
	Now     func() time.Time                            // default time.Now
	Rand    io.Reader                                   // default crypto/rand
	Log     *slog.Logger                                // default: discard
}

// Quorum proposes actions and counts the signatures under them.
type Quorum struct {
	cfg Config
}

// New checks the configuration.
func New(cfg Config) (*Quorum, error) {
	if cfg.Store == nil {
		return nil, fmt.Errorf("quorum: no store")
	}
	if cfg.Needed == 0 {
		cfg.Needed = 2
	}
	if cfg.Needed < 1 {
		return nil, fmt.Errorf("quorum: %d approvals make no quorum", cfg.Needed)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Quorum{cfg: cfg}, nil
}

// OperatorPayload is the payload of the actions about operators.
type OperatorPayload = approval.OperatorPayload

// Operators returns all operators, those who left included.
func (q *Quorum) Operators(ctx context.Context) ([]bulkhead.Operator, error) {
	return q.cfg.Store.Operators(ctx)
}

// Requests returns requests, newest first.
func (q *Quorum) Requests(ctx context.Context, limit int, states ...bulkhead.RequestState) ([]bulkhead.ApprovalRequest, error) {
	return q.cfg.Store.Requests(ctx, limit, states...)
}

// Request returns one request with its approvals.
func (q *Quorum) Request(ctx context.Context, id string) (bulkhead.ApprovalRequest, error) {
	return q.cfg.Store.Request(ctx, id)
}

// Propose opens a request for an action. The payload is marshalled once; approvals are over its digest.
func (q *Quorum) Propose(ctx context.Context, action string, payload any, actor, reason string) (bulkhead.ApprovalRequest, error) {
	if strings.TrimSpace(reason) == "" {
		return bulkhead.ApprovalRequest{}, bulkhead.NewFault(bulkhead.KindMalformed, "a request for approval needs a reason").WithHint("--reason \"why this is needed\"")
	}
	if err := q.checkProposal(ctx, action, payload); err != nil {
		return bulkhead.ApprovalRequest{}, err
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return bulkhead.ApprovalRequest{}, fmt.Errorf("encoding payload of %s: %w", action, err)
	}
	id := make([]byte, 10)
	if _, err := io.ReadFull(q.cfg.Rand, id); err != nil {
		return bulkhead.ApprovalRequest{}, fmt.Errorf("random id: %w", err)
	}
	now := q.cfg.Now().UTC()
	r := bulkhead.ApprovalRequest{
		ID:     strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id)),
		Action: action, Payload: body, Digest: approval.Digest(action, body),
		Needed: q.people(bulkhead.ApprovalRequest{Action: action, Payload: body}), State: bulkhead.RequestOpen, Actor: actor, Reason: reason,
		CreatedAt: now, ExpiresAt: now.Add(requestLifetime),
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvApproval, At: now, Actor: actor, Ref: r.ID, Digest: r.Digest, Count: int64(r.Needed), Detail: "requested " + action + ": " + reason}
	return r, q.cfg.Store.CreateRequest(ctx, r, ev)
}

// checkProposal refuses early what could never be executed.
func (q *Quorum) checkProposal(ctx context.Context, action string, payload any) error {
	switch action {
	case ActionAddOperator, ActionRemoveOperator, ActionAddKey:
		p, ok := payload.(OperatorPayload)
		if !ok {
			return bulkhead.Faultf(bulkhead.KindMalformed, "%s needs an operator payload", action)
		}
		return q.checkOperatorChange(ctx, action, p)
	default:
		if q.cfg.Execute[action] == nil {
			return bulkhead.Faultf(bulkhead.KindNotFound, "there is no action %q", action)
		}
		return nil
	}
}

// Approve adds one operator's signature and executes the action when the quorum stands. The returned request shows
// the state reached. signature is SignApproval's, or an encoded assertion of a security key.
func (q *Quorum) Approve(ctx context.Context, id string, keyHash bulkhead.Hash, signature []byte) (bulkhead.ApprovalRequest, error) {
	r, err := q.cfg.Store.Request(ctx, id)
	if err != nil {
		return r, err
	}
	now := q.cfg.Now().UTC()
	if r.State != bulkhead.RequestOpen {
		return r, bulkhead.Faultf(bulkhead.KindConflict, "request %s is %s", id, r.State).WithHint("bulkhead approve --list")
	}
	if now.After(r.ExpiresAt) {
		return r, bulkhead.Faultf(bulkhead.KindConflict, "request %s expired at %s", id, r.ExpiresAt.Format(time.RFC3339)).WithHint("ask for the action again")
	}
	office, err := q.office(ctx)
	if err != nil {
		return r, err
	}
	key, ok := office.Key(keyHash)
	if !ok {
		return r, bulkhead.NewFault(bulkhead.KindForbidden, "that key belongs to no operator in office").WithHint("bulkhead operator list")
	}
	if !approval.Has(key.Roles, approval.Approvers(r.Action)...) {
		return r, bulkhead.Faultf(bulkhead.KindForbidden, "operator %s has the roles %v, whose signature does not count for %s", key.Operator, key.Roles, r.Action).WithHint("bulkhead operator list")
	}
	if err := key.Verify(r, signature, q.cfg.Origins); err != nil {
		return r, err
	}
	for _, x := range r.Approvals {
		if x.Operator == key.Operator || x.KeyHash == keyHash {
			return r, bulkhead.Faultf(bulkhead.KindGate, "%s approved request %s already: one person counts once, and it takes %d", key.Operator, id, r.Needed).WithHint("another operator approves: bulkhead approve " + id + " --key FILE")
		}
	}
	if err := q.usedKey(ctx, key, signature); err != nil {
		return r, err
	}
	a := bulkhead.Approval{RequestID: id, Operator: key.Operator, KeyHash: keyHash, Signature: signature, At: now}
	ev := bulkhead.Evidence{Kind: bulkhead.EvApproval, At: now, Actor: "operator:" + key.Operator, Ref: id, KeyHash: keyHash, Digest: r.Digest, Detail: "approved " + r.Action}
	if err := q.cfg.Store.AddApproval(ctx, a, ev); err != nil {
		return r, err
	}
	return q.advance(ctx, id)
}

// Finish carries out a request that enough people signed, when that is left to do, and returns one that was carried out as it
// is. KindGate while signatures are missing.
func (q *Quorum) Finish(ctx context.Context, id string) (bulkhead.ApprovalRequest, error) {
	r, err := q.cfg.Store.Request(ctx, id)
	if err != nil || r.State == bulkhead.RequestExecuted {
		return r, err
	}
	if r.State == bulkhead.RequestRefused {
		return r, bulkhead.Faultf(bulkhead.KindConflict, "request %s was refused", id).WithHint("ask for the action again")
	}
	if r, err = q.advance(ctx, id); err != nil || r.State != bulkhead.RequestOpen {
		return r, err
	}
	return r, bulkhead.Faultf(bulkhead.KindGate, "request %s has the signatures of %d people and takes %d", id, len(r.Approvals), q.people(r)).WithHint("bulkhead approve " + id + " --key FILE")
}

// advance moves a request on when enough operators who are still in office have signed it.
func (q *Quorum) advance(ctx context.Context, id string) (bulkhead.ApprovalRequest, error) {
	r, err := q.cfg.Store.Request(ctx, id)
	if err != nil {
		return r, err
	}
	if r.State == bulkhead.RequestOpen {
		office, err := q.office(ctx)
		if err != nil {
			return r, err
		}
		if len(office.Signers(r)) < q.people(r) {
			return r, nil
		}
		if err := q.cfg.Store.MoveRequest(ctx, id, bulkhead.RequestOpen, bulkhead.RequestApproved); err != nil {
			return r, err
		}
		r.State = bulkhead.RequestApproved
	}
	return q.execute(ctx, r)
}

// execute carries out an approved request; Resume calls it again after a crash.
// The row says approved; the signatures decide.
func (q *Quorum) execute(ctx context.Context, r bulkhead.ApprovalRequest) (bulkhead.ApprovalRequest, error) {
	if err := q.Signed(ctx, r); err != nil {
		return q.refuse(ctx, r, err)
	}
	err := q.carryOut(ctx, r)
	now := q.cfg.Now().UTC()
	to, detail := bulkhead.RequestExecuted, "executed "+r.Action
	if err != nil {
		// Only a definite no ends a request. When a part we need was away the request stays approved, to run again.
		if k := bulkhead.KindOf(err); k == bulkhead.KindUnavailable || k == bulkhead.KindInternal {
			return r, err
		}
		to, detail = bulkhead.RequestRefused, "refused "+r.Action+": "+bulkhead.AsFault(err).Detail
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvApproval, At: now, Actor: "role:quorum", Ref: r.ID, Digest: r.Digest, Detail: detail}
	if mv := q.cfg.Store.MoveRequest(ctx, r.ID, bulkhead.RequestApproved, to, ev); mv != nil && err == nil {
		return r, mv
	}
	r.State = to
	return r, err
}

func (q *Quorum) carryOut(ctx context.Context, r bulkhead.ApprovalRequest) error {
	switch r.Action {
	case ActionAddOperator, ActionRemoveOperator, ActionAddKey:
		return q.changeOperator(ctx, r)
	}
	if q.cfg.Execute[r.Action] == nil {
		return bulkhead.Faultf(bulkhead.KindNotFound, "there is no action %q", r.Action)
	}
	return q.cfg.Execute[r.Action](ctx, r)
}

// Resume executes requests whose quorum stood when the process died.
func (q *Quorum) Resume(ctx context.Context) error {
	rs, err := q.cfg.Store.Requests(ctx, 1000, bulkhead.RequestApproved)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if _, err := q.execute(ctx, r); err != nil {
			q.cfg.Log.WarnContext(ctx, "an approved request could not be executed", slog.String("request", r.ID), slog.String("action", r.Action), slog.String("error", err.Error()))
		}
	}
	return nil
}
