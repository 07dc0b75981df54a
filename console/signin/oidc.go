package signin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"bulkhead"
)

// OIDC is an identity provider: it says who somebody is, the configuration says which operator that is, and the quorum said
// what that operator may do.
type OIDC struct {
	Issuer       string
	ClientID     string
	ClientSecret string            // "" for a public client
	Scopes       []string          // beside openid
	Claim        string            // that names the person; default "sub"
	People       map[string]string // claim value → operator
	RolesClaim   string            // claim with a list; "" leaves the operator's own roles
	Roles        map[string]string // value in that list → role; none of them: not let in
	AMR          []string          // one of these authentication methods is wanted (RFC 8176), "mfa" for example; none: any
	HTTP         *http.Client      // to the provider; default: ten seconds and no redirects
}

func (c *OIDC) check() error {
	if u, err := url.Parse(c.Issuer); err != nil || u.Host == "" || c.ClientID == "" || len(c.People) == 0 {
		return fmt.Errorf("signin: an identity provider takes an issuer, a client id and people")
	}
	if c.Claim == "" {
		c.Claim = "sub"
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	if c.HTTP.CheckRedirect == nil {
		c.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return nil
}

const callback = prefix + "oidc/callback"

// provide asks the provider for its description, once it answers.
func (s *Service) provide(ctx context.Context) (*oidc.Provider, *oauth2.Config, error) {
	c := s.cfg.OIDC
	if c == nil {
		return nil, nil, bulkhead.NewFault(bulkhead.KindNotFound, "this house has no identity provider").WithHint("set sign_in.oidc in bulkhead.yaml")
	}
	origin, _, err := s.site()
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider == nil {
		// The context is kept by the provider for its keys: it must not end with this request.
		p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), c.HTTP), c.Issuer)
		if err != nil {
			return nil, nil, bulkhead.Faultf(bulkhead.KindUnavailable, "the identity provider %s does not answer as one", c.Issuer).WithHint("use a security key, or an operator key with the command line").WithCause(err)
		}
		s.provider = p
	}
	return s.provider, &oauth2.Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, Endpoint: s.provider.Endpoint(), RedirectURL: origin + callback, Scopes: append([]string{oidc.ScopeOpenID}, c.Scopes...)}, nil
}

// journey is a sign-in at the provider.
type journey struct {
	Verifier string        `json:"verifier"` // PKCE (RFC 7636)
	Nonce    string        `json:"nonce"`
	Binder   bulkhead.Hash `json:"binder"` // of the cookie: who comes back is who left
}

// BeginOIDC gives out the address at the provider, and the cookie that binds the way back to this browser.
func (s *Service) BeginOIDC(ctx context.Context) (to, binder string, err error) {
	_, c, err := s.provide(ctx)
	if err != nil {
		return "", "", err
	}
	if binder, err = s.secret(); err != nil {
		return "", "", err
	}
	nonce, err := s.secret()
	if err != nil {
		return "", "", err
	}
	j := journey{Verifier: oauth2.GenerateVerifier(), Nonce: nonce, Binder: hashOf(binder)}
	body, err := json.Marshal(j)
	if err != nil {
		return "", "", err
	}
	state, err := s.remember(ctx, stepOIDC, body)
	if err != nil {
		return "", "", err
	}
	return c.AuthCodeURL(state, oidc.Nonce(j.Nonce), oauth2.S256ChallengeOption(j.Verifier)), binder, nil
}

