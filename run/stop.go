package run

import (
	"context"
	"encoding/json"
	"strings"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
)

// executors carry out what a quorum approved. Each is idempotent: after a crash it runs again.
func (h *House) executors() map[string]quorum.Executor {
	return map[string]quorum.Executor{
		actionActivate:       h.activateApproved,
		console.ActionResume: h.resumeApproved,
	}
}

// rehearsed are the same actions, each of which ends the rehearsal.
func (h *House) rehearsed() map[string]quorum.Executor {
	out := map[string]quorum.Executor{}
	for action := range h.executors() {
		out[action] = func(context.Context, bulkhead.ApprovalRequest) error { return errRehearsal }
	}
	return out
}

// payload reads what an approved request is about.
func payload[T any](r bulkhead.ApprovalRequest) (T, error) {
	var p T
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return p, bulkhead.NewFault(bulkhead.KindMalformed, "the payload of the request cannot be read").WithCause(err)
	}
	return p, nil
}

func (h *House) resumeApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	p, err := payload[console.ResumePayload](r)
	if err != nil {
		return err
	}
	return h.enroll.EndStop(ctx, p.Stop, r.ID, r.Digest, r.Reason)
}

// issuanceState is what readyz and doctor say of issuance: "ok", or what is stopped.
func (h *House) issuanceState(ctx context.Context) string {
	if h.store == nil {
		return "asked of no store by this process"
	}
	stops, err := h.store.Stops(ctx)
	if err != nil {
		return "unavailable: the store does not answer"
	}
	var scopes []string
	for _, x := range stops {
		scopes = append(scopes, x.Scope())
	}
	if len(scopes) == 0 {
		return "ok"
	}
	return "stopped: " + strings.Join(scopes, ", ")
}

func (h *House) diagnoseIssuance(ctx context.Context, add addFinding) {
	stops, err := h.store.Stops(ctx)
	if err != nil {
		return // the store's own finding says so
	}
	for _, x := range stops {
		add("issuance", levelFinding, "when it may go on: bulkhead issuance resume "+x.ID+" --reason TEXT, then two approvals",
			"issuance is stopped since %s by %s (%s): %s", x.At.UTC().Format("2006-01-02 15:04:05 UTC"), x.Actor, x.Scope(), x.Reason)
	}
	if len(stops) == 0 {
		add("issuance", levelOK, "", "nothing is stopped")
	}
}
