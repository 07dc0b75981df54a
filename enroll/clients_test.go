package enroll_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	goacme "golang.org/x/crypto/acme"

	"bulkhead"
)

// clientTime bounds one run of a foreign client.
const clientTime = 2 * time.Minute

// lego runs Debian's lego on a folder of its own.
func (s *site) lego(t testing.TB, dir, server string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("lego")
	if err != nil {
		t.Fatal("lego is needed for this test: apt-get install lego")
	}
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	global := []string{"--server", server, "--accept-tos", "--email", "ops@site.example", "--path", dir, "--dns.resolvers", s.zone.addr, "--dns.disable-cp"}
	cmd := exec.CommandContext(ctx, program, append(global, args...)...)
	cmd.Env = append(os.Environ(), "RFC2136_NAMESERVER="+s.zone.addr, "RFC2136_PROPAGATION_TIMEOUT=5", "RFC2136_POLLING_INTERVAL=1", "RFC2136_SEQUENCE_INTERVAL=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lego %v: %v\n%s", args, err, out)
	}
}

func (s *site) legoChallenge(method string) []string {
	switch method {
	case "http-01":
		return []string{"--http", "--http.port", "127.0.0.1:" + strconv.Itoa(s.httpPort)}
	case "tls-alpn-01":
		return []string{"--tls", "--tls.port", "127.0.0.1:" + strconv.Itoa(s.tlsPort)}
	default:
		return []string{"--dns", "rfc2136"}
	}
}

// TestLego obtains, renews and revokes over each challenge, a wildcard among them.
func TestLego(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for method, name := range map[string]string{"http-01": "h.site.example", "tls-alpn-01": "t.site.example", "dns-01": "*.d.site.example"} {
		t.Run(method, func(t *testing.T) {
			dir := t.TempDir()
			run := func(args ...string) {
				t.Helper()
				s.lego(t, dir, s.base+"/acme/directory", append(append([]string{"--domains", name}, s.legoChallenge(method)...), args...)...)
			}
			file := name
			if name[0] == '*' {
				file = "_" + name[1:]
			}
			file = filepath.Join(dir, "certificates", file+".crt")
			run("run")
			first := readCertificate(t, file)
			run("renew", "--days", "1000", "--no-random-sleep")
			second := readCertificate(t, file)
			if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
				t.Fatal("the renewal gave the same certificate")
			}
			run("revoke", "--reason", "4")
			s.wantState(t, first, bulkhead.Issued)
			s.wantState(t, second, bulkhead.Revoked)
		})
	}
}

// TestLegoExternalAccount binds lego's account.
func TestLegoExternalAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cfg.ExternalSecret, s.cfg.ExternalRequired = make([]byte, 32), true
	s.svc = s.service()
	s.serve()
	k, mac := s.externalKey(time.Hour)
	s.lego(t, t.TempDir(), s.base+"/acme/directory", append(s.legoChallenge("http-01"), "--domains", "h.site.example", "--eab", "--kid", k.ID, "--hmac", b64(mac), "run")...)
}

func (w *world) wantState(t testing.TB, x *x509.Certificate, want bulkhead.CertificateState) {
	t.Helper()
	serial, err := bulkhead.SerialFromBig(x.SerialNumber)
	ok(t, err)
	row, _, err := w.store.Certificate(t.Context(), bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial})
	ok(t, err)
	if row.State != want {
		t.Errorf("%s is %s, want %s", serial, row.State, want)
	}
}

// certmagic makes a client of the library that is inside Caddy, restricted to one challenge.
func (s *site) certmagic(t testing.TB, method, directory string) *certmagic.Config {
	t.Helper()
	var cfg *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{RenewCheckInterval: time.Hour, Logger: zap.NewNop(), GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return cfg, nil }})
	t.Cleanup(cache.Stop)
	cfg = certmagic.New(cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: t.TempDir()}, Logger: zap.NewNop()})
	issuer := certmagic.ACMEIssuer{CA: directory, Email: "ops@site.example", Agreed: true, ListenHost: "127.0.0.1", AltHTTPPort: s.httpPort, AltTLSALPNPort: s.tlsPort,
		DisableHTTPChallenge: method != "http-01", DisableTLSALPNChallenge: method != "tls-alpn-01", Resolver: s.zone.addr, Logger: zap.NewNop()}
	if method == "dns-01" {
		issuer.DNS01Solver = &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{DNSProvider: s.zone, Resolvers: []string{s.zone.addr}, PropagationTimeout: -1, Logger: zap.NewNop()}}
	}
	cfg.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(cfg, issuer)}
	return cfg
}