// FinishOIDC lets the operator in whom the provider vouches for. q is the query of the callback, binder the cookie.
func (s *Service) FinishOIDC(ctx context.Context, q url.Values, binder string) (token string, x bulkhead.Session, err error) {
	no := func(why string, cause error) (string, bulkhead.Session, error) {
		return "", x, bulkhead.NewFault(bulkhead.KindUnauthorized, why).WithHint("begin again at " + prefix).WithCause(cause)
	}
	body, err := s.recall(ctx, stepOIDC, q.Get("state"))
	if err != nil {
		return "", x, err
	}
	var j journey
	if err := json.Unmarshal(body, &j); err != nil {
		return "", x, err
	}
	if h := hashOf(binder); binder == "" || subtle.ConstantTimeCompare(h[:], j.Binder[:]) != 1 {
		return no("this sign-in was begun in another browser", nil)
	}
	if e := q.Get("error"); e != "" {
		return no("the identity provider refused: "+clip(e+" "+q.Get("error_description")), nil)
	}
	p, c, err := s.provide(ctx)
	if err != nil {
		return "", x, err
	}
	ctx = oidc.ClientContext(ctx, s.cfg.OIDC.HTTP)
	got, err := c.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(j.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.Response.StatusCode < 500 {
			return no("the identity provider does not know this sign-in", err)
		}
		return "", x, bulkhead.NewFault(bulkhead.KindUnavailable, "the identity provider does not answer").WithHint("use a security key, or try again").WithCause(err)
	}
	raw, ok := got.Extra("id_token").(string)
	if !ok {
		return no("the identity provider says nothing of who it is", nil)
	}
	id, err := p.Verifier(&oidc.Config{ClientID: c.ClientID, Now: s.cfg.Now}).Verify(ctx, raw)
	if err != nil {
		return no(s.why(err), err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(j.Nonce)) != 1 {
		return no("the identity provider's word is for another sign-in", nil)
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return no("the identity provider's word cannot be read", err)
	}
	return s.admit(ctx, claims)
}

// why says in words what is wrong with an ID token.
func (s *Service) why(err error) string {
	var expired *oidc.TokenExpiredError
	if errors.As(err, &expired) {
		return "the identity provider's word ended at " + expired.Expiry.UTC().Format(time.RFC3339)
	}
	return "the identity provider's word does not count: " + clip(err.Error())
}

// admit maps what the provider vouches for to an operator.
func (s *Service) admit(ctx context.Context, claims map[string]any) (string, bulkhead.Session, error) {
	c := s.cfg.OIDC
	subject, _ := claims[c.Claim].(string)
	no := func(format string, args ...any) (string, bulkhead.Session, error) {
		err := bulkhead.Faultf(bulkhead.KindForbidden, format, args...).WithHint("an operator looks at sign_in.oidc in bulkhead.yaml, and at: bulkhead operator list")
		return "", bulkhead.Session{}, s.refused(ctx, c.Issuer+" "+subject, bulkhead.Hash{}, err)
	}
	if c.Claim == "email" && claims["email_verified"] != true {
		return no("the identity provider has not verified the address %s", clip(subject))
	}
	name, known := c.People[subject]
	if subject == "" || !known {
		return no("%q at %s is nobody here", clip(subject), c.Issuer)
	}
	if len(c.AMR) > 0 && !slices.ContainsFunc(list(claims["amr"]), func(m string) bool { return slices.Contains(c.AMR, m) }) {
		return no("%s did not sign in at the provider with one of %v", clip(subject), c.AMR)
	}
	op, err := s.cfg.Quorum.InOffice(ctx, name)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return no("%s would be operator %s, who is not in office", clip(subject), name)
	}
	if err != nil {
		return "", bulkhead.Session{}, err
	}
	var roles []string
	if c.RolesClaim != "" {
		for _, v := range list(claims[c.RolesClaim]) {
			if r := c.Roles[v]; r != "" && !slices.Contains(roles, r) {
				roles = append(roles, r)
			}
		}
		if len(roles) == 0 {
			return no("%s has no role here", clip(subject))
		}
	}
	if _, left := narrowed(op.Roles, roles); !left {
		return no("%s has roles at the provider that operator %s does not have here", clip(subject), name)
	}
	return s.begin(ctx, op, MethodOIDC, subject, roles)
}

// list is a claim that may be one text or several.
func list(claim any) []string {
	var out []string
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		for _, x := range v {
			if t, ok := x.(string); ok {
				out = append(out, t)
			}
		}
	}
	return out
}
