package run

import (
	"context"
	"time"

	"bulkhead"
	"bulkhead/quorum"
)

const (
	// reviewEvery is how often somebody else confirms an operator (NSR 2.0.5: accounts are reviewed every three months).
	reviewEvery = 90 * 24 * time.Hour
	// leaveWithin is how soon the access of who leaves must be gone (NSR 2.0.5).
	leaveWithin = 24 * time.Hour
)

// inOffice reports whether somebody is an operator.
func (h *House) inOffice(ctx context.Context, name string) (bool, error) {
	_, err := h.quorum.InOffice(ctx, name)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return false, nil
	}
	return err == nil, err
}

// diagnoseAccess says whose access review is due, and who was to leave a day ago and still has access.
func (h *House) diagnoseAccess(ctx context.Context, add addFinding) {
	ops, err := h.quorum.Operators(ctx)
	if err != nil {
		return // said by the quorum's own finding
	}
	if len(h.first) == 0 {
		add("operators", levelFailure, "export this role again: bulkhead role export; or copy "+firstOperatorsFile+" from the directory of another role", "nobody's approval counts here: %s is not in this directory, and who the operators are is not read from the record alone", firstOperatorsFile)
	}
	due := 0
	for _, o := range ops {
		last := o.AddedAt
		if o.ReviewedAt.After(last) {
			last = o.ReviewedAt
		}
		if o.RemovedAt.IsZero() && h.now().Sub(last) > reviewEvery {
			due++
			add("access-review", levelFinding, "another operator confirms, or removes: bulkhead operator review "+o.Name, "the access of operator %s was last confirmed on %s", o.Name, last.UTC().Format(time.DateOnly))
		}
	}
	if due == 0 {
		add("access-review", levelOK, "", "every operator was confirmed within three months")
	}
	open, err := h.quorum.Requests(ctx, 1000, bulkhead.RequestOpen)
	if err != nil {
		return
	}
	for _, r := range open {
		if r.Action == quorum.ActionRemoveOperator && h.now().Sub(r.CreatedAt) > leaveWithin {
			p, err := payload[quorum.OperatorPayload](r)
			if err == nil {
				add("leaver", levelFailure, "bulkhead approve "+r.ID+" --key FILE", "operator %s was to leave at %s and is still in office", p.Name, r.CreatedAt.UTC().Format("2006-01-02 15:04:05 UTC"))
			}
		}
	}
}
