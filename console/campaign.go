package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"bulkhead"
)

// Campaigns replace the certificates of incidents.
type Campaigns interface {
	// DraftCampaign plans and keeps nothing; PlanCampaign keeps the plan. Nothing happens before a plan is started.
	DraftCampaign(ctx context.Context, actor string, req bulkhead.CampaignRequest) (bulkhead.Campaign, error)
	PlanCampaign(ctx context.Context, actor string, req bulkhead.CampaignRequest) (bulkhead.Campaign, error)
	// AskStart asks for the approvals of a plan, named by its hash; nil when one person may and the campaign runs.
	AskStart(ctx context.Context, actor, id string, hash bulkhead.Hash, why string) (*bulkhead.ApprovalRequest, error)
	MayStart(ctx context.Context, id string, hash bulkhead.Hash) (bulkhead.Campaign, error)
	NeedsQuorum(c bulkhead.Campaign) bool
	Pause(ctx context.Context, actor, id, why string) (bulkhead.Campaign, error)
	Resume(ctx context.Context, actor, id, why string) (bulkhead.Campaign, error)
	End(ctx context.Context, actor, id, why string) (bulkhead.Campaign, error)
	MayEnd(ctx context.Context, id, why string) (bulkhead.Campaign, error)
	Campaign(ctx context.Context, id string) (bulkhead.Campaign, error)
	Campaigns(ctx context.Context, limit int, states ...bulkhead.CampaignState) ([]bulkhead.Campaign, error)
	Status(ctx context.Context, id string) (bulkhead.Campaign, bulkhead.CampaignTally, []bulkhead.CampaignJob, error)
	// Estate is the last look of a campaign at the house's own endpoints; the zero value when there was none.
	Estate(ctx context.Context, id string) (bulkhead.EstateLook, error)
	CampaignItems(ctx context.Context, id string, f bulkhead.CampaignItemFilter) ([]bulkhead.CampaignItem, error)
	History(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Campaign, bulkhead.CampaignItem, []bulkhead.ItemStep, error)
	Import(ctx context.Context, actor string, ref bulkhead.CertificateRef, to bulkhead.ItemState, why string) (bulkhead.CampaignItem, error)
	MayImport(ctx context.Context, ref bulkhead.CertificateRef, to bulkhead.ItemState, why string) (bulkhead.Campaign, bulkhead.CampaignItem, error)
	Look(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.CampaignItem, error)
}

func (a *API) campaignRoutes() {
	route(a, "GET /api/v1/campaigns", operation[none, CampaignList]{id: "listCampaigns", summary: "campaigns, newest first", do: a.campaigns})
	route(a, "POST /api/v1/campaigns", operation[PlanCampaignRequest, CampaignView]{id: "planCampaign", summary: "plan the replacement of an incident's certificates; nothing happens by it", do: a.planCampaign, plan: a.draftCampaign})
	route(a, "GET /api/v1/campaigns/{id}", operation[none, CampaignView]{id: "showCampaign", summary: "a campaign with its plan and its numbers, which sum to the total", do: a.campaign})
	route(a, "GET /api/v1/campaigns/{id}/items", operation[none, CampaignItemList]{id: "listCampaignItems", summary: "its certificates in the order of the plan", do: a.campaignItems,
		query: []parameter{{name: "state", about: "only in this state"}, {name: "account", about: "only of this account"}, {name: "product", about: "tls, smime, code-signing or ca"},
			{name: "after", about: "position after which to go on"}, {name: "limit", about: "1 to 1000; default 100"}}})
	route(a, "POST /api/v1/campaigns/{id}/start", operation[StartCampaignRequest, StartCampaignResponse]{id: "startCampaign", summary: "ask for the approvals of the plan; starts where one person may", do: a.startCampaign, plan: a.planStartCampaign})
	route(a, "POST /api/v1/campaigns/{id}/pause", operation[WhyRequest, CampaignView]{id: "pauseCampaign", summary: "stop after the chunk in hand; one person", do: a.pauseCampaign, plan: a.planTurn("pause")})
	route(a, "POST /api/v1/campaigns/{id}/resume", operation[WhyRequest, CampaignView]{id: "resumeCampaign", summary: "go on with the plan that was approved", do: a.resumeCampaign, plan: a.planTurn("resume")})
	route(a, "POST /api/v1/campaigns/{id}/closing", operation[WhyRequest, CampaignView]{id: "closeCampaign", summary: "close a campaign that is done", do: a.closeCampaign, plan: a.planCloseCampaign})
	route(a, "GET /api/v1/campaign-items/{serial}", operation[none, ItemHistory]{id: "showCampaignItem", summary: "what one certificate went through, each step with its leaf", do: a.itemHistory,
		query: []parameter{{name: "issuer", about: "authority, where two share the serial"}}})
	route(a, "POST /api/v1/campaign-items/{serial}/steps", operation[ImportRequest, CampaignItemView]{id: "importStep", summary: "a person's word for a step that nobody can see from outside", do: a.importStep, plan: a.planImport})
	route(a, "POST /api/v1/campaign-items/{serial}/look", operation[LookRequest, CampaignItemView]{id: "lookAtItem", summary: "look at its endpoints now", do: a.lookAtItem, plan: a.planLook})
}

