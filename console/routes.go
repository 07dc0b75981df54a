package console

import (
	"context"
	"encoding/pem"
	"net/http"
	"strconv"
	"time"

	"bulkhead"
)

type none struct{}

func (a *API) routes() {
	route(a, "GET /api/v1/version", anybodyKnown, func(context.Context, who, *http.Request, none) (map[string]string, error) {
		return map[string]string{"version": a.cfg.Version}, nil
	})
	route(a, "POST /api/v1/certificates", anybodyKnown, a.issue)
	route(a, "GET /api/v1/certificates", anybodyKnown, a.list)
	route(a, "GET /api/v1/certificates/{serial}", anybodyKnown, a.show)
	route(a, "POST /api/v1/certificates/{serial}/revoke", anybodyKnown, a.revoke)
	route(a, "GET /api/v1/authorities", anybodyKnown, a.authorities)
	route(a, "POST /api/v1/authorities", operators, a.addAuthority)
	route(a, "POST /api/v1/authorities/{id}/certificate", operators, a.acceptAuthority)
	route(a, "POST /api/v1/accounts", operators, a.newAccount)
	route(a, "GET /api/v1/operators", operators, a.operators)
	route(a, "POST /api/v1/operators", operators, a.addOperator)
	route(a, "DELETE /api/v1/operators/{name}", operators, a.removeOperator)
	route(a, "GET /api/v1/approvals", operators, a.approvals)
	route(a, "GET /api/v1/approvals/{id}", operators, a.approval)
	route(a, "POST /api/v1/approvals/{id}", operators, a.approve)
	route(a, "GET /api/v1/changes", operators, a.changes)
	route(a, "GET /api/v1/changes/{id}", operators, a.change)
	route(a, "POST /api/v1/changes/{id}/approval", operators, a.askActivation)
	route(a, "POST /api/v1/keys/block", operators, a.blockKey)
	route(a, "GET /api/v1/alarms", operators, a.alarms)
	route(a, "GET /api/v1/doctor", operators, a.doctor)
}

// IssueRequest asks for a certificate. CSR is PEM or base64 DER.
type IssueRequest struct {
	CSR       string               `json:"csr"`
	Profile   string               `json:"profile,omitempty"`
	Authority bulkhead.AuthorityID `json:"authority,omitempty"`
}

// IssueResponse is a certificate that is durable, with the chain above it as PEM, the root left out.
type IssueResponse struct {
	Certificate CertificateView `json:"certificate"`
	PEM         string          `json:"pem"`
	ChainPEM    string          `json:"chain_pem"`
	RootPEM     string          `json:"root_pem"`
}

