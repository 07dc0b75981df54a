package quorum

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"bulkhead"
)

// Actions that this package executes itself; other actions are handed to Config.Execute.
const (
	ActionAddOperator    = "operator.add"
	ActionRemoveOperator = "operator.remove"
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
	Now     func() time.Time    // default time.Now
	Rand    io.Reader           // default crypto/rand
	Log     *slog.Logger        // default: discard
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

// OperatorPayload is the payload of the two operator actions.
type OperatorPayload struct {
	Name      string   `json:"name"`
	PublicKey []byte   `json:"public_key,omitempty"` // Ed25519, 32 bytes; for adding
	Roles     []string `json:"roles,omitempty"`
}

// Bootstrap puts the first operators into office. It refuses when there are any already: later ones need a quorum.
func (q *Quorum) Bootstrap(ctx context.Context, ops ...bulkhead.Operator) error {
	have, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return bulkhead.NewFault(bulkhead.KindConflict, "there are operators already").WithHint("bulkhead operator add NAME --public-key FILE")
	}
	for _, o := range ops {
		o.AddedAt = q.cfg.Now().UTC()
		ev := bulkhead.Evidence{Kind: bulkhead.EvOperator, At: o.AddedAt, Actor: "role:first-start", Ref: o.Name, KeyHash: o.KeyHash(), Detail: "added at first start"}
		if err := q.cfg.Store.PutOperator(ctx, o, ev); err != nil {
			return err
		}
	}
	return nil
}

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
		Action: action, Payload: body, Digest: bulkhead.Digest(append([]byte(action+"\n"), body...)),
		Needed: q.cfg.Needed, State: bulkhead.RequestOpen, Actor: actor, Reason: reason,
		CreatedAt: now, ExpiresAt: now.Add(requestLifetime),
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvApproval, At: now, Actor: actor, Ref: r.ID, Digest: r.Digest, Count: int64(r.Needed), Detail: "requested " + action + ": " + reason}
	return r, q.cfg.Store.CreateRequest(ctx, r, ev)
}

// checkProposal refuses early what could never be executed.
func (q *Quorum) checkProposal(ctx context.Context, action string, payload any) error {
	switch action {
	case ActionAddOperator, ActionRemoveOperator:
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

func (q *Quorum) checkOperatorChange(ctx context.Context, action string, p OperatorPayload) error {
	if err := bulkhead.AuthorityID(p.Name).Check(); err != nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%q is not an operator name", p.Name).WithHint("use lower-case letters, digits and '-'")
	}
	if err := CheckRoles(p.Roles); err != nil {
		return err
	}
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	inOffice, found := 0, false
	for _, o := range ops {
		if o.RemovedAt.IsZero() {
			if Has(o) || action == ActionAddOperator { // administrators: they alone approve every action
				inOffice++
			}
			found = found || o.Name == p.Name
			if action == ActionAddOperator && string(o.PublicKey) == string(p.PublicKey) {
				return bulkhead.Faultf(bulkhead.KindConflict, "that key is operator %s already: one key is one person", o.Name)
			}
		}
	}
	switch {
	case action == ActionAddOperator && len(p.PublicKey) != ed25519.PublicKeySize:
		return bulkhead.Faultf(bulkhead.KindMalformed, "an operator key is Ed25519 with %d octets, this one has %d", ed25519.PublicKeySize, len(p.PublicKey))
	case action == ActionAddOperator && found:
		return bulkhead.Faultf(bulkhead.KindConflict, "there is an operator %s already", p.Name).WithHint("bulkhead operator list")
	case action == ActionRemoveOperator && !found:
		return bulkhead.Faultf(bulkhead.KindNotFound, "there is no operator %s in office", p.Name).WithHint("bulkhead operator list")
	case action == ActionRemoveOperator && inOffice-admins(ops, p.Name) < q.cfg.Needed:
		return bulkhead.Faultf(bulkhead.KindGate, "removing %s would leave %d operators, a quorum needs %d", p.Name, inOffice-1, q.cfg.Needed).WithHint("add an operator first: bulkhead operator add NAME --public-key FILE")
	}
	return nil
}

// admins is 1 when the operator in office with the name is an administrator.
func admins(ops []bulkhead.Operator, name string) int {
	for _, o := range ops {
		if o.Name == name && o.RemovedAt.IsZero() && Has(o) {
			return 1
		}
	}
	return 0
}

// Review records that an operator in office confirmed that another one should still be one. It gives no power, so one
// person may.
func (q *Quorum) Review(ctx context.Context, by, name string) error {
	if by == name {
		return bulkhead.NewFault(bulkhead.KindGate, "nobody reviews himself").WithHint("another operator confirms: bulkhead operator review " + name)
	}
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	for _, o := range ops {
		if o.Name == name && o.RemovedAt.IsZero() {
			now := q.cfg.Now().UTC()
			return q.cfg.Store.ReviewOperator(ctx, name, now, bulkhead.Evidence{Kind: bulkhead.EvAccessReview, At: now, Actor: "operator:" + by, Ref: name, KeyHash: o.KeyHash(), Detail: "should still be an operator, with roles " + strings.Join(o.Roles, ", ")})
		}
	}
	return bulkhead.Faultf(bulkhead.KindNotFound, "there is no operator %s in office", name).WithHint("bulkhead operator list")
}

// Statement is what an operator signs: the request, what it would do, and the digest of exactly what was shown.
func Statement(r bulkhead.ApprovalRequest) []byte {
	return []byte("bulkhead approval v1\n" + r.ID + "\n" + r.Action + "\n" + r.Digest.String() + "\n")
}

// SignApproval signs a request as shown. It recomputes the digest, so that the signature is over what was read and
// not over what a server claims it was.
func SignApproval(key ed25519.PrivateKey, r bulkhead.ApprovalRequest) []byte {
	r.Digest = bulkhead.Digest(append([]byte(r.Action+"\n"), r.Payload...))
	return ed25519.Sign(key, Statement(r))
}

// Approve adds one operator's signature and executes the action when the quorum stands. The returned request shows
// the state reached.
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
	op, err := q.inOffice(ctx, keyHash)
	if err != nil {
		return r, err
	}
	if !Has(op, approvers(r.Action)...) {
		return r, bulkhead.Faultf(bulkhead.KindForbidden, "operator %s has the roles %v, whose signature does not count for %s", op.Name, op.Roles, r.Action).WithHint("bulkhead operator list")
	}
	if !ed25519.Verify(op.PublicKey, Statement(r), signature) {
		return r, bulkhead.Faultf(bulkhead.KindUnauthorized, "the signature of %s is not over what request %s shows", op.Name, id)
	}
	for _, x := range r.Approvals {
		if x.Operator == op.Name || x.KeyHash == keyHash {
			return r, bulkhead.Faultf(bulkhead.KindGate, "%s approved request %s already: one person counts once, and it takes %d", op.Name, id, r.Needed).WithHint("another operator approves: bulkhead approve " + id + " --key FILE")
		}
	}
	a := bulkhead.Approval{RequestID: id, Operator: op.Name, KeyHash: keyHash, Signature: signature, At: now}
	ev := bulkhead.Evidence{Kind: bulkhead.EvApproval, At: now, Actor: "operator:" + op.Name, Ref: id, KeyHash: keyHash, Digest: r.Digest, Detail: "approved " + r.Action}
	if err := q.cfg.Store.AddApproval(ctx, a, ev); err != nil {
		return r, err
	}
	return q.advance(ctx, id)
}

