package signin

import (
	"context"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Names of what browsers keep. __Host- binds a cookie to this host, to TLS and to the whole of it (RFC 6265bis).
const (
	sessionCookie = "__Host-bulkhead-session"
	binderCookie  = "__Host-bulkhead-sign-in"
	// CSRFHeader carries the proof that the page itself asks for a change.
	CSRFHeader = "X-Bulkhead-Session"
)

// Methods of sign-in.
const (
	MethodKey  = "security-key"
	MethodOIDC = "oidc"
)

// begin opens a session for an operator in office. roles are those of the sign-in, none for the operator's own.
func (s *Service) begin(ctx context.Context, op bulkhead.Operator, method, subject string, roles []string) (token string, x bulkhead.Session, err error) {
	if token, err = s.secret(); err != nil {
		return "", x, err
	}
	now := s.now()
	x = bulkhead.Session{TokenHash: hashOf(token), Operator: op.Name, Method: method, Subject: subject, Roles: roles, BeganAt: now, ExpiresAt: now.Add(s.cfg.Session)}
	ev := bulkhead.Evidence{Kind: bulkhead.EvSignIn, At: s.cfg.Now().UTC(), Actor: "operator:" + op.Name, Ref: op.Name, KeyHash: op.KeyHash(), Link: x.TokenHash, Detail: clip("signed in by " + method + who(subject) + ", until " + x.ExpiresAt.Format(time.RFC3339))}
	return token, x, s.cfg.Store.BeginSession(ctx, x, ev)
}

func who(subject string) string {
	if subject == "" {
		return ""
	}
	return " as " + subject
}

// narrowed are the roles that a session has: those of the operator as far as the sign-in gives them. false when none is left.
func narrowed(own, given []string) ([]string, bool) {
	switch {
	case len(given) == 0 || slices.Contains(given, approval.RoleAdmin):
		return own, true
	case approval.Has(own): // an administrator's
		return given, true
	}
	var out []string
	for _, r := range given {
		if slices.Contains(own, r) {
			out = append(out, r)
		}
	}
	return out, len(out) > 0
}

// csrf is the proof that goes with a session: whoever can read the page has it, and no other site can.
func csrf(token string) string { return bulkhead.Digest([]byte("bulkhead csrf v1\n" + token)).String() }

// Present reports whether a request carries a session at all.
func (s *Service) Present(r *http.Request) bool {
	_, err := r.Cookie(sessionCookie)
	return err == nil
}

// Authenticate returns the operator of a request's session, with the roles that the session has. KindUnauthorized when there
// is none in force, when the operator has left since, and for a change that another site could have asked for.
func (s *Service) Authenticate(r *http.Request) (bulkhead.Operator, error) {
	op, _, err := s.session(r)
	if err != nil {
		return op, err
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		err = s.fromHere(r)
	}
	return op, err
}

func (s *Service) session(r *http.Request) (bulkhead.Operator, bulkhead.Session, error) {
	no := func(why string) (bulkhead.Operator, bulkhead.Session, error) {
		return bulkhead.Operator{}, bulkhead.Session{}, bulkhead.NewFault(bulkhead.KindUnauthorized, why).WithHint("sign in at " + prefix)
	}
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return no("nobody is signed in")
	}
	x, err := s.cfg.Store.Session(r.Context(), hashOf(c.Value))
	switch {
	case bulkhead.KindOf(err) == bulkhead.KindNotFound:
		return no("there is no such session")
	case err != nil:
		return bulkhead.Operator{}, x, err
	case !x.EndedAt.IsZero():
		return no("the session was ended")
	case !s.now().Before(x.ExpiresAt):
		return no("the session ended at " + x.ExpiresAt.Format(time.RFC3339))
	}
	op, err := s.cfg.Quorum.InOffice(r.Context(), x.Operator)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return no("operator " + x.Operator + " is not in office any more")
	}
	if err != nil {
		return op, x, err
	}
	roles, left := narrowed(op.Roles, x.Roles)
	if !left {
		return no("operator " + x.Operator + " has none of the roles that this session was opened with")
	}
	op.Roles = roles
	return op, x, nil
}

// fromHere fails for a request that another site could have made: the cookie alone asks for nothing.
func (s *Service) fromHere(r *http.Request) error {
	no := func(why string) error {
		return bulkhead.NewFault(bulkhead.KindForbidden, why).WithHint("ask from the page itself: " + prefix)
	}
	if err := s.sameOrigin(r); err != nil {
		return err
	}
	c, err := r.Cookie(sessionCookie)
	if err != nil || subtle.ConstantTimeCompare([]byte(r.Header.Get(CSRFHeader)), []byte(csrf(c.Value))) != 1 {
		return no("the request does not carry the proof of its page")
	}
	return nil
}

// sameOrigin fails for a request that a browser says comes from another site.
func (s *Service) sameOrigin(r *http.Request) error {
	origin, _, err := s.site()
	if err != nil {
		return err
	}
	from := r.Header.Get("Origin")
	if from != origin && from != strings.TrimSuffix(s.cfg.Base(), "/") || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return bulkhead.Faultf(bulkhead.KindForbidden, "the request comes from %q and not from %s", clip(from), origin).WithHint("ask from the page itself: " + prefix)
	}
	return nil
}

// End closes the session of a request.
func (s *Service) End(r *http.Request) error {
	op, x, err := s.session(r)
	if err != nil {
		return err
	}
	return s.cfg.Store.EndSession(r.Context(), x.TokenHash, s.now(), bulkhead.Evidence{Kind: bulkhead.EvSignIn, At: s.cfg.Now().UTC(), Actor: "operator:" + op.Name, Ref: op.Name, Link: x.TokenHash, Detail: "signed out"})
}
