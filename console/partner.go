package console

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// Partners bounds registration partners and shows what they did.
type Partners interface {
	// CheckPartner refuses a new partner that cannot be meant.
	CheckPartner(ctx context.Context, p bulkhead.Partner) error
	Partner(ctx context.Context, id string) (bulkhead.Partner, error)
	Partners(ctx context.Context) ([]bulkhead.Partner, error)
	// LimitPartner changes a scope; KindGate for one that permits more, unless it was approved.
	LimitPartner(ctx context.Context, by, id string, scope bulkhead.PartnerScope, approved bool) (bulkhead.Partner, error)
	SuspendPartner(ctx context.Context, actor, id, why string) (bulkhead.Partner, bulkhead.Stop, error)
	People(ctx context.Context, partner string) ([]bulkhead.PartnerPerson, error)
	AddPerson(ctx context.Context, actor, partner, name string) (bulkhead.PartnerPerson, string, error)
	RemovePerson(ctx context.Context, actor, partner, name string) error
	PersonByToken(ctx context.Context, token string) (bulkhead.PartnerPerson, error)
	NewCustomer(ctx context.Context, by bulkhead.PartnerPerson, addresses ...string) (bulkhead.Account, string, error)
	AddCustomerKey(ctx context.Context, by bulkhead.PartnerPerson, note string, life time.Duration) (bulkhead.ExternalKey, []byte, error)
	Customers(ctx context.Context, partner string, limit int) ([]bulkhead.Account, error)
	PartnerUse(ctx context.Context, partner string, since time.Time) ([]bulkhead.PartnerUse, error)
	PartnerLog(ctx context.Context, partner string, before int64, limit int) (rows []bulkhead.Order, words map[string][]bulkhead.SecondApproval, next int64, err error)
	// ApproveOrder is a second person's word for an order; request is that of an approved request, or "".
	ApproveOrder(ctx context.Context, by bulkhead.PartnerPerson, request, orderID string, signature []byte) (bulkhead.Order, error)
	// OrderToApprove returns an order; HighValueNames those of its names for which a second person is wanted.
	OrderToApprove(ctx context.Context, orderID string) (bulkhead.Order, error)
	HighValueNames(o bulkhead.Order) []bulkhead.Identifier
}

// Quorum actions about partners.
const (
	ActionAddPartner    = "partner.add"
	ActionLimitPartner  = "partner.limit"
	ActionResumePartner = "partner.resume"
	ActionApproveOrder  = "order.approve"
)

// personTokenPrefix tells the tokens of people at partners from those of accounts.
const personTokenPrefix = "bhp_"

// OrderPayload names the order of an approval, and the names that are approved: no other name goes by it.
type OrderPayload struct {
	Order string                `json:"order"`
	Names []bulkhead.Identifier `json:"names"`
}

