package console

import (
	"context"
	"net/http"
	"slices"
	"time"

	"bulkhead"
)

// Roles of operators besides admin, which may call everything. quorum has the same words, and enforces them for
// signatures under requests.
const (
	roleIssuerAdmin = "issuer-admin"
	roleRevoker     = "revoker"
	roleAuditor     = "auditor"
)

// permitted says which roles may call an operation that changes something, besides administrators. Whoever is in none of
// these lists reads: an auditor changes nothing. To stop is everybody's who may change anything at all.
var permitted = map[string][]string{
	"stopIssuance": {roleIssuerAdmin, roleRevoker}, "resumeIssuance": {roleIssuerAdmin, roleRevoker},
	"compromiseKey": {roleIssuerAdmin, roleRevoker}, "blockKey": {roleIssuerAdmin, roleRevoker},
	"revoke": {roleRevoker}, "planChange": {roleRevoker}, "openChange": {roleRevoker}, "addChangeItems": {roleRevoker}, "previewChange": {roleRevoker}, "planScopeChange": {roleRevoker},
	"activateChange": {roleRevoker}, "withdrawChange": {roleRevoker}, "askActivation": {roleRevoker},
	"issue": {roleIssuerAdmin}, "addAuthority": {roleIssuerAdmin}, "acceptAuthority": {roleIssuerAdmin},
	"addAccount": {roleIssuerAdmin}, "resetCredentials": {roleIssuerAdmin}, "rollAccounts": {roleIssuerAdmin}, "rollAccount": {roleIssuerAdmin},
	"suspendAccount": {roleIssuerAdmin, roleRevoker}, "resumeAccount": {roleIssuerAdmin}, "newToken": {roleIssuerAdmin}, "setContacts": {roleIssuerAdmin},
	"addExternalKey": {roleIssuerAdmin}, "revokeExternalKey": {roleIssuerAdmin}, "revokeAuthorizations": {roleIssuerAdmin},
	"proposeProfile": {roleIssuerAdmin}, "activateProfile": {roleIssuerAdmin},
	"addPartner": {roleIssuerAdmin}, "limitPartner": {roleIssuerAdmin}, "suspendPartner": {roleIssuerAdmin, roleRevoker}, "resumePartner": {roleIssuerAdmin},
	"addPerson": {roleIssuerAdmin}, "removePerson": {roleIssuerAdmin, roleRevoker}, "askOrderApproval": {roleIssuerAdmin}, "bindPersonKey": {roleIssuerAdmin},
	"approve": {roleIssuerAdmin, roleRevoker}, "reviewOperator": {roleIssuerAdmin},
}

// mayCall refuses an operator whose roles do not cover a change.
func mayCall(w who, id string) error {
	if !w.isOperator() || len(w.operator.Roles) == 0 || slices.Contains(w.operator.Roles, "admin") {
		return nil
	}
	for _, r := range permitted[id] {
		if slices.Contains(w.operator.Roles, r) {
			return nil
		}
	}
	return bulkhead.Faultf(bulkhead.KindForbidden, "operator %s has the roles %v, which do not cover this", w.operator.Name, w.operator.Roles).WithHint("ask an operator who has: bulkhead operator list")
}

// ApprovalProof is a request with its signatures: what bulkhead-verify approval checks without the house.
type ApprovalProof struct {
	ID        string           `json:"id"`
	Action    string           `json:"action"`
	Payload   []byte           `json:"payload"`
	Needed    int              `json:"needed"`
	Reason    string           `json:"reason"`
	Approvals []ProvenApproval `json:"approvals"`
}

// ProvenApproval is one operator's signature (quorum.Statement).
type ProvenApproval struct {
	Operator  string        `json:"operator"`
	KeySHA256 bulkhead.Hash `json:"key_sha256"`
	Signature []byte        `json:"signature"`
	At        time.Time     `json:"at"`
}

func (a *API) approvalProof(ctx context.Context, _ who, r *http.Request, _ none) (ApprovalProof, error) {
	q, err := a.cfg.Quorum.Request(ctx, r.PathValue("id"))
	if err != nil {
		return ApprovalProof{}, err
	}
	out := ApprovalProof{ID: q.ID, Action: q.Action, Payload: q.Payload, Needed: q.Needed, Reason: q.Reason, Approvals: []ProvenApproval{}}
	for _, x := range q.Approvals {
		out.Approvals = append(out.Approvals, ProvenApproval{x.Operator, x.KeyHash, x.Signature, x.At.UTC()})
	}
	return out, nil
}

func (a *API) reviewOperator(ctx context.Context, w who, r *http.Request, _ none) (OperatorList, error) {
	if err := a.cfg.Quorum.Review(ctx, w.operator.Name, r.PathValue("name")); err != nil {
		return OperatorList{}, err
	}
	return a.operators(ctx, w, r, none{})
}

func (a *API) planReviewOperator(_ context.Context, _ who, r *http.Request, _ none) (Plan, error) {
	return planOf("record that operator " + r.PathValue("name") + " should still be one").butNot("whether there is such an operator in office"), nil
}
