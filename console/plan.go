package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bulkhead"
)

func (a *API) planIssue(ctx context.Context, w who, _ *http.Request, in IssueRequest) (Plan, error) {
	req, err := in.request()
	if err != nil {
		return Plan{}, err
	}
	var p IssuePlan
	if w.isOperator() {
		p, err = a.cfg.Rehearsal.Orders.PlanForOperator(ctx, w.operator.Name, req)
	} else {
		p, err = a.cfg.Rehearsal.Orders.PlanForAccount(ctx, w.account, req)
	}
	if err != nil {
		return Plan{}, err
	}
	if !p.Again.Serial.IsZero() {
		return planOf(fmt.Sprintf("give certificate %s of %s again, which this very request got within the last hour", p.Again.Serial, p.Again.Issuer)), nil
	}
	var names []string
	for _, n := range p.Names {
		names = append(names, n.Value)
	}
	return planOf(fmt.Sprintf("issue a certificate of profile %s by %s for %s, valid from %s to %s", p.Profile, p.Authority, strings.Join(names, ", "),
		p.NotBefore.UTC().Format(time.RFC3339), p.NotAfter.UTC().Format(time.RFC3339))).butNot(p.NotChecked...), nil
}

// planRevoke keeps the previewed change: it is what a person may look at and approve.
func (a *API) planRevoke(ctx context.Context, w who, r *http.Request, in RevokeRequest) (Plan, error) {
	_, item, why, err := a.revocation(ctx, w, r, in)
	if err != nil {
		return Plan{}, err
	}
	ch, err := a.cfg.Changes.PlanRevocation(ctx, w.actor(), why, []bulkhead.ChangeItem{item})
	if err != nil {
		return Plan{}, err
	}
	p := planOf()
	if item.Reason == bulkhead.KeyCompromise {
		p.Would = append(p.Would, "block the key for ever")
	}
	p.Would = append(p.Would, fmt.Sprintf("revoke %s of %s for %s, by change %s, which stands previewed", item.Serial, item.Issuer, item.Reason, ch.ID))
	v := changeView(ch)
	p.Change = &v
	return p.butNot("verification of the new answers and CRLs before they are public"), nil
}

func (a *API) planAddAuthority(ctx context.Context, w who, _ *http.Request, in AddAuthorityRequest) (Plan, error) {
	x, err := a.cfg.Rehearsal.Hierarchy.AddAuthority(ctx, w.actor(), in.ID, in.Algorithm, in.CommonName, in.Usage, in.Predecessor)
	if err != nil {
		return Plan{}, err
	}
	p := planOf(fmt.Sprintf("make a %s key for %s", in.Algorithm, x.ID), fmt.Sprintf("hand out a CSR; %s waits for its certificate with %d CRL shards", x.ID, x.Shards))
	if in.Predecessor != "" {
		p.Would = append(p.Would, fmt.Sprintf("once the certificate is accepted, retire %s, which goes on answering", in.Predecessor))
	}
	return p.butNot("the making of the key"), nil
}

func (a *API) planAcceptAuthority(ctx context.Context, w who, r *http.Request, in AcceptAuthorityRequest) (Plan, error) {
	cert, chain, err := in.decode()
	if err != nil {
		return Plan{}, err
	}
	x, err := a.cfg.Rehearsal.Hierarchy.AcceptAuthority(ctx, w.actor(), bulkhead.AuthorityID(r.PathValue("id")), cert, chain)
	if err != nil {
		return Plan{}, err
	}
	above := "a root that is not ours"
	if x.Parent != "" {
		above = string(x.Parent)
	}
	p := planOf(fmt.Sprintf("make %s an active issuing authority below %s", x.ID, above), "publish its first CRLs")
	all, err := a.cfg.Inventory.Authorities(ctx)
	for _, y := range all {
		if y.ID == x.ID && y.Parent != "" { // while pending: whom it will succeed
			p.Would = append(p.Would, fmt.Sprintf("retire %s: it issues no more and goes on answering", y.Parent))
		}
	}
	return p, err
}

func (a *API) planNewAccount(_ context.Context, _ who, _ *http.Request, in NewAccountRequest) (Plan, error) {
	if in.OwnNames {
		return in.plan("make an API account that orders the house's own names without a further word, and show its token once")
	}
	return in.plan("make an API account and show its token once")
}

func proposal(r bulkhead.ApprovalRequest, err error) (Plan, error) {
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("open a request for %s, to be approved by %d operators before %s", r.Action, r.Needed, r.ExpiresAt.UTC().Format(time.RFC3339))), nil
}

func (a *API) planAddOperator(ctx context.Context, w who, _ *http.Request, in OperatorRequest) (Plan, error) {
	return proposal(a.cfg.Rehearsal.Quorum.ProposeAddOperator(ctx, w.actor(), in.Reason, in.Name, in.PublicKey, in.Roles...))
}

func (a *API) planRemoveOperator(ctx context.Context, w who, r *http.Request, _ none) (Plan, error) {
	return proposal(a.cfg.Rehearsal.Quorum.ProposeRemoveOperator(ctx, w.actor(), r.URL.Query().Get("reason"), r.PathValue("name")))
}

func (a *API) planActivation(ctx context.Context, w who, r *http.Request, _ none) (Plan, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	return proposal(a.cfg.Rehearsal.Quorum.ProposeActivation(ctx, w.actor(), c.Why, c))
}

func (a *API) planApprove(ctx context.Context, _ who, r *http.Request, in ApproveRequest) (Plan, error) {
	key, signature, err := a.signature(ctx, in)
	if err != nil {
		return Plan{}, err
	}
	q, err := a.cfg.Rehearsal.Quorum.Approve(ctx, r.PathValue("id"), key, signature)
	if err != nil {
		return Plan{}, err
	}
	n := len(q.Approvals) + 1 // the signature that was checked and not kept
	p := planOf(fmt.Sprintf("count approval %d of %d for %s", n, q.Needed, q.Action))
	if n >= q.Needed {
		p.Would = append(p.Would, "carry out "+q.Action)
		p = p.butNot("the action itself, and whether those who signed before are still in office")
	}
	return p, nil
}

func (a *API) planBlockKey(ctx context.Context, _ who, _ *http.Request, in BlockKeyRequest) (Plan, error) {
	if err := in.check(); err != nil {
		return Plan{}, err
	}
	blocked, err := a.cfg.Inventory.BlockedKeys(ctx, in.KeySHA256)
	if err != nil {
		return Plan{}, err
	}
	if len(blocked) > 0 {
		return planOf("nothing: the key is blocked since " + blocked[0].BlockedAt.UTC().Format(time.RFC3339)), nil
	}
	rows, err := a.cfg.Inventory.CertificatesByKey(ctx, in.KeySHA256, a.cfg.Now())
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("block the key %s for ever", in.KeySHA256), fmt.Sprintf("leave the %d certificates that hold it as they are: they are revoked apart", len(rows))), nil
}
