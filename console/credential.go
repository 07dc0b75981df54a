package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Credentials are what operators decide about accounts and what opens them.
type Credentials interface {
	AnyAccount(ctx context.Context, id string) (bulkhead.Account, error)
	// ResetCredentials kills every API token, unused external account key and token of a person at a partner.
	ResetCredentials(ctx context.Context, actor, why string) (tokens, externalKeys, people int, err error)
	SuspendAccount(ctx context.Context, actor, id, why string) (bulkhead.Account, error)
	RollAccount(ctx context.Context, actor, id, why string) (bulkhead.Account, error)
	RollAccounts(ctx context.Context, actor, why string) (int, error)
	NewToken(ctx context.Context, actor, id string) (bulkhead.Account, string, error)
	// SetContacts replaces the mail addresses of an account's holder.
	SetContacts(ctx context.Context, actor, id string, addresses []string) (bulkhead.Account, error)
}

// ActionResumeAccount is the quorum action that lets a suspended account in again.
const ActionResumeAccount = "account.resume"

// AccountPayload names the account of an approval.
type AccountPayload struct {
	Account string `json:"account"`
}

func (a *API) credentialRoutes() {
	route(a, "GET /api/v1/accounts/{id}", operation[none, AccountView]{id: "showAccount", summary: "one account", do: a.showAccount})
	route(a, "POST /api/v1/credentials/reset", operation[ResetRequest, ResetResponse]{id: "resetCredentials", do: a.resetCredentials, plan: a.planReset,
		summary: "kill every API token, external account key and partner token at once"})
	route(a, "POST /api/v1/credentials/roll", operation[ResetRequest, RollResponse]{id: "rollAccounts", do: a.rollAccounts, plan: a.planRoll,
		summary: "make every ACME account change its key before it orders again"})
	route(a, "POST /api/v1/accounts/{id}/roll", operation[ReasonRequest, AccountView]{id: "rollAccount", do: a.rollAccount, plan: a.planRollOne,
		summary: "make one ACME account change its key before it orders again"})
	route(a, "POST /api/v1/accounts/{id}/suspension", operation[ReasonRequest, AccountView]{id: "suspendAccount", do: a.suspendAccount, plan: a.planSuspend,
		summary: "keep an account out at once, on one person's word"})
	route(a, "POST /api/v1/accounts/{id}/resumption", operation[ReasonRequest, ApprovalView]{id: "resumeAccount", do: a.resumeAccount, plan: a.planResumeAccount,
		summary: "ask for the approvals that let a suspended account in again"})
	route(a, "POST /api/v1/accounts/{id}/token", operation[none, NewAccountResponse]{id: "newToken", do: a.newToken, plan: a.planToken,
		summary: "give an API account another token; it is in this answer only"})
	route(a, "POST /api/v1/accounts/{id}/contacts", operation[ContactsRequest, AccountView]{id: "setContacts", access: partnersToo, do: a.setContacts, plan: a.planContacts,
		summary: "replace the mail addresses at which the holder of an account is told of incidents; accounts their own, partners their customers'"})
}

// ReasonRequest says why.
type ReasonRequest struct {
	Reason string `json:"reason"`
}

// ResetRequest is for everybody, and says so.
type ResetRequest struct {
	All    bool   `json:"all"`
	Reason string `json:"reason"`
}

func (in ResetRequest) check() error {
	if !in.All {
		return bulkhead.NewFault(bulkhead.KindUsage, "this is for all accounts, and \"all\" is not true").WithHint("add --all")
	}
	return reason(in.Reason)
}

func reason(text string) error {
	if text == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "this needs a reason for the record").WithHint("add --reason TEXT")
	}
	return nil
}

// ResetResponse counts what is dead.
type ResetResponse struct {
	Tokens        int `json:"tokens"`         // of API accounts
	ExternalKeys  int `json:"external_keys"`  // that had made no account
	PartnerTokens int `json:"partner_tokens"` // of people at registration partners
}

// RollResponse counts the accounts that must change their keys.
type RollResponse struct {
	Accounts int `json:"accounts"`
}

// AccountView is an account as people and programs read it.
type AccountView struct {
	ID        string                `json:"id"`
	State     bulkhead.AccountState `json:"state"`
	Kind      string                `json:"kind"` // acme or api
	Token     bool                  `json:"token"`
	OwnNames  bool                  `json:"own_names"`
	Partner   string                `json:"partner,omitempty"`
	Creator   string                `json:"creator,omitempty"`
	Contacts  []string              `json:"contacts"`
	RollDue   *time.Time            `json:"roll_due,omitempty"` // since when its key must be changed
	CreatedAt time.Time             `json:"created_at"`
}

