package run

import (
	"context"
	"encoding/json"
	"strings"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/enroll"
	"bulkhead/quorum"
	"bulkhead/watch"
)

// executors carry out what a quorum approved. Each is idempotent: after a crash it runs again.
func (h *House) executors() map[string]quorum.Executor {
	return map[string]quorum.Executor{
		actionActivate:              h.activateApproved,
		actionCampaign:              h.startApproved,
		actionRollback:              h.activateApproved,
		console.ActionResume:        h.resumeApproved,
		console.ActionRetire:        h.retireApproved,
		console.ActionDestroyKey:    h.destroyApproved,
		console.ActionChangeProfile: h.changeProfileApproved,
		console.ActionResumeAccount: func(ctx context.Context, r bulkhead.ApprovalRequest) error {
			p, err := payload[console.AccountPayload](r)
			if err != nil {
				return err
			}
			return h.enroll.LiftSuspension(ctx, p.Account, r.ID, r.Digest, r.Reason)
		},
		console.ActionAddPartner: partnerAction(func(ctx context.Context, r bulkhead.ApprovalRequest, p bulkhead.Partner) error {
			return h.enroll.AddPartner(ctx, r.ID, r.Digest, p)
		}),
		console.ActionLimitPartner: partnerAction(h.limitApproved),
		console.ActionResumePartner: partnerAction(func(ctx context.Context, r bulkhead.ApprovalRequest, p bulkhead.Partner) error {
			return h.enroll.ResumePartner(ctx, p.ID, r.ID, r.Digest, r.Reason)
		}),
		console.ActionBindPerson: h.bindPersonApproved,
		console.ActionApproveOrder: func(ctx context.Context, r bulkhead.ApprovalRequest) error {
			p, err := payload[console.OrderPayload](r)
			if err != nil {
				return err
			}
			_, err = h.enroll.ApproveOrder(ctx, bulkhead.PartnerPerson{}, r.ID, p.Order, nil)
			return err
		},
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

// credentials adapts enrolment to the console.
type credentials struct{ *enroll.Service }

func (x credentials) ResetCredentials(ctx context.Context, actor, why string) (tokens, externalKeys, people int, err error) {
	n, err := x.Service.ResetCredentials(ctx, actor, why)
	return n.Tokens, n.ExternalKeys, n.People, err
}

// partnerAction is an action whose payload is a registration partner.
func partnerAction(do func(context.Context, bulkhead.ApprovalRequest, bulkhead.Partner) error) quorum.Executor {
	return func(ctx context.Context, r bulkhead.ApprovalRequest) error {
		p, err := payload[bulkhead.Partner](r)
		if err != nil {
			return err
		}
		return do(ctx, r, p)
	}
}

// partnerSeen hands what a registration partner brought to the detectors.
func (h *House) partnerSeen(x enroll.PartnerSeen) {
	s := watch.Sighting{Kind: watch.PartnerOrdered, Partner: x.Partner, Names: x.Names, At: h.now().UTC()}
	if x.Refused != nil {
		s.Kind, s.Refused = watch.PartnerRefused, x.Refused.Kind
	}
	h.watch.See(s)
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
