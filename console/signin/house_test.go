package signin_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console/signin"
	"bulkhead/quorum"
	"bulkhead/run"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is a running house with its listeners on loopback. Its clock can be put forward.
type house struct {
	t     testing.TB
	dir   string
	site  string // https://localhost:PORT
	roots *x509.CertPool
	keys  [2]ed25519.PrivateKey // of the operators of the first start
	shift atomic.Int64
	run.Roles
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.shift.Load())) }

// newHouse starts a house; change sees its configuration first.
func newHouse(t testing.TB, change ...func(*run.Config)) *house {
	t.Helper()
	h := &house{t: t, dir: filepath.Join(t.TempDir(), "data")}
	cfg := run.DefaultConfig()
	cfg.Listen, cfg.StatusListen, cfg.MetricsListen, cfg.Resolver = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:1"
	for _, f := range change {
		f(&cfg)
	}
	_, err := run.FirstStart(t.Context(), h.dir, cfg, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(h.dir, "oidc.secret"), []byte("secret\n"), 0o600))
	cfg, err = run.LoadConfig(h.dir)
	ok(t, err)
	open, err := run.OpenWith(t.Context(), run.Options{Dir: h.dir, Config: cfg, Log: slog.New(slog.DiscardHandler), Version: "test", Now: h.now})
	ok(t, err)
	h.Roles = open.Roles()
	ctx, cancel := context.WithCancel(context.Background())
	ready, served := make(chan run.Ready, 1), make(chan error, 1)
	go func() { served <- open.Run(ctx, func(r run.Ready) error { ready <- r; return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := open.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case r := <-ready:
		h.site = strings.Replace(strings.TrimSuffix(r.API, "/api/v1"), "127.0.0.1", "localhost", 1)
	case err := <-served:
		served <- err
		t.Fatalf("run: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the house is not ready after a minute")
	}
	h.roots = x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(h.dir, "trust", "root.pem"))
	ok(t, err)
	h.roots.AppendCertsFromPEM(pem)
	for i, path := range []string{filepath.Join(h.dir, "operator", "operator-1.key"), filepath.Join(run.RootDir(h.dir), "operator-2.key")} {
		text, err := os.ReadFile(path)
		ok(t, err)
		h.keys[i], err = quorum.ParseKey(text)
		ok(t, err)
	}
	return h
}

// browser is a client with cookies, which follows redirects.
func (h *house) browser() *http.Client {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	ok(h.t, err)
	return &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}}}
}

// problem is a refusal.
type problem struct {
	Status              int
	Title, Detail, Hint string
}

// call sends a request as the page would, or as somebody else; header pairs follow. It returns the status and the answer.
func (h *house) call(c *http.Client, method, path string, in any, header ...string) (int, []byte) {
	h.t.Helper()
	var body []byte
	if in != nil {
		var err error
		body, err = json.Marshal(in)
		ok(h.t, err)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.site+path, bytes.NewReader(body))
	ok(h.t, err)
	r.Header.Set("Origin", h.site)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(r)
	ok(h.t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	ok(h.t, err)
	return res.StatusCode, answer
}

// must is call that has to work.
func must[T any](h *house, c *http.Client, method, path string, in any, header ...string) T {
	h.t.Helper()
	code, body := h.call(c, method, path, in, header...)
	var v T
	if code != http.StatusOK || json.Unmarshal(body, &v) != nil {
		h.t.Fatalf("%s %s: %d %s", method, path, code, body)
	}
	return v
}

// refused wants a typed fault.
func (h *house) refused(code int, body []byte, kind bulkhead.Kind, says string) {
	h.t.Helper()
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || p.Title != string(kind) || !strings.Contains(p.Detail, says) || p.Hint == "" {
		h.t.Errorf("%d %s, want %s saying %q with a hint", code, body, kind, says)
	}
}

// operator calls the API signed by a key file.
func (h *house) operator(key ed25519.PrivateKey, method, path string, in any) (int, []byte) {
	h.t.Helper()
	body := []byte(nil)
	if in != nil {
		var err error
		body, err = json.Marshal(in)
		ok(h.t, err)
	}
	sig, err := quorum.SignRequest(key, method, path, body, h.now(), rand.Text())
	ok(h.t, err)
	return h.call(&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}}}, method, path, in, "Authorization", sig)
}

