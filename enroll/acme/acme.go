// Package acme is the RFC 8555 surface of enrolment, with renewal information (RFC 9773) and profiles
// (draft-ietf-acme-profiles). It turns signed requests into calls of enroll.Service, and faults into problem documents.
//
// Invariant: a request reaches the service only after its signature, its single-use nonce and its URL were verified;
// every answer to a POST, refusals included, carries a fresh nonce.
//
// Refuses: other serialisations than the flattened one, unprotected header fields, algorithms off the list,
// unauthenticated GETs of anything but the directory, nonces and renewal information; to hold any rule of enrolment.
package acme

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// Config is what the surface needs. Service is required.
type Config struct {
	Service *enroll.Service
	// BaseURL is the address under which clients reach us, without a slash at the end ("https://ca.test:14000"). nil
	// means scheme and Host of each request; accounts then have as many addresses as the server has names.
	BaseURL        func(*http.Request) string
	TermsOfService string   // URL; when set, new accounts must agree
	Website        string   // URL
	CAAIdentities  []string // as CAA records name us
	// Nonces makes nonces good at every process that has the same; nil keeps them to this process, whose clients must
	// then come back to it.
	Nonces *SharedNonces
	Log    *slog.Logger
}

// Server serves everything below /acme/.
type Server struct {
	cfg    Config
	svc    *enroll.Service
	nonces nonceSource
	keys   keyMemo
	routes []route
	log    *slog.Logger
}

// MaxBody is the largest request body read, in bytes.
const MaxBody = 128 << 10

// retryAfter is how soon a client should look again at something that is being worked on.
const retryAfter = time.Second

// New returns the handler for /acme/.
func New(cfg Config) (*Server, error) {
	if cfg.Service == nil {
		return nil, errors.New("acme: Service is required")
	}
	if cfg.BaseURL == nil {
		cfg.BaseURL = requestBase
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, svc: cfg.Service, log: cfg.Log}
	var err error
	if cfg.Nonces != nil {
		s.nonces, err = newSharedNonces(*cfg.Nonces, rand.Reader)
	} else {
		s.nonces, err = newNonces(rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	s.routes = s.table()
	return s, nil
}

// Signatures is how many requests in the form of nearly every client were verified by a table of the account's key, and how many by
// crypto/ecdsa.
func (s *Server) Signatures() (table, library int64) {
	return s.keys.tables.short.Load(), s.keys.tables.library.Load()
}

func requestBase(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// AccountURL is the address of an account: its kid, and what CAA's accounturi holds (RFC 8657).
func AccountURL(base, id string) string { return base + "/acme/account/" + id }

// call is one request on its way through a handler.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	base string
	args []string // what the "*" of the route matched
	signed
}

func (c *call) ctx() context.Context { return c.r.Context() }

func (c *call) url(path string) string { return c.base + "/acme/" + path }

func (c *call) link(target, rel string) {
	c.w.Header().Add("Link", "<"+target+`>;rel="`+rel+`"`)
}

func (c *call) retry(d time.Duration) { c.w.Header().Set("Retry-After", seconds(d)) }

// json writes v with the status.
func (c *call) json(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(body, '\n')) // a client that went away is no error of ours
	return nil
}

// signer says whose signature a POST to a route needs.
type signer int

const (
	unsigned  signer = iota
	byKey            // jwk: newAccount
	byAccount        // kid
	byEither         // revokeCert
)

// route is one resource. Parts are path segments below /acme/; "*" matches one segment.
type route struct {
	parts   []string
	methods []string
	signer  signer
	handle  func(*call) error
}

func (s *Server) table() []route {
	get, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	row := func(path string, methods []string, by signer, h func(*call) error) route {
		return route{strings.Split(path, "/"), methods, by, h}
	}
	return []route{
		row("directory", get, unsigned, s.directory),
		row("new-nonce", get, unsigned, s.newNonce),
		row("new-account", post, byKey, s.newAccount),
		row("new-order", post, byAccount, s.newOrder),
		row("revoke-cert", post, byEither, s.revokeCert),
		row("key-change", post, byAccount, s.keyChange),
		row("account/*", post, byAccount, s.account),
		row("account/*/orders", post, byAccount, s.orders),
		row("order/*", post, byAccount, s.order),
		row("order/*/finalize", post, byAccount, s.finalize),
		row("authz/*", post, byAccount, s.authz),
		row("challenge/*/*", post, byAccount, s.challenge),
		row("certificate/*/*", post, byAccount, s.certificate),
		row("certificate/*/*/*", post, byAccount, s.certificate),
		row("limits", get, unsigned, s.limits),
		row("renewal-info/*", get, unsigned, s.renewalInfo),
		row("*/directory", get, unsigned, s.directory), // named entrances last: ids never look like these
		row("*/new-order", post, byAccount, s.newOrder),
	}
}

func (s *Server) match(path string) (route, []string, bool) {
	rest, ok := strings.CutPrefix(path, "/acme/")
	if !ok {
		return route{}, nil, false
	}
	parts := strings.Split(rest, "/")
	for _, rt := range s.routes {
		if len(rt.parts) != len(parts) {
			continue
		}
		var args []string
		fits := true
		for i, p := range rt.parts {
			if p == "*" && parts[i] != "" {
				args = append(args, parts[i])
			} else if p != parts[i] {
				fits = false
				break
			}
		}
		if fits {
			return rt, args, true
		}
	}
	return route{}, nil, false
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, base: s.cfg.BaseURL(r)}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost {
		if err := s.freshNonce(w); err != nil {
			s.problem(c, err)
			return
		}
	}
	rt, args, ok := s.match(r.URL.Path)
	if !ok {
		s.problem(c, bulkhead.NewFault(bulkhead.KindNotFound, "there is nothing at this address").WithHint("start from the directory"))
		return
	}
	if rt.parts[len(rt.parts)-1] != "directory" {
		c.link(c.url("directory"), "index") // RFC 8555 section 7.1
	}
	c.args = args
	if !slices.Contains(rt.methods, r.Method) {
		w.Header().Set("Allow", strings.Join(rt.methods, ", "))
		f := bulkhead.Faultf(bulkhead.KindMalformed, "%s is not a method of this resource", r.Method)
		if rt.signer != unsigned {
			f = f.WithHint("read it with a signed POST that has an empty payload (RFC 8555 section 6.3)")
		}
		s.writeProblem(c, f, http.StatusMethodNotAllowed)
		return
	}
	err := s.verify(c, rt.signer)
	if err == nil {
		err = rt.handle(c)
	}
	if err != nil {
		s.problem(c, err)
	}
}

