package console

import (
	"context"
	"encoding/pem"
	"net/http"
	"time"

	"bulkhead"
)

type none struct{}

// Version is the release that answers.
type Version struct {
	Version string `json:"version"`
}

func (a *API) routes() {
	a.outsideRoutes()
	route(a, "GET /api/v1/version", operation[none, Version]{id: "version", summary: "the release that answers", access: partnersToo,
		do: func(context.Context, who, *http.Request, none) (Version, error) { return Version{a.cfg.Version}, nil }})
	a.certificateRoutes()
	a.authorityRoutes()
	a.peopleRoutes()
	a.signInRoutes()
	a.changeRoutes()
	a.admissionRoutes()
	a.retentionRoutes()
	a.incidentRoutes()
	a.reportRoutes()
	a.noticeRoutes()
	a.stopRoutes()
	a.endingRoutes()
	a.compromiseRoutes()
	a.credentialRoutes()
	a.partnerRoutes()
	a.offlineRoutes()
	a.lookRoutes()
	a.adviceRoutes()
	a.sightingRoutes()
}

func (a *API) certificateRoutes() {
	route(a, "POST /api/v1/certificates", operation[IssueRequest, IssueResponse]{id: "issue", summary: "issue a certificate for a CSR", access: anybodyKnown, do: a.issue, plan: a.planIssue})
	route(a, "GET /api/v1/certificates", operation[none, CertificateList]{id: "listCertificates", access: partnersToo, query: inventoryQuery(), do: a.list,
		summary: "search the inventory, newest first; accounts see their own"})
	route(a, "GET /api/v1/certificates/{serial}", operation[none, CertificateView]{id: "showCertificate", summary: "one certificate with its PEM and chain", access: partnersToo,
		query: []parameter{{name: "issuer", about: "authority, where two share the serial"}}, do: a.show})
	route(a, "POST /api/v1/certificates/{serial}/revoke", operation[RevokeRequest, RevokeResponse]{id: "revoke", access: partnersToo, do: a.revoke, plan: a.planRevoke,
		summary: "revoke one certificate: change, preview, publish"})
	a.profileRoutes()
	route(a, "POST /api/v1/keys/block", operation[BlockKeyRequest, BlockKeyResponse]{id: "blockKey", summary: "block a public key for ever", do: a.blockKey, plan: a.planBlockKey})
}

func (a *API) authorityRoutes() {
	route(a, "GET /api/v1/authorities", operation[none, AuthorityList]{id: "listAuthorities", summary: "the tree of authorities", access: partnersToo, do: a.authorities})
	route(a, "POST /api/v1/authorities", operation[AddAuthorityRequest, AuthorityView]{id: "addAuthority", do: a.addAuthority, plan: a.planAddAuthority,
		summary: "make the key and the CSR of a new issuing authority, or of a successor"})
	route(a, "POST /api/v1/authorities/{id}/certificate", operation[AcceptAuthorityRequest, AuthorityView]{id: "acceptAuthority", do: a.acceptAuthority, plan: a.planAcceptAuthority,
		summary: "take the certificate of an authority that waits for it"})
}

func (a *API) peopleRoutes() {
	route(a, "POST /api/v1/accounts", operation[NewAccountRequest, NewAccountResponse]{id: "addAccount", summary: "make an API account; its token is in this answer only", do: a.newAccount, plan: a.planNewAccount})
	route(a, "GET /api/v1/operators", operation[none, OperatorList]{id: "listOperators", summary: "operators, those who left included", do: a.operators})
	route(a, "POST /api/v1/operators", operation[OperatorRequest, ApprovalView]{id: "addOperator", summary: "propose an operator; takes a quorum", do: a.addOperator, plan: a.planAddOperator})
	route(a, "DELETE /api/v1/operators/{name}", operation[none, ApprovalView]{id: "removeOperator", summary: "propose that an operator leaves; takes a quorum", do: a.removeOperator, plan: a.planRemoveOperator,
		query: []parameter{{name: "reason", about: "why, for the record; required"}}})
	route(a, "POST /api/v1/operators/{name}/review", operation[none, OperatorList]{id: "reviewOperator", summary: "confirm that somebody else should still be an operator", do: a.reviewOperator, plan: a.planReviewOperator})
	route(a, "GET /api/v1/approvals/{id}/proof", operation[none, ApprovalProof]{id: "proveApproval", summary: "a request with its signatures, for bulkhead-verify approval", do: a.approvalProof})
	route(a, "GET /api/v1/approvals", operation[none, ApprovalList]{id: "listApprovals", summary: "requests for approval, newest first", do: a.approvals})
	route(a, "GET /api/v1/approvals/{id}", operation[none, ApprovalView]{id: "showApproval", summary: "one request for approval", do: a.approval})
	route(a, "POST /api/v1/approvals/{id}", operation[ApproveRequest, ApprovalView]{id: "approve", summary: "add an operator's signature; carries the action out when the quorum stands", do: a.approve, plan: a.planApprove})
}

