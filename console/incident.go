package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"bulkhead"
)

// Desk is the incident desk: incidents, campaigns and tickets.
type Desk interface {
	Open(ctx context.Context, actor string, in bulkhead.IncidentIntake) (bulkhead.Incident, error)
	RehearseOpen(ctx context.Context, actor string, in bulkhead.IncidentIntake) (bulkhead.Incident, error)
	Incident(ctx context.Context, id string) (bulkhead.Incident, error)
	Incidents(ctx context.Context, limit int, states ...bulkhead.IncidentState) ([]bulkhead.Incident, error)
	Tally(ctx context.Context, id string) (bulkhead.IncidentTally, error)
	Counts(ctx context.Context, id string) ([]bulkhead.ScopeCount, error)
	// Scope replaces the query and counts it; an empty one counts what there is again.
	Scope(ctx context.Context, actor, id string, sc bulkhead.Scope, why string) (bulkhead.ScopeCount, error)
	Timeline(ctx context.Context, id string) ([]bulkhead.TimelineEntry, error)
	Note(ctx context.Context, actor, id, element, text string) error
	Hold(ctx context.Context, actor, id string, ref bulkhead.CertificateRef, why string) error
	Release(ctx context.Context, actor, id string, ref bulkhead.CertificateRef, why string) error
	Close(ctx context.Context, actor, id, why string) (bulkhead.Incident, error)
	MayClose(ctx context.Context, id, why string) error
	Playbooks() []bulkhead.Playbook
	// Exposures lists an account's certificates in open incidents; no other account's.
	Exposures(ctx context.Context, account string, limit int) ([]bulkhead.Exposure, error)
	Campaigns
	Tickets
}

func (a *API) incidentRoutes() {
	route(a, "GET /api/v1/incidents", operation[none, IncidentList]{id: "listIncidents", summary: "incidents, newest first", do: a.incidents})
	route(a, "POST /api/v1/incidents", operation[OpenIncidentRequest, IncidentView]{id: "openIncident", summary: "open an incident: its clock runs from when the house became aware", do: a.openIncident, plan: a.planOpenIncident})
	route(a, "GET /api/v1/incidents/{id}", operation[none, IncidentView]{id: "showIncident", summary: "one incident with its deadlines, counts and numbers", do: a.incident})
	route(a, "GET /api/v1/incidents/{id}/timeline", operation[none, TimelineView]{id: "incidentTimeline", summary: "the story from the evidence: UTC, each line with its leaf", do: a.timeline})
	route(a, "POST /api/v1/incidents/{id}/scope", operation[IncidentScopeRequest, ScopeCountView]{id: "scopeIncident", summary: "set the query for what is concerned, or count it again", do: a.scopeIncident, plan: a.planScope})
	route(a, "POST /api/v1/incidents/{id}/notes", operation[NoteRequest, IncidentView]{id: "noteIncident", summary: "add to the timeline what only people know", do: a.noteIncident, plan: a.planNote})
	route(a, "POST /api/v1/incidents/{id}/holds", operation[HoldRequest, IncidentView]{id: "holdItem", summary: "put a certificate on legal hold, or end the hold", do: a.holdItem, plan: a.planHold})
	route(a, "POST /api/v1/incidents/{id}/closing", operation[WhyRequest, IncidentView]{id: "closeIncident", summary: "close an incident whose certificates are revoked or expired", do: a.closeIncident, plan: a.planCloseIncident})
	route(a, "GET /api/v1/playbooks", operation[none, PlaybookList]{id: "listPlaybooks", summary: "what to do on each kind of day", do: a.playbooks})
	route(a, "GET /api/v1/my/incidents", operation[none, ExposureList]{id: "myIncidents", summary: "the asking account's certificates in open incidents: what is due and what replaces them", access: anybodyKnown, do: a.exposures})
	a.campaignRoutes()
	a.ticketRoutes()
}

// IncidentView is an incident as people and programs read it.
type IncidentView struct {
	ID        string                  `json:"id"`
	Kind      bulkhead.IncidentKind   `json:"kind"`
	Parent    string                  `json:"parent,omitempty"`
	State     bulkhead.IncidentState  `json:"state"`
	Title     string                  `json:"title"`
	Source    bulkhead.IncidentSource `json:"source"`
	SourceRef string                  `json:"source_ref,omitempty"`
	Playbook  string                  `json:"playbook,omitempty"`
	Cause     string                  `json:"cause"`
	Reason    string                  `json:"reason"`
	AwareAt   time.Time               `json:"aware_at"`
	OpenedAt  time.Time               `json:"opened_at"`
	ClosedAt  time.Time               `json:"closed_at,omitzero"`
	Closing   string                  `json:"closing,omitempty"`
	Actor     string                  `json:"actor"`
	Duties    []bulkhead.Duty         `json:"duties"`
	Scope     bulkhead.Scope          `json:"scope"`
	Deadlines []bulkhead.Deadline     `json:"deadlines"`
	Numbers   *IncidentNumbers        `json:"numbers,omitempty"`
	Counts    []ScopeCountView        `json:"counts,omitempty"`
}