// CampaignView is a campaign with its plan and its numbers.
type CampaignView struct {
	ID         string                 `json:"id"`
	Incident   string                 `json:"incident"`
	State      bulkhead.CampaignState `json:"state"`
	Generation int64                  `json:"generation"`
	PlanHash   bulkhead.Hash          `json:"plan_hash"`
	ParentHash bulkhead.Hash          `json:"parent_hash"`
	Plan       json.RawMessage        `json:"plan"`
	Needs      bulkhead.CampaignNeeds `json:"needs"`
	Tickets    bool                   `json:"tickets"`
	Reason     string                 `json:"reason"`
	Items      int64                  `json:"items"`
	Deadline   time.Time              `json:"deadline,omitzero"`
	ForceAt    time.Time              `json:"force_at"`
	Approval   string                 `json:"approval,omitempty"`
	Actor      string                 `json:"actor"`
	CreatedAt  time.Time              `json:"created_at"`
	StartedAt  time.Time              `json:"started_at,omitzero"`
	ClosedAt   time.Time              `json:"closed_at,omitzero"`
	Progress   *CampaignProgress      `json:"progress,omitempty"`
	OwnEstate  *OwnEstate             `json:"own_estate,omitempty"`
	Troubles   []string               `json:"troubles,omitempty"`
}

// OwnEstate is the house's own part of a campaign: what comes before customers are told.
type OwnEstate struct {
	Certificates int64                `json:"certificates"`
	Replaced     int64                `json:"replaced"`
	Percent      int                  `json:"percent"`        // of the certificates; 100 where there are none
	Look         *bulkhead.EstateLook `json:"look,omitempty"` // the last look at its endpoints; none was taken where it is missing
	Clean        bool                 `json:"clean"`          // replaced to the last one, looked at, and nothing wrong
}

func ownEstate(t bulkhead.CampaignTally, e bulkhead.EstateLook) *OwnEstate {
	o := &OwnEstate{Certificates: t.OwnTotal, Replaced: t.OwnReplaced, Percent: 100}
	if t.OwnTotal > 0 {
		o.Percent = int(t.OwnReplaced * 100 / t.OwnTotal)
	}
	if !e.At.IsZero() {
		o.Look = &e
	}
	o.Clean = o.Replaced == o.Certificates && o.Look != nil && e.Clean()
	return o
}

// CampaignProgress sums to Total over its states.
type CampaignProgress struct {
	Total           int64                        `json:"total"`
	ByState         map[bulkhead.ItemState]int64 `json:"by_state"`
	ByProduct       map[string]int64             `json:"by_product"`
	Overdue         int64                        `json:"overdue"`
	SameKeyAttempts int64                        `json:"same_key_attempts"`
	OwnTotal        int64                        `json:"own_total"`
	OwnReplaced     int64                        `json:"own_replaced"`
	Tickets         int64                        `json:"tickets"`
	TicketsUsed     int64                        `json:"tickets_used"`
	ToldDue         int64                        `json:"told_due"`
	DoneDue         int64                        `json:"done_due"`
}

