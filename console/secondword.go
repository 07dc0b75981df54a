package console

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"slices"

	"bulkhead"
)

// ActionBindPerson binds a key to a person at a registration partner: by it that person's word for an order counts.
const ActionBindPerson = "partner.person"

func (a *API) personKeyRoutes() {
	route(a, "POST /api/v1/partners/{id}/people/{name}/key", operation[PersonKeyRequest, ApprovalView]{id: "bindPersonKey", do: a.bindPersonKey, plan: a.planBindPersonKey,
		summary: "propose the key by which a person at a partner approves orders; takes a quorum"})
	route(a, "GET /api/v1/partner/orders/{id}", operation[none, OrderView]{id: "showOrder", summary: "one order of the partner's customers", access: partnersOnly, do: a.showOrder})
}

// PersonKey is the payload of ActionBindPerson.
type PersonKey struct {
	Partner   string `json:"partner"`
	Name      string `json:"name"`
	PublicKey []byte `json:"public_key"` // Ed25519, 32 octets
}

// PersonKeyRequest brings a public key; the raw Ed25519 key, base64 in JSON.
type PersonKeyRequest struct {
	PublicKey []byte `json:"public_key"`
	Reason    string `json:"reason"`
}

func (a *API) personKey(ctx context.Context, r *http.Request, in PersonKeyRequest) (PersonKey, error) {
	k := PersonKey{Partner: r.PathValue("id"), Name: r.PathValue("name"), PublicKey: in.PublicKey}
	if len(in.PublicKey) != ed25519.PublicKeySize {
		return k, bulkhead.Faultf(bulkhead.KindMalformed, "the key of a person is Ed25519 with %d octets, this one has %d", ed25519.PublicKeySize, len(in.PublicKey))
	}
	people, err := a.cfg.Partners.People(ctx, k.Partner)
	if err != nil {
		return k, err
	}
	if !slices.ContainsFunc(people, func(p bulkhead.PartnerPerson) bool { return p.Name == k.Name && p.RevokedAt.IsZero() }) {
		return k, bulkhead.Faultf(bulkhead.KindNotFound, "there is no person %s at partner %s", k.Name, k.Partner).WithHint("bulkhead partner person add " + k.Partner + " " + k.Name)
	}
	return k, nil
}

func (a *API) bindPersonKey(ctx context.Context, w who, r *http.Request, in PersonKeyRequest) (ApprovalView, error) {
	k, err := a.personKey(ctx, r, in)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionBindPerson, k, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planBindPersonKey(ctx context.Context, w who, r *http.Request, in PersonKeyRequest) (Plan, error) {
	k, err := a.personKey(ctx, r, in)
	if err != nil {
		return Plan{}, err
	}
	return proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionBindPerson, k, w.actor(), in.Reason))
}

// highValue is what operators sign of an order.
func (a *API) highValue(ctx context.Context, id string) (OrderPayload, error) {
	o, err := a.cfg.Partners.OrderToApprove(ctx, id)
	if err != nil {
		return OrderPayload{}, err
	}
	names := a.cfg.Partners.HighValueNames(o)
	if len(names) == 0 {
		return OrderPayload{}, bulkhead.Faultf(bulkhead.KindConflict, "order %s has no name of the high-value list", id).WithHint("its client finalizes it")
	}
	return OrderPayload{Order: o.ID, Names: names}, nil
}

func (a *API) askOrder(ctx context.Context, w who, r *http.Request, in ReasonRequest) (ApprovalView, error) {
	p, err := a.highValue(ctx, r.PathValue("id"))
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionApproveOrder, p, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planAskOrder(ctx context.Context, w who, r *http.Request, in ReasonRequest) (Plan, error) {
	p, err := a.highValue(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	return proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionApproveOrder, p, w.actor(), in.Reason))
}

// SignedWord is a second person's word: the signature of the key that operators bound to the person, over the statement of
// the order (pki/approval: OrderStatement).
type SignedWord struct {
	Signature []byte `json:"signature"`
}

func (a *API) showOrder(ctx context.Context, w who, r *http.Request, _ none) (OrderView, error) {
	o, err := a.cfg.Partners.OrderToApprove(ctx, r.PathValue("id"))
	if err != nil {
		return OrderView{}, err
	}
	mine, err := a.cfg.Partners.Customers(ctx, w.person.Partner, 100_000)
	if err != nil {
		return OrderView{}, err
	}
	if !slices.ContainsFunc(mine, func(x bulkhead.Account) bool { return x.ID == o.AccountID }) {
		return OrderView{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no order %s", r.PathValue("id"))
	}
	return orderView(o, nil), nil
}

func (a *API) approveOrder(ctx context.Context, w who, r *http.Request, in SignedWord) (OrderView, error) {
	o, err := a.cfg.Partners.ApproveOrder(ctx, w.person, "", r.PathValue("id"), in.Signature)
	return orderView(o, []bulkhead.SecondApproval{{Actor: w.actor()}}), err
}

func (a *API) planApproveOrder(_ context.Context, w who, r *http.Request, _ SignedWord) (Plan, error) {
	return planOf("record the signed word of "+w.actor()+" for order "+r.PathValue("id")).butNot("whether the order is the partner's, and waits for it", "the signature"), nil
}
