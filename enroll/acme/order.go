package acme

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// stamp is a time as RFC 3339, "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// orderView is an order object (RFC 8555 section 7.1.3, RFC 9773 section 5, profiles draft).
type orderView struct {
	Status         string                `json:"status"`
	Expires        string                `json:"expires,omitempty"`
	Identifiers    []bulkhead.Identifier `json:"identifiers"`
	Profile        string                `json:"profile,omitempty"`
	Replaces       string                `json:"replaces,omitempty"`
	Authorizations []string              `json:"authorizations"`
	Finalize       string                `json:"finalize"`
	Certificate    string                `json:"certificate,omitempty"`
	Error          *document             `json:"error,omitempty"`
}

// writeOrder answers with an order in its present state.
func (s *Server) writeOrder(c *call, status int, o bulkhead.Order) error {
	v := orderView{Status: string(o.State), Expires: stamp(o.ExpiresAt), Identifiers: o.Identifiers, Profile: o.Profile,
		Authorizations: []string{}, Finalize: c.url("order/" + o.ID + "/finalize")}
	for _, id := range o.Authorizations {
		v.Authorizations = append(v.Authorizations, c.url("authz/"+id))
	}
	if o.Replaces != (bulkhead.CertificateRef{}) {
		id, err := s.svc.CertIDOf(c.ctx(), o.Replaces)
		if err != nil {
			return err
		}
		v.Replaces = id
	}
	if o.State == bulkhead.OrderValid {
		v.Certificate = c.url("certificate/" + string(o.Certificate.Issuer) + "/" + o.Certificate.Serial.String())
	}
	if o.Problem != nil {
		v.Error = documentOf(o.Problem, 0)
	}
	if o.State == bulkhead.OrderProcessing {
		c.retry(s.svc.RetryAfter(c.ctx(), o, retryAfter))
	}
	c.w.Header().Set("Location", c.url("order/"+o.ID))
	return c.json(status, v)
}

// newOrder opens an order (RFC 8555 section 7.4); a named entrance presets profile or issuer.
func (s *Server) newOrder(c *call) error {
	var at enroll.Entrance
	if len(c.args) == 1 {
		var err error
		if at, err = s.svc.Entrance(c.ctx(), c.args[0]); err != nil {
			return err
		}
	}
	var p struct {
		Identifiers []bulkhead.Identifier `json:"identifiers"`
		NotBefore   string                `json:"notBefore"`
		NotAfter    string                `json:"notAfter"`
		Profile     string                `json:"profile"`
		Replaces    string                `json:"replaces"`
	}
	if err := c.decode(&p); err != nil {
		return err
	}
	if p.NotBefore != "" || p.NotAfter != "" {
		return malformed("notBefore and notAfter are not honoured; the profile decides").WithHint("choose a profile of the directory")
	}
	if at.Profile != "" && p.Profile != "" && p.Profile != at.Profile {
		return bulkhead.Faultf(bulkhead.KindInvalidProfile, "this directory serves profile %q only", at.Profile)
	}
	req := enroll.OrderRequest{Identifiers: p.Identifiers, Profile: p.Profile, Authority: at.Authority}
	if req.Profile == "" {
		req.Profile = at.Profile
	}
	if err := s.offered(c.ctx(), req.Profile); err != nil {
		return err
	}
	if p.Replaces != "" {
		ref, err := s.svc.ResolveCertID(c.ctx(), p.Replaces)
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			return malformed("replaces names no certificate of ours")
		}
		if err != nil {
			return err
		}
		req.Replaces = ref
	}
	o, err := s.svc.NewOrder(c.ctx(), c.account, req)
	if err != nil {
		return err
	}
	return s.writeOrder(c, http.StatusCreated, o)
}

// offered refuses profiles that are not for ACME.
func (s *Server) offered(ctx context.Context, name string) error {
	for _, p := range s.svc.Profiles(ctx) {
		if p.Name == name && !p.ACME {
			return bulkhead.Faultf(bulkhead.KindInvalidProfile, "profile %q is not offered here", name).WithHint("the directory lists the profiles")
		}
	}
	return nil // an unknown one is the service's to refuse
}

