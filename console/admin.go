package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bulkhead"
)

// decodeDER reads PEM of one of the types, or base64 DER.
func decodeDER(text string, types ...string) ([]byte, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		for _, t := range types {
			if block.Type == t {
				return block.Bytes, nil
			}
		}
		return nil, fmt.Errorf("PEM of type %q, want %q", block.Type, types[0])
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(der) == 0 {
		return nil, fmt.Errorf("neither PEM nor base64 DER")
	}
	return der, nil
}

// AuthorityView is an authority as people and programs read it.
type AuthorityView struct {
	ID        bulkhead.AuthorityID    `json:"id"`
	Kind      bulkhead.AuthorityKind  `json:"kind"`
	State     bulkhead.AuthorityState `json:"state"`
	Parent    bulkhead.AuthorityID    `json:"parent,omitempty"`
	Successor bulkhead.AuthorityID    `json:"successor,omitempty"`
	Online    bool                    `json:"online"` // the signer holds the key
	Shards    int                     `json:"shards"`
	SHA256    bulkhead.Hash           `json:"sha256"`
	PEM       string                  `json:"pem,omitempty"`
	CSR       string                  `json:"csr,omitempty"`
}

func authorityView(x bulkhead.Authority) AuthorityView {
	v := AuthorityView{ID: x.ID, Kind: x.Kind, State: x.State, Parent: x.Parent, Successor: x.Successor, Online: x.KeyURI != "", Shards: x.Shards}
	if len(x.Certificate) > 0 {
		v.SHA256, v.PEM = bulkhead.Digest(x.Certificate), certPEM(x.Certificate)
	}
	if len(x.CSR) > 0 {
		v.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: x.CSR}))
	}
	return v
}

// AuthorityList is all of them, or the newest hundred.
type AuthorityList struct {
	Authorities []AuthorityView `json:"authorities"`
}

func (a *API) authorities(ctx context.Context, _ who, _ *http.Request, _ none) (AuthorityList, error) {
	rows, err := a.cfg.Inventory.Authorities(ctx)
	out := []AuthorityView{}
	for _, x := range rows {
		out = append(out, authorityView(x))
	}
	return AuthorityList{out}, err
}

// AddAuthorityRequest asks for a new issuing authority, or for the successor of one.
type AddAuthorityRequest struct {
	ID          bulkhead.AuthorityID `json:"id"`
	Algorithm   string               `json:"algorithm"` // p256, p384, rsa2048, rsa3072, rsa4096
	CommonName  string               `json:"common_name"`
	Usage       string               `json:"usage,omitempty"` // tls (the default), smime, code-signing
	Predecessor bulkhead.AuthorityID `json:"predecessor,omitempty"`
}

func (a *API) addAuthority(ctx context.Context, w who, _ *http.Request, in AddAuthorityRequest) (AuthorityView, error) {
	x, err := a.cfg.Hierarchy.AddAuthority(ctx, w.actor(), in.ID, in.Algorithm, in.CommonName, in.Usage, in.Predecessor)
	return authorityView(x), err
}

// AcceptAuthorityRequest brings the certificate of a pending authority; PEM.
type AcceptAuthorityRequest struct {
	Certificate string   `json:"certificate"`
	Chain       []string `json:"chain,omitempty"` // nearest first, the root last
}

// decode reads the certificates.
func (in AcceptAuthorityRequest) decode() (cert []byte, chain [][]byte, err error) {
	if cert, err = decodeDER(in.Certificate, "CERTIFICATE"); err != nil {
		return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "certificate: %s", err)
	}
	chain = make([][]byte, len(in.Chain))
	for i, c := range in.Chain {
		if chain[i], err = decodeDER(c, "CERTIFICATE"); err != nil {
			return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "chain[%d]: %s", i, err)
		}
	}
	return cert, chain, nil
}

func (a *API) acceptAuthority(ctx context.Context, w who, r *http.Request, in AcceptAuthorityRequest) (AuthorityView, error) {
	cert, chain, err := in.decode()
	if err != nil {
		return AuthorityView{}, err
	}
	x, err := a.cfg.Hierarchy.AcceptAuthority(ctx, w.actor(), bulkhead.AuthorityID(r.PathValue("id")), cert, chain)
	return authorityView(x), err
}

// NewAccountResponse has the only copy of the token.
type NewAccountResponse struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

// NewAccountRequest says what the account's token may do.
type NewAccountRequest struct {
	// OwnNames lets the token order the house's own names without a further word, over the API and EST.
	OwnNames bool `json:"own_names,omitempty"`
	ContactsRequest
}

func (a *API) newAccount(ctx context.Context, w who, _ *http.Request, in NewAccountRequest) (NewAccountResponse, error) {
	acct, token, err := a.cfg.Orders.NewTokenAccount(ctx, w.actor(), in.OwnNames, in.Contacts...)
	return NewAccountResponse{acct.ID, token}, err
}

