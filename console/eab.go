package console

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"bulkhead"
)

// Admission is what operators decide about who may order at all.
type Admission interface {
	// AddExternalKey returns the MAC key, which nothing tells again.
	AddExternalKey(ctx context.Context, actor, note string, life time.Duration) (bulkhead.ExternalKey, []byte, error)
	ExternalKeys(ctx context.Context, limit int) ([]bulkhead.ExternalKey, error)
	RevokeExternalKey(ctx context.Context, actor, id string, withAccount bool) (bulkhead.ExternalKey, error)
	// TallyAuthorizations counts what RevokeAuthorizations would revoke, and what rests on it.
	TallyAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter) (bulkhead.AuthorizationTally, error)
	RevokeAuthorizations(ctx context.Context, actor, why string, f bulkhead.AuthorizationFilter) (int, error)
}

func (a *API) admissionRoutes() {
	route(a, "POST /api/v1/eab", operation[ExternalKeyRequest, ExternalKeyResponse]{id: "addExternalKey", do: a.addExternalKey, plan: a.planExternalKey,
		summary: "make a key with which one ACME account can be made; its MAC key is in this answer only"})
	route(a, "GET /api/v1/eab", operation[none, ExternalKeyList]{id: "listExternalKeys", summary: "external account keys, newest first", do: a.externalKeys})
	route(a, "DELETE /api/v1/eab/{id}", operation[none, ExternalKeyView]{id: "revokeExternalKey", summary: "end an external account key, and its account when asked", do: a.revokeExternalKey, plan: a.planRevokeExternalKey,
		query: []parameter{{name: "with_account", about: "true: revoke the account that was made with it, too", kind: reflect.TypeFor[bool]()}}})
	route(a, "POST /api/v1/authorizations/revoke", operation[RevokeAuthorizationsRequest, RevokeAuthorizationsResponse]{id: "revokeAuthorizations", do: a.revokeAuthorizations, plan: a.planRevokeAuthorizations,
		summary: "revoke valid authorisations by method, name, account and time; a dry run counts them"})
}

// ExternalKeyRequest asks for an external account key.
type ExternalKeyRequest struct {
	Note      string `json:"note,omitempty"`       // for whom, for the record
	ExpiresIn string `json:"expires_in,omitempty"` // like 720h; empty: never
}

// ExternalKeyResponse has the only copy of the MAC key.
type ExternalKeyResponse struct {
	Key     ExternalKeyView `json:"key"`
	HMACKey string          `json:"hmac_key"` // base64url without padding
}

