package acme

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
	"bulkhead/enroll"
)

// accountView is an account object (RFC 8555 section 7.1.2).
type accountView struct {
	Status      string   `json:"status"`
	Contact     []string `json:"contact,omitempty"`
	TermsAgreed bool     `json:"termsOfServiceAgreed,omitempty"`
	Orders      string   `json:"orders"`
	CreatedAt   string   `json:"createdAt,omitempty"`
}

func (c *call) accountView(a bulkhead.Account) accountView {
	return accountView{Status: string(a.State), Contact: a.Contacts, TermsAgreed: !a.TermsAt.IsZero(),
		Orders: c.url("account/" + a.ID + "/orders"), CreatedAt: stamp(a.CreatedAt)}
}

// accountPayload is what a client may say of an account.
type accountPayload struct {
	Contact            *[]string       `json:"contact"`
	TermsAgreed        bool            `json:"termsOfServiceAgreed"`
	OnlyReturnExisting bool            `json:"onlyReturnExisting"`
	External           json.RawMessage `json:"externalAccountBinding"`
	Status             string          `json:"status"`
}

// keyRequest turns a JWK into what the service knows accounts by.
func keyRequest(k *jose.JSONWebKey) (enroll.AccountRequest, error) {
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return enroll.AccountRequest{}, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the key has no thumbprint").WithCause(err)
	}
	text, err := json.Marshal(jose.JSONWebKey{Key: k.Key})
	if err != nil {
		return enroll.AccountRequest{}, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the key cannot be kept").WithCause(err)
	}
	return enroll.AccountRequest{JWK: text, Thumbprint: base64.RawURLEncoding.EncodeToString(sum), Key: k.Key}, nil
}

// newAccount makes or finds the account of a key (RFC 8555 section 7.3).
func (s *Server) newAccount(c *call) error {
	var p accountPayload
	if err := c.decode(&p); err != nil {
		return err
	}
	req, err := keyRequest(c.jwk)
	if err != nil {
		return err
	}
	a, err := s.svc.FindAccount(c.ctx(), req.Thumbprint)
	if err == nil {
		c.w.Header().Set("Location", AccountURL(c.base, a.ID))
		return c.json(http.StatusOK, c.accountView(a))
	}
	if bulkhead.KindOf(err) != bulkhead.KindAccountDoesNotExist || p.OnlyReturnExisting {
		return err
	}
	if s.cfg.TermsOfService != "" && !p.TermsAgreed {
		return bulkhead.NewFault(bulkhead.KindUserActionRequired, "the terms of service must be agreed to").WithHint("read " + s.cfg.TermsOfService)
	}
	if p.Contact != nil {
		req.Contacts = *p.Contact
	}
	req.TermsAgreed, req.From = p.TermsAgreed, c.from()
	if len(p.External) > 0 && string(p.External) != "null" {
		if req.ExternalKey, err = s.external(c, p.External, req.Thumbprint); err != nil {
			return err
		}
	}
	a, created, err := s.svc.NewAccount(c.ctx(), req)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	c.w.Header().Set("Location", AccountURL(c.base, a.ID))
	return c.json(status, c.accountView(a))
}

// own refuses an account resource of somebody else.
func (c *call) own() error {
	if c.args[0] != c.account.ID {
		return bulkhead.NewFault(bulkhead.KindForbidden, "this is another account")
	}
	return nil
}

// account reads, updates or deactivates (RFC 8555 sections 7.3.2 and 7.3.6).
func (s *Server) account(c *call) error {
	if err := c.own(); err != nil {
		return err
	}
	a := c.account
	if len(c.payload) > 0 {
		var p accountPayload
		if err := c.decode(&p); err != nil {
			return err
		}
		var err error
		switch {
		case p.Status == string(bulkhead.AccountDeactivated):
			a, err = s.svc.DeactivateAccount(c.ctx(), a)
		case p.Status != "" && p.Status != string(a.State):
			err = malformed("an account can be set to deactivated and to nothing else")
		case p.Contact != nil:
			a, err = s.svc.UpdateAccount(c.ctx(), a, *p.Contact, p.TermsAgreed)
		case p.TermsAgreed && a.TermsAt.IsZero():
			a, err = s.svc.UpdateAccount(c.ctx(), a, a.Contacts, true)
		}
		if err != nil {
			return err
		}
	}
	return c.json(http.StatusOK, c.accountView(a))
}

// orders lists an account's orders, a page at a time (RFC 8555 section 7.1.2.1).
func (s *Server) orders(c *call) error {
	if err := c.own(); err != nil {
		return err
	}
	if err := c.readOnly(); err != nil {
		return err
	}
	const page = 100
	ids, err := s.svc.Orders(c.ctx(), c.account, c.r.URL.Query().Get("cursor"), page)
	if err != nil {
		return err
	}
	urls := make([]string, 0, len(ids))
	for _, id := range ids {
		urls = append(urls, c.url("order/"+id))
	}
	if len(ids) == page {
		c.link(c.url("account/"+c.account.ID+"/orders?cursor="+url.QueryEscape(ids[page-1])), "next")
	}
	return c.json(http.StatusOK, map[string]any{"orders": urls})
}

// keyChange replaces an account's key by a request signed by both keys (RFC 8555 section 7.3.5).
func (s *Server) keyChange(c *call) error {
	inner, err := parseEnvelope(c.payload)
	if err != nil {
		return err
	}
	k := inner.header.JSONWebKey
	switch {
	case k == nil:
		return malformed("the inner JWS names its key by jwk")
	case inner.header.Nonce != "":
		return malformed("the inner JWS has no nonce")
	case inner.url != c.base+c.r.URL.RequestURI():
		return malformed("the inner JWS has the same url as the outer one")
	}
	payload, err := inner.jws.Verify(k.Key)
	if err != nil {
		return malformed("the signature of the inner JWS does not verify").WithCause(err)
	}
	var p struct {
		Account string          `json:"account"`
		OldKey  jose.JSONWebKey `json:"oldKey"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return malformed("the inner payload has account and oldKey").WithCause(err)
	}
	if p.Account != AccountURL(c.base, c.account.ID) {
		return malformed("the inner payload names another account than the outer JWS")
	}
	if old, err := keyRequest(&p.OldKey); err != nil || !p.OldKey.Valid() || old.Thumbprint != c.account.Thumbprint {
		return malformed("oldKey is not the account's present key")
	}
	req, err := keyRequest(k)
	if err != nil {
		return err
	}
	a, err := s.svc.ChangeKey(c.ctx(), c.account, req)
	if err != nil {
		if bulkhead.KindOf(err) == bulkhead.KindConflict && strings.TrimSpace(a.ID) != "" && a.ID != c.account.ID {
			c.w.Header().Set("Location", AccountURL(c.base, a.ID))
		}
		return err
	}
	return c.json(http.StatusOK, c.accountView(a))
}
