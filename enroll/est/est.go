// Package est is the RFC 7030 surface of enrolment, as clarified by RFC 8951 and RFC 9908: cacerts, simpleenroll,
// simplereenroll and csrattrs below /.well-known/est/, plain or under the name of a profile or an issuing authority.
//
// Invariant: a certification request reaches the service only for an account that showed its token, or for the holder
// of a certificate that the record calls good at this moment. The TLS layer asks for client certificates and verifies
// only that their key is in use; whose they are is decided here, for each request anew.
//
// Refuses: requests outside TLS, tokens in anything but Basic credentials, server-side key generation and full CMC
// (501), renewals for other names or another profile; to hold any rule of enrolment.
package est

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/pki/profile"
)

// Prefix is the path below which the surface lives (RFC 7030 section 3.2.2).
const Prefix = "/.well-known/est/"

// Config is what the surface needs. Service is required.
type Config struct {
	Service *enroll.Service
	// DefaultProfile is what csrattrs speaks of where the address names no profile; "" means the first.
	DefaultProfile string
	Log            *slog.Logger // nil discards
}

// Server serves everything below Prefix.
type Server struct {
	svc     *enroll.Service
	profile string
	log     *slog.Logger
}

// New returns the handler for Prefix.
func New(cfg Config) (*Server, error) {
	if cfg.Service == nil {
		return nil, errors.New("est: Service is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DefaultProfile == "" {
		offered := cfg.Service.Profiles(context.Background())
		if len(offered) == 0 {
			return nil, errors.New("est: no profile is in force")
		}
		cfg.DefaultProfile = offered[0].Name
	}
	return &Server{svc: cfg.Service, profile: cfg.DefaultProfile, log: cfg.Log}, nil
}

// call is one request on its way through an operation.
type call struct {
	w  http.ResponseWriter
	r  *http.Request
	at enroll.Entrance // what the label presets
}

// operation is one of RFC 7030's.
type operation struct {
	methods []string
	handle  func(*Server, *call) error
}

var get, post = []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}

// operations of RFC 7030 section 3.2.2.
func operations(name string) (operation, bool) {
	switch name {
	case "cacerts":
		return operation{get, (*Server).cacerts}, true
	case "csrattrs":
		return operation{get, (*Server).csrattrs}, true
	case "simpleenroll":
		return operation{post, (*Server).simpleenroll}, true
	case "simplereenroll":
		return operation{post, (*Server).simplereenroll}, true
	case "serverkeygen":
		return operation{post, notOffered("keys are made by whoever uses them, never here", "make a key and use simpleenroll")}, true
	case "fullcmc":
		return operation{post, notOffered("full CMC is not spoken here", "use simpleenroll or simplereenroll")}, true
	}
	return operation{}, false
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	c := &call{w: w, r: r}
	if err := s.serve(c); err != nil {
		s.refuse(c, err)
	}
}

func (s *Server) serve(c *call) error {
	label, name, ok := split(c.r.URL.Path)
	op, known := operations(name)
	if !ok || !known {
		return status(http.StatusNotFound, bulkhead.NewFault(bulkhead.KindNotFound, "there is no EST operation at this address").
			WithHint("operations are cacerts, csrattrs, simpleenroll and simplereenroll below "+Prefix+" or "+Prefix+"LABEL/"))
	}
	if c.r.TLS == nil {
		return status(http.StatusForbidden, bulkhead.NewFault(bulkhead.KindForbidden, "EST is spoken over TLS only (RFC 7030 section 3.3)"))
	}
	if !slices.Contains(op.methods, c.r.Method) {
		c.w.Header().Set("Allow", strings.Join(op.methods, ", "))
		return status(http.StatusMethodNotAllowed, bulkhead.Faultf(bulkhead.KindMalformed, "%s is not a method of %s", c.r.Method, name).
			WithHint("use "+op.methods[0]))
	}
	if label != "" {
		var err error
		if c.at, err = s.svc.Entrance(c.r.Context(), label); err != nil {
			return err
		}
	}
	return op.handle(s, c)
}

// split takes a path apart: [label/]operation.
func split(path string) (label, operation string, ok bool) {
	rest, ok := strings.CutPrefix(path, Prefix)
	if !ok {
		return "", "", false
	}
	before, after, labelled := strings.Cut(rest, "/")
	if !labelled {
		return "", before, true
	}
	return before, after, before != ""
}

func notOffered(why, next string) func(*Server, *call) error {
	return func(*Server, *call) error {
		return status(http.StatusNotImplemented, bulkhead.NewFault(bulkhead.KindForbidden, why).WithHint(next))
	}
}

