package enroll_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	goacme "golang.org/x/crypto/acme"

	"bulkhead"
	"bulkhead/enroll"
	front "bulkhead/enroll/acme"
	"bulkhead/enroll/dcv"
)

// world is the ACME surface over a house, with a web server and a TLS server on loopback for challenges.
type world struct {
	*house
	base  string
	front *front.Server

	mu    sync.Mutex
	files map[string]string           // path → body, http-01
	certs map[string]*tls.Certificate // SNI → certificate, tls-alpn-01
}

func newWorld(t testing.TB, change ...func(*front.Config)) *world {
	t.Helper()
	w := &world{files: map[string]string{}, certs: map[string]*tls.Certificate{}}
	web := httptest.NewServer(w)
	t.Cleanup(web.Close)
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"acme-tls/1"}, MinVersion: tls.VersionTLS12,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if c := w.certs[h.ServerName]; c != nil {
				return c, nil
			}
			return nil, errors.New("no such name")
		}})
	ok(t, err)
	t.Cleanup(func() { _ = secure.Close() })
	go func() {
		for {
			c, err := secure.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); _ = c.Close() }()
		}
	}()
	v, err := dcv.New(dcv.Config{AllowPrivate: true, HTTPPort: web.Listener.Addr().(*net.TCPAddr).Port, TLSPort: secure.Addr().(*net.TCPAddr).Port,
		CAAIdentities: []string{"ca.test"}, Timeout: 20 * time.Second, Now: time.Now})
	ok(t, err)
	w.house = newHouse(t, func(c *enroll.Config) { c.Validator = v })
	w.serve(change...)
	return w
}

// serve opens the surface over the present service.
func (w *world) serve(change ...func(*front.Config)) {
	w.t.Helper()
	cfg := front.Config{Service: w.svc, Website: "https://ca.test/", CAAIdentities: []string{"ca.test"}}
	for _, f := range change {
		f(&cfg)
	}
	handler, err := front.New(cfg)
	ok(w.t, err)
	server := httptest.NewServer(handler)
	w.t.Cleanup(server.Close)
	w.base, w.front = server.URL, handler
}

// ServeHTTP serves http-01 files.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body, found := w.files[r.URL.Path]
	if !found {
		http.NotFound(rw, r)
		return
	}
	_, _ = rw.Write([]byte(body))
}

func (w *world) put(path, body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[path] = body
}

// httpSolver and tlsSolver answer acmez's challenges.
type httpSolver struct{ *world }

func (s httpSolver) Present(_ context.Context, c acme.Challenge) error {
	s.put(c.HTTP01ResourcePath(), c.KeyAuthorization)
	return nil
}
func (s httpSolver) CleanUp(context.Context, acme.Challenge) error { return nil }

type tlsSolver struct{ *world }

func (s tlsSolver) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs[c.Identifier.Value] = cert
	return nil
}
func (s tlsSolver) CleanUp(context.Context, acme.Challenge) error { return nil }

func (w *world) acmez(challenge string, directory string) *acmez.Client {
	solvers := map[string]acmez.Solver{"http-01": httpSolver{w}, "tls-alpn-01": tlsSolver{w}}
	return &acmez.Client{Client: &acme.Client{Directory: w.base + directory, HTTPClient: http.DefaultClient},
		ChallengeSolvers: map[string]acmez.Solver{challenge: solvers[challenge]}}
}

func (w *world) acmezAccount(c *acmez.Client) acme.Account {
	w.t.Helper()
	a, err := c.NewAccount(w.t.Context(), acme.Account{PrivateKey: newKey(w.t), TermsOfServiceAgreed: true, Contact: []string{"mailto:ops@site.test"}})
	ok(w.t, err)
	return a
}

func (w *world) obtain(c *acmez.Client, a acme.Account, key crypto.Signer, change func(*acmez.OrderParameters), names ...string) *x509.Certificate {
	w.t.Helper()
	request, err := acmez.NewCSR(key, names)
	ok(w.t, err)
	params, err := acmez.OrderParametersFromCSR(a, request)
	ok(w.t, err)
	if change != nil {
		change(&params)
	}
	certs, err := c.ObtainCertificate(w.t.Context(), params)
	ok(w.t, err)
	return parseChain(w.t, certs[0].ChainPEM)
}

