package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Tickets give one free reissue each.
type Tickets interface {
	IssueTicket(ctx context.Context, actor string, req bulkhead.TicketRequest) (bulkhead.Ticket, string, error)
	MayIssueTicket(ctx context.Context, actor string, req bulkhead.TicketRequest) (bulkhead.Ticket, error)
	Tickets(ctx context.Context, account, campaign string, limit int) ([]bulkhead.Ticket, error)
	// Codes gives the codes of unused tickets again, by ticket id.
	Codes(tickets []bulkhead.Ticket) map[string]string
	Redeem(ctx context.Context, account string, r bulkhead.Redemption) (bulkhead.IssuedCertificate, error)
	// RedeemFor is Redeem on behalf of an account whose registered contact asked by mail; KindForbidden for anybody else's
	// address.
	RedeemFor(ctx context.Context, actor, from string, r bulkhead.Redemption) (bulkhead.IssuedCertificate, error)
	MayRedeem(ctx context.Context, account string, r bulkhead.Redemption) (bulkhead.Ticket, error)
	MayRedeemFor(ctx context.Context, from string, r bulkhead.Redemption) (bulkhead.Ticket, error)
}

func (a *API) ticketRoutes() {
	route(a, "GET /api/v1/tickets", operation[none, TicketList]{id: "listTickets", summary: "codes for free reissues, newest first; accounts see their own", access: anybodyKnown, do: a.tickets,
		query: []parameter{{name: "campaign", about: "only of this campaign"}, {name: "account", about: "only of this account"}, {name: "codes", about: "true shows the codes that are not used, to operators"},
			{name: "limit", about: "1 to 10000; default 100"},
			{name: "advice", about: "language: with what the holder of each ticket that is not used has to do", values: []string{"en", "ja"}}}})
	route(a, "POST /api/v1/tickets", operation[IssueTicketRequest, TicketView]{id: "issueTicket", summary: "give one free reissue for an order and a name", do: a.issueTicket, plan: a.planIssueTicket})
	route(a, "POST /api/v1/reissues", operation[ReissueRequest, IssueResponse]{id: "redeemTicket", summary: "replace one certificate against a code: one order, one name, one new request", access: anybodyKnown, do: a.redeem, plan: a.planRedeem})
}

// TicketView is a ticket; the code is there only when it was asked for and may be shown.
type TicketView struct {
	ID         string    `json:"id"`
	Campaign   string    `json:"campaign,omitempty"`
	Replaces   string    `json:"replaces"`
	Order      string    `json:"order"`
	Name       string    `json:"name"`
	Account    string    `json:"account"`
	State      string    `json:"state"` // open, used or expired
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	RedeemedAt time.Time `json:"redeemed_at,omitzero"`
	Used       string    `json:"used,omitempty"`
	Code       string    `json:"code,omitempty"`
	Advice     string    `json:"advice,omitempty"` // what its holder has to do, when that was asked for
}

func ticketView(t bulkhead.Ticket, code string, now time.Time) TicketView {
	v := TicketView{ID: t.ID, Campaign: t.Campaign, Replaces: t.Replaces.String(), Order: t.OrderID, Name: t.Name, Account: t.AccountID, State: "open", CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
		RedeemedAt: t.RedeemedAt, Code: code}
	switch {
	case !t.RedeemedAt.IsZero():
		v.State, v.Used = "used", t.Used.String()
	case now.After(t.ExpiresAt):
		v.State = "expired"
	}
	return v
}

// TicketList is tickets, newest first.
type TicketList struct {
	Tickets []TicketView `json:"tickets"`
}