func (s *Server) freshNonce(w http.ResponseWriter) error {
	n, err := s.nonces.issue()
	if err != nil {
		return err
	}
	w.Header().Set("Replay-Nonce", n)
	return nil
}

// newNonce answers HEAD with 200 and GET with 204 (RFC 8555 section 7.2).
func (s *Server) newNonce(c *call) error {
	if err := s.freshNonce(c.w); err != nil {
		return err
	}
	if c.r.Method == http.MethodGet {
		c.w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// directory lists the resources; below a profile's or an issuer's name, orders are placed with that preset.
func (s *Server) directory(c *call) error {
	newOrder := c.url("new-order")
	var at enroll.Entrance
	if len(c.args) == 1 {
		var err error
		if at, err = s.svc.Entrance(c.ctx(), c.args[0]); err != nil {
			return err
		}
		newOrder = c.url(url.PathEscape(c.args[0]) + "/new-order")
	}
	profiles := map[string]string{}
	for _, p := range s.svc.Profiles(c.ctx()) {
		if p.ACME && (at.Profile == "" || at.Profile == p.Name) {
			profiles[p.Name] = p.Description
		}
	}
	meta := map[string]any{"profiles": profiles}
	if s.svc.ExternalRequired() {
		meta["externalAccountRequired"] = true
	}
	if s.cfg.TermsOfService != "" {
		meta["termsOfService"] = s.cfg.TermsOfService
	}
	if s.cfg.Website != "" {
		meta["website"] = s.cfg.Website
	}
	if len(s.cfg.CAAIdentities) > 0 {
		meta["caaIdentities"] = s.cfg.CAAIdentities
	}
	// A random member keeps clients from relying on a closed set of fields.
	return c.json(http.StatusOK, map[string]any{
		rand.Text()[:12]: "https://www.rfc-editor.org/rfc/rfc8555#section-7.1.1",
		"newNonce":       c.url("new-nonce"),
		"newAccount":     c.url("new-account"),
		"newOrder":       newOrder,
		"revokeCert":     c.url("revoke-cert"),
		"keyChange":      c.url("key-change"),
		"renewalInfo":    c.url("renewal-info"),
		"meta":           meta,
	})
}