func (a *API) partnerRoutes() {
	route(a, "GET /api/v1/partners", operation[none, PartnerList]{id: "listPartners", summary: "registration partners", do: a.partners})
	route(a, "GET /api/v1/partners/{id}", operation[none, PartnerView]{id: "showPartner", summary: "one registration partner with its people", do: a.partner})
	route(a, "POST /api/v1/partners", operation[PartnerRequest, ApprovalView]{id: "addPartner", summary: "propose a registration partner; takes a quorum", do: a.addPartner, plan: a.planAddPartner})
	route(a, "POST /api/v1/partners/{id}/scope", operation[ScopeRequest, ScopeResponse]{id: "limitPartner", do: a.limitPartner, plan: a.planLimitPartner,
		summary: "narrow what a partner may do at once, or ask for the approvals that widen it"})
	route(a, "POST /api/v1/partners/{id}/suspension", operation[ReasonRequest, SuspendedView]{id: "suspendPartner", do: a.suspendPartner, plan: a.planSuspendPartner,
		summary: "the kill switch: stop a partner's customers and kill its credentials at once"})
	route(a, "POST /api/v1/partners/{id}/resumption", operation[ReasonRequest, ApprovalView]{id: "resumePartner", summary: "ask for the approvals that lift a suspension", do: a.resumePartner, plan: a.planResumePartner})
	route(a, "POST /api/v1/partners/{id}/people", operation[PersonRequest, PersonResponse]{id: "addPerson", summary: "give somebody at a partner a token; it is in this answer only", do: a.addPerson, plan: a.planAddPerson})
	route(a, "DELETE /api/v1/partners/{id}/people/{name}", operation[none, PersonView]{id: "removePerson", summary: "kill the token of somebody at a partner", do: a.removePerson, plan: a.planRemovePerson})
	log := []parameter{{name: "after", about: "cursor: next of the page before"}, {name: "limit", about: "orders of a page, 1 to 1000; default 100", kind: reflect.TypeFor[int]()}}
	route(a, "GET /api/v1/partners/{id}/log", operation[none, PartnerLog]{id: "partnerLog", summary: "everything a partner's customers ever ordered, newest first", query: log, do: a.partnerLog})
	route(a, "POST /api/v1/orders/{id}/approval", operation[ReasonRequest, ApprovalView]{id: "askOrderApproval", do: a.askOrder, plan: a.planAskOrder,
		summary: "ask for the approvals of an order with a name of the high-value list"})

	route(a, "GET /api/v1/partner", operation[none, PartnerView]{id: "ownPartner", summary: "the partner of the person who asks", access: partnersOnly, do: a.ownPartner})
	route(a, "GET /api/v1/partner/accounts", operation[none, AccountList]{id: "listCustomers", summary: "the partner's customers, newest first", access: partnersOnly, do: a.customers})
	route(a, "POST /api/v1/partner/accounts", operation[ContactsRequest, NewAccountResponse]{id: "addCustomer", summary: "make an API account for a customer; its token is in this answer only", access: partnersOnly, do: a.addCustomer, plan: a.planAddCustomer})
	route(a, "POST /api/v1/partner/eab", operation[ExternalKeyRequest, ExternalKeyResponse]{id: "addCustomerKey", access: partnersOnly, do: a.addCustomerKey, plan: a.planCustomerKey,
		summary: "make a key with which a customer makes one ACME account; its MAC key is in this answer only"})
	route(a, "GET /api/v1/partner/log", operation[none, PartnerLog]{id: "ownLog", summary: "everything the partner's customers ever ordered", access: partnersOnly, query: log, do: a.ownLog})
	route(a, "POST /api/v1/partner/orders/{id}/approval", operation[SignedWord, OrderView]{id: "approveOrder", access: partnersOnly, do: a.approveOrder, plan: a.planApproveOrder,
		summary: "the second person's word, signed, for an order with a name of the high-value list"})
	a.personKeyRoutes()
}

// ScopeView is what a partner may do.
type ScopeView struct {
	Names    []string `json:"names"` // suffixes; "*" for every name
	Profiles []string `json:"profiles"`
	PerHour  int      `json:"per_hour"`
	PerDay   int      `json:"per_day"`
	Hours    string   `json:"hours,omitempty"` // UTC, like 08:00-18:00; empty at any time
}

func (v ScopeView) scope() (bulkhead.PartnerScope, error) {
	s := bulkhead.PartnerScope{Profiles: v.Profiles, PerHour: v.PerHour, PerDay: v.PerDay}
	for _, n := range v.Names {
		s.Names = append(s.Names, strings.ToLower(strings.TrimPrefix(n, "*.")))
	}
	if v.Hours != "" && v.Hours != "any time" {
		from, to, _ := strings.Cut(v.Hours, "-")
		f, err1 := time.Parse("15:04", from)
		t, err2 := time.Parse("15:04", to)
		if err1 != nil || err2 != nil || f.Equal(t) {
			return s, bulkhead.Faultf(bulkhead.KindUsage, "hours %q are not like 08:00-18:00", v.Hours).WithHint("hours are UTC; leave them out for any time")
		}
		s.From, s.To = f.Hour()*60+f.Minute(), t.Hour()*60+t.Minute()
	}
	return s, s.Check()
}

// PartnerView is a partner as people and programs read it.
type PartnerView struct {
	ID        string                `json:"id"`
	Title     string                `json:"title"`
	State     bulkhead.PartnerState `json:"state"`
	Scope     ScopeView             `json:"scope"`
	UsedHour  int                   `json:"used_hour"` // of this hour's volume
	UsedDay   int                   `json:"used_day"`
	People    []PersonView          `json:"people"`
	You       string                `json:"you,omitempty"` // who asks, when that is somebody at the partner
	CreatedAt time.Time             `json:"created_at"`
}

