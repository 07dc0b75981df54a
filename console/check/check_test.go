package check_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console/check"
	"bulkhead/store/sqlite"
)

// looker sees what the test says.
type looker struct {
	reason bulkhead.LookReason
	err    error
	looks  atomic.Int32
	wait   chan struct{}
}

func (l *looker) Host(target string) (string, error) {
	if strings.Contains(target, " ") {
		return "", bulkhead.NewFault(bulkhead.KindUsage, "no host")
	}
	return target, nil
}

func (l *looker) Check(_ context.Context, target string) (bulkhead.CheckResult, error) {
	l.looks.Add(1)
	if l.wait != nil {
		<-l.wait
	}
	if l.err != nil {
		return bulkhead.CheckResult{}, l.err
	}
	v := bulkhead.LookReasons[l.reason]
	return bulkhead.CheckResult{Target: target, Host: target, Verdict: v, Reason: l.reason, Detail: "seen so", At: time.Unix(1_400_000_000, 0), Looks: []bulkhead.CheckedLook{
		{Look: bulkhead.Look{Endpoint: bulkhead.Endpoint{Host: target, Address: netip.MustParseAddr("192.0.2.1"), Port: 443}, Verdict: v, Reason: l.reason, Detail: "seen so"}}}}, nil
}

type site struct {
	*httptest.Server
	now    atomic.Int64
	client *http.Client
}

func serve(t *testing.T, l *looker, change ...func(*check.Config)) *site {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "c.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	x := &site{client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	x.now.Store(1_400_000_000)
	cfg := check.Config{Looker: l, Store: s, Limits: s, House: "Example CA", Now: func() time.Time { return time.Unix(x.now.Load(), 0) }}
	for _, f := range change {
		f(&cfg)
	}
	h, err := check.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	x.Server = httptest.NewServer(h)
	t.Cleanup(x.Close)
	return x
}

func (s *site) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

const formType = "application/x-www-form-urlencoded"