func (a *API) changeRoutes() {
	route(a, "GET /api/v1/changes", operation[none, ChangeList]{id: "listChanges", summary: "changes of status, newest first", do: a.changes})
	route(a, "GET /api/v1/changes/{id}", operation[none, ChangeView]{id: "showChange", summary: "one change with its preview", do: a.change})
	route(a, "POST /api/v1/changes", operation[PlanChangeRequest, ChangeView]{id: "planChange", summary: "plan and preview the revocation of many certificates; nothing goes public", do: a.planChange, plan: a.rehearsePlanChange})
	a.largeChangeRoutes()
	route(a, "POST /api/v1/changes/{id}/activation", operation[ActivateRequest, ChangeView]{id: "activateChange", summary: "make a previewed change public, where one person may; quotes the preview", do: a.activateChange, plan: a.rehearseActivate})
	route(a, "POST /api/v1/changes/{id}/withdrawal", operation[WithdrawRequest, ChangeView]{id: "withdrawChange", summary: "end a change that nobody approved yet", do: a.withdrawChange, plan: a.rehearseWithdraw})
	route(a, "POST /api/v1/changes/{id}/rollback", operation[RollbackRequest, RollbackResponse]{id: "rollbackChange", do: a.rollbackChange, plan: a.rehearseRollback,
		summary: "take a change back: at once before it is public, after that with an incident, the rule broken and a quorum"})
	route(a, "POST /api/v1/changes/{id}/approval", operation[none, ApprovalView]{id: "askActivation", summary: "ask for the approvals that a larger change takes", do: a.askActivation, plan: a.planActivation})
	route(a, "GET /api/v1/alarms", operation[none, AlarmList]{id: "listAlarms", summary: "what the detectors raised", do: a.alarms})
	route(a, "GET /api/v1/doctor", operation[none, Findings]{id: "doctor", summary: "look at the house and say what to do", do: a.doctor})
}

// IssueRequest asks for a certificate. CSR is PEM or base64 DER.
type IssueRequest struct {
	CSR       string               `json:"csr"`
	Profile   string               `json:"profile,omitempty"`
	Authority bulkhead.AuthorityID `json:"authority,omitempty"`
	// Replaces is the certificate of the same account that the new one follows, "ISSUER,SERIAL" (RFC 9773 section 5).
	Replaces string `json:"replaces,omitempty"`
}

// IssueResponse is a certificate that is durable, with the chain above it as PEM, the root left out.
type IssueResponse struct {
	Certificate CertificateView `json:"certificate"`
	PEM         string          `json:"pem"`
	ChainPEM    string          `json:"chain_pem"`
	RootPEM     string          `json:"root_pem"`
}

func (in IssueRequest) request() (bulkhead.CertificateRequest, error) {
	csr, err := decodeDER(in.CSR, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return bulkhead.CertificateRequest{}, bulkhead.Faultf(bulkhead.KindBadCSR, "csr: %s", err).WithHint("openssl req -new -key KEY -subj / -addext subjectAltName=DNS:NAME")
	}
	req := bulkhead.CertificateRequest{CSR: csr, Profile: in.Profile, Authority: in.Authority}
	if in.Replaces != "" {
		req.Replaces, err = bulkhead.ParseCertificateRef(in.Replaces)
	}
	return req, err
}