// PersonView is somebody at a partner.
type PersonView struct {
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

func personView(x bulkhead.PartnerPerson) PersonView {
	v := PersonView{Name: x.Name, CreatedAt: x.CreatedAt.UTC()}
	if !x.RevokedAt.IsZero() {
		t := x.RevokedAt.UTC()
		v.RevokedAt = &t
	}
	return v
}

func partnerView(p bulkhead.Partner) PartnerView {
	s := p.Scope
	v := PartnerView{ID: p.ID, Title: p.Title, State: p.State, Scope: ScopeView{s.Names, s.Profiles, s.PerHour, s.PerDay, s.Hours()}, People: []PersonView{}, CreatedAt: p.CreatedAt.UTC()}
	if s.Names == nil {
		v.Scope.Names = []string{}
	}
	if s.Profiles == nil {
		v.Scope.Profiles = []string{}
	}
	return v
}

func (a *API) partnerOf(ctx context.Context, id string) (PartnerView, error) {
	p, err := a.cfg.Partners.Partner(ctx, id)
	if err != nil {
		return PartnerView{}, err
	}
	v := partnerView(p)
	people, err := a.cfg.Partners.People(ctx, id)
	if err != nil {
		return v, err
	}
	for _, x := range people {
		v.People = append(v.People, personView(x))
	}
	now := a.cfg.Now().UTC()
	use, err := a.cfg.Partners.PartnerUse(ctx, id, now.Truncate(24*time.Hour))
	for _, u := range use {
		v.UsedDay += u.Used
		if u.Hour.Equal(now.Truncate(time.Hour)) {
			v.UsedHour = u.Used
		}
	}
	return v, err
}

// PartnerList is all of them.
type PartnerList struct {
	Partners []PartnerView `json:"partners"`
}

func (a *API) partners(ctx context.Context, _ who, _ *http.Request, _ none) (PartnerList, error) {
	rows, err := a.cfg.Partners.Partners(ctx)
	out := PartnerList{[]PartnerView{}}
	for _, p := range rows {
		v, err := a.partnerOf(ctx, p.ID)
		if err != nil {
			return out, err
		}
		out.Partners = append(out.Partners, v)
	}
	return out, err
}

func (a *API) partner(ctx context.Context, _ who, r *http.Request, _ none) (PartnerView, error) {
	return a.partnerOf(ctx, r.PathValue("id"))
}

// PartnerRequest proposes a partner.
type PartnerRequest struct {
	ID     string    `json:"id"`
	Title  string    `json:"title,omitempty"`
	Scope  ScopeView `json:"scope"`
	Reason string    `json:"reason"`
}

func (a *API) newPartner(ctx context.Context, in PartnerRequest) (bulkhead.Partner, error) {
	scope, err := in.Scope.scope()
	p := bulkhead.Partner{ID: in.ID, Title: in.Title, Scope: scope}
	if err == nil {
		err = a.cfg.Partners.CheckPartner(ctx, p)
	}
	return p, err
}

func (a *API) addPartner(ctx context.Context, w who, _ *http.Request, in PartnerRequest) (ApprovalView, error) {
	p, err := a.newPartner(ctx, in)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionAddPartner, p, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planAddPartner(ctx context.Context, w who, _ *http.Request, in PartnerRequest) (Plan, error) {
	p, err := a.newPartner(ctx, in)
	if err != nil {
		return Plan{}, err
	}
	return proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionAddPartner, p, w.actor(), in.Reason))
}

// ScopeRequest is a partner's new scope.
type ScopeRequest struct {
	Scope  ScopeView `json:"scope"`
	Reason string    `json:"reason"`
}

// ScopeResponse is the partner as it now is; approval is set when the new scope waits for people.
type ScopeResponse struct {
	Partner  PartnerView   `json:"partner"`
	Approval *ApprovalView `json:"approval,omitempty"`
}

// widened reads a new scope and says whether it permits more.
func (a *API) widened(ctx context.Context, r *http.Request, in ScopeRequest) (p bulkhead.Partner, wider bool, err error) {
	scope, err := in.Scope.scope()
	if err == nil {
		err = reason(in.Reason)
	}
	if err != nil {
		return p, false, err
	}
	if p, err = a.cfg.Partners.Partner(ctx, r.PathValue("id")); err != nil {
		return p, false, err
	}
	wider = !scope.Within(p.Scope)
	p.Scope = scope
	return p, wider, nil
}