// IncidentNumbers counts the certificates of an incident as the record has them now.
type IncidentNumbers struct {
	Total         int64                              `json:"total"` // expired and revoked ones included
	Live          int64                              `json:"live"`
	Revoked       int64                              `json:"revoked"`
	Expired       int64                              `json:"expired"`
	Replaced      int64                              `json:"replaced"`
	Held          int64                              `json:"held"`
	LiveByProfile map[string]int64                   `json:"live_by_profile"`
	LiveByKind    map[bulkhead.CertificateKind]int64 `json:"live_by_kind"`
}

// ScopeCountView is one count of a scope. A later one that differs is an impact correction.
type ScopeCountView struct {
	Number int           `json:"number"`
	At     time.Time     `json:"at"`
	Items  int64         `json:"items"`
	Live   int64         `json:"live"`
	Digest bulkhead.Hash `json:"digest"`
	Why    string        `json:"why"`
	Actor  string        `json:"actor"`
	Leaf   int64         `json:"leaf"` // index in the evidence log
}

func countView(c bulkhead.ScopeCount) ScopeCountView {
	return ScopeCountView{Number: c.Number, At: c.At, Items: c.Items, Live: c.Live, Digest: c.Digest, Why: c.Why, Actor: c.Actor, Leaf: c.LogIndex}
}

func incidentView(i bulkhead.Incident) IncidentView {
	v := IncidentView{ID: i.ID, Kind: i.Kind, Parent: i.Parent, State: i.State, Title: i.Title, Source: i.Source, SourceRef: i.SourceRef, Playbook: i.Playbook, Cause: i.Cause, Reason: i.Reason.String(),
		AwareAt: i.AwareAt, OpenedAt: i.OpenedAt, ClosedAt: i.ClosedAt, Closing: i.Closing, Actor: i.Actor, Duties: i.Duties, Scope: i.Scope, Deadlines: i.Deadlines}
	if v.Duties == nil {
		v.Duties = []bulkhead.Duty{}
	}
	return v
}

// IncidentList is incidents, newest first.
type IncidentList struct {
	Incidents []IncidentView `json:"incidents"`
}

func (a *API) incidents(ctx context.Context, _ who, _ *http.Request, _ none) (IncidentList, error) {
	all, err := a.cfg.Desk.Incidents(ctx, 1000)
	out := IncidentList{Incidents: []IncidentView{}}
	for _, i := range all {
		out.Incidents = append(out.Incidents, incidentView(i))
	}
	return out, err
}

func (a *API) incident(ctx context.Context, _ who, r *http.Request, _ none) (IncidentView, error) {
	return a.showIncident(ctx, r.PathValue("id"))
}

func (a *API) showIncident(ctx context.Context, id string) (IncidentView, error) {
	i, err := a.cfg.Desk.Incident(ctx, id)
	if err != nil {
		return IncidentView{}, err
	}
	v := incidentView(i)
	t, err := a.cfg.Desk.Tally(ctx, id)
	if err != nil {
		return v, err
	}
	n := IncidentNumbers(t)
	v.Numbers = &n
	counts, err := a.cfg.Desk.Counts(ctx, id)
	for _, c := range counts {
		v.Counts = append(v.Counts, countView(c))
	}
	return v, err
}

// OpenIncidentRequest opens an incident.
type OpenIncidentRequest struct {
	Title     string                  `json:"title"`
	Source    bulkhead.IncidentSource `json:"source,omitempty"` // operator, problem-report or alarm
	SourceRef string                  `json:"source_ref,omitempty"`
	Playbook  string                  `json:"playbook,omitempty"`
	Cause     string                  `json:"cause,omitempty"`
	Reason    string                  `json:"reason,omitempty"` // RFC 5280 name
	AwareAt   time.Time               `json:"aware_at,omitzero"`
	Corrects  string                  `json:"corrects,omitempty"`
	Duties    []bulkhead.Duty         `json:"duties,omitempty"`
	Scope     bulkhead.Scope          `json:"scope,omitzero"`
}

func (in OpenIncidentRequest) intake() (bulkhead.IncidentIntake, error) {
	out := bulkhead.IncidentIntake{Title: in.Title, Source: in.Source, SourceRef: in.SourceRef, Playbook: in.Playbook, Cause: in.Cause, AwareAt: in.AwareAt, Corrects: in.Corrects, Duties: in.Duties, Scope: in.Scope}
	if in.Reason != "" {
		r, err := bulkhead.ParseReason(in.Reason)
		if err != nil {
			return out, err
		}
		out.Reason = &r
	}
	return out, nil
}