func campaignView(c bulkhead.Campaign) CampaignView {
	return CampaignView{ID: c.ID, Incident: c.Incident, State: c.State, Generation: c.Generation, PlanHash: c.PlanHash, ParentHash: c.ParentHash, Plan: c.Plan, Needs: c.Needs, Tickets: c.Tickets,
		Reason: c.Reason.String(), Items: c.Items, Deadline: c.Deadline, ForceAt: c.ForceAt, Approval: c.Approval, Actor: c.Actor, CreatedAt: c.CreatedAt, StartedAt: c.StartedAt, ClosedAt: c.ClosedAt}
}

// CampaignList is campaigns, newest first.
type CampaignList struct {
	Campaigns []CampaignView `json:"campaigns"`
}

func (a *API) campaigns(ctx context.Context, _ who, _ *http.Request, _ none) (CampaignList, error) {
	all, err := a.cfg.Desk.Campaigns(ctx, 1000)
	out := CampaignList{Campaigns: []CampaignView{}}
	for _, c := range all {
		out.Campaigns = append(out.Campaigns, campaignView(c))
	}
	return out, err
}

func (a *API) campaign(ctx context.Context, _ who, r *http.Request, _ none) (CampaignView, error) {
	c, t, troubled, err := a.cfg.Desk.Status(ctx, r.PathValue("id"))
	if err != nil {
		return CampaignView{}, err
	}
	v := campaignView(c)
	by := map[bulkhead.ItemState]int64{}
	for _, s := range bulkhead.ItemStates {
		by[s] = t.ByState[s]
	}
	v.Progress = &CampaignProgress{Total: t.Total, ByState: by, ByProduct: t.ByProduct, Overdue: t.Overdue, SameKeyAttempts: t.SameKeyAttempts, OwnTotal: t.OwnTotal, OwnReplaced: t.OwnReplaced,
		Tickets: t.Tickets, TicketsUsed: t.TicketsUsed, ToldDue: t.ToldDue, DoneDue: t.DoneDue}
	e, err := a.cfg.Desk.Estate(ctx, c.ID)
	if err != nil {
		return CampaignView{}, err
	}
	v.OwnEstate = ownEstate(t, e)
	for _, j := range troubled {
		v.Troubles = append(v.Troubles, fmt.Sprintf("%s of %d to %d, due %s: %s", j.Kind, j.First, j.Last, j.DueAt.Format(time.RFC3339), j.Problem))
	}
	return v, nil
}

// PlanCampaignRequest says how to replace; what is left out comes from the playbook and the configuration.
type PlanCampaignRequest struct {
	Incident string                     `json:"incident"`
	FinishBy time.Time                  `json:"finish_by,omitzero"`
	Needs    *bulkhead.CampaignNeeds    `json:"needs,omitempty"`
	Tickets  *bool                      `json:"tickets,omitempty"`
	Capacity *bulkhead.CampaignCapacity `json:"capacity,omitempty"`
}

func (a *API) planCampaign(ctx context.Context, w who, _ *http.Request, in PlanCampaignRequest) (CampaignView, error) {
	c, err := a.cfg.Desk.PlanCampaign(ctx, w.actor(), bulkhead.CampaignRequest(in))
	return campaignView(c), err
}

func (a *API) draftCampaign(ctx context.Context, w who, _ *http.Request, in PlanCampaignRequest) (Plan, error) {
	c, err := a.cfg.Desk.DraftCampaign(ctx, w.actor(), bulkhead.CampaignRequest(in))
	if err != nil {
		return Plan{}, err
	}
	p := planOf(fmt.Sprintf("keep a plan for %d certificates of incident %s", c.Items, c.Incident))
	var doc PlanView
	if err := json.Unmarshal(c.Plan, &doc); err != nil {
		return p, err
	}
	ours := false // something that this house revokes by itself
	for _, w := range doc.Waves {
		p.Would = append(p.Would, w.text())
		ours = ours || !w.LastRevoke.IsZero()
	}
	if ours {
		p.Would = append(p.Would, fmt.Sprintf("revoke what is left at %s, before the deadline", c.ForceAt.Format(time.RFC3339)))
		p.Would = append(p.Would, "be too late to finish in time when started after "+doc.NoReturn.Format(time.RFC3339))
	} else {
		p.Would = append(p.Would, "revoke nothing by itself: whoever has the keys does, and the campaign sees it when the ceremony's bundle or that authority's CRL is imported")
	}
	if doc.Unplaced > 0 {
		p.Would = append(p.Would, fmt.Sprintf("leave %d certificates without a window: the capacity does not reach", doc.Unplaced))
	}
	return p, nil
}