// inOffice finds the operator with the key.
func (q *Quorum) inOffice(ctx context.Context, keyHash bulkhead.Hash) (bulkhead.Operator, error) {
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return bulkhead.Operator{}, err
	}
	for _, o := range ops {
		if o.KeyHash() == keyHash && o.RemovedAt.IsZero() && len(o.PublicKey) == ed25519.PublicKeySize {
			return o, nil
		}
	}
	return bulkhead.Operator{}, bulkhead.NewFault(bulkhead.KindForbidden, "that key belongs to no operator in office").WithHint("bulkhead operator list")
}

// advance moves a request on when enough operators who are still in office have signed it.
func (q *Quorum) advance(ctx context.Context, id string) (bulkhead.ApprovalRequest, error) {
	r, err := q.cfg.Store.Request(ctx, id)
	if err != nil {
		return r, err
	}
	if r.State == bulkhead.RequestOpen {
		n := 0
		for _, a := range r.Approvals {
			if op, err := q.inOffice(ctx, a.KeyHash); err == nil && Has(op, approvers(r.Action)...) {
				n++
			}
		}
		if n < r.Needed {
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
func (q *Quorum) execute(ctx context.Context, r bulkhead.ApprovalRequest) (bulkhead.ApprovalRequest, error) {
	var err error
	switch r.Action {
	case ActionAddOperator, ActionRemoveOperator:
		err = q.changeOperator(ctx, r)
	default:
		if q.cfg.Execute[r.Action] == nil {
			err = bulkhead.Faultf(bulkhead.KindNotFound, "there is no action %q", r.Action)
		} else {
			err = q.cfg.Execute[r.Action](ctx, r)
		}
	}
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

func (q *Quorum) changeOperator(ctx context.Context, r bulkhead.ApprovalRequest) error {
	var p OperatorPayload
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the payload of the request cannot be read").WithCause(err)
	}
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	now := q.cfg.Now().UTC()
	next := bulkhead.Operator{Name: p.Name, PublicKey: p.PublicKey, Roles: p.Roles, AddedAt: now}
	for _, o := range ops {
		if o.Name == p.Name && o.RemovedAt.IsZero() && r.Action == ActionAddOperator && string(o.PublicKey) == string(p.PublicKey) {
			return nil // done before a crash
		}
		if o.Name == p.Name && r.Action == ActionRemoveOperator {
			if !o.RemovedAt.IsZero() {
				return nil
			}
			next = o
			next.RemovedAt = now
		}
	}
	if err := q.checkOperatorChange(ctx, r.Action, p); err != nil {
		return err
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvOperator, At: now, Actor: "role:quorum", Ref: p.Name, KeyHash: next.KeyHash(), Digest: r.Digest, Detail: r.Action + " by request " + r.ID}
	return q.cfg.Store.PutOperator(ctx, next, ev)
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