// parseChain wants a leaf and its issuer, without the trust anchor.
func parseChain(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		x, err := x509.ParseCertificate(block.Bytes)
		ok(t, err)
		certs = append(certs, x)
	}
	if len(certs) != 2 || certs[0].CheckSignatureFrom(certs[1]) != nil {
		t.Fatalf("%d certificates in the chain", len(certs))
	}
	return certs[0]
}

// TestACMEZ obtains, renews with ARI and revokes, as Caddy does.
func TestACMEZ(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			w.t = t
			c := w.acmez(challenge, "/acme/directory")
			a := w.acmezAccount(c)
			key := newKey(t)
			cert := w.obtain(c, a, key, nil, "www.localhost", "localhost")
			info, err := c.GetRenewalInfo(ctx, cert)
			ok(t, err)
			if !info.SuggestedWindow.Start.After(time.Now()) || !info.SuggestedWindow.Start.Before(info.SuggestedWindow.End) || info.RetryAfter == nil {
				t.Errorf("renewal info %+v", info)
			}
			next := w.obtain(c, a, newKey(t), func(p *acmez.OrderParameters) { p.Replaces, p.Profile = cert, "tls-server-short" }, "localhost", "www.localhost")
			if life := next.NotAfter.Sub(next.NotBefore); life > 7*24*time.Hour {
				t.Errorf("the short profile lives %s", life)
			}
			request, err := acmez.NewCSR(newKey(t), []string{"localhost"})
			ok(t, err)
			params, err := acmez.OrderParametersFromCSR(a, request)
			ok(t, err)
			order := acme.Order{Identifiers: params.Identifiers, Replaces: mustARI(t, cert)}
			_, err = c.NewOrder(ctx, a, order)
			wantProblem(t, err, "alreadyReplaced", 409)

			ok(t, c.RevokeCertificate(ctx, a, cert, nil, acme.ReasonSuperseded))
			err = c.RevokeCertificate(ctx, a, cert, nil, acme.ReasonSuperseded)
			wantProblem(t, err, "alreadyRevoked", 400)
			ok(t, c.RevokeCertificate(ctx, a, cert, key, acme.ReasonUnspecified)) // the key upgrades the reason
			info, err = c.GetRenewalInfo(ctx, cert)
			ok(t, err)
			if info.SuggestedWindow.End.After(time.Now()) {
				t.Errorf("revoked, and to be renewed at %s", info.SuggestedWindow.Start)
			}
		})
	}
}

func mustARI(t testing.TB, cert *x509.Certificate) string {
	t.Helper()
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	ok(t, err)
	return enroll.CertID(cert.AuthorityKeyId, serial)
}

func wantProblem(t testing.TB, err error, name string, status int) {
	t.Helper()
	var p acme.Problem
	if !errors.As(err, &p) || p.Type != "urn:ietf:params:acme:error:"+name || p.Status != status {
		t.Fatalf("got %v (%T), want %s with %d", err, err, name, status)
	}
}

// TestNamedDirectories: a profile's and an issuer's directory preset their orders.
func TestNamedDirectories(t *testing.T) {
	w := newWorld(t)
	for path, life := range map[string]time.Duration{"/acme/tls-server-short/directory": 6 * 24 * time.Hour, "/acme/issuing-p256/directory": 47 * 24 * time.Hour} {
		c := w.acmez("http-01", path)
		cert := w.obtain(c, w.acmezAccount(c), newKey(t), nil, "localhost")
		if got := cert.NotAfter.Sub(cert.NotBefore) + time.Second; got != life {
			t.Errorf("%s gave %s", path, got)
		}
	}
	for _, path := range []string{"/acme/nothing/directory", "/acme/root/directory"} {
		resp, err := http.Get(w.base + path)
		ok(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// TestAccountLife: look up, update, roll the key, deactivate; the old key is dead at once.
func TestAccountLife(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.acmez("http-01", "/acme/directory")
	a := w.acmezAccount(c)
	again, err := c.NewAccount(ctx, acme.Account{PrivateKey: a.PrivateKey, TermsOfServiceAgreed: true})
	ok(t, err)
	if again.Location != a.Location {
		t.Errorf("one key has accounts %s and %s", a.Location, again.Location)
	}
	_, err = c.GetAccount(ctx, acme.Account{PrivateKey: newKey(t)})
	wantProblem(t, err, "accountDoesNotExist", 400)
	other := w.acmezAccount(c)
	_, err = c.AccountKeyRollover(ctx, a, other.PrivateKey)
	wantProblem(t, err, "malformed", 409)
	rolled, err := c.AccountKeyRollover(ctx, a, newKey(t))
	ok(t, err)
	_, err = c.GetAccount(ctx, acme.Account{PrivateKey: a.PrivateKey})
	wantProblem(t, err, "accountDoesNotExist", 400)
	if got, err := c.GetAccount(ctx, acme.Account{PrivateKey: rolled.PrivateKey}); err != nil || got.Location != a.Location {
		t.Errorf("%v, %+v", err, got)
	}
	w.obtain(c, rolled, newKey(t), nil, "localhost")
	rolled.Status = "deactivated"
	_, err = c.UpdateAccount(ctx, rolled)
	ok(t, err)
	_, err = c.NewOrder(ctx, rolled, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: "localhost"}}})
	wantProblem(t, err, "unauthorized", 401)
}