func (a *API) openIncident(ctx context.Context, w who, _ *http.Request, in OpenIncidentRequest) (IncidentView, error) {
	intake, err := in.intake()
	if err != nil {
		return IncidentView{}, err
	}
	i, err := a.cfg.Desk.Open(ctx, w.actor(), intake)
	if err != nil {
		return IncidentView{}, err
	}
	return a.showIncident(ctx, i.ID)
}

func (a *API) planOpenIncident(ctx context.Context, w who, _ *http.Request, in OpenIncidentRequest) (Plan, error) {
	intake, err := in.intake()
	if err != nil {
		return Plan{}, err
	}
	i, err := a.cfg.Desk.RehearseOpen(ctx, w.actor(), intake)
	if err != nil {
		return Plan{}, err
	}
	p := planOf("open an incident: " + i.Title + ", aware since " + i.AwareAt.Format(time.RFC3339))
	for _, d := range i.Deadlines {
		if !d.Due.IsZero() {
			p.Would = append(p.Would, fmt.Sprintf("set a deadline for %s: %s (%s)", d.Object, d.Due.Format(time.RFC3339), d.Source))
		}
	}
	return p.butNot("how many certificates the scope selects"), nil
}

// IncidentScopeRequest is the query for what an incident touches; an empty scope counts again what there is.
type IncidentScopeRequest struct {
	Scope bulkhead.Scope `json:"scope,omitzero"`
	Why   string         `json:"why,omitempty"`
}

func (a *API) scopeIncident(ctx context.Context, w who, r *http.Request, in IncidentScopeRequest) (ScopeCountView, error) {
	c, err := a.cfg.Desk.Scope(ctx, w.actor(), r.PathValue("id"), in.Scope, in.Why)
	return countView(c), err
}