func (a *API) limitPartner(ctx context.Context, w who, r *http.Request, in ScopeRequest) (ScopeResponse, error) {
	p, wider, err := a.widened(ctx, r, in)
	if err != nil {
		return ScopeResponse{}, err
	}
	if wider {
		q, err := a.cfg.Quorum.Propose(ctx, ActionLimitPartner, p, w.actor(), in.Reason)
		if err != nil {
			return ScopeResponse{}, err
		}
		v := approvalView(q)
		out := ScopeResponse{Approval: &v}
		out.Partner, err = a.partnerOf(ctx, p.ID)
		return out, err
	}
	if _, err := a.cfg.Partners.LimitPartner(ctx, w.actor(), p.ID, p.Scope, false); err != nil {
		return ScopeResponse{}, err
	}
	v, err := a.partnerOf(ctx, p.ID)
	return ScopeResponse{Partner: v}, err
}

func (a *API) planLimitPartner(ctx context.Context, w who, r *http.Request, in ScopeRequest) (Plan, error) {
	p, wider, err := a.widened(ctx, r, in)
	if err != nil || !wider {
		return planOf("narrow what partner " + p.ID + " may do, at once"), err
	}
	return proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionLimitPartner, p, w.actor(), in.Reason))
}

// SuspendedView is a partner after the kill switch.
type SuspendedView struct {
	Partner PartnerView `json:"partner"`
	Stop    string      `json:"stop"` // the stop that covers its customers
}

func (a *API) suspendPartner(ctx context.Context, w who, r *http.Request, in ReasonRequest) (SuspendedView, error) {
	_, x, err := a.cfg.Partners.SuspendPartner(ctx, w.actor(), r.PathValue("id"), in.Reason)
	if err != nil {
		return SuspendedView{}, err
	}
	v, err := a.partnerOf(ctx, r.PathValue("id"))
	return SuspendedView{v, x.ID}, err
}

func (a *API) planSuspendPartner(ctx context.Context, _ who, r *http.Request, in ReasonRequest) (Plan, error) {
	p, err := a.cfg.Partners.Partner(ctx, r.PathValue("id"))
	if err == nil {
		err = reason(in.Reason)
	}
	return planOf("stop issuance for the customers of "+p.ID, "kill the tokens of its people and its unused external account keys"), err
}

func (a *API) resumePartner(ctx context.Context, w who, r *http.Request, in ReasonRequest) (ApprovalView, error) {
	p, err := a.cfg.Partners.Partner(ctx, r.PathValue("id"))
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionResumePartner, bulkhead.Partner{ID: p.ID}, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planResumePartner(ctx context.Context, w who, r *http.Request, in ReasonRequest) (Plan, error) {
	p, err := a.cfg.Partners.Partner(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	return proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionResumePartner, bulkhead.Partner{ID: p.ID}, w.actor(), in.Reason))
}

// PersonRequest names somebody at a partner.
type PersonRequest struct {
	Name string `json:"name"`
}

// PersonResponse has the only copy of the token.
type PersonResponse struct {
	Partner string `json:"partner"`
	Name    string `json:"name"`
	Token   string `json:"token"`
}

func (a *API) addPerson(ctx context.Context, w who, r *http.Request, in PersonRequest) (PersonResponse, error) {
	x, token, err := a.cfg.Partners.AddPerson(ctx, w.actor(), r.PathValue("id"), in.Name)
	return PersonResponse{x.Partner, x.Name, token}, err
}

func (a *API) planAddPerson(ctx context.Context, _ who, r *http.Request, in PersonRequest) (Plan, error) {
	p, err := a.cfg.Partners.Partner(ctx, r.PathValue("id"))
	return planOf(fmt.Sprintf("make a token for %s at %s, and show it once", in.Name, p.ID)), err
}

func (a *API) removePerson(ctx context.Context, w who, r *http.Request, _ none) (PersonView, error) {
	now := a.cfg.Now().UTC()
	return PersonView{Name: r.PathValue("name"), RevokedAt: &now}, a.cfg.Partners.RemovePerson(ctx, w.actor(), r.PathValue("id"), r.PathValue("name"))
}

func (a *API) planRemovePerson(ctx context.Context, _ who, r *http.Request, _ none) (Plan, error) {
	p, err := a.cfg.Partners.Partner(ctx, r.PathValue("id"))
	return planOf(fmt.Sprintf("kill the token of %s at %s", r.PathValue("name"), p.ID)), err
}

