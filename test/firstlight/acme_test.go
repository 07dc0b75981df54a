package firstlight

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	goacme "golang.org/x/crypto/acme"
)

// state is what `cert show` says of a certificate.
func (h *house) state(x *x509.Certificate) (state, reason string) {
	h.t.Helper()
	var v struct{ State, Reason string }
	h.query(&v, "cert", "show", newPaper(h.t, x, x).leafFile)
	return v.State, v.Reason
}

// TestCertbot obtains, renews and revokes with Debian's certbot over http-01, by account and by key.
func TestCertbot(t *testing.T) {
	h, n := shared(t)
	n.host(t, "127.0.0.2", "certbot.example.com", "www.certbot.example.com") // certbot has the port on an address of its own
	t.Setenv("REQUESTS_CA_BUNDLE", h.ready.TrustAnchor)
	dir := t.TempDir()
	certbot := func(args ...string) {
		t.Helper()
		args = append(args, "--non-interactive", "--server", h.ready.ACMEDirectory, "--config-dir", dir, "--work-dir", filepath.Join(dir, "work"), "--logs-dir", filepath.Join(dir, "logs"))
		if out, err := tool(t, "certbot", "certbot", args...); err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "logs", "letsencrypt.log"))
			t.Fatalf("certbot %v: %v\n%s\n%s", args, err, out, log)
		}
	}
	live := filepath.Join(dir, "live", "certbot.example.com")
	certbot("certonly", "--standalone", "--http-01-address", "127.0.0.2", "--http-01-port", strconv.Itoa(n.httpPort), "--agree-tos",
		"--register-unsafely-without-email", "-d", "certbot.example.com", "-d", "www.certbot.example.com")
	first := certificates(t, filepath.Join(live, "fullchain.pem"))
	certbot("renew", "--force-renewal", "--no-random-sleep-on-renew")
	second := certificates(t, filepath.Join(live, "fullchain.pem"))
	if first[0].Equal(second[0]) || len(second) != 2 || len(second[0].DNSNames) != 2 {
		t.Fatalf("renewed %v with a chain of %d", second[0].DNSNames, len(second))
	}
	if _, err := second[0].Verify(x509.VerifyOptions{DNSName: "www.certbot.example.com", Roots: h.roots, Intermediates: poolOf(second[1])}); err != nil {
		t.Error(err)
	}
	certbot("revoke", "--cert-path", filepath.Join(live, "cert.pem"), "--reason", "superseded", "--no-delete-after-revoke")
	newPaper(t, second[0], second[1]).awaitRevoked(t)
	if s, r := h.state(second[0]); s != "revoked" || r != "superseded" {
		t.Errorf("by account: %s, %s", s, r)
	}
	archive := filepath.Join(dir, "archive", "certbot.example.com")
	certbot("revoke", "--cert-path", filepath.Join(archive, "cert1.pem"), "--key-path", filepath.Join(archive, "privkey1.pem"), "--reason", "keycompromise", "--no-delete-after-revoke")
	newPaper(t, first[0], first[1]).awaitRevoked(t)
	if s, r := h.state(first[0]); s != "revoked" || r != "keyCompromise" {
		t.Errorf("by key: %s, %s", s, r)
	}
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return k
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	return k
}

// subscriber is an ACME account with acmez, as Caddy has it.
type subscriber struct {
	*acmez.Client
	account acme.Account
	t       testing.TB
}

func (h *house) subscriber(n *internet, challenge string, key crypto.Signer) *subscriber {
	h.t.Helper()
	c := &acmez.Client{Client: &acme.Client{Directory: h.ready.ACMEDirectory, HTTPClient: h.client, PollInterval: 100 * time.Millisecond},
		ChallengeSolvers: n.solvers(challenge)}
	a, err := c.NewAccount(h.t.Context(), acme.Account{PrivateKey: key, TermsOfServiceAgreed: true, Contact: []string{"mailto:ops@site.example.com"}})
	ok(h.t, err)
	return &subscriber{c, a, h.t}
}

// obtain gets a certificate and its issuer's.
func (s *subscriber) obtain(key crypto.Signer, change func(*acmez.OrderParameters), names ...string) (paper, error) {
	s.t.Helper()
	csr, err := acmez.NewCSR(key, names)
	ok(s.t, err)
	params, err := acmez.OrderParametersFromCSR(s.account, csr)
	ok(s.t, err)
	if change != nil {
		change(&params)
	}
	got, err := s.ObtainCertificate(s.t.Context(), params)
	if err != nil {
		return paper{}, err
	}
	chain := parse(s.t, got[0].ChainPEM)
	if len(chain) != 2 {
		s.t.Fatalf("%d certificates in the chain", len(chain))
	}
	return newPaper(s.t, chain[0], chain[1]), nil
}

// wantProblem holds an error of acmez against a problem type. The problem of an order reaches us as text only.
func wantProblem(t testing.TB, err error, name string) {
	t.Helper()
	var p acme.Problem
	if err == nil || !(errors.As(err, &p) && strings.HasSuffix(p.Type, ":"+name)) && !strings.Contains(err.Error(), "acme:error:"+name+" ") {
		t.Errorf("got %v (%T), want %s", err, err, name)
	}
}