// OperatorView is an operator as people read it.
type OperatorView struct {
	Name      string        `json:"name"`
	KeySHA256 bulkhead.Hash `json:"key_sha256"`
	Roles     []string      `json:"roles"`
	AddedAt   time.Time     `json:"added_at"`
	RemovedAt *time.Time    `json:"removed_at,omitempty"`
	Reviewed  *time.Time    `json:"reviewed_at,omitempty"` // when another operator last confirmed this one
}

// OperatorList is all of them, or the newest hundred.
type OperatorList struct {
	Operators []OperatorView `json:"operators"`
}

func (a *API) operators(ctx context.Context, _ who, _ *http.Request, _ none) (OperatorList, error) {
	rows, err := a.cfg.Quorum.Operators(ctx)
	out := []OperatorView{}
	for _, o := range rows {
		v := OperatorView{Name: o.Name, KeySHA256: o.KeyHash(), Roles: append([]string{}, o.Roles...), AddedAt: o.AddedAt.UTC()}
		if !o.RemovedAt.IsZero() {
			t := o.RemovedAt.UTC()
			v.RemovedAt = &t
		}
		if !o.ReviewedAt.IsZero() {
			t := o.ReviewedAt.UTC()
			v.Reviewed = &t
		}
		out = append(out, v)
	}
	return OperatorList{out}, err
}

// OperatorRequest proposes an operator. PublicKey is the raw Ed25519 key, base64 in JSON.
type OperatorRequest struct {
	Name      string   `json:"name"`
	PublicKey []byte   `json:"public_key"`
	Roles     []string `json:"roles,omitempty"` // admin (the default), issuer-admin, revoker, auditor
	Reason    string   `json:"reason"`
}

func (a *API) addOperator(ctx context.Context, w who, _ *http.Request, in OperatorRequest) (ApprovalView, error) {
	r, err := a.cfg.Quorum.ProposeAddOperator(ctx, w.actor(), in.Reason, in.Name, in.PublicKey, in.Roles...)
	return approvalView(r), err
}

func (a *API) removeOperator(ctx context.Context, w who, r *http.Request, _ none) (ApprovalView, error) {
	q, err := a.cfg.Quorum.ProposeRemoveOperator(ctx, w.actor(), r.URL.Query().Get("reason"), r.PathValue("name"))
	return approvalView(q), err
}

// ApprovalView is a request for approval. Payload is exactly what approvals are over.
type ApprovalView struct {
	ID        string                `json:"id"`
	Action    string                `json:"action"`
	Payload   []byte                `json:"payload"`
	Digest    bulkhead.Hash         `json:"digest"`
	Needed    int                   `json:"needed"`
	State     bulkhead.RequestState `json:"state"`
	Actor     string                `json:"actor"`
	Reason    string                `json:"reason"`
	CreatedAt time.Time             `json:"created_at"`
	ExpiresAt time.Time             `json:"expires_at"`
	Approvals []string              `json:"approvals"` // operators
}

func approvalView(r bulkhead.ApprovalRequest) ApprovalView {
	v := ApprovalView{ID: r.ID, Action: r.Action, Payload: r.Payload, Digest: r.Digest, Needed: r.Needed, State: r.State, Actor: r.Actor,
		Reason: r.Reason, CreatedAt: r.CreatedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), Approvals: []string{}}
	for _, x := range r.Approvals {
		v.Approvals = append(v.Approvals, x.Operator)
	}
	return v
}

// ApprovalList is all of them, or the newest hundred.
type ApprovalList struct {
	Approvals []ApprovalView `json:"approvals"`
}

func (a *API) approvals(ctx context.Context, _ who, _ *http.Request, _ none) (ApprovalList, error) {
	rows, err := a.cfg.Quorum.Requests(ctx, 100)
	out := []ApprovalView{}
	for _, r := range rows {
		out = append(out, approvalView(r))
	}
	return ApprovalList{out}, err
}

func (a *API) approval(ctx context.Context, _ who, r *http.Request, _ none) (ApprovalView, error) {
	q, err := a.cfg.Quorum.Request(ctx, r.PathValue("id"))
	return approvalView(q), err
}

// ApproveRequest is one operator's signature (quorum.SignApproval) by the key with the hash, or a security key's assertion
// whose challenge is the SHA-256 of the statement that is signed.
type ApproveRequest struct {
	KeySHA256 bulkhead.Hash `json:"key_sha256,omitzero"`
	Signature []byte        `json:"signature,omitempty"`
	Assertion *Assertion    `json:"assertion,omitempty"`
}

func (a *API) approve(ctx context.Context, _ who, r *http.Request, in ApproveRequest) (ApprovalView, error) {
	key, signature, err := a.signature(ctx, in)
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Approve(ctx, r.PathValue("id"), key, signature)
	return approvalView(q), err
}