// PlanView is what people read of a plan's document.
type PlanView struct {
	NoReturn time.Time  `json:"no_return"`
	Unplaced int        `json:"unplaced"`
	Waves    []WaveView `json:"waves"`
}

// WaveView is one wave of a plan, in the order of revocation.
type WaveView struct {
	Wave        int       `json:"wave"`
	Name        string    `json:"name"`
	Items       int       `json:"items"`
	FirstNotice time.Time `json:"first_notice,omitzero"`
	FirstWindow time.Time `json:"first_window,omitzero"`
	LastWindow  time.Time `json:"last_window,omitzero"`
	FirstRevoke time.Time `json:"first_revocation,omitzero"`
	LastRevoke  time.Time `json:"last_revocation,omitzero"`
}

func (w WaveView) text() string {
	text := fmt.Sprintf("%s: %d certificates", w.Name, w.Items)
	for _, x := range []struct {
		at  time.Time
		say string
	}{{w.FirstNotice, "told from"}, {w.FirstWindow, "renewed from"}, {w.LastWindow, "to"}, {w.FirstRevoke, "revoked from"}, {w.LastRevoke, "to"}} {
		if !x.at.IsZero() {
			text += ", " + x.say + " " + x.at.Format(time.RFC3339)
		}
	}
	return text
}

// StartCampaignRequest quotes the plan that was seen.
type StartCampaignRequest struct {
	PlanHash bulkhead.Hash `json:"plan_hash"`
	Why      string        `json:"why,omitempty"`
}

// StartCampaignResponse has the request for approval, or the campaign that runs.
type StartCampaignResponse struct {
	Approval *ApprovalView `json:"approval,omitempty"`
	Campaign CampaignView  `json:"campaign"`
}

func (a *API) startCampaign(ctx context.Context, w who, r *http.Request, in StartCampaignRequest) (StartCampaignResponse, error) {
	q, err := a.cfg.Desk.AskStart(ctx, w.actor(), r.PathValue("id"), in.PlanHash, in.Why)
	if err != nil {
		return StartCampaignResponse{}, err
	}
	c, err := a.cfg.Desk.Campaign(ctx, r.PathValue("id"))
	out := StartCampaignResponse{Campaign: campaignView(c)}
	if q != nil {
		v := approvalView(*q)
		out.Approval = &v
	}
	return out, err
}

func (a *API) planStartCampaign(ctx context.Context, _ who, r *http.Request, in StartCampaignRequest) (Plan, error) {
	c, err := a.cfg.Desk.MayStart(ctx, r.PathValue("id"), in.PlanHash)
	if err != nil {
		return Plan{}, err
	}
	p := planOf()
	if a.cfg.Desk.NeedsQuorum(c) {
		p.Would = append(p.Would, "open a request for campaign.start, to be approved by two operators; then")
	}
	if c.Needs.NewKey {
		p.Would = append(p.Would, "block every key of the campaign for ever")
	}
	p.Would = append(p.Would, fmt.Sprintf("replace and revoke %d certificates by plan %s, the last at %s", c.Items, c.PlanHash, c.ForceAt.Format(time.RFC3339)))
	return p, nil
}

func (a *API) pauseCampaign(ctx context.Context, w who, r *http.Request, in WhyRequest) (CampaignView, error) {
	c, err := a.cfg.Desk.Pause(ctx, w.actor(), r.PathValue("id"), in.Why)
	return campaignView(c), err
}

