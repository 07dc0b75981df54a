package signin_test

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console/signin"
	"bulkhead/internal/heldport"
	"bulkhead/run"
)

// provider builds and starts a genuine OpenID provider, the one that its library's makers ship as an example. It knows two
// people, id1 (test-user@localhost) and id2 (test-user2), and the clients "web" and "api".
func provider(t testing.TB, redirect string) (issuer string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "op")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/zitadel/oidc/v3/example/server")
	build.Dir, build.Env = filepath.Join("..", "..", "tools"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build of the OpenID provider: %v: %s", err, out)
	}
	port := strconv.Itoa(int(heldport.For(t).Port()))
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "PORT="+port, "REDIRECT_URI="+redirect)
	ok(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	issuer = "http://localhost:" + port + "/"
	client := &http.Client{Timeout: 5 * time.Second}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get(issuer + ".well-known/openid-configuration")
		if err == nil {
			res.Body.Close()
			return issuer
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

var formID = regexp.MustCompile(`name="id" value="([^"]*)"`)

// logIn goes to the provider with a browser and gives a name and a password there. It returns where the provider sends the
// browser in the end.
func logIn(t testing.TB, c *http.Client, to, name string) *http.Response {
	t.Helper()
	res, err := c.Get(to)
	ok(t, err)
	page, err := io.ReadAll(res.Body)
	res.Body.Close()
	ok(t, err)
	id := formID.FindSubmatch(page)
	if id == nil {
		t.Fatalf("the provider shows no form: %d %s", res.StatusCode, page)
	}
	action := res.Request.URL.ResolveReference(&url.URL{Path: "/login/username"})
	res, err = c.PostForm(action.String(), url.Values{"username": {name}, "password": {"verysecure"}, "id": {html.UnescapeString(string(id[1]))}})
	ok(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// TestOIDC signs in at a genuine provider with a house that its configuration file tells of it.
func TestOIDC(t *testing.T) {
	t.Parallel()
	port := strconv.Itoa(int(heldport.For(t).Port()))
	issuer := provider(t, "https://localhost:"+port+"/signin/oidc/callback")
	h := newHouse(t, func(c *run.Config) {
		c.Listen = "127.0.0.1:" + port
		c.SignIn.OIDC = &run.SignInOIDC{Issuer: issuer, ClientID: "web", ClientSecretFile: "oidc.secret", Claim: "sub", People: map[string]string{"id1": "operator-1"}}
	})
	c := h.browser()
	res := logIn(t, c, h.site+"/signin/oidc", "test-user@localhost")
	page, err := io.ReadAll(res.Body)
	ok(t, err)
	if res.StatusCode != http.StatusOK || !bytes.Contains(page, []byte("Signed in as operator-1")) {
		t.Fatalf("%d %s", res.StatusCode, page)
	}
	v := must[signin.SessionView](h, c, http.MethodGet, "/signin/session", nil)
	if v.Operator != "operator-1" || v.Method != signin.MethodOIDC {
		t.Errorf("%+v", v)
	}
	code, body := h.call(c, http.MethodPost, "/api/v1/accounts", map[string]any{})
	h.refused(code, body, bulkhead.KindForbidden, "proof of its page")
	if code, body = h.call(c, http.MethodPost, "/api/v1/accounts", map[string]any{}, signin.CSRFHeader, v.CSRF); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	// What the provider says approves nothing.
	r, err := h.Quorum.Propose(t.Context(), "operator.remove", map[string]any{"name": "x"}, "operator:operator-1", "x")
	if bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Fatalf("%v %v", r, err)
	}
	stop, err := h.Enroll.Stop(t.Context(), "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "a test"})
	ok(t, err)
	r, err = h.Quorum.Propose(t.Context(), "issuance.resume", map[string]string{"stop": stop.ID}, "operator:operator-1", "mended")
	ok(t, err)
	code, body = h.call(c, http.MethodPost, "/api/v1/approvals/"+r.ID, map[string]any{}, signin.CSRFHeader, v.CSRF)
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office")
	// Somebody whom the provider knows and the house does not.
	res = logIn(t, h.browser(), h.site+"/signin/oidc", "test-user2")
	page, err = io.ReadAll(res.Body)
	ok(t, err)
	if res.StatusCode != http.StatusForbidden || !bytes.Contains(page, []byte("is nobody here")) {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	must[map[string]bool](h, c, http.MethodPost, "/signin/out", map[string]any{}, signin.CSRFHeader, v.CSRF)
	if code, _ := h.call(c, http.MethodGet, "/signin/session", nil); code != http.StatusUnauthorized {
		t.Errorf("after signing out: %d", code)
	}
}

// wire changes what the house and the provider say to each other.
type wire struct {
	mu      sync.Mutex
	asked   func(*http.Request)
	changed func([]byte) []byte
}

func (w *wire) set(asked func(*http.Request), changed func([]byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked, w.changed = asked, changed
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	asked, changed := w.asked, w.changed
	w.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/token") {
		return http.DefaultTransport.RoundTrip(r)
	}
	if asked != nil {
		asked(r)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || changed == nil {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	body = changed(body)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return res, nil
}

// TestOIDCRefused has a genuine provider say things that are true, and that are not for this sign-in.
func TestOIDCRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	issuer := provider(t, h.site+"/signin/oidc/callback")
	w := &wire{}
	service := func(change func(*signin.OIDC)) *signin.Service {
		c := &signin.OIDC{Issuer: issuer, ClientID: "web", ClientSecret: "secret", People: map[string]string{"id1": "operator-1"}, HTTP: &http.Client{Timeout: 10 * time.Second, Transport: w}}
		if change != nil {
			change(c)
		}
		s, err := signin.New(signin.Config{Store: h.Store, Quorum: h.Quorum, Base: func() string { return h.site }, OIDC: c, Now: h.now, Log: slog.New(slog.DiscardHandler)})
		ok(t, err)
		return s
	}
	// through goes to the provider and back; bend may change the way there.
	through := func(s *signin.Service, bend func(url.Values)) (q url.Values, binder string) {
		t.Helper()
		to, binder, err := s.BeginOIDC(t.Context())
		ok(t, err)
		u, err := url.Parse(to)
		ok(t, err)
		if bend != nil {
			v := u.Query()
			bend(v)
			u.RawQuery = v.Encode()
		}
		jar, err := cookiejar.New(nil)
		ok(t, err)
		c := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if strings.HasPrefix(r.URL.String(), h.site) {
				return http.ErrUseLastResponse
			}
			return nil
		}}
		res := logIn(t, c, u.String(), "test-user@localhost")
		back, err := res.Location()
		ok(t, err)
		return back.Query(), binder
	}
	refused := func(err error, kind bulkhead.Kind, says string) {
		t.Helper()
		if bulkhead.KindOf(err) != kind || !strings.Contains(bulkhead.AsFault(err).Detail, says) || bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%v, want %s saying %q", err, kind, says)
		}
	}
	finish := func(s *signin.Service, q url.Values, binder string) error {
		_, _, err := s.FinishOIDC(t.Context(), q, binder)
		return err
	}
	s := service(nil)

	q, binder := through(s, nil)
	ok(t, finish(s, q, binder))
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "finished before")
	refused(finish(s, url.Values{"state": {"guess"}, "code": {"x"}}, binder), bulkhead.KindUnauthorized, "not begun here")
	q, _ = through(s, nil)
	refused(finish(s, q, "another browser's"), bulkhead.KindUnauthorized, "another browser")
	q, binder = through(s, func(v url.Values) { v.Set("nonce", "of another sign-in") })
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "another sign-in")
	q, binder = through(s, func(v url.Values) { v.Set("code_challenge", strings.Repeat("A", 43)) })
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "does not know this sign-in")
	q, binder = through(s, nil)
	q.Set("code", q.Get("code")+"x")
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "does not know this sign-in")

	// A token that the provider made for somebody else's client.
	w.set(func(r *http.Request) { r.SetBasicAuth("api", "secret") }, nil)
	q, binder = through(s, func(v url.Values) { v.Set("client_id", "api") })
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "audience")
	// One that ended while it was on its way.
	w.set(nil, func(b []byte) []byte { h.shift.Add(int64(25 * time.Hour)); return b })
	q, binder = through(s, nil)
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "ended at")
	h.shift.Store(0)
	// One that was changed.
	w.set(nil, func(b []byte) []byte {
		i := bytes.Index(b, []byte(`"id_token":"`)) + len(`"id_token":"`)
		end := i + bytes.IndexByte(b[i:], '"')
		out := slices.Clone(b)
		out[end-10] ^= 1
		return out
	})
	q, binder = through(s, nil)
	refused(finish(s, q, binder), bulkhead.KindUnauthorized, "does not count")
	w.set(nil, nil)

	for says, change := range map[string]func(*signin.OIDC){
		"is nobody here":    func(c *signin.OIDC) { c.People = map[string]string{"id9": "operator-1"} },
		"is not in office":  func(c *signin.OIDC) { c.People = map[string]string{"id1": "operator-9"} },
		"has no role here":  func(c *signin.OIDC) { c.RolesClaim, c.Roles = "amr", map[string]string{"hwk": "admin"} },
		"with one of [mfa]": func(c *signin.OIDC) { c.AMR = []string{"mfa"} },
		"has not verified":  func(c *signin.OIDC) { c.Claim = "email" },
		"\"\" at":           func(c *signin.OIDC) { c.Claim = "groups" },
	} {
		x := service(change)
		q, binder := through(x, nil)
		refused(finish(x, q, binder), bulkhead.KindForbidden, says)
	}
	// Roles of the provider narrow what the operator may do.
	x := service(func(c *signin.OIDC) { c.RolesClaim, c.Roles = "amr", map[string]string{"pwd": "auditor"} })
	q, binder = through(x, nil)
	token, session, err := x.FinishOIDC(t.Context(), q, binder)
	ok(t, err)
	if fmt.Sprint(session.Roles) != "[auditor]" {
		t.Errorf("roles %v", session.Roles)
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, h.site, nil)
	ok(t, err)
	r.AddCookie(&http.Cookie{Name: "__Host-bulkhead-session", Value: token})
	op, err := x.Authenticate(r)
	if err != nil || fmt.Sprint(op.Roles) != "[auditor]" {
		t.Errorf("%+v %v", op, err)
	}
	away := service(func(c *signin.OIDC) { c.Issuer = "http://" + heldport.For(t).String() + "/" })
	_, _, err = away.BeginOIDC(t.Context())
	refused(err, bulkhead.KindUnavailable, "does not answer")
	none, err := signin.New(signin.Config{Store: h.Store, Quorum: h.Quorum, Base: func() string { return h.site }})
	ok(t, err)
	_, _, err = none.BeginOIDC(t.Context())
	refused(err, bulkhead.KindNotFound, "no identity provider")
}