func (a *API) issue(ctx context.Context, w who, _ *http.Request, in IssueRequest) (IssueResponse, error) {
	req, err := in.request()
	if err != nil {
		return IssueResponse{}, err
	}
	var got bulkhead.IssuedCertificate
	if w.isOperator() {
		got, err = a.cfg.Orders.IssueForOperator(ctx, w.operator.Name, req)
	} else {
		got, err = a.cfg.Orders.IssueForAccount(ctx, w.account, req)
	}
	if err != nil {
		return IssueResponse{}, err
	}
	return a.issued(got), nil
}

func (a *API) issued(got bulkhead.IssuedCertificate) IssueResponse {
	out := IssueResponse{Certificate: view(got.Certificate, a.cfg.Now()), PEM: certPEM(got.DER)}
	for i, c := range got.Chain {
		if i == len(got.Chain)-1 {
			out.RootPEM = certPEM(c)
		} else {
			out.ChainPEM += certPEM(c)
		}
	}
	return out
}

// CertificateView is a certificate as people and programs read it.
type CertificateView struct {
	Issuer      bulkhead.AuthorityID      `json:"issuer"`
	Serial      bulkhead.Serial           `json:"serial"`
	Kind        bulkhead.CertificateKind  `json:"kind"`
	State       bulkhead.CertificateState `json:"state"`
	Expired     bool                      `json:"expired"`
	Profile     string                    `json:"profile"`
	Names       []bulkhead.Identifier     `json:"names"`
	Subject     string                    `json:"subject,omitempty"`
	KeySHA256   bulkhead.Hash             `json:"key_sha256"`
	SHA256      bulkhead.Hash             `json:"sha256"`
	Account     string                    `json:"account,omitempty"`
	NotBefore   time.Time                 `json:"not_before"`
	NotAfter    time.Time                 `json:"not_after"`
	RevokedAt   *time.Time                `json:"revoked_at,omitempty"`
	Reason      string                    `json:"reason,omitempty"`
	ReplacedBy  string                    `json:"replaced_by,omitempty"`
	IntentLeaf  int64                     `json:"intent_leaf"`  // index in the evidence log
	OutcomeLeaf int64                     `json:"outcome_leaf"` // index in the evidence log; -1 when there is none
	PEM         string                    `json:"pem,omitempty"`
	ChainPEM    string                    `json:"chain_pem,omitempty"` // nearest first, the root left out
	RootPEM     string                    `json:"root_pem,omitempty"`
}

func view(c bulkhead.Certificate, now time.Time) CertificateView {
	v := CertificateView{Issuer: c.Issuer, Serial: c.Serial, Kind: c.Kind, State: c.State, Expired: c.NotAfter.Before(now), Profile: c.Profile,
		Names: c.Names, Subject: c.Subject, KeySHA256: c.KeyHash, SHA256: c.Fingerprint, Account: c.AccountID,
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), IntentLeaf: c.IntentSeq - 1, OutcomeLeaf: c.OutcomeSeq - 1}
	if v.Names == nil {
		v.Names = []bulkhead.Identifier{}
	}
	if c.State == bulkhead.Revoked {
		at := c.RevokedAt.UTC()
		v.RevokedAt, v.Reason = &at, c.Reason.String()
	}
	if !c.ReplacedBy.Serial.IsZero() {
		v.ReplacedBy = c.ReplacedBy.String()
	}
	return v
}

// resolve finds the one certificate that a serial (and, where two issuers share it, an issuer) names.
func (a *API) resolve(ctx context.Context, w who, serial, issuer string) (bulkhead.Certificate, error) {
	s, err := bulkhead.ParseSerial(serial)
	if err != nil {
		return bulkhead.Certificate{}, err
	}
	f := bulkhead.CertificateFilter{Serial: s, Issuer: bulkhead.AuthorityID(issuer), Limit: 3}
	w.restrict(&f)
	rows, _, err := a.cfg.Inventory.Certificates(ctx, f)
	switch {
	case err != nil:
		return bulkhead.Certificate{}, err
	case len(rows) == 0:
		return bulkhead.Certificate{}, bulkhead.Faultf(bulkhead.KindNotFound, "serial %s was never issued here", s).WithHint("bulkhead cert list")
	case len(rows) > 1:
		return bulkhead.Certificate{}, bulkhead.Faultf(bulkhead.KindConflict, "serial %s exists under %s and %s", s, rows[0].Issuer, rows[1].Issuer).WithHint("add --issuer " + string(rows[0].Issuer))
	}
	return rows[0], nil
}

