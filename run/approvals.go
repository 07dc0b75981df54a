package run

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/status"
)

// firstOperatorsFile holds the operators of the first start in a role's own directory. It is no secret: it is what a role
// believes of who the operators are, beside what they signed.
const firstOperatorsFile = "operators.json"

// firstOperators are those of the first start, from outside the store: the seed where the signer is, the copy of an export
// elsewhere. In a directory that was exported before there was such a copy nobody's approval counts: doctor says so.
func firstOperators(dir string, s seed) ([]bulkhead.Operator, error) {
	if len(s.Operators) > 0 {
		return s.Operators, nil
	}
	body, err := os.ReadFile(filepath.Join(dir, firstOperatorsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return []bulkhead.Operator{}, nil
	}
	var ops []bulkhead.Operator
	if err == nil {
		err = json.Unmarshal(body, &ops)
	}
	if err != nil || len(ops) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read, and without it nobody's approval counts", firstOperatorsFile).WithHint("export the role again: bulkhead role export").WithCause(err)
	}
	return ops, nil
}

// approvals judges for the status role what a change was approved by. It believes no row: it reads which request the change
// quotes, whether that is for exactly this change or for the plan of a campaign that has all its certificates, and who signed.
type approvals struct{ h *House }

// Approved implements status.Approvals.
func (a approvals) Approved(ctx context.Context, c bulkhead.Change) error {
	no := func(why string) error {
		return bulkhead.Faultf(bulkhead.KindGate, "change %s takes the approval of two people, and %s", c.ID, why).WithHint("bulkhead change show " + c.ID)
	}
	story, err := a.h.status.Story(ctx, c.ID)
	if err != nil {
		return err
	}
	request, campaign := status.Basis(story)
	if request == "" {
		return no("nothing says which")
	}
	if campaign != "" {
		return a.planned(ctx, c, campaign, no)
	}
	r, err := a.stands(ctx, request, no)
	if err != nil {
		return err
	}
	if c.TakesBack() {
		p, err := payload[takingBack](r)
		if err != nil || r.Action != actionRollback || p.activation != (activation{c.ID, c.PreviewHash}) || p.Undoes != c.Undoes || p.Incident != c.Incident || p.Rule != c.Rule {
			return no("request " + request + " is for something else")
		}
		return nil
	}
	if p, err := payload[activation](r); err != nil || r.Action != actionActivate || p != (activation{c.ID, c.PreviewHash}) {
		return no("request " + request + " is for something else")
	}
	return nil
}

// stands fails with KindGate for a request that is not there or not signed.
func (a approvals) stands(ctx context.Context, id string, no func(string) error) (bulkhead.ApprovalRequest, error) {
	r, err := a.h.quorum.Stands(ctx, id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return r, no("there is no request " + id)
	}
	return r, err
}

// planned holds a campaign's change to the plan that was approved.
func (a approvals) planned(ctx context.Context, c bulkhead.Change, id string, no func(string) error) error {
	x, err := a.h.store.Campaign(ctx, id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return no("there is no campaign " + id)
	}
	if err != nil {
		return err
	}
	changes := campaignChanges{a.h.status, a.h}
	if err := changes.approved(ctx, x); err != nil {
		return err
	}
	if !strings.HasPrefix(x.Approval, "request:") { // a plan small enough for one person makes no change that takes two
		return bulkhead.Faultf(bulkhead.KindGate, "change %s takes two people, and campaign %s was started by one", c.ID, id).WithHint("bulkhead campaign status " + id)
	}
	return changes.within(ctx, x, c)
}