// ChangeView is a change of status.
type ChangeView struct {
	ID          string               `json:"id"`
	State       bulkhead.ChangeState `json:"state"`
	Actor       string               `json:"actor"`
	Why         string               `json:"why"`
	Count       int                  `json:"count"`
	PreviewHash bulkhead.Hash        `json:"preview_hash"`
	Preview     json.RawMessage      `json:"preview,omitempty"`
	Head        uint64               `json:"head"`
	CreatedAt   time.Time            `json:"created_at"`
	ActivatedAt *time.Time           `json:"activated_at,omitempty"`
	Undoes      string               `json:"undoes,omitempty"`   // the change that this one takes back
	Incident    string               `json:"incident,omitempty"` // with undoes
	Rule        string               `json:"rule,omitempty"`     // with undoes: the rule that is broken
	Problem     string               `json:"problem,omitempty"`  // why it does not go on
	DiesAt      *time.Time           `json:"last_wrong_answer_dies,omitempty"`
	Timeline    []Told               `json:"timeline,omitempty"`
}

func changeView(c bulkhead.Change) ChangeView {
	v := ChangeView{ID: c.ID, State: c.State, Actor: c.Actor, Why: c.Why, Count: c.Count, PreviewHash: c.PreviewHash, Head: c.Epoch, CreatedAt: c.CreatedAt.UTC()}
	if len(c.Preview) > 0 {
		v.Preview = json.RawMessage(c.Preview)
	}
	if !c.ActivatedAt.IsZero() {
		t := c.ActivatedAt.UTC()
		v.ActivatedAt = &t
	}
	if v.Undoes, v.Incident, v.Rule, v.Problem = c.Undoes, c.Incident, c.Rule, c.Problem; !c.Dies.IsZero() {
		t := c.Dies.UTC()
		v.DiesAt = &t
	}
	return v
}

// ChangeList is all of them, or the newest hundred.
type ChangeList struct {
	Changes []ChangeView `json:"changes"`
}

func (a *API) changes(ctx context.Context, _ who, _ *http.Request, _ none) (ChangeList, error) {
	rows, err := a.cfg.Changes.Changes(ctx, 100)
	out := []ChangeView{}
	for _, c := range rows {
		c.Preview = nil
		out = append(out, changeView(c))
	}
	return ChangeList{out}, err
}

func (a *API) change(ctx context.Context, _ who, r *http.Request, _ none) (ChangeView, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err != nil {
		return ChangeView{}, err
	}
	v := changeView(c)
	v.Timeline, err = a.storyOf(ctx, c)
	return v, err
}

// askActivation opens the request for approvals of a previewed change.
func (a *API) askActivation(ctx context.Context, w who, r *http.Request, _ none) (ApprovalView, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.ProposeActivation(ctx, w.actor(), c.Why, c)
	return approvalView(q), err
}

// BlockKeyRequest blocks a public key for ever.
type BlockKeyRequest struct {
	KeySHA256 bulkhead.Hash `json:"key_sha256"` // of the DER SubjectPublicKeyInfo
	Reason    string        `json:"reason"`
}

// BlockKeyResponse names the key that is blocked.
type BlockKeyResponse struct {
	Blocked bulkhead.Hash `json:"blocked"`
}

func (in BlockKeyRequest) check() error {
	if in.KeySHA256.IsZero() {
		return bulkhead.NewFault(bulkhead.KindMalformed, "key_sha256 is required").WithHint("openssl pkey -pubin -in PUB -outform DER | sha256sum")
	}
	return nil
}

func (a *API) blockKey(ctx context.Context, w who, _ *http.Request, in BlockKeyRequest) (BlockKeyResponse, error) {
	if err := in.check(); err != nil {
		return BlockKeyResponse{}, err
	}
	err := a.cfg.Changes.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: in.KeySHA256, Reason: in.Reason, Actor: w.actor()})
	return BlockKeyResponse{in.KeySHA256}, err
}

// AlarmView is an alarm as people read it.
type AlarmView struct {
	ID        int64             `json:"id"`
	Detector  string            `json:"detector"`
	Key       string            `json:"key"`
	Severity  bulkhead.Severity `json:"severity"`
	Message   string            `json:"message"`
	Runbook   string            `json:"runbook"`
	FirstAt   time.Time         `json:"first_at"`
	LastAt    time.Time         `json:"last_at"`
	Count     int64             `json:"count"`
	AckedAt   *time.Time        `json:"acked_at,omitempty"`
	AckedBy   string            `json:"acked_by,omitempty"`
	AckReason string            `json:"ack_reason,omitempty"`
}

// AlarmList is all of them, or the newest hundred.
type AlarmList struct {
	Alarms []AlarmView `json:"alarms"`
}

func (a *API) alarms(ctx context.Context, _ who, _ *http.Request, _ none) (AlarmList, error) {
	rows, err := a.cfg.Inventory.Alarms(ctx, 100)
	out := []AlarmView{}
	for _, x := range rows {
		out = append(out, alarmView(x))
	}
	return AlarmList{out}, err
}

// Findings is a self-diagnosis.
type Findings struct {
	Findings []Finding `json:"findings"`
}

func (a *API) doctor(ctx context.Context, _ who, _ *http.Request, _ none) (Findings, error) {
	return Findings{a.cfg.Doctor.Diagnose(ctx)}, nil
}