// TestACMEZ obtains by each challenge, renews with ARI and revokes.
func TestACMEZ(t *testing.T) {
	for challenge, account := range map[string]crypto.Signer{"http-01": ecKey(t), "dns-01": rsaKey(t), "tls-alpn-01": ecKey(t)} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			h, n := shared(t)
			name := strings.ReplaceAll(challenge, "-", "") + ".acmez.example.com"
			n.host(t, "127.0.0.1", name)
			names := []string{name}
			if challenge == "dns-01" {
				names = append(names, "*."+name)
			}
			s := h.subscriber(n, challenge, account)
			key := ecKey(t)
			first, err := s.obtain(key, nil, names...)
			ok(t, err)
			if len(first.leaf.DNSNames) != len(names) {
				t.Errorf("names %v, want %v", first.leaf.DNSNames, names)
			}
			info, err := s.GetRenewalInfo(t.Context(), first.leaf)
			ok(t, err)
			if w := info.SuggestedWindow; !w.Start.After(first.leaf.NotBefore) || !w.Start.Before(w.End) || !w.End.Before(first.leaf.NotAfter) || info.RetryAfter == nil {
				t.Errorf("renewal window %s to %s, retry %v", w.Start, w.End, info.RetryAfter)
			}
			replacing := func(p *acmez.OrderParameters) { p.Replaces = first.leaf }
			second, err := s.obtain(ecKey(t), replacing, names...)
			ok(t, err)
			_, err = s.NewOrder(t.Context(), s.account, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: name}}, Replaces: ariID(t, first.leaf)})
			wantProblem(t, err, "alreadyReplaced")
			second.awaitGood(t)
			ok(t, s.RevokeCertificate(t.Context(), s.account, second.leaf, nil, acme.ReasonCessationOfOperation))
			second.awaitRevoked(t)
			wantProblem(t, s.RevokeCertificate(t.Context(), s.account, second.leaf, nil, acme.ReasonSuperseded), "alreadyRevoked")
			ok(t, s.RevokeCertificate(t.Context(), s.account, first.leaf, key, acme.ReasonKeyCompromise))
			first.awaitRevoked(t)
			if info, err = s.GetRenewalInfo(t.Context(), first.leaf); err != nil || info.SuggestedWindow.End.After(time.Now()) {
				t.Errorf("revoked, and to be renewed by %s: %v", info.SuggestedWindow.End, err)
			}
		})
	}
}

func ariID(t testing.TB, x *x509.Certificate) string {
	t.Helper()
	id, err := acme.ARIUniqueIdentifier(x)
	ok(t, err)
	return id
}

// TestXCrypto obtains and revokes with golang.org/x/crypto/acme, with ECDSA and RSA account keys.
func TestXCrypto(t *testing.T) {
	for kind, account := range map[string]crypto.Signer{"ecdsa": ecKey(t), "rsa": rsaKey(t)} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h, n := shared(t)
			ctx, name := t.Context(), kind+".xcrypto.example.com"
			n.host(t, "127.0.0.1", name)
			c := &goacme.Client{Key: account, DirectoryURL: h.ready.ACMEDirectory, HTTPClient: h.client}
			_, err := c.Register(ctx, &goacme.Account{}, goacme.AcceptTOS)
			ok(t, err)
			o, err := c.AuthorizeOrder(ctx, append(goacme.DomainIDs(name), goacme.IPIDs("127.0.0.1")...))
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
					n.put(c.HTTP01ChallengePath(ch.Token), body)
					_, err = c.Accept(ctx, ch)
					ok(t, err)
				}
				_, err = c.WaitAuthorization(ctx, u)
				ok(t, err)
			}
			o, err = c.WaitOrder(ctx, o.URI)
			ok(t, err)
			key := rsaKey(t)
			csr, err := acmez.NewCSR(key, []string{name, "127.0.0.1"})
			ok(t, err)
			chain, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csr.Raw, true)
			ok(t, err)
			leaf, err := x509.ParseCertificate(chain[0])
			ok(t, err)
			issuer, err := x509.ParseCertificate(chain[1])
			ok(t, err)
			if len(leaf.IPAddresses) != 1 || leaf.DNSNames[0] != name {
				t.Errorf("%v %v", leaf.DNSNames, leaf.IPAddresses)
			}
			ok(t, c.RevokeCert(ctx, key, chain[0], goacme.CRLReasonUnspecified))
			newPaper(t, leaf, issuer).awaitRevoked(t)
		})
	}
}

// TestDirectories: profiles and issuers have directories of their own; what does not exist has none.
func TestDirectories(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	for path, want := range map[string]int{"tls-server-short": 200, "issuing-rsa2048": 200, "nothing": 404, "root": 404, "infrastructure": 404} {
		res, err := h.client.Get(strings.Replace(h.ready.ACMEDirectory, "/directory", "/"+path+"/directory", 1))
		ok(t, err)
		_ = res.Body.Close()
		if res.StatusCode != want || want == 404 && res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s, %s", path, res.Status, res.Header.Get("Content-Type"))
		}
	}
	res, err := h.client.Get(h.ready.API + "/certificates")
	ok(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API answers a stranger with %s", res.Status)
	}
}