func (a *API) resumeCampaign(ctx context.Context, w who, r *http.Request, in WhyRequest) (CampaignView, error) {
	c, err := a.cfg.Desk.Resume(ctx, w.actor(), r.PathValue("id"), in.Why)
	return campaignView(c), err
}

func (a *API) planTurn(verb string) func(context.Context, who, *http.Request, WhyRequest) (Plan, error) {
	return func(ctx context.Context, _ who, r *http.Request, _ WhyRequest) (Plan, error) {
		c, err := a.cfg.Desk.Campaign(ctx, r.PathValue("id"))
		if err != nil {
			return Plan{}, err
		}
		want := map[string]bulkhead.CampaignState{"pause": bulkhead.CampaignRunning, "resume": bulkhead.CampaignPaused}[verb]
		if c.State != want {
			return Plan{}, bulkhead.Faultf(bulkhead.KindConflict, "campaign %s is %s, not %s", c.ID, c.State, want).WithHint("bulkhead campaign status " + c.ID)
		}
		return planOf(verb + " campaign " + c.ID), nil
	}
}

func (a *API) closeCampaign(ctx context.Context, w who, r *http.Request, in WhyRequest) (CampaignView, error) {
	c, err := a.cfg.Desk.End(ctx, w.actor(), r.PathValue("id"), in.Why)
	return campaignView(c), err
}

func (a *API) planCloseCampaign(ctx context.Context, _ who, r *http.Request, in WhyRequest) (Plan, error) {
	c, err := a.cfg.Desk.MayEnd(ctx, r.PathValue("id"), in.Why)
	return planOf("close campaign " + c.ID), err
}

// CampaignItemView is one certificate on its way.
type CampaignItemView struct {
	Position    int64                `json:"position"`
	Issuer      bulkhead.AuthorityID `json:"issuer"`
	Serial      bulkhead.Serial      `json:"serial"`
	Name        string               `json:"name"`
	Account     string               `json:"account,omitempty"`
	Order       string               `json:"order,omitempty"`
	Product     string               `json:"product"`
	Wave        int                  `json:"wave"`
	State       bulkhead.ItemState   `json:"state"`
	Own         bool                 `json:"own"`
	Critical    bool                 `json:"critical"`
	RenewFrom   time.Time            `json:"renew_from,omitzero"`
	RenewUntil  time.Time            `json:"renew_until,omitzero"`
	RevokeAt    time.Time            `json:"revoke_at,omitzero"`
	Deadline    time.Time            `json:"deadline,omitzero"`
	Replacement string               `json:"replacement,omitempty"`
	Change      string               `json:"change,omitempty"`
	Detail      string               `json:"detail,omitempty"`
	MovedAt     time.Time            `json:"moved_at"`
}

func itemView(it bulkhead.CampaignItem) CampaignItemView {
	v := CampaignItemView{Position: it.Ordinal, Issuer: it.Issuer, Serial: it.Serial, Name: it.Name, Account: it.AccountID, Order: it.OrderID, Product: it.Product, Wave: it.Wave, State: it.State, Own: it.Own,
		Critical: it.Critical, RenewFrom: it.WindowStart, RenewUntil: it.WindowEnd, RevokeAt: it.RevokeAt, Deadline: it.Deadline, Change: it.Change, Detail: it.Detail, MovedAt: it.MovedAt}
	if it.Replacement != (bulkhead.CertificateRef{}) {
		v.Replacement = it.Replacement.String()
	}
	return v
}

// CampaignItemList is one page.
type CampaignItemList struct {
	Items []CampaignItemView `json:"items"`
	Next  int64              `json:"next,omitempty"` // position after which to go on
}