// cacerts gives the authority certificates (RFC 7030 section 4.1). Anyone may ask.
func (s *Server) cacerts(c *call) error {
	chain, err := s.svc.TrustChain(c.r.Context(), c.at)
	if err != nil {
		return err
	}
	return c.pkcs7(chain...)
}

// csrattrs says what a request should look like (RFC 7030 section 4.5). Anyone may ask.
func (s *Server) csrattrs(c *call) error {
	name := c.at.Profile
	if name == "" {
		name = s.profile
	}
	all := s.svc.Profiles(c.r.Context())
	i := slices.IndexFunc(all, func(p *profile.Profile) bool { return p.Name == name })
	if i < 0 {
		return bulkhead.Faultf(bulkhead.KindInvalidProfile, "there is no profile %q", name)
	}
	der, err := attributes(all[i])
	if err != nil {
		return err
	}
	if der == nil {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	c.base64("application/csrattrs", der)
	return nil
}

// simpleenroll issues for an account by its token (RFC 7030 section 4.2.1).
func (s *Server) simpleenroll(c *call) error {
	acct, shown, err := s.account(c)
	if err != nil {
		return err
	}
	if !shown {
		return unauthenticated("enrolment takes a token: Basic credentials with an API token as the password",
			"curl --user est:TOKEN; an operator makes one with: bulkhead account add. With a certificate of ours, use simplereenroll")
	}
	up, err := s.upload(c)
	if err != nil {
		return err
	}
	got, err := s.svc.Enroll(c.r.Context(), acct, up)
	return c.issued(got, err)
}

// simplereenroll renews (RFC 7030 section 4.2.2): for an account by its token, else for the holder of the certificate
// shown to TLS.
func (s *Server) simplereenroll(c *call) error {
	acct, byToken, err := s.account(c)
	if err != nil {
		return err
	}
	var h enroll.Holder
	if !byToken {
		if len(c.r.TLS.PeerCertificates) == 0 {
			return unauthenticated("re-enrolment takes the certificate being renewed as TLS client certificate, or a token",
				"curl --cert CERTIFICATE --key KEY")
		}
		h, err = s.svc.CertificateHolder(c.r.Context(), c.r.TLS.PeerCertificates[0].Raw)
		if bulkhead.KindOf(err) == bulkhead.KindUnauthorized {
			return status(http.StatusUnauthorized, err)
		}
		if err != nil {
			return err
		}
	}
	up, err := s.upload(c)
	if err != nil {
		return err
	}
	var got bulkhead.IssuedCertificate
	if byToken {
		got, err = s.svc.Reenroll(c.r.Context(), acct, up)
	} else {
		got, err = s.svc.ReenrollWithCertificate(c.r.Context(), h, up)
	}
	return c.issued(got, err)
}

// account authenticates by Basic credentials whose password is an API token; the user name says nothing. Tokens are
// found by their digest, so no comparison takes longer for a better guess.
func (s *Server) account(c *call) (acct bulkhead.Account, shown bool, err error) {
	if c.r.Header.Get("Authorization") == "" {
		return acct, false, nil
	}
	_, token, ok := c.r.BasicAuth()
	if !ok {
		return acct, true, unauthenticated("the credentials are not Basic ones", "curl --user est:TOKEN")
	}
	acct, err = s.svc.AccountByToken(c.r.Context(), token)
	switch bulkhead.KindOf(err) {
	case "":
		return acct, true, nil
	case bulkhead.KindUnauthorized, bulkhead.KindAccountDoesNotExist:
		return acct, true, unauthenticated("the token is not that of an account in office", "an operator makes one with: bulkhead account add")
	default:
		return acct, true, err
	}
}

// upload reads the request body with what the address presets.
func (s *Server) upload(c *call) (enroll.Upload, error) {
	csr, err := readBody(c.w, c.r)
	if err != nil {
		return enroll.Upload{}, err
	}
	if changesName(csr) {
		return enroll.Upload{}, bulkhead.NewFault(bulkhead.KindBadCSR, "the request asks to change names (ChangeSubjectName, RFC 6402)").
			WithHint("enrol for the new names with simpleenroll")
	}
	return enroll.Upload{CSR: csr, Profile: c.at.Profile, Authority: c.at.Authority}, nil
}

// issued answers with one certificate.
func (c *call) issued(got bulkhead.IssuedCertificate, err error) error {
	if err != nil {
		return err
	}
	return c.pkcs7(got.DER)
}
