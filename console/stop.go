package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Issuance stops and resumes the issue of subscribers' certificates.
type Issuance interface {
	Stop(ctx context.Context, actor string, x bulkhead.Stop) (bulkhead.Stop, error)
	// Stops are those in force, StopHistory all, newest first.
	Stops(ctx context.Context) (bulkhead.Stops, error)
	StopHistory(ctx context.Context, limit int) ([]bulkhead.Stop, error)
	IssuanceStop(ctx context.Context, id string) (bulkhead.Stop, error)
}

// ActionResume is the quorum action that ends a stop; ResumePayload is what people approve.
const ActionResume = "issuance.resume"

// ResumePayload shows the stop that would end.
type ResumePayload struct {
	Stop   string `json:"stop"`
	Scope  string `json:"scope"`
	Reason string `json:"stopped_for"`
	Why    string `json:"resume_for"`
}

func (a *API) stopRoutes() {
	route(a, "GET /api/v1/issuance", operation[none, IssuanceView]{id: "issuance", summary: "what is stopped, and the stops that were", do: a.issuance})
	route(a, "POST /api/v1/issuance/stops", operation[StopRequest, StopView]{id: "stopIssuance", do: a.stopIssuance, plan: a.planStop,
		summary: "stop issuance at once, on one person's word; status and revocation go on"})
	route(a, "POST /api/v1/issuance/stops/{id}/resumption", operation[ResumeRequest, ApprovalView]{id: "resumeIssuance", do: a.resumeIssuance, plan: a.planResume,
		summary: "ask for the approvals that end a stop"})
}

// StopRequest stops one scope: exactly one of all, issuer, profile, ra, account and method is given.
type StopRequest struct {
	All     bool   `json:"all,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Profile string `json:"profile,omitempty"`
	RA      string `json:"ra,omitempty"` // a registration partner
	Account string `json:"account,omitempty"`
	Method  string `json:"method,omitempty"`
	Reason  string `json:"reason"`
}

func (in StopRequest) stop() (bulkhead.Stop, error) {
	x, n := bulkhead.Stop{Reason: in.Reason}, 0
	if in.All {
		x.Kind, n = bulkhead.StopAll, 1
	}
	for _, s := range []struct {
		kind  bulkhead.StopKind
		value string
	}{{bulkhead.StopIssuer, in.Issuer}, {bulkhead.StopProfile, in.Profile}, {bulkhead.StopPartner, in.RA}, {bulkhead.StopAccount, in.Account}, {bulkhead.StopMethod, in.Method}} {
		if s.value != "" {
			x.Kind, x.Value, n = s.kind, s.value, n+1
		}
	}
	if n > 1 {
		return x, bulkhead.NewFault(bulkhead.KindUsage, "a stop has one scope").WithHint("make one stop for each, or stop all")
	}
	return x, x.Check()
}

// StopView is a stop as people and programs read it.
type StopView struct {
	ID      string            `json:"id"`
	Kind    bulkhead.StopKind `json:"kind"`
	Value   string            `json:"value,omitempty"`
	Reason  string            `json:"reason"`
	Actor   string            `json:"actor"`
	At      time.Time         `json:"at"`
	EndedAt *time.Time        `json:"ended_at,omitempty"`
	EndedBy string            `json:"ended_by,omitempty"` // the approved request
	Ending  string            `json:"ending,omitempty"`   // why it ended
}

func stopView(x bulkhead.Stop) StopView {
	v := StopView{ID: x.ID, Kind: x.Kind, Value: x.Value, Reason: x.Reason, Actor: x.Actor, At: x.At.UTC(), EndedBy: x.EndedBy, Ending: x.Ending}
	if !x.InForce() {
		t := x.EndedAt.UTC()
		v.EndedAt = &t
	}
	return v
}

// IssuanceView says what is stopped.
type IssuanceView struct {
	Stopped bool       `json:"stopped"` // something is
	All     bool       `json:"all"`     // everything is
	Stops   []StopView `json:"stops"`   // in force, oldest first
	Ended   []StopView `json:"ended"`   // newest first
}

func (a *API) issuance(ctx context.Context, _ who, _ *http.Request, _ none) (IssuanceView, error) {
	out := IssuanceView{Stops: []StopView{}, Ended: []StopView{}}
	stops, err := a.cfg.Issuance.Stops(ctx)
	if err != nil {
		return out, err
	}
	for _, x := range stops {
		out.Stopped, out.All = true, out.All || x.Kind == bulkhead.StopAll
		out.Stops = append(out.Stops, stopView(x))
	}
	all, err := a.cfg.Issuance.StopHistory(ctx, 100)
	for _, x := range all {
		if !x.InForce() {
			out.Ended = append(out.Ended, stopView(x))
		}
	}
	return out, err
}

func (a *API) stopIssuance(ctx context.Context, w who, _ *http.Request, in StopRequest) (StopView, error) {
	x, err := in.stop()
	if err != nil {
		return StopView{}, err
	}
	x, err = a.cfg.Issuance.Stop(ctx, w.actor(), x)
	return stopView(x), err
}

func (a *API) planStop(_ context.Context, _ who, _ *http.Request, in StopRequest) (Plan, error) {
	x, err := in.stop()
	if err != nil {
		return Plan{}, err
	}
	return planOf("stop issuance: "+x.Scope(), "go on with status, revocation, evidence and the house's own certificates",
		"end it only when two operators approve").butNot("whether what is named exists"), nil
}

// ResumeRequest says why a stop may end.
type ResumeRequest struct {
	Reason string `json:"reason"`
}

func (a *API) resumption(ctx context.Context, r *http.Request, in ResumeRequest) (ResumePayload, error) {
	x, err := a.cfg.Issuance.IssuanceStop(ctx, r.PathValue("id"))
	if err != nil {
		return ResumePayload{}, err
	}
	if !x.InForce() {
		return ResumePayload{}, bulkhead.Faultf(bulkhead.KindConflict, "stop %s ended at %s", x.ID, x.EndedAt.UTC().Format(time.RFC3339)).WithHint("bulkhead issuance status")
	}
	return ResumePayload{Stop: x.ID, Scope: x.Scope(), Reason: x.Reason, Why: in.Reason}, nil
}

func (a *API) resumeIssuance(ctx context.Context, w who, r *http.Request, in ResumeRequest) (ApprovalView, error) {
	p, err := a.resumption(ctx, r, in)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionResume, p, w.actor(), in.Reason)
	return approvalView(q), err
}

func (a *API) planResume(ctx context.Context, w who, r *http.Request, in ResumeRequest) (Plan, error) {
	p, err := a.resumption(ctx, r, in)
	if err != nil {
		return Plan{}, err
	}
	plan, err := proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionResume, p, w.actor(), in.Reason))
	if err == nil {
		plan.Would = append(plan.Would, fmt.Sprintf("then end the stop of %s", p.Scope))
	}
	return plan, err
}