func (a *API) campaignItems(ctx context.Context, _ who, r *http.Request, _ none) (CampaignItemList, error) {
	q := r.URL.Query()
	limit, err := limitOf(r, 1000)
	if err != nil {
		return CampaignItemList{}, err
	}
	f := bulkhead.CampaignItemFilter{AccountID: q.Get("account"), Product: q.Get("product"), Limit: limit}
	if t := q.Get("after"); t != "" {
		after, err := strconv.ParseInt(t, 10, 64)
		if err != nil || after < 0 {
			return CampaignItemList{}, bulkhead.Faultf(bulkhead.KindMalformed, "after %q is not a position", t)
		}
		f.First = after + 1
	}
	if t := q.Get("state"); t != "" {
		f.States = []bulkhead.ItemState{bulkhead.ItemState(t)}
	}
	items, err := a.cfg.Desk.CampaignItems(ctx, r.PathValue("id"), f)
	out := CampaignItemList{Items: []CampaignItemView{}}
	for _, it := range items {
		out.Items = append(out.Items, itemView(it))
	}
	if len(items) == limit {
		out.Next = items[limit-1].Ordinal
	}
	return out, err
}

// ItemHistory is what one certificate went through.
type ItemHistory struct {
	Campaign string           `json:"campaign"`
	Item     CampaignItemView `json:"item"`
	Steps    []ItemStepView   `json:"steps"`
}

// ItemStepView is one step; leaf is its index in the evidence log.
type ItemStepView struct {
	State  bulkhead.ItemState `json:"state"`
	At     time.Time          `json:"at"`
	Leaf   int64              `json:"leaf"`
	Detail string             `json:"detail"`
}

func (a *API) itemHistory(ctx context.Context, w who, r *http.Request, _ none) (ItemHistory, error) {
	cert, err := a.resolve(ctx, w, r.PathValue("serial"), r.URL.Query().Get("issuer"))
	if err != nil {
		return ItemHistory{}, err
	}
	c, it, steps, err := a.cfg.Desk.History(ctx, cert.CertificateRef)
	out := ItemHistory{Campaign: c.ID, Item: itemView(it), Steps: []ItemStepView{}}
	for _, s := range steps {
		out.Steps = append(out.Steps, ItemStepView{s.State, s.At, s.LogIndex, s.Detail})
	}
	return out, err
}

// ImportRequest is a person's word for one step.
type ImportRequest struct {
	Issuer string             `json:"issuer,omitempty"`
	Step   bulkhead.ItemState `json:"step"` // notified, patched or installed
	Why    string             `json:"why"`  // who said so, and how they know
}

func (a *API) importStep(ctx context.Context, w who, r *http.Request, in ImportRequest) (CampaignItemView, error) {
	cert, err := a.resolve(ctx, w, r.PathValue("serial"), in.Issuer)
	if err != nil {
		return CampaignItemView{}, err
	}
	it, err := a.cfg.Desk.Import(ctx, w.actor(), cert.CertificateRef, in.Step, in.Why)
	return itemView(it), err
}

func (a *API) planImport(ctx context.Context, w who, r *http.Request, in ImportRequest) (Plan, error) {
	cert, err := a.resolve(ctx, w, r.PathValue("serial"), in.Issuer)
	if err != nil {
		return Plan{}, err
	}
	_, it, err := a.cfg.Desk.MayImport(ctx, cert.CertificateRef, in.Step, in.Why)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("move %s from %s to %s on your word", it.CertificateRef, it.State, in.Step)), nil
}

// LookRequest names the issuer where two share a serial.
type LookRequest struct {
	Issuer string `json:"issuer,omitempty"`
}

func (a *API) lookAtItem(ctx context.Context, w who, r *http.Request, in LookRequest) (CampaignItemView, error) {
	cert, err := a.resolve(ctx, w, r.PathValue("serial"), in.Issuer)
	if err != nil {
		return CampaignItemView{}, err
	}
	it, err := a.cfg.Desk.Look(ctx, cert.CertificateRef)
	return itemView(it), err
}

func (a *API) planLook(ctx context.Context, w who, r *http.Request, in LookRequest) (Plan, error) {
	cert, err := a.resolve(ctx, w, r.PathValue("serial"), in.Issuer)
	if err != nil {
		return Plan{}, err
	}
	_, it, _, err := a.cfg.Desk.History(ctx, cert.CertificateRef)
	return planOf("look at every node of " + it.Name + ", and move the item as far as what is seen carries"), err
}
