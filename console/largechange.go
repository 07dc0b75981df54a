package console

import (
	"context"
	"fmt"
	"net/http"

	"bulkhead"
)

// largeChangeRoutes plan changes that one request does not hold: in parts, or by a query.
func (a *API) largeChangeRoutes() {
	route(a, "POST /api/v1/open-changes", operation[OpenChangeRequest, ChangeView]{id: "openChange", do: a.openChange, plan: a.rehearseOpenChange,
		summary: "begin a change whose certificates come in parts; nothing goes public"})
	route(a, "POST /api/v1/changes/{id}/items", operation[ChangePart, ChangeCount]{id: "addChangeItems", do: a.addChangeItems, plan: a.rehearseChangeItems,
		summary: "add up to 20,000 certificates of one issuer to an open change; sent again it adds nothing"})
	route(a, "POST /api/v1/changes/{id}/preview", operation[none, ChangeView]{id: "previewChange", do: a.previewChange, plan: a.rehearsePreviewChange,
		summary: "close an open change and preview it"})
	route(a, "POST /api/v1/scope-changes", operation[ScopeChangeRequest, ChangeView]{id: "planScopeChange", do: a.planScopeChange, plan: a.rehearseScopeChange,
		summary: "plan and preview the revocation of every certificate in use that a query selects; nothing goes public"})
}

// OpenChangeRequest says why.
type OpenChangeRequest struct {
	Why string `json:"why"` // for the record
}

// ChangePart is a part of an open change.
type ChangePart struct {
	Issuer  bulkhead.AuthorityID `json:"issuer"`
	Serials []bulkhead.Serial    `json:"serials"`          // at most 20,000
	Reason  string               `json:"reason,omitempty"` // RFC 5280 name for all of them; default unspecified
}

// ChangeCount is how many certificates an open change has by now.
type ChangeCount struct {
	ID    string `json:"id"`
	Count int    `json:"count"`
}

// ScopeChangeRequest selects the certificates of a change by a query, as an incident does. Certificates of authorities and
// delegates are never selected.
type ScopeChangeRequest struct {
	Scope  bulkhead.Scope `json:"scope"`
	Reason string         `json:"reason,omitempty"` // RFC 5280 name for all of them; default unspecified
	Why    string         `json:"why"`              // for the record
}

func forRecord(why string) error {
	if why == "" {
		return bulkhead.NewFault(bulkhead.KindMalformed, "a change needs a reason for the record").WithHint("--why \"why this is needed\"")
	}
	return nil
}

func reasonOf(name string) (bulkhead.Reason, error) {
	if name == "" {
		return bulkhead.Unspecified, nil
	}
	return bulkhead.ParseReason(name)
}

func (a *API) openChange(ctx context.Context, w who, _ *http.Request, in OpenChangeRequest) (ChangeView, error) {
	if err := forRecord(in.Why); err != nil {
		return ChangeView{}, err
	}
	c, err := a.cfg.Changes.Open(ctx, w.actor(), in.Why)
	return changeView(c), err
}

func (a *API) rehearseOpenChange(_ context.Context, _ who, _ *http.Request, in OpenChangeRequest) (Plan, error) {
	return planOf("open a change without certificates, which nobody can approve before they are added and previewed"), forRecord(in.Why)
}

// items are the certificates of a part.
func (p ChangePart) items() ([]bulkhead.ChangeItem, error) {
	if n := len(p.Serials); n == 0 || n > maxItems || p.Issuer == "" {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "a part has 1 to %d serials and their issuer, this one has %d", maxItems, n).WithHint("split it, and name the issuer: bulkhead hierarchy show")
	}
	reason, err := reasonOf(p.Reason)
	if err != nil {
		return nil, err
	}
	items := make([]bulkhead.ChangeItem, len(p.Serials))
	for i, serial := range p.Serials {
		items[i] = bulkhead.ChangeItem{CertificateRef: bulkhead.CertificateRef{Issuer: p.Issuer, Serial: serial}, Reason: reason}
	}
	return items, nil
}

func (a *API) addChangeItems(ctx context.Context, w who, r *http.Request, in ChangePart) (ChangeCount, error) {
	items, err := in.items()
	if err != nil {
		return ChangeCount{}, err
	}
	c, err := a.cfg.Changes.Add(ctx, w.actor(), r.PathValue("id"), items)
	return ChangeCount{c.ID, c.Count}, err
}

func (a *API) rehearseChangeItems(ctx context.Context, _ who, r *http.Request, in ChangePart) (Plan, error) {
	items, err := in.items()
	if err != nil {
		return Plan{}, err
	}
	c, err := a.planned(ctx, r)
	return planOf(fmt.Sprintf("add up to %d certificates to the %d of change %s", len(items), c.Count, c.ID)).butNot("whether each was issued and may be revoked for this reason"), err
}

// planned is the change of a path while it is open.
func (a *API) planned(ctx context.Context, r *http.Request) (bulkhead.Change, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err == nil && c.State != bulkhead.ChangePlanned {
		err = bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and takes no more certificates", c.ID, c.State).WithHint("bulkhead change show " + c.ID)
	}
	return c, err
}

func (a *API) previewChange(ctx context.Context, w who, r *http.Request, _ none) (ChangeView, error) {
	c, err := a.cfg.Changes.PreviewSoon(ctx, w.actor(), r.PathValue("id"), previewWait)
	return changeView(c), err
}

func (a *API) rehearsePreviewChange(ctx context.Context, _ who, r *http.Request, _ none) (Plan, error) {
	c, err := a.planned(ctx, r)
	return planOf(fmt.Sprintf("preview the revocation of %d certificates; nothing goes public by that", c.Count)), err
}

func (a *API) planScopeChange(ctx context.Context, w who, _ *http.Request, in ScopeChangeRequest) (ChangeView, error) {
	reason, err := reasonOf(in.Reason)
	if err == nil {
		err = forRecord(in.Why)
	}
	if err != nil {
		return ChangeView{}, err
	}
	c, err := a.cfg.Changes.PlanScope(ctx, w.actor(), in.Why, in.Scope, reason, previewWait)
	return changeView(c), err
}

func (a *API) rehearseScopeChange(ctx context.Context, _ who, _ *http.Request, in ScopeChangeRequest) (Plan, error) {
	if _, err := reasonOf(in.Reason); err != nil {
		return Plan{}, err
	}
	if err := forRecord(in.Why); err != nil {
		return Plan{}, err
	}
	n, err := a.cfg.Changes.ScopeSize(ctx, in.Scope)
	return planOf(fmt.Sprintf("plan and preview the revocation of %d certificates; nothing goes public by that", n)), err
}