// order shows an order.
func (s *Server) order(c *call) error {
	if err := c.readOnly(); err != nil {
		return err
	}
	o, err := s.svc.Order(c.ctx(), c.account, c.args[0])
	if err != nil {
		return err
	}
	return s.writeOrder(c, http.StatusOK, o)
}

// finalize hands in the certification request.
func (s *Server) finalize(c *call) error {
	var p struct {
		CSR string `json:"csr"`
	}
	if err := c.decode(&p); err != nil {
		return err
	}
	csr, err := base64.RawURLEncoding.DecodeString(p.CSR)
	if err != nil || len(csr) == 0 {
		return bulkhead.NewFault(bulkhead.KindBadCSR, "csr is the base64url of a DER certification request, without padding")
	}
	o, err := s.svc.Finalize(c.ctx(), c.account, c.args[0], csr)
	if err != nil {
		return err
	}
	return s.writeOrder(c, http.StatusOK, o)
}

// challengeView is a challenge object (RFC 8555 section 8).
type challengeView struct {
	Type      string    `json:"type"`
	URL       string    `json:"url"`
	Status    string    `json:"status"`
	Token     string    `json:"token"`
	Validated string    `json:"validated,omitempty"`
	Error     *document `json:"error,omitempty"`
}

func (c *call) challengeView(a bulkhead.Authorization, ch bulkhead.Challenge) challengeView {
	v := challengeView{Type: string(ch.Method), URL: c.url("challenge/" + a.ID + "/" + ch.ID), Status: string(ch.State), Token: ch.Token, Validated: stamp(ch.ValidatedAt)}
	if ch.Problem != nil {
		v.Error = documentOf(ch.Problem, meanings[ch.Problem.Kind].status)
	}
	return v
}

// authz shows or deactivates an authorisation (RFC 8555 section 7.5). One that is settled shows the challenge that
// settled it.
func (s *Server) authz(c *call) error {
	var a bulkhead.Authorization
	var err error
	if len(c.payload) == 0 {
		a, err = s.svc.Authorization(c.ctx(), c.account, c.args[0])
	} else {
		var p struct {
			Status string `json:"status"`
		}
		if err := c.decode(&p); err != nil {
			return err
		}
		if p.Status != string(bulkhead.AuthorizationDeactivated) {
			return malformed("an authorization can be set to deactivated and to nothing else")
		}
		a, err = s.svc.DeactivateAuthorization(c.ctx(), c.account, c.args[0])
	}
	if err != nil {
		return err
	}
	challenges := []challengeView{}
	for _, ch := range a.Challenges {
		if a.State == bulkhead.AuthorizationPending || ch.State == bulkhead.ChallengeValid || ch.State == bulkhead.ChallengeInvalid {
			challenges = append(challenges, c.challengeView(a, ch))
		}
		if a.State == bulkhead.AuthorizationPending && ch.State == bulkhead.ChallengeProcessing {
			c.retry(retryAfter)
		}
	}
	return c.json(http.StatusOK, struct {
		Identifier bulkhead.Identifier `json:"identifier"`
		Status     string              `json:"status"`
		Expires    string              `json:"expires,omitempty"`
		Challenges []challengeView     `json:"challenges"`
		Wildcard   bool                `json:"wildcard,omitempty"`
	}{a.Identifier, string(a.State), stamp(a.ExpiresAt), challenges, a.Wildcard})
}

// challenge shows a challenge, or says with a JSON object that the client is ready for it (RFC 8555 section 7.5.1).
func (s *Server) challenge(c *call) error {
	var a bulkhead.Authorization
	var err error
	if len(c.payload) == 0 {
		a, err = s.svc.Authorization(c.ctx(), c.account, c.args[0])
	} else {
		var p struct{}
		if err := c.decode(&p); err != nil {
			return err
		}
		a, err = s.svc.Respond(c.ctx(), c.account, c.args[0], c.args[1])
	}
	if err != nil {
		return err
	}
	for _, ch := range a.Challenges {
		if ch.ID != c.args[1] {
			continue
		}
		c.link(c.url("authz/"+a.ID), "up")
		if ch.State == bulkhead.ChallengeProcessing {
			c.retry(retryAfter)
		}
		return c.json(http.StatusOK, c.challengeView(a, ch))
	}
	return bulkhead.NewFault(bulkhead.KindNotFound, "the authorization has no such challenge")
}