func (a *API) issue(ctx context.Context, w who, _ *http.Request, in IssueRequest) (IssueResponse, error) {
	csr, err := decodeDER(in.CSR, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return IssueResponse{}, bulkhead.Faultf(bulkhead.KindBadCSR, "csr: %s", err).WithHint("openssl req -new -key KEY -subj / -addext subjectAltName=DNS:NAME")
	}
	req := bulkhead.CertificateRequest{CSR: csr, Profile: in.Profile, Authority: in.Authority}
	var got bulkhead.IssuedCertificate
	if w.isOperator() {
		got, err = a.cfg.Orders.IssueForOperator(ctx, w.operator.Name, req)
	} else {
		got, err = a.cfg.Orders.IssueForAccount(ctx, w.account, req)
	}
	if err != nil {
		return IssueResponse{}, err
	}
	out := IssueResponse{Certificate: view(got.Certificate, a.cfg.Now()), PEM: certPEM(got.DER)}
	for i, c := range got.Chain {
		if i == len(got.Chain)-1 {
			out.RootPEM = certPEM(c)
		} else {
			out.ChainPEM += certPEM(c)
		}
	}
	return out, nil
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

// CertificateList is one page.
type CertificateList struct {
	Certificates []CertificateView `json:"certificates"`
	Next         string            `json:"next,omitempty"` // cursor of the next page
}

func (a *API) list(ctx context.Context, w who, r *http.Request, _ none) (CertificateList, error) {
	q := r.URL.Query()
	f := bulkhead.CertificateFilter{Issuer: bulkhead.AuthorityID(q.Get("issuer")), Name: q.Get("name"), After: q.Get("after"),
		State: bulkhead.CertificateState(q.Get("state")), Kind: bulkhead.CertificateKind(q.Get("kind")), AccountID: q.Get("account"), Limit: 100}
	if !w.isOperator() {
		f.AccountID = w.account.ID
	}
	var err error
	if f.KeyHash, err = optional(q.Get("key"), bulkhead.ParseHash); err != nil {
		return CertificateList{}, err
	}
	if f.Serial, err = optional(q.Get("serial"), bulkhead.ParseSerial); err != nil {
		return CertificateList{}, err
	}
	if t := q.Get("limit"); t != "" {
		if f.Limit, err = strconv.Atoi(t); err != nil || f.Limit < 1 || f.Limit > 1000 {
			return CertificateList{}, bulkhead.Faultf(bulkhead.KindMalformed, "limit %q is not a number from 1 to 1000", t)
		}
	}
	if t := q.Get("expires_by"); t != "" {
		if f.ExpiresBy, err = time.Parse(time.RFC3339, t); err != nil {
			return CertificateList{}, bulkhead.Faultf(bulkhead.KindMalformed, "expires_by %q is not a time like 2026-01-02T15:04:05Z", t)
		}
	}
	rows, next, err := a.cfg.Inventory.Certificates(ctx, f)
	if err != nil {
		return CertificateList{}, err
	}
	out := CertificateList{Certificates: []CertificateView{}, Next: next}
	for _, c := range rows {
		out.Certificates = append(out.Certificates, view(c, a.cfg.Now()))
	}
	return out, nil
}

func optional[T any](text string, parse func(string) (T, error)) (T, error) {
	if text == "" {
		var zero T
		return zero, nil
	}
	return parse(text)
}

// resolve finds the one certificate that a serial (and, where two issuers share it, an issuer) names.
func (a *API) resolve(ctx context.Context, w who, serial, issuer string) (bulkhead.Certificate, error) {
	s, err := bulkhead.ParseSerial(serial)
	if err != nil {
		return bulkhead.Certificate{}, err
	}
	f := bulkhead.CertificateFilter{Serial: s, Issuer: bulkhead.AuthorityID(issuer), Limit: 3}
	if !w.isOperator() {
		f.AccountID = w.account.ID
	}
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
	}
	return v, nil
}

// RevokeRequest asks for one revocation.
type RevokeRequest struct {
	Issuer string `json:"issuer,omitempty"`
	Reason string `json:"reason,omitempty"` // RFC 5280 name; default unspecified
	Why    string `json:"why,omitempty"`    // for the record
	DryRun bool   `json:"dry_run,omitempty"`
}

// RevokeResponse names the change that carried the revocation.
type RevokeResponse struct {
	Change ChangeView `json:"change"`
}

func (a *API) revoke(ctx context.Context, w who, r *http.Request, in RevokeRequest) (RevokeResponse, error) {
	c, err := a.resolve(ctx, w, r.PathValue("serial"), in.Issuer)
	if err != nil {
		return RevokeResponse{}, err
	}
	reason := bulkhead.Unspecified
	if in.Reason != "" {
		if reason, err = bulkhead.ParseReason(in.Reason); err != nil {
			return RevokeResponse{}, err
		}
	}
	why := in.Why
	if why == "" {
		why = "asked for by " + w.actor()
	}
	items := []bulkhead.ChangeItem{{CertificateRef: c.CertificateRef, Reason: reason}}
	if in.DryRun {
		ch, err := a.cfg.Changes.PlanRevocation(ctx, w.actor(), why, items)
		return RevokeResponse{changeView(ch)}, err
	}
	if reason == bulkhead.KeyCompromise {
		// The key is blocked before anything else happens: it must not come back while the change is under way.
		k := bulkhead.BlockedKey{KeyHash: c.KeyHash, Reason: "revoked for keyCompromise: " + c.CertificateRef.String(), Actor: w.actor()}
		if err := a.cfg.Changes.BlockKey(ctx, k); err != nil {
			return RevokeResponse{}, err
		}
	}
	id, err := a.cfg.Changes.RevokeCertificates(ctx, w.actor(), why, items)
	if err != nil {
		return RevokeResponse{}, changeError{err, id}
	}
	ch, err := a.cfg.Changes.Change(ctx, id)
	return RevokeResponse{changeView(ch)}, err
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