func accountView(x bulkhead.Account) AccountView {
	v := AccountView{ID: x.ID, State: x.State, Kind: "acme", Token: !x.TokenHash.IsZero(), OwnNames: x.Operator, Partner: x.Partner, Creator: x.Creator,
		Contacts: append([]string{}, x.Contacts...), CreatedAt: x.CreatedAt.UTC()}
	if x.Thumbprint == "" {
		v.Kind = "api"
	}
	if !x.RollDue.IsZero() {
		t := x.RollDue.UTC()
		v.RollDue = &t
	}
	return v
}

func (a *API) showAccount(ctx context.Context, _ who, r *http.Request, _ none) (AccountView, error) {
	x, err := a.cfg.Credentials.AnyAccount(ctx, r.PathValue("id"))
	return accountView(x), err
}

func (a *API) resetCredentials(ctx context.Context, w who, _ *http.Request, in ResetRequest) (ResetResponse, error) {
	if err := in.check(); err != nil {
		return ResetResponse{}, err
	}
	t, k, p, err := a.cfg.Credentials.ResetCredentials(ctx, w.actor(), in.Reason)
	return ResetResponse{t, k, p}, err
}

func (a *API) planReset(_ context.Context, _ who, _ *http.Request, in ResetRequest) (Plan, error) {
	if err := in.check(); err != nil {
		return Plan{}, err
	}
	return planOf("kill every API token", "kill every external account key that has made no account", "kill every token of a person at a registration partner").butNot("how many there are"), nil
}

func (a *API) rollAccounts(ctx context.Context, w who, _ *http.Request, in ResetRequest) (RollResponse, error) {
	if err := in.check(); err != nil {
		return RollResponse{}, err
	}
	n, err := a.cfg.Credentials.RollAccounts(ctx, w.actor(), in.Reason)
	return RollResponse{n}, err
}

func (a *API) planRoll(_ context.Context, _ who, _ *http.Request, in ResetRequest) (Plan, error) {
	if err := in.check(); err != nil {
		return Plan{}, err
	}
	return planOf("refuse orders of every ACME account until it has changed its key").butNot("how many there are"), nil
}

// one plans a step for one account that has to exist.
func (a *API) one(ctx context.Context, r *http.Request, in ReasonRequest, would string) (Plan, error) {
	x, err := a.cfg.Credentials.AnyAccount(ctx, r.PathValue("id"))
	if err == nil {
		err = reason(in.Reason)
	}
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("%s (account %s is %s)", would, x.ID, x.State)), nil
}

func (a *API) rollAccount(ctx context.Context, w who, r *http.Request, in ReasonRequest) (AccountView, error) {
	x, err := a.cfg.Credentials.RollAccount(ctx, w.actor(), r.PathValue("id"), in.Reason)
	return accountView(x), err
}

func (a *API) planRollOne(ctx context.Context, _ who, r *http.Request, in ReasonRequest) (Plan, error) {
	return a.one(ctx, r, in, "refuse its orders until it has changed its key")
}

func (a *API) suspendAccount(ctx context.Context, w who, r *http.Request, in ReasonRequest) (AccountView, error) {
	x, err := a.cfg.Credentials.SuspendAccount(ctx, w.actor(), r.PathValue("id"), in.Reason)
	return accountView(x), err
}

func (a *API) planSuspend(ctx context.Context, _ who, r *http.Request, in ReasonRequest) (Plan, error) {
	return a.one(ctx, r, in, "keep it out until two operators let it in; its certificates stay")
}

func (a *API) resumeAccount(ctx context.Context, w who, r *http.Request, in ReasonRequest) (ApprovalView, error) {
	x, err := a.suspended(ctx, r)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionResumeAccount, AccountPayload{x.ID}, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) suspended(ctx context.Context, r *http.Request) (bulkhead.Account, error) {
	x, err := a.cfg.Credentials.AnyAccount(ctx, r.PathValue("id"))
	if err == nil && x.State != bulkhead.AccountSuspended {
		err = bulkhead.Faultf(bulkhead.KindConflict, "account %s is %s, not suspended", x.ID, x.State).WithHint("bulkhead account show " + x.ID)
	}
	return x, err
}

func (a *API) planResumeAccount(ctx context.Context, w who, r *http.Request, in ReasonRequest) (Plan, error) {
	x, err := a.suspended(ctx, r)
	if err != nil {
		return Plan{}, err
	}
	return proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionResumeAccount, AccountPayload{x.ID}, w.actor(), in.Reason))
}

func (a *API) newToken(ctx context.Context, w who, r *http.Request, _ none) (NewAccountResponse, error) {
	x, token, err := a.cfg.Credentials.NewToken(ctx, w.actor(), r.PathValue("id"))
	return NewAccountResponse{x.ID, token}, err
}

func (a *API) planToken(ctx context.Context, _ who, r *http.Request, _ none) (Plan, error) {
	return a.one(ctx, r, ReasonRequest{"-"}, "make another token for it, show it once, and kill the one before")
}