// TestPage is the way of a stranger: form, look, a result to share, until it ends.
func TestPage(t *testing.T) {
	l := &looker{reason: bulkhead.ReasonOverread}
	s := serve(t, l)
	res, body := s.ask(t, "GET", "/check/", "", "Accept-Language", "ja-JP,en;q=0.1")
	if res.StatusCode != 200 || !strings.Contains(body, `<html lang="ja">`) || !strings.Contains(body, "確認する") || l.looks.Load() != 0 {
		t.Fatal(res.Status, body)
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(body, "<script") {
		t.Error(csp)
	}
	res, _ = s.ask(t, "POST", "/check/?lang=en", "target=www.example.com", "Content-Type", formType)
	at := res.Header.Get("Location")
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(at, "/check/r/") {
		t.Fatal(res.Status, at)
	}
	res, body = s.ask(t, "GET", at, "")
	if res.StatusCode != 200 || !strings.Contains(body, `data-verdict="vulnerable"`) || !strings.Contains(body, "Make a new private key") || res.Header.Get("X-Robots-Tag") != "noindex" {
		t.Fatal(res.Status, body)
	}
	res, body = s.ask(t, "GET", at, "", "Accept", "application/json")
	var doc bulkhead.CheckResult
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Verdict != bulkhead.Vulnerable || doc.ExpiresAt.Unix() != 1_400_000_000+7*86400 {
		t.Fatal(res.Status, body, err)
	}
	if res, body = s.ask(t, "GET", "/check/r/AAAAAAAAAAAAAAAAAAAAAA?lang=ja", ""); res.StatusCode != 404 || !strings.Contains(body, "公開期限") {
		t.Error(res.Status, body)
	}
	s.now.Add(7 * 86400)
	if res, _ = s.ask(t, "GET", at, ""); res.StatusCode != 404 {
		t.Error("an expired result is shown")
	}
	if res, _ = s.ask(t, "GET", "/check/?target=www.example.com", ""); res.StatusCode != http.StatusSeeOther {
		t.Error(res.Status)
	}
}

// TestEscapes: what a stranger writes is text.
func TestEscapes(t *testing.T) {
	s := serve(t, &looker{reason: bulkhead.ReasonNoHello})
	_, body := s.ask(t, "POST", "/check/", "target="+url.QueryEscape(`"><script>alert(1)</script> x`), "Content-Type", formType)
	if strings.Contains(body, "<script") {
		t.Error(body)
	}
	res, _ := s.ask(t, "POST", "/check/", "target="+url.QueryEscape(`"><script>alert(1)</script>`), "Content-Type", formType)
	_, body = s.ask(t, "GET", res.Header.Get("Location"), "")
	if strings.Contains(body, "<script") || !strings.Contains(body, "not an all-clear") {
		t.Error(body)
	}
}

// TestLimits: one asker, one host, everybody, and looks under way are limited; what is refused looks at nothing.
func TestLimits(t *testing.T) {
	for name, c := range map[string]func(*check.Config){
		"source": func(c *check.Config) { c.Source = check.RateLimit{Burst: 2, Hourly: 60} },
		"target": func(c *check.Config) { c.Target = check.RateLimit{Burst: 2, Hourly: 60} },
		"all":    func(c *check.Config) { c.All = check.RateLimit{Burst: 2, Hourly: 60} },
	} {
		l := &looker{reason: bulkhead.ReasonDiscarded}
		s := serve(t, l, c)
		for i, want := range []int{200, 200, 429, 429} {
			res, body := s.ask(t, "POST", "/api/v1/check", `{"target":"www.example.com"}`)
			if res.StatusCode != want || want == 429 && (res.Header.Get("Retry-After") == "" || !strings.Contains(body, "rateLimited")) {
				t.Errorf("%s %d: %s %s", name, i, res.Status, body)
			}
		}
		if l.looks.Load() != 2 {
			t.Errorf("%s: %d looks", name, l.looks.Load())
		}
		if name == "target" {
			if res, _ := s.ask(t, "GET", "/api/v1/check?target=other.example.com", ""); res.StatusCode != 200 {
				t.Error("another host is limited, too")
			}
		}
		s.now.Add(120)
		if res, _ := s.ask(t, "POST", "/check/", "target=www.example.com", "Content-Type", formType); res.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: %s later", name, res.Status)
		}
	}
	l := &looker{reason: bulkhead.ReasonDiscarded, wait: make(chan struct{})}
	s := serve(t, l, func(c *check.Config) { c.Flying = 1 })
	done := make(chan int)
	go func() {
		res, err := http.Get(s.URL + "/api/v1/check?target=a.example.com")
		if err != nil {
			done <- 0
			return
		}
		res.Body.Close()
		done <- res.StatusCode
	}()
	for l.looks.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if res, _ := s.ask(t, "GET", "/api/v1/check?target=b.example.com", ""); res.StatusCode != 503 {
		t.Error(res.Status)
	}
	close(l.wait)
	if code := <-done; code != 200 {
		t.Error(code)
	}
}

// TestRefusals: each kind has its code and its words in both languages; our own trouble is not shown.
func TestRefusals(t *testing.T) {
	for kind, want := range map[bulkhead.Kind]int{bulkhead.KindForbidden: 403, bulkhead.KindUsage: 400, bulkhead.KindInternal: 500, bulkhead.KindUnavailable: 503} {
		s := serve(t, &looker{err: bulkhead.NewFault(kind, "secret of ours")})
		for _, lang := range []string{"en", "ja"} {
			res, body := s.ask(t, "POST", "/check/?lang="+lang, "target=a.test", "Content-Type", formType)
			if res.StatusCode != want || !strings.Contains(body, `role="alert"`) || strings.Contains(body, "secret of ours") {
				t.Errorf("%s: %s %s", kind, res.Status, body)
			}
		}
	}
	s := serve(t, &looker{reason: bulkhead.ReasonDiscarded})
	for _, c := range [][3]string{{"POST", "/api/v1/check", "x"}, {"POST", "/api/v1/check", `{"target":"a","more":1}`}, {"POST", "/api/v1/check", `{}`}, {"POST", "/api/v1/check", `{"target":"` + strings.Repeat("a", 9000) + `"}`}} {
		if res, body := s.ask(t, c[0], c[1], c[2]); res.StatusCode != 400 || !strings.Contains(res.Header.Get("Content-Type"), "problem+json") {
			t.Errorf("%v: %s %s", c, res.Status, body)
		}
	}
	if res, body := s.ask(t, "GET", "/check/style.css", ""); res.StatusCode != 200 || !strings.Contains(body, "--ink") {
		t.Error(res.Status)
	}
}