// OrderView is an order as people and programs read it.
type OrderView struct {
	ID          string                `json:"id"`
	Account     string                `json:"account"`
	State       bulkhead.OrderState   `json:"state"`
	Names       []bulkhead.Identifier `json:"names"`
	Profile     string                `json:"profile"`
	Certificate string                `json:"certificate,omitempty"` // issuer,serial
	Problem     string                `json:"problem,omitempty"`
	Approvals   []string              `json:"approvals"` // second persons, and approved requests
	CreatedAt   time.Time             `json:"created_at"`
}

func orderView(o bulkhead.Order, words []bulkhead.SecondApproval) OrderView {
	v := OrderView{ID: o.ID, Account: o.AccountID, State: o.State, Names: append([]bulkhead.Identifier{}, o.Identifiers...), Profile: o.Profile, Approvals: []string{}, CreatedAt: o.CreatedAt.UTC()}
	if !o.Certificate.Serial.IsZero() {
		v.Certificate = o.Certificate.String()
	}
	if o.Problem != nil {
		v.Problem = string(o.Problem.Kind) + ": " + o.Problem.Detail
	}
	for _, x := range words {
		v.Approvals = append(v.Approvals, x.Actor)
	}
	return v
}

// PartnerLog is one page.
type PartnerLog struct {
	Orders []OrderView `json:"orders"`
	Next   string      `json:"next,omitempty"` // cursor of the next page
}

func (a *API) logOf(ctx context.Context, id string, r *http.Request) (PartnerLog, error) {
	out := PartnerLog{Orders: []OrderView{}}
	before, limit := int64(0), 100
	var err error
	if t := r.URL.Query().Get("after"); t != "" {
		if before, err = strconv.ParseInt(t, 10, 64); err != nil || before <= 0 {
			return out, malformed("%q is not a cursor", t)
		}
	}
	if t := r.URL.Query().Get("limit"); t != "" {
		if limit, err = strconv.Atoi(t); err != nil || limit < 1 || limit > 1000 {
			return out, malformed("limit %q is not a number from 1 to 1000", t)
		}
	}
	rows, words, next, err := a.cfg.Partners.PartnerLog(ctx, id, before, limit)
	for _, o := range rows {
		out.Orders = append(out.Orders, orderView(o, words[o.ID]))
	}
	if next > 0 {
		out.Next = strconv.FormatInt(next, 10)
	}
	return out, err
}

func (a *API) partnerLog(ctx context.Context, _ who, r *http.Request, _ none) (PartnerLog, error) {
	return a.logOf(ctx, r.PathValue("id"), r)
}

func (a *API) ownPartner(ctx context.Context, w who, _ *http.Request, _ none) (PartnerView, error) {
	v, err := a.partnerOf(ctx, w.person.Partner)
	v.You = w.person.Name
	return v, err
}

// AccountList is the newest thousand.
type AccountList struct {
	Accounts []AccountView `json:"accounts"`
}

func (a *API) customers(ctx context.Context, w who, _ *http.Request, _ none) (AccountList, error) {
	rows, err := a.cfg.Partners.Customers(ctx, w.person.Partner, 1000)
	out := AccountList{[]AccountView{}}
	for _, x := range rows {
		out.Accounts = append(out.Accounts, accountView(x))
	}
	return out, err
}

func (a *API) addCustomer(ctx context.Context, w who, _ *http.Request, in ContactsRequest) (NewAccountResponse, error) {
	x, token, err := a.cfg.Partners.NewCustomer(ctx, w.person, in.Contacts...)
	return NewAccountResponse{x.ID, token}, err
}

func (a *API) planAddCustomer(_ context.Context, _ who, _ *http.Request, in ContactsRequest) (Plan, error) {
	return in.plan("make an API account for a customer and show its token once")
}

func (a *API) addCustomerKey(ctx context.Context, w who, _ *http.Request, in ExternalKeyRequest) (ExternalKeyResponse, error) {
	life, err := in.life()
	if err != nil {
		return ExternalKeyResponse{}, err
	}
	k, mac, err := a.cfg.Partners.AddCustomerKey(ctx, w.person, in.Note, life)
	return ExternalKeyResponse{externalView(k, a.cfg.Now()), base64.RawURLEncoding.EncodeToString(mac)}, err
}

func (a *API) planCustomerKey(ctx context.Context, w who, r *http.Request, in ExternalKeyRequest) (Plan, error) {
	return a.planExternalKey(ctx, w, r, in)
}

func (a *API) ownLog(ctx context.Context, w who, r *http.Request, _ none) (PartnerLog, error) {
	return a.logOf(ctx, w.person.Partner, r)
}
