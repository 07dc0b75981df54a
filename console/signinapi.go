package console

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"bulkhead"
)

// SignIn lets operators in with a browser.
type SignIn interface {
	// Present reports whether a request carries a session at all.
	Present(r *http.Request) bool
	// Authenticate returns the operator of a request's session, with the roles that the session has.
	Authenticate(r *http.Request) (bulkhead.Operator, error)
	// Invite makes a link with which one person registers a security key.
	Invite(ctx context.Context, by bulkhead.Operator, name string, roles []string) (link string, x bulkhead.Invitation, err error)
}

func (a *API) signInRoutes() {
	route(a, "POST /api/v1/operators/{name}/invitation", operation[InvitationRequest, InvitationResponse]{id: "inviteOperator", do: a.invite, plan: a.planInvite,
		summary: "make a link with which one person registers a security key; the key takes a quorum"})
	route(a, "GET /api/v1/security-keys", operation[none, SecurityKeyList]{id: "listSecurityKeys", summary: "operators' security keys, those taken away included", do: a.securityKeys})
	route(a, "DELETE /api/v1/security-keys/{key}", operation[none, SecurityKeyList]{id: "dropSecurityKey", summary: "take a security key away at once, on one person's word", do: a.dropKey, plan: a.planDropKey,
		query: []parameter{{name: "reason", about: "why, for the record; required"}}})
}

// InvitationRequest invites somebody to register a security key. Roles are for who is no operator yet.
type InvitationRequest struct {
	Roles []string `json:"roles,omitempty"`
}

// InvitationResponse has the only copy of the link.
type InvitationResponse struct {
	Operator  string    `json:"operator"`
	Link      string    `json:"link"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (a *API) invite(ctx context.Context, w who, r *http.Request, in InvitationRequest) (InvitationResponse, error) {
	link, x, err := a.cfg.SignIn.Invite(ctx, w.operator, r.PathValue("name"), in.Roles)
	return InvitationResponse{x.Operator, link, x.ExpiresAt.UTC()}, err
}

func (a *API) planInvite(_ context.Context, _ who, r *http.Request, _ InvitationRequest) (Plan, error) {
	return planOf("make a link with which "+r.PathValue("name")+" registers a security key, once and within a day", "ask the quorum to bind the key when it is registered").butNot("whether the name can be an operator's"), nil
}

// SecurityKeyView is a security key as people read it.
type SecurityKeyView struct {
	KeySHA256 bulkhead.Hash `json:"key_sha256"`
	Operator  string        `json:"operator"`
	Label     string        `json:"label"`
	RPID      string        `json:"rp_id"`
	Origin    string        `json:"origin"`
	PublicKey []byte        `json:"public_key"` // DER SubjectPublicKeyInfo: what an auditor verifies with
	AAGUID    []byte        `json:"aaguid"`
	AddedAt   time.Time     `json:"added_at"`
	RemovedAt *time.Time    `json:"removed_at,omitempty"`
	UsedAt    *time.Time    `json:"used_at,omitempty"`
}

// SecurityKeyList is all of them.
type SecurityKeyList struct {
	Keys []SecurityKeyView `json:"keys"`
}

func (a *API) securityKeys(ctx context.Context, _ who, _ *http.Request, _ none) (SecurityKeyList, error) {
	keys, err := a.cfg.Quorum.SecurityKeys(ctx)
	out := []SecurityKeyView{}
	for _, k := range keys {
		v := SecurityKeyView{KeySHA256: k.KeyHash(), Operator: k.Operator, Label: k.Label, RPID: k.RPID, Origin: k.Origin, PublicKey: k.PublicKey, AAGUID: append([]byte{}, k.AAGUID...), AddedAt: k.AddedAt.UTC()}
		if !k.RemovedAt.IsZero() {
			t := k.RemovedAt.UTC()
			v.RemovedAt = &t
		}
		if !k.UsedAt.IsZero() {
			t := k.UsedAt.UTC()
			v.UsedAt = &t
		}
		out = append(out, v)
	}
	return SecurityKeyList{out}, err
}

func keyInPath(r *http.Request) (bulkhead.Hash, error) {
	h, err := bulkhead.ParseHash(r.PathValue("key"))
	if err != nil {
		err = bulkhead.NewFault(bulkhead.KindMalformed, "that is no SHA-256 of a key").WithHint("bulkhead operator keys").WithCause(err)
	}
	return h, err
}

func (a *API) dropKey(ctx context.Context, w who, r *http.Request, _ none) (SecurityKeyList, error) {
	h, err := keyInPath(r)
	if err == nil {
		err = a.cfg.Quorum.DropKey(ctx, w.actor(), h, r.URL.Query().Get("reason"))
	}
	if err != nil {
		return SecurityKeyList{}, err
	}
	return a.securityKeys(ctx, w, r, none{})
}

func (a *API) planDropKey(_ context.Context, _ who, r *http.Request, _ none) (Plan, error) {
	h, err := keyInPath(r)
	if err == nil {
		err = reason(r.URL.Query().Get("reason"))
	}
	if err != nil {
		return Plan{}, err
	}
	return planOf("take security key " + h.String() + " away: it signs in and approves no more").butNot("whether there is such a key, and whether enough people could sign without it"), nil
}

// Assertion is what a security key gives for the challenge of an approval (WebAuthn), each part base64.
type Assertion struct {
	CredentialID      []byte `json:"credential_id"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientData        []byte `json:"client_data"`
	Signature         []byte `json:"signature"`
}

// signature is by whom an approval is, and what stands for it: a key file's signature, or a security key's assertion.
func (a *API) signature(ctx context.Context, in ApproveRequest) (bulkhead.Hash, []byte, error) {
	if in.Assertion == nil {
		return in.KeySHA256, in.Signature, nil
	}
	body, err := json.Marshal(in.Assertion)
	if err != nil {
		return bulkhead.Hash{}, nil, err
	}
	keys, err := a.cfg.Quorum.SecurityKeys(ctx)
	if err != nil {
		return bulkhead.Hash{}, nil, err
	}
	for _, k := range keys {
		if string(k.ID) == string(in.Assertion.CredentialID) && k.RemovedAt.IsZero() {
			return k.KeyHash(), body, nil
		}
	}
	return bulkhead.Hash{}, nil, bulkhead.NewFault(bulkhead.KindForbidden, "that security key belongs to no operator in office").WithHint("bulkhead operator keys")
}