func (a *API) show(ctx context.Context, w who, r *http.Request, _ none) (CertificateView, error) {
	c, err := a.resolve(ctx, w, r.PathValue("serial"), r.URL.Query().Get("issuer"))
	if err != nil {
		return CertificateView{}, err
	}
	v := view(c, a.cfg.Now())
	if c.State == bulkhead.Issued || c.State == bulkhead.Revoked {
		_, der, err := a.cfg.Inventory.Certificate(ctx, c.CertificateRef)
		if err != nil {
			return v, err
		}
		v.PEM = certPEM(der)
		if v.ChainPEM, v.RootPEM, err = a.chain(ctx, c.Issuer); err != nil {
			return v, err
		}
	}
	return v, nil
}

// chain is the issuer's certificate and those above it as PEM, the root apart.
func (a *API) chain(ctx context.Context, issuer bulkhead.AuthorityID) (chain, root string, err error) {
	all, err := a.cfg.Inventory.Authorities(ctx)
	if err != nil {
		return "", "", err
	}
	for _, x := range all {
		if x.ID != issuer {
			continue
		}
		list := append([][]byte{x.Certificate}, x.Chain...)
		for _, c := range list[:len(list)-1] {
			chain += certPEM(c)
		}
		return chain, certPEM(list[len(list)-1]), nil
	}
	return "", "", nil
}

// RevokeRequest asks for one revocation.
type RevokeRequest struct {
	Issuer string `json:"issuer,omitempty"`
	Reason string `json:"reason,omitempty"` // RFC 5280 name; default unspecified
	Why    string `json:"why,omitempty"`    // for the record
}

// RevokeResponse names the change that carried the revocation.
type RevokeResponse struct {
	Change ChangeView `json:"change"`
}

// revocation finds what a request would revoke.
func (a *API) revocation(ctx context.Context, w who, r *http.Request, in RevokeRequest) (c bulkhead.Certificate, item bulkhead.ChangeItem, why string, err error) {
	if c, err = a.resolve(ctx, w, r.PathValue("serial"), in.Issuer); err != nil {
		return c, item, "", err
	}
	item = bulkhead.ChangeItem{CertificateRef: c.CertificateRef, Reason: bulkhead.Unspecified}
	if in.Reason != "" {
		if item.Reason, err = bulkhead.ParseReason(in.Reason); err != nil {
			return c, item, "", err
		}
	}
	if why = in.Why; why == "" {
		why = "asked for by " + w.actor()
	}
	return c, item, why, nil
}

func (a *API) revoke(ctx context.Context, w who, r *http.Request, in RevokeRequest) (RevokeResponse, error) {
	c, item, why, err := a.revocation(ctx, w, r, in)
	if err != nil {
		return RevokeResponse{}, err
	}
	if item.Reason == bulkhead.KeyCompromise {
		// The key is blocked before anything else happens: it must not come back while the change is under way.
		k := bulkhead.BlockedKey{KeyHash: c.KeyHash, Reason: "revoked for keyCompromise: " + c.CertificateRef.String(), Actor: w.actor()}
		if err := a.cfg.Changes.BlockKey(ctx, k); err != nil {
			return RevokeResponse{}, err
		}
	}
	id, err := a.cfg.Changes.RevokeCertificates(ctx, w.actor(), why, []bulkhead.ChangeItem{item})
	if err != nil {
		return RevokeResponse{}, changeError{err, id}
	}
	ch, err := a.cfg.Changes.Change(ctx, id)
	return RevokeResponse{changeView(ch)}, err
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