func (a *API) tickets(ctx context.Context, w who, r *http.Request, _ none) (TicketList, error) {
	q := r.URL.Query()
	account := q.Get("account")
	if !w.isOperator() {
		account = w.account.ID
	}
	limit, err := limitOf(r, 10_000)
	if err != nil {
		return TicketList{}, err
	}
	all, err := a.cfg.Desk.Tickets(ctx, account, q.Get("campaign"), limit)
	if err != nil {
		return TicketList{}, err
	}
	codes := map[string]string{}
	if w.isOperator() && q.Get("codes") == "true" {
		codes = a.cfg.Desk.Codes(all)
	}
	out := TicketList{Tickets: []TicketView{}}
	for _, t := range all {
		v := ticketView(t, codes[t.ID], a.cfg.Now())
		if lang := q.Get("advice"); lang != "" && v.State == "open" {
			advice, err := a.cfg.Adviser.Advise(ctx, t.Replaces, lang)
			if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
				return TicketList{}, err
			}
			v.Advice = advice.Text
		}
		out.Tickets = append(out.Tickets, v)
	}
	return out, nil
}

// IssueTicketRequest names a certificate as a customer does.
type IssueTicketRequest struct {
	Order   string `json:"order"`
	Name    string `json:"name"`
	Expires string `json:"expires_in,omitempty"` // like 720h
}

func (in IssueTicketRequest) request() (bulkhead.TicketRequest, error) {
	out := bulkhead.TicketRequest{OrderID: in.Order, Name: in.Name}
	if in.Expires != "" {
		d, err := time.ParseDuration(in.Expires)
		if err != nil || d <= 0 {
			return out, bulkhead.Faultf(bulkhead.KindMalformed, "expires_in %q is not a duration like 720h", in.Expires)
		}
		out.Life = d
	}
	return out, nil
}

func (a *API) issueTicket(ctx context.Context, w who, _ *http.Request, in IssueTicketRequest) (TicketView, error) {
	req, err := in.request()
	if err != nil {
		return TicketView{}, err
	}
	t, code, err := a.cfg.Desk.IssueTicket(ctx, w.actor(), req)
	return ticketView(t, code, a.cfg.Now()), err
}

func (a *API) planIssueTicket(ctx context.Context, w who, _ *http.Request, in IssueTicketRequest) (Plan, error) {
	req, err := in.request()
	if err != nil {
		return Plan{}, err
	}
	t, err := a.cfg.Desk.MayIssueTicket(ctx, w.actor(), req)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("make a code for one free reissue of %s by account %s, good until %s", t.Replaces, t.AccountID, t.ExpiresAt.Format(time.RFC3339))), nil
}

// ReissueRequest replaces one certificate against a code.
type ReissueRequest struct {
	Code   string          `json:"code"`
	Order  string          `json:"order"`
	Name   string          `json:"name"`
	CSR    string          `json:"csr"`              // PEM or base64 DER
	Method bulkhead.Method `json:"method,omitempty"` // to show the names in another way than before
	From   string          `json:"from,omitempty"`   // operators: the registered address that asked
}

func (in ReissueRequest) redemption() (bulkhead.Redemption, error) {
	csr, err := IssueRequest{CSR: in.CSR}.request()
	return bulkhead.Redemption{Code: in.Code, OrderID: in.Order, Name: in.Name, CSR: csr.CSR, Method: in.Method}, err
}

func (a *API) redeem(ctx context.Context, w who, _ *http.Request, in ReissueRequest) (IssueResponse, error) {
	r, err := in.redemption()
	if err != nil {
		return IssueResponse{}, err
	}
	var got bulkhead.IssuedCertificate
	if w.isOperator() {
		got, err = a.cfg.Desk.RedeemFor(ctx, w.actor(), in.From, r)
	} else {
		got, err = a.cfg.Desk.Redeem(ctx, w.account.ID, r)
	}
	if err != nil {
		return IssueResponse{}, err
	}
	return a.issued(got), nil
}

func (a *API) planRedeem(ctx context.Context, w who, _ *http.Request, in ReissueRequest) (Plan, error) {
	r, err := in.redemption()
	if err != nil {
		return Plan{}, err
	}
	var t bulkhead.Ticket
	if w.isOperator() {
		t, err = a.cfg.Desk.MayRedeemFor(ctx, in.From, r)
	} else {
		t, err = a.cfg.Desk.MayRedeem(ctx, w.account.ID, r)
	}
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("replace %s with a certificate for the new key, and use up the code", t.Replaces)).butNot("the request's names and key, and the validation of the names"), nil
}