// magic reads the certificate that certmagic keeps for a name.
func magic(t testing.TB, cfg *certmagic.Config, name string) *x509.Certificate {
	t.Helper()
	issuer := cfg.Issuers[0].(*certmagic.ACMEIssuer)
	text, err := cfg.Storage.Load(t.Context(), certmagic.StorageKeys.SiteCert(issuer.IssuerKey(), name))
	ok(t, err)
	return parseChain(t, text)
}

// TestCertMagic obtains, renews and revokes over each challenge.
func TestCertMagic(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for method, name := range map[string]string{"http-01": "h.site.example", "tls-alpn-01": "t.site.example", "dns-01": "*.d.site.example"} {
		t.Run(method, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), clientTime)
			defer cancel()
			cfg := s.certmagic(t, method, s.base+"/acme/directory")
			ok(t, cfg.ObtainCertSync(ctx, name))
			first := magic(t, cfg, name)
			ok(t, cfg.RenewCertSync(ctx, name, true))
			second := magic(t, cfg, name)
			if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
				t.Fatal("the renewal gave the same certificate")
			}
			ok(t, cfg.RevokeCert(ctx, name, int(bulkhead.Superseded), false))
			s.wantState(t, second, bulkhead.Revoked)
			serial, err := bulkhead.SerialFromBig(first.SerialNumber)
			ok(t, err)
			row, _, err := s.store.Certificate(ctx, bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial})
			ok(t, err)
			if row.ReplacedBy.Serial.Big().Cmp(second.SerialNumber) != 0 {
				t.Errorf("the renewal did not say what it replaces (RFC 9773): %+v", row.ReplacedBy)
			}
		})
	}
}

// hostile stands in front of the server as Pebble does: it rejects the nonces of some POSTs before the server sees
// them. Never two in a row, because certbot tries again once.
type hostile struct {
	server *httptest.Server

	mu       sync.Mutex
	rng      *rand.Rand
	spared   int // POSTs since the last rejection
	rejected int
}

func newHostile(t testing.TB, base string, share float64, seed uint64) *hostile {
	t.Helper()
	to, err := url.Parse(base)
	ok(t, err)
	h := &hostile{rng: rand.New(rand.NewPCG(seed, 1))}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !h.rejects(share) {
			proxy.ServeHTTP(w, r)
			return
		}
		resp, err := http.Head(base + "/acme/new-nonce")
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = resp.Body.Close()
		w.Header().Set("Replay-Nonce", resp.Header.Get("Replay-Nonce"))
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:badNonce","detail":"rejected by the test","status":400}`)
	}))
	t.Cleanup(h.server.Close)
	return h
}

func (h *hostile) rejects(share float64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.spared++; h.spared == 1 || h.spared < 6 && h.rng.Float64() >= share { // six in peace would be too kind
		return false
	}
	h.spared = 0
	h.rejected++
	return true
}

func (h *hostile) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rejected
}

// TestNonceRejectionIsSurvived: 15 % of the nonces of each client are rejected at random, and it gets its certificate.
func TestNonceRejectionIsSurvived(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	clients := map[string]func(t *testing.T, directory string){
		"certbot": func(t *testing.T, directory string) { s.certbot(t, directory) },
		"lego": func(t *testing.T, directory string) {
			s.lego(t, t.TempDir(), directory, append(s.legoChallenge("http-01"), "--domains", "h.site.example", "run")...)
		},
		"certmagic": func(t *testing.T, directory string) {
			ok(t, s.certmagic(t, "http-01", directory).ObtainCertSync(t.Context(), "h.site.example"))
		},
		"acmez":    s.acmezThrough,
		"x/crypto": s.xcryptoThrough,
	}
	for name, obtain := range clients {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, s.base, 0.15, 5)
			before := s.leaves()
			obtain(t, h.server.URL+"/acme/directory")
			if h.count() == 0 || s.leaves() == before {
				t.Errorf("%d nonces were rejected, %d leaves of evidence were written", h.count(), s.leaves()-before)
			}
		})
	}
}

func (s *site) certbot(t testing.TB, directory string) {
	t.Helper()
	program, err := exec.LookPath("certbot")
	if err != nil {
		t.Fatal("certbot is needed for this test: apt-get install certbot")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email", "--server", directory,
		"--config-dir", dir, "--work-dir", dir+"/work", "--logs-dir", dir+"/logs", "--standalone", "--http-01-address", "127.0.0.1",
		"--http-01-port", strconv.Itoa(s.httpPort), "-d", "h.site.example").CombinedOutput()
	if err != nil {
		t.Fatalf("certbot: %v\n%s", err, out)
	}
}

// dnsSolver answers acmez's dns-01 challenges in the zone.
type dnsSolver struct{ *zone }