// sign approves a request with key files.
func (h *house) sign(id string, keys ...ed25519.PrivateKey) bulkhead.ApprovalRequest {
	h.t.Helper()
	var r bulkhead.ApprovalRequest
	for _, k := range keys {
		q, err := h.Quorum.Request(h.t.Context(), id)
		ok(h.t, err)
		r, err = h.Quorum.Approve(h.t.Context(), id, bulkhead.Digest(k.Public().(ed25519.PublicKey)), quorum.SignApproval(k, q))
		ok(h.t, err)
	}
	return r
}

// invite gives the token of an invitation's link.
func (h *house) invite(name string, roles ...string) string {
	h.t.Helper()
	code, body := h.operator(h.keys[0], http.MethodPost, "/api/v1/operators/"+name+"/invitation", map[string]any{"roles": roles})
	var v struct{ Link string }
	if code != http.StatusOK || json.Unmarshal(body, &v) != nil {
		h.t.Fatalf("invitation: %d %s", code, body)
	}
	before, token, found := strings.Cut(v.Link, "#")
	if !found || before != h.site+"/signin/register" {
		h.t.Fatalf("the link is %s", v.Link)
	}
	return token
}

// begun is a challenge as the page gets it.
type begun struct {
	ID        string `json:"id"`
	PublicKey struct {
		Challenge string `json:"challenge"`
	} `json:"public_key"`
	Operator string `json:"operator"`
	New      bool   `json:"new"`
}

// register goes the page's way with a key, up to the request that the quorum has to approve.
func (h *house) register(token string, k *securityKey) string {
	h.t.Helper()
	c := h.browser()
	b := must[begun](h, c, http.MethodPost, "/signin/register/begin", map[string]string{"token": token})
	got := must[struct{ Request string }](h, c, http.MethodPost, "/signin/register/finish", map[string]any{"token": token, "id": b.ID, "label": "blue", "response": k.create(b.PublicKey.Challenge)})
	return got.Request
}

// bound is a security key of an operator, approved by both of the first start.
func (h *house) bound(name string, roles ...string) *securityKey {
	h.t.Helper()
	k := newSecurityKey(h.t, h.site)
	k.handle = handleOf(name)
	if r := h.sign(h.register(h.invite(name, roles...), k), h.keys[:]...); r.State != bulkhead.RequestExecuted {
		h.t.Fatalf("the request for the key is %s", r.State)
	}
	return k
}

// signIn goes the page's way with a key; spoil may change the answer of the key.
func (h *house) signIn(c *http.Client, k *securityKey, spoil ...func(*touch)) (int, []byte) {
	h.t.Helper()
	b := must[begun](h, c, http.MethodPost, "/signin/key/begin", map[string]string{})
	return h.call(c, http.MethodPost, "/signin/key/finish", map[string]any{"id": b.ID, "response": k.get(b.PublicKey.Challenge, spoil...)})
}

// signedIn is a browser in which the owner of a key is signed in, and the proof of its page.
func (h *house) signedIn(k *securityKey) (*http.Client, string) {
	h.t.Helper()
	c := h.browser()
	if code, body := h.signIn(c, k); code != http.StatusOK {
		h.t.Fatalf("sign-in: %d %s", code, body)
	}
	return c, must[signin.SessionView](h, c, http.MethodGet, "/signin/session", nil).CSRF
}

func parse(t testing.TB, site string) *url.URL {
	t.Helper()
	u, err := url.Parse(site)
	ok(t, err)
	return u
}

// alarmed reports whether a critical alarm of the quorum's detector says something.
func (h *house) alarmed(says string) bool {
	h.t.Helper()
	all, err := h.Store.AlarmsOf(h.t.Context(), quorum.Detector, 100)
	ok(h.t, err)
	for _, a := range all {
		if a.Severity == bulkhead.Critical && strings.Contains(a.Message, says) {
			return true
		}
	}
	return false
}