// ExternalKeyView is an external account key as people and programs read it.
type ExternalKeyView struct {
	KID       string     `json:"kid"`
	State     string     `json:"state"` // unused, used, expired, revoked
	Note      string     `json:"note,omitempty"`
	Actor     string     `json:"actor"`
	Account   string     `json:"account,omitempty"` // the one made with it
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	UsedAt    *time.Time `json:"used_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// ExternalKeyList is the newest keys.
type ExternalKeyList struct {
	Keys []ExternalKeyView `json:"keys"`
}

func externalView(k bulkhead.ExternalKey, now time.Time) ExternalKeyView {
	set := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	v := ExternalKeyView{KID: k.ID, State: "unused", Note: k.Note, Actor: k.Actor, Account: k.AccountID, CreatedAt: k.CreatedAt.UTC(),
		ExpiresAt: set(k.ExpiresAt), UsedAt: set(k.UsedAt), RevokedAt: set(k.RevokedAt)}
	switch {
	case !k.RevokedAt.IsZero():
		v.State = "revoked"
	case k.AccountID != "":
		v.State = "used"
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		v.State = "expired"
	}
	return v
}

func (in ExternalKeyRequest) life() (time.Duration, error) {
	if in.ExpiresIn == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(in.ExpiresIn)
	if err != nil || d < time.Second {
		return 0, bulkhead.Faultf(bulkhead.KindMalformed, "expires_in %q is not a duration like 720h", in.ExpiresIn)
	}
	return d, nil
}

func (a *API) addExternalKey(ctx context.Context, w who, _ *http.Request, in ExternalKeyRequest) (ExternalKeyResponse, error) {
	life, err := in.life()
	if err != nil {
		return ExternalKeyResponse{}, err
	}
	k, mac, err := a.cfg.Admission.AddExternalKey(ctx, w.actor(), in.Note, life)
	return ExternalKeyResponse{externalView(k, a.cfg.Now()), base64.RawURLEncoding.EncodeToString(mac)}, err
}

func (a *API) planExternalKey(_ context.Context, _ who, _ *http.Request, in ExternalKeyRequest) (Plan, error) {
	if _, err := in.life(); err != nil {
		return Plan{}, err
	}
	return planOf("make an external account key and show its MAC key once"), nil
}

func (a *API) externalKeys(ctx context.Context, _ who, _ *http.Request, _ none) (ExternalKeyList, error) {
	const most = 1000
	keys, err := a.cfg.Admission.ExternalKeys(ctx, most)
	out := []ExternalKeyView{}
	for _, k := range keys {
		out = append(out, externalView(k, a.cfg.Now()))
	}
	return ExternalKeyList{out}, err
}

func (a *API) revokeExternalKey(ctx context.Context, w who, r *http.Request, _ none) (ExternalKeyView, error) {
	k, err := a.cfg.Admission.RevokeExternalKey(ctx, w.actor(), r.PathValue("id"), r.URL.Query().Get("with_account") == "true")
	return externalView(k, a.cfg.Now()), err
}

func (a *API) planRevokeExternalKey(ctx context.Context, _ who, r *http.Request, _ none) (Plan, error) {
	keys, err := a.externalKeys(ctx, who{}, r, none{})
	if err != nil {
		return Plan{}, err
	}
	for _, k := range keys.Keys {
		if k.KID != r.PathValue("id") {
			continue
		}
		p := planOf("revoke external account key " + k.KID)
		if k.Account != "" && r.URL.Query().Get("with_account") == "true" {
			p.Would = append(p.Would, "revoke account "+k.Account, "make its open orders invalid")
		}
		return p, nil
	}
	return Plan{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no external account key %s", r.PathValue("id")).WithHint("bulkhead eab list")
}

// RevokeAuthorizationsRequest selects authorisations by the validation under them. What is left out selects all.
type RevokeAuthorizationsRequest struct {
	Method  bulkhead.Method `json:"method,omitempty"`  // http-01, dns-01, tls-alpn-01, operator-approval
	Name    string          `json:"name,omitempty"`    // exact, or everything below it when it begins with "."
	Account string          `json:"account,omitempty"` // id
	Since   string          `json:"since,omitempty"`   // RFC 3339: validated at this time or later
	Until   string          `json:"until,omitempty"`   // RFC 3339: validated before this time
	All     bool            `json:"all,omitempty"`     // needed when nothing above is set
	Reason  string          `json:"reason,omitempty"`  // for the record; required but for a dry run
}

// RevokeAuthorizationsResponse says what was done.
type RevokeAuthorizationsResponse struct {
	Revoked      int   `json:"revoked"`
	OpenOrders   int64 `json:"open_orders"`  // that rested on them and are invalid now
	Certificates int64 `json:"certificates"` // that rest on them; their revocation is a change of its own
}

func (in RevokeAuthorizationsRequest) filter() (bulkhead.AuthorizationFilter, error) {
	f := bulkhead.AuthorizationFilter{Method: in.Method, Name: strings.TrimPrefix(strings.ToLower(in.Name), "*"), AccountID: in.Account}
	var err error
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"since", in.Since, &f.Since}, {"until", in.Until, &f.Until}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
			return f, bulkhead.Faultf(bulkhead.KindMalformed, "%s %q is not a time like 2026-01-02T15:04:05Z", t.name, t.text)
		}
	}
	switch in.Method {
	case "", bulkhead.HTTP01, bulkhead.DNS01, bulkhead.TLSALPN01, bulkhead.OperatorApproval:
	default:
		return f, bulkhead.Faultf(bulkhead.KindMalformed, "there is no validation method %q", in.Method).WithHint("http-01, dns-01, tls-alpn-01 or operator-approval")
	}
	if f == (bulkhead.AuthorizationFilter{}) && !in.All {
		return f, bulkhead.NewFault(bulkhead.KindUsage, "nothing selects the authorisations").WithHint("name a method, a name, an account or a time; --all means all of them")
	}
	return f, nil
}

func (a *API) revokeAuthorizations(ctx context.Context, w who, _ *http.Request, in RevokeAuthorizationsRequest) (RevokeAuthorizationsResponse, error) {
	f, err := in.filter()
	if err != nil {
		return RevokeAuthorizationsResponse{}, err
	}
	t, err := a.cfg.Admission.TallyAuthorizations(ctx, f)
	if err != nil {
		return RevokeAuthorizationsResponse{}, err
	}
	n, err := a.cfg.Admission.RevokeAuthorizations(ctx, w.actor(), in.Reason, f)
	return RevokeAuthorizationsResponse{Revoked: n, OpenOrders: t.OpenOrders, Certificates: t.Certificates}, err
}

func (a *API) planRevokeAuthorizations(ctx context.Context, _ who, _ *http.Request, in RevokeAuthorizationsRequest) (Plan, error) {
	f, err := in.filter()
	if err != nil {
		return Plan{}, err
	}
	t, err := a.cfg.Admission.TallyAuthorizations(ctx, f)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("revoke %d valid authorisations of %d accounts", t.Authorizations, t.Accounts), fmt.Sprintf("end %d open orders that rest on them", t.OpenOrders)).
		butNot(fmt.Sprintf("%d certificates were issued on them: whether to revoke those is a decision of its own", t.Certificates)), nil
}