func (a *API) planScope(ctx context.Context, _ who, r *http.Request, in IncidentScopeRequest) (Plan, error) {
	i, err := a.cfg.Desk.Incident(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	if i.Scope.IsEmpty() && in.Scope.IsEmpty() {
		return Plan{}, bulkhead.Faultf(bulkhead.KindUsage, "incident %s has no scope yet, and none was given", i.ID).WithHint("bulkhead incident scope " + i.ID + " --issuer X, or --all")
	}
	return planOf("count the certificates that the scope selects, and keep the count with its digest").butNot("the number"), nil
}

// TimelineView is the story of an incident.
type TimelineView struct {
	Incident string          `json:"incident"`
	Entries  []TimelineEntry `json:"entries"`
}

// TimelineEntry is one line; leaf is its index in the evidence log.
type TimelineEntry struct {
	At      time.Time `json:"at"`
	Leaf    int64     `json:"leaf"`
	Kind    int       `json:"kind"`
	Actor   string    `json:"actor,omitempty"`
	Ref     string    `json:"ref,omitempty"`
	Element string    `json:"element,omitempty"`
	What    string    `json:"what"`
}

func (a *API) timeline(ctx context.Context, _ who, r *http.Request, _ none) (TimelineView, error) {
	all, err := a.cfg.Desk.Timeline(ctx, r.PathValue("id"))
	out := TimelineView{Incident: r.PathValue("id"), Entries: []TimelineEntry{}}
	for _, e := range all {
		out.Entries = append(out.Entries, TimelineEntry{At: e.At, Leaf: e.LogIndex, Kind: int(e.Kind), Actor: e.Actor, Ref: e.Ref, Element: e.Element, What: e.What})
	}
	return out, err
}

// NoteRequest adds to a timeline.
type NoteRequest struct {
	Text    string `json:"text"`
	Element string `json:"element,omitempty"`
}

func (a *API) noteIncident(ctx context.Context, w who, r *http.Request, in NoteRequest) (IncidentView, error) {
	if err := a.cfg.Desk.Note(ctx, w.actor(), r.PathValue("id"), in.Element, in.Text); err != nil {
		return IncidentView{}, err
	}
	return a.showIncident(ctx, r.PathValue("id"))
}

func (a *API) planNote(ctx context.Context, _ who, r *http.Request, _ NoteRequest) (Plan, error) {
	i, err := a.cfg.Desk.Incident(ctx, r.PathValue("id"))
	return planOf("add a line to the timeline of incident " + i.ID), err
}

// HoldRequest freezes one certificate, or ends the hold.
type HoldRequest struct {
	Issuer  bulkhead.AuthorityID `json:"issuer,omitempty"`
	Serial  bulkhead.Serial      `json:"serial"`
	Why     string               `json:"why"`
	Release bool                 `json:"release,omitempty"`
}

func (a *API) holdItem(ctx context.Context, w who, r *http.Request, in HoldRequest) (IncidentView, error) {
	c, err := a.resolve(ctx, w, in.Serial.String(), string(in.Issuer))
	if err != nil {
		return IncidentView{}, err
	}
	act := a.cfg.Desk.Hold
	if in.Release {
		act = a.cfg.Desk.Release
	}
	if err := act(ctx, w.actor(), r.PathValue("id"), c.CertificateRef, in.Why); err != nil {
		return IncidentView{}, err
	}
	return a.showIncident(ctx, r.PathValue("id"))
}

func (a *API) planHold(ctx context.Context, w who, r *http.Request, in HoldRequest) (Plan, error) {
	if _, err := a.cfg.Desk.Incident(ctx, r.PathValue("id")); err != nil {
		return Plan{}, err
	}
	c, err := a.resolve(ctx, w, in.Serial.String(), string(in.Issuer))
	if err != nil {
		return Plan{}, err
	}
	if in.Release {
		return planOf(fmt.Sprintf("end the hold on %s; the campaign goes on with it", c.CertificateRef)), nil
	}
	return planOf(fmt.Sprintf("put %s on hold: no campaign and no deadline clock revokes it, and it is reported as delayed", c.CertificateRef)), nil
}

// WhyRequest says why.
type WhyRequest struct {
	Why string `json:"why"`
}

func (a *API) closeIncident(ctx context.Context, w who, r *http.Request, in WhyRequest) (IncidentView, error) {
	i, err := a.cfg.Desk.Close(ctx, w.actor(), r.PathValue("id"), in.Why)
	if err != nil {
		return IncidentView{}, err
	}
	return a.showIncident(ctx, i.ID)
}

func (a *API) planCloseIncident(ctx context.Context, _ who, r *http.Request, in WhyRequest) (Plan, error) {
	if err := a.cfg.Desk.MayClose(ctx, r.PathValue("id"), in.Why); err != nil {
		return Plan{}, err
	}
	return planOf("close incident " + r.PathValue("id")), nil
}

// PlaybookList is what to do on each kind of day.
type PlaybookList struct {
	Playbooks []bulkhead.Playbook `json:"playbooks"`
}

func (a *API) playbooks(context.Context, who, *http.Request, none) (PlaybookList, error) {
	return PlaybookList{a.cfg.Desk.Playbooks()}, nil
}

// ExposureList is an account's certificates in open incidents.
type ExposureList struct {
	Certificates []ExposureView `json:"certificates"`
}

// ExposureView is one of them: what is wrong, until when, and what replaces it.
type ExposureView struct {
	Incident    string                    `json:"incident"`
	Title       string                    `json:"title"`
	Issuer      bulkhead.AuthorityID      `json:"issuer"`
	Serial      bulkhead.Serial           `json:"serial"`
	Names       []bulkhead.Identifier     `json:"names"`
	State       bulkhead.CertificateState `json:"state"`
	Deadline    time.Time                 `json:"deadline,omitzero"`
	Held        bool                      `json:"held"`
	Step        bulkhead.ItemState        `json:"step,omitempty"`
	RenewFrom   time.Time                 `json:"renew_from,omitzero"`
	RenewUntil  time.Time                 `json:"renew_until,omitzero"`
	RevokedAt   time.Time                 `json:"revocation_planned,omitzero"` // the old one goes then
	Replacement string                    `json:"replacement,omitempty"`
	Detail      string                    `json:"detail,omitempty"`
	Advice      []string                  `json:"advice"`
}

func (a *API) exposures(ctx context.Context, w who, r *http.Request, _ none) (ExposureList, error) {
	out := ExposureList{Certificates: []ExposureView{}}
	all, err := a.cfg.Desk.Exposures(ctx, w.account.ID, maxItems)
	for _, e := range all {
		c := e.Certificate
		v := ExposureView{Incident: e.Incident.ID, Title: e.Incident.Title, Issuer: c.Issuer, Serial: c.Serial, Names: c.Names, State: c.State, Deadline: e.Deadline, Held: e.Held, Advice: e.Advice}
		if v.Advice == nil {
			v.Advice = []string{}
		}
		if c.ReplacedBy != (bulkhead.CertificateRef{}) {
			v.Replacement = c.ReplacedBy.String()
		}
		if it := e.Item; it != nil {
			v.Step, v.RenewFrom, v.RenewUntil, v.RevokedAt, v.Detail = it.State, it.WindowStart, it.WindowEnd, it.RevokeAt, it.Detail
			if it.Replacement != (bulkhead.CertificateRef{}) {
				v.Replacement = it.Replacement.String()
			}
		}
		out.Certificates = append(out.Certificates, v)
	}
	return out, err
}

// limitOf reads a limit from the query.
func limitOf(r *http.Request, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, bulkhead.Faultf(bulkhead.KindMalformed, "limit %q is not a number from 1 to %d", text, most)
	}
	return n, nil
}