// TestXCrypto obtains and revokes with golang.org/x/crypto/acme.
func TestXCrypto(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := &goacme.Client{Key: newKey(t), DirectoryURL: w.base + "/acme/directory"}
	_, err := c.Register(ctx, &goacme.Account{Contact: []string{"mailto:ops@site.test"}}, goacme.AcceptTOS)
	ok(t, err)
	o, err := c.AuthorizeOrder(ctx, append(goacme.DomainIDs("localhost"), goacme.IPIDs("127.0.0.1")...))
	ok(t, err)
	for _, u := range o.AuthzURLs {
		z, err := c.GetAuthorization(ctx, u)
		ok(t, err)
		for _, ch := range z.Challenges {
			if ch.Type != "http-01" {
				continue
			}
			body, err := c.HTTP01ChallengeResponse(ch.Token)
			ok(t, err)
			w.put(c.HTTP01ChallengePath(ch.Token), body)
			_, err = c.Accept(ctx, ch)
			ok(t, err)
		}
		_, err = c.WaitAuthorization(ctx, u)
		ok(t, err)
	}
	o, err = c.WaitOrder(ctx, o.URI)
	ok(t, err)
	key := newKey(t)
	chain, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csr(t, key, "localhost", "127.0.0.1"), true)
	ok(t, err)
	x, err := x509.ParseCertificate(chain[0])
	ok(t, err)
	if len(chain) != 2 || len(x.IPAddresses) != 1 {
		t.Errorf("%d certificates, addresses %v", len(chain), x.IPAddresses)
	}
	ok(t, c.RevokeCert(ctx, key, chain[0], goacme.CRLReasonUnspecified))
	serial, err := bulkhead.SerialFromBig(x.SerialNumber)
	ok(t, err)
	row, _, err := w.store.Certificate(ctx, bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial})
	ok(t, err)
	if row.State != bulkhead.Revoked || row.Reason != bulkhead.KeyCompromise {
		t.Errorf("%s for %s", row.State, row.Reason)
	}
}

// TestFailedChallengeTellsWhy: the problem reaches the client through challenge and order.
func TestFailedChallengeTellsWhy(t *testing.T) {
	w := newWorld(t)
	c := &goacme.Client{Key: newKey(t), DirectoryURL: w.base + "/acme/directory"}
	_, err := c.Register(t.Context(), &goacme.Account{}, goacme.AcceptTOS)
	ok(t, err)
	o, err := c.AuthorizeOrder(t.Context(), goacme.DomainIDs("localhost"))
	ok(t, err)
	z, err := c.GetAuthorization(t.Context(), o.AuthzURLs[0])
	ok(t, err)
	for _, ch := range z.Challenges {
		if ch.Type == "http-01" {
			_, err = c.Accept(t.Context(), ch)
			ok(t, err)
		}
	}
	_, err = c.WaitAuthorization(t.Context(), z.URI)
	var refused *goacme.AuthorizationError
	if !errors.As(err, &refused) || len(refused.Errors) != 1 {
		t.Fatalf("got %v", err)
	}
	var problem *goacme.Error
	if !errors.As(refused.Errors[0], &problem) || problem.ProblemType != "urn:ietf:params:acme:error:unauthorized" || !bytes.Contains([]byte(problem.Detail), []byte("status 404")) {
		t.Fatalf("the problem is %+v", refused.Errors[0])
	}
}
