package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Quorum actions that end an authority.
const (
	ActionRetire     = "hierarchy.retire"
	ActionDestroyKey = "hierarchy.destroy-key"
)

// Endings says what the end of an authority would be. Nothing is carried out here: two people approve what was said.
type Endings interface {
	// Retirement of an authority that issues; KindConflict, KindGate where it cannot be.
	Retirement(ctx context.Context, id bulkhead.AuthorityID) (Retirement, error)
	// Destruction of the key of a revoked authority. KindGate while certificates below it are good, unless that is accepted.
	Destruction(ctx context.Context, id bulkhead.AuthorityID, acceptGood bool) (Destruction, error)
}

// Retirement is what people approve: the authority issues nothing more, for good, and goes on answering.
type Retirement struct {
	Authority bulkhead.AuthorityID `json:"authority"`
	Subject   string               `json:"subject"`
	KeySHA256 bulkhead.Hash        `json:"key_sha256"`
	Good      int64                `json:"good"` // certificates below it that are in force; nothing becomes of them
}

// Destruction is what people approve, and by their signatures witness: which key, where it is, and what is owed afterwards.
type Destruction struct {
	Authority bulkhead.AuthorityID `json:"authority"`
	Subject   string               `json:"subject"`
	KeySHA256 bulkhead.Hash        `json:"key_sha256"`
	KeyURI    string               `json:"key_uri"`
	Revoked   int64                `json:"revoked"` // certificates below it that have not ended
	Good      int64                `json:"good"`    // the same, in force: once the key is gone no CRL can name them
	LastEnd   *time.Time           `json:"last_end,omitempty"`
	Sealed    string               `json:"sealed"` // what is signed in advance
	Notice    string               `json:"notice"` // what destroying cannot promise
}

func (a *API) endingRoutes() {
	route(a, "POST /api/v1/authorities/{id}/retirement", operation[ReasonRequest, ApprovalView]{id: "retireAuthority", do: a.retire, plan: a.planRetire,
		summary: "ask for the approvals that retire an authority: it issues no more and goes on answering"})
	route(a, "POST /api/v1/authorities/{id}/destruction", operation[DestructionRequest, ApprovalView]{id: "destroyKey", do: a.destroyKey, plan: a.planDestroyKey,
		summary: "ask for the approvals that destroy the key of a revoked authority; its status is signed in advance"})
}

func (a *API) retirement(ctx context.Context, r *http.Request, in ReasonRequest) (Retirement, error) {
	if err := reason(in.Reason); err != nil {
		return Retirement{}, err
	}
	return a.cfg.Endings.Retirement(ctx, bulkhead.AuthorityID(r.PathValue("id")))
}

func (a *API) retire(ctx context.Context, w who, r *http.Request, in ReasonRequest) (ApprovalView, error) {
	p, err := a.retirement(ctx, r, in)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionRetire, p, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planRetire(ctx context.Context, w who, r *http.Request, in ReasonRequest) (Plan, error) {
	p, err := a.retirement(ctx, r, in)
	if err != nil {
		return Plan{}, err
	}
	plan, err := proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionRetire, p, w.actor(), in.Reason))
	if err == nil {
		plan.Would = append(plan.Would, fmt.Sprintf("then retire %s for good: it issues no more, and answers for %d certificates in force", p.Authority, p.Good))
	}
	return plan, err
}

// DestructionRequest says why, and whether certificates in force may be left without a CRL that could ever name them.
type DestructionRequest struct {
	Reason     string `json:"reason"`
	AcceptGood bool   `json:"accept_good,omitempty"`
}

func (a *API) destruction(ctx context.Context, r *http.Request, in DestructionRequest) (Destruction, error) {
	if err := reason(in.Reason); err != nil {
		return Destruction{}, err
	}
	return a.cfg.Endings.Destruction(ctx, bulkhead.AuthorityID(r.PathValue("id")), in.AcceptGood)
}

func (a *API) destroyKey(ctx context.Context, w who, r *http.Request, in DestructionRequest) (ApprovalView, error) {
	p, err := a.destruction(ctx, r, in)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionDestroyKey, p, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planDestroyKey(ctx context.Context, w who, r *http.Request, in DestructionRequest) (Plan, error) {
	p, err := a.destruction(ctx, r, in)
	if err != nil {
		return Plan{}, err
	}
	plan, err := proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionDestroyKey, p, w.actor(), in.Reason))
	if err == nil {
		plan.Would = append(plan.Would, "then sign in advance: "+p.Sealed, "then destroy the key "+p.KeyURI+" for good")
		plan = plan.butNot("whether the key can be reached: " + p.Notice)
	}
	return plan, err
}