func (d dnsSolver) Present(_ context.Context, c acme.Challenge) error {
	d.add(c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	return nil
}

func (d dnsSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	d.remove(c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	return nil
}

func (s *site) acmezThrough(t *testing.T, directory string) {
	c := s.acmez("dns-01", "")
	c.Client.Directory, c.ChallengeSolvers["dns-01"] = directory, dnsSolver{s.zone}
	outer := s.t
	s.t = t
	defer func() { s.t = outer }()
	s.obtain(c, s.acmezAccount(c), newKey(t), nil, "z.site.example", "*.z.site.example")
}

// TestACMEZOverDNS obtains, renews and revokes a name and its wildcard.
func TestACMEZOverDNS(t *testing.T) {
	s := newSite(t)
	c := s.acmez("dns-01", "/acme/directory")
	c.ChallengeSolvers["dns-01"] = dnsSolver{s.zone}
	a := s.acmezAccount(c)
	cert := s.obtain(c, a, newKey(t), nil, "z.site.example", "*.z.site.example")
	next := s.obtain(c, a, newKey(t), nil, "z.site.example", "*.z.site.example")
	ok(t, c.RevokeCertificate(t.Context(), a, cert, nil, acme.ReasonSuperseded))
	s.wantState(t, cert, bulkhead.Revoked)
	s.wantState(t, next, bulkhead.Issued)
}

func (s *site) xcryptoThrough(t *testing.T, directory string) {
	s.xcrypto(t, directory, "dns-01", "x.site.example")
}

// xcrypto obtains with golang.org/x/crypto/acme and returns client and certificate.
func (s *site) xcrypto(t testing.TB, directory, method, name string) (*goacme.Client, []byte) {
	t.Helper()
	ctx := t.Context()
	c := &goacme.Client{Key: newKey(t), DirectoryURL: directory, RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return time.Millisecond }}
	_, err := c.Register(ctx, &goacme.Account{}, goacme.AcceptTOS)
	ok(t, err)
	o, err := c.AuthorizeOrder(ctx, goacme.DomainIDs(name))
	ok(t, err)
	z, err := c.GetAuthorization(ctx, o.AuthzURLs[0])
	ok(t, err)
	for _, ch := range z.Challenges {
		if ch.Type != method {
			continue
		}
		s.present(t, c, ch, z.Identifier.Value)
		_, err = c.Accept(ctx, ch)
		ok(t, err)
	}
	_, err = c.WaitAuthorization(ctx, z.URI)
	ok(t, err)
	o, err = c.WaitOrder(ctx, o.URI)
	ok(t, err)
	chain, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csr(t, newKey(t), name), true)
	ok(t, err)
	return c, chain[0]
}

// present answers a challenge of x/crypto/acme on the site's ports or in its zone.
func (s *site) present(t testing.TB, c *goacme.Client, ch *goacme.Challenge, name string) {
	t.Helper()
	switch ch.Type {
	case "dns-01":
		text, err := c.DNS01ChallengeRecord(ch.Token)
		ok(t, err)
		s.zone.add("_acme-challenge."+name, text)
	case "tls-alpn-01":
		cert, err := c.TLSALPN01ChallengeCert(ch.Token, name)
		ok(t, err)
		s.serveTLS(t, &cert)
	case "http-01":
		answer, err := c.HTTP01ChallengeResponse(ch.Token)
		ok(t, err)
		s.serveHTTP(t, c.HTTP01ChallengePath(ch.Token), answer)
	default:
		t.Fatalf("no answer to %s", ch.Type)
	}
}

// TestXCryptoChallenges obtains, renews and revokes over each challenge.
func TestXCryptoChallenges(t *testing.T) {
	for _, method := range []string{"http-01", "dns-01", "tls-alpn-01"} {
		t.Run(method, func(t *testing.T) {
			s := newSite(t)
			c, der := s.xcrypto(t, s.base+"/acme/directory", method, "x.site.example")
			// The renewal rests on the same validation: the order is ready at once.
			o, err := c.AuthorizeOrder(t.Context(), goacme.DomainIDs("x.site.example"))
			ok(t, err)
			if o.Status != goacme.StatusReady {
				t.Fatalf("the renewal's order is %s", o.Status)
			}
			chain, _, err := c.CreateOrderCert(t.Context(), o.FinalizeURL, csr(t, newKey(t), "x.site.example"), true)
			ok(t, err)
			ok(t, c.RevokeCert(t.Context(), nil, der, goacme.CRLReasonSuperseded))
			for der, want := range map[string]bulkhead.CertificateState{string(der): bulkhead.Revoked, string(chain[0]): bulkhead.Issued} {
				x, err := x509.ParseCertificate([]byte(der))
				ok(t, err)
				s.wantState(t, x, want)
			}
		})
	}
}
