package caches

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/heldport"

	"bulkhead"
)

// seen is one request as a cache received it.
type seen struct {
	method, target, host, body string
	header                     http.Header
	at                         time.Time
}

// recorder is a server that remembers and answers with a code.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	all  []seen
	code int
}

func record(t testing.TB, code int) *recorder {
	r := &recorder{code: code}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, seen{q.Method, q.RequestURI, q.Host, string(body), q.Header, time.Now()})
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(r.code)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) requests() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func out(sequence uint64) func(context.Context) (Publication, error) {
	return func(context.Context) (Publication, error) {
		return Publication{Sequence: sequence, At: time.Now()}, nil
	}
}

// TestAdapters holds what each adapter sends: every URL form, the Host of the status URL, one call or many.
func TestAdapters(t *testing.T) {
	o := newOrigin(t)
	o.publish(time.Hour, false, 1)
	targets := o.targets(1)
	want := urls(targets.requests(""))
	if len(want) < 5 || !slices.Contains(want, "/ocsp/") || !slices.Contains(want, "/crl/tiers/0.crl") {
		t.Fatalf("%q", want)
	}
	absolute := []string{}
	for _, p := range want {
		absolute = append(absolute, "http://status.test"+p)
	}
	for _, adapter := range []Adapter{VarnishPurge, Nginx} {
		r := record(t, 200)
		tier := Tier{Name: "lb", Kind: LoadBalancer, Nodes: []string{r.URL}, Purge: Purge{Adapter: adapter}}
		p := must(o.caches(nil, tier).Purge(t.Context(), targets, out(1)))(t)
		var got []string
		for _, s := range r.requests() {
			if s.method != "PURGE" || s.host != "status.test" {
				t.Errorf("%s: %+v", adapter, s)
			}
			got = append(got, s.target)
		}
		if !p.Accepted || !slices.Equal(got, want) {
			t.Errorf("%s: accepted %v\n%q, want\n%q", adapter, p.Accepted, got, want)
		}
	}
	t.Run("ban", func(t *testing.T) {
		r := record(t, 200)
		c := o.caches(nil, Tier{Name: "lb", Kind: LoadBalancer, Nodes: []string{r.URL}, Purge: Purge{Adapter: VarnishBan}})
		must(c.Purge(t.Context(), targets, out(1)))(t)
		for _, p := range want {
			hits := 0
			for _, s := range r.requests() {
				if s.method != "BAN" {
					t.Error(s.method)
				}
				if regexp.MustCompile(s.header.Get("X-Ban-Url")).MatchString(p) {
					hits++
				}
				if regexp.MustCompile(s.header.Get("X-Ban-Url")).MatchString(p + "x") {
					t.Errorf("%s bans more than asked", s.header.Get("X-Ban-Url"))
				}
			}
			if hits != 1 {
				t.Errorf("%s is banned %d times", p, hits)
			}
		}
		all := targets
		all.All = true
		must(c.Purge(t.Context(), all, out(1)))(t)
		got := r.requests()
		if x := got[len(got)-1].header.Get("X-Ban-Url"); x != "^/(ocsp|crl|ca)/" {
			t.Errorf("all: %s", x)
		}
	})
	t.Run("xkey", func(t *testing.T) {
		r := record(t, 200)
		for _, keys := range [][]string{nil, {"ocsp", "crl"}} {
			c := o.caches(nil, Tier{Name: "lb", Kind: LoadBalancer, Nodes: []string{r.URL}, Purge: Purge{Adapter: VarnishXKey, Keys: keys}})
			must(c.Purge(t.Context(), targets, out(1)))(t)
		}
		got := r.requests()
		if len(got) != 2 || got[0].method != "PURGE" || got[0].header.Get("xkey-purge") != "bulkhead" || got[1].header.Get("xkey-purge") != "ocsp crl" {
			t.Errorf("%+v", got)
		}
	})
	for _, c := range []struct {
		name  string
		purge Purge
		calls int
		check func(all []seen) bool
	}{
		{"batches", Purge{URL: "/purge", Headers: map[string]string{"Authorization": "Bearer {secret:token}"}, Body: `{"files":{urls}}`, Batch: 3, Secrets: map[string]string{"token": "hush-hush"}},
			(len(want) + 2) / 3, func(all []seen) bool {
				var got []string
				for _, s := range all {
					var doc struct{ Files []string }
					if json.Unmarshal([]byte(s.body), &doc) != nil || s.header.Get("Authorization") != "Bearer hush-hush" || s.method != "POST" {
						return false
					}
					got = append(got, doc.Files...)
				}
				return slices.Equal(got, absolute)
			}},
		{"one by one", Purge{Method: "DELETE", URL: "/purge?u={url_escaped}"}, len(want), func(all []seen) bool {
			return all[0].method == "DELETE" && strings.HasPrefix(all[0].target, "/purge?u=http%3A%2F%2Fstatus.test%2F")
		}},
		{"everything", Purge{URL: "/purge-all", Body: `{"everything":true}`}, 1, func(all []seen) bool { return all[0].body == `{"everything":true}` }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(t, 200)
			c.purge.Adapter, c.purge.URL = HTTP, r.URL+c.purge.URL
			p := must(o.caches(nil, Tier{Name: "cdn", Kind: CDN, Purge: c.purge}).Purge(t.Context(), targets, out(1)))(t)
			if got := r.requests(); !p.Accepted || len(got) != c.calls || !c.check(got) {
				t.Errorf("%+v\n%+v", p, got)
			}
		})
	}
	t.Run("all needs an adapter that can", func(t *testing.T) {
		r := record(t, 200)
		all := targets
		all.All = true
		p := must(o.caches(nil, Tier{Name: "lb", Kind: LoadBalancer, Nodes: []string{r.URL}, Purge: Purge{Adapter: Nginx}},
			Tier{Name: "cdn", Kind: CDN, Purge: Purge{Adapter: HTTP, URL: r.URL, Body: "{urls}"}}).Purge(t.Context(), all, out(1)))(t)
		if p.Accepted || len(r.requests()) != 0 || !strings.Contains(p.String(), "URL by URL") {
			t.Errorf("%s", p)
		}
	})
}

// TestFailures has each node's failure on its own, and no secret in anything that is said.
func TestFailures(t *testing.T) {
	o := newOrigin(t)
	o.publish(time.Hour, false, 1)
	moved, refusing, good := record(t, 302), record(t, 403), record(t, 200)
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }))
	defer slow.Close()
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxAnswer+10)) }))
	defer long.Close()
	gone := fmt.Sprintf("http://127.0.0.1:%d", int(heldport.For(t).Port()))
	var log bytes.Buffer
	secret := Purge{Adapter: HTTP, URL: "{node}/x", Body: "{secret:token}", Headers: map[string]string{"X-Key": "{secret:token}"}, Secrets: map[string]string{"token": "hush-hush"}}
	c := must(New(Config{Tiers: []Tier{{Name: "lb", Kind: LoadBalancer, Nodes: []string{moved.URL, refusing.URL, good.URL, slow.URL, long.URL, gone}, Purge: secret}, {Name: "cdn", Kind: CDN}},
		Base: "http://status.test", Timeout: 300 * time.Millisecond, Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))}))(t)
	defer c.Close()
	p := must(c.Purge(t.Context(), o.targets(1), out(1)))(t)
	for i, want := range []string{"HTTP 302", "HTTP 403", "", "no answer in time", "longer than 65536", "connection refused"} {
		if n := p.Tiers[0].Nodes[i]; !strings.Contains(n.Detail, want) || (want == "") != (n.Failed == 0) {
			t.Errorf("%s: %+v, want %q", n.Node, n, want)
		}
	}
	if p.Accepted || p.Tiers[1].Skipped == "" || !strings.Contains(p.String(), "tier cdn: no purge adapter is configured") {
		t.Errorf("%s", p)
	}
	if len(moved.requests()) != 1 {
		t.Error("a redirect was followed")
	}
	v := must(c.Verify(t.Context(), 1, o.targets(1)))(t)
	for _, n := range v.Nodes {
		if n.Verdict == Newest {
			t.Errorf("%+v", n)
		}
	}
	if v.Complete || !strings.Contains(v.String(), "tier cdn could not be verified: no nodes and no probe address") {
		t.Errorf("%s", v)
	}
	doc := must(json.Marshal(map[string]any{"p": p, "v": v}))(t)
	if all := string(doc) + p.String() + v.String() + log.String(); strings.Contains(all, "hush") {
		t.Errorf("a secret is told:\n%s", all)
	}
}

// TestOnlyAfterPublication has no purge leave before the change is public and the edges serve it, and asserts the order
// in the log.
func TestOnlyAfterPublication(t *testing.T) {
	o := newOrigin(t)
	o.publish(time.Hour, false, 1)
	o.refresh()
	r := record(t, 200)
	tiers := []Tier{{Name: "edge", Kind: Edge, TTL: 200 * time.Millisecond, Nodes: []string{o.url}},
		{Name: "lb", Kind: LoadBalancer, Nodes: []string{r.URL}, Purge: Purge{Adapter: VarnishPurge}},
		{Name: "cdn", Kind: CDN, Purge: Purge{Adapter: HTTP, URL: r.URL + "/cdn"}}}
	var log bytes.Buffer
	c := o.caches(slog.New(slog.NewJSONHandler(&log, nil)), tiers...)
	staged := func(context.Context) (Publication, error) {
		return Publication{Sequence: 1, At: time.Now(), Missing: "change c1 is staged"}, nil
	}
	if _, err := c.Purge(t.Context(), o.targets(1), staged); bulkhead.KindOf(err) != bulkhead.KindGate || !strings.Contains(err.Error(), "change c1 is staged") {
		t.Errorf("not public: %v", err)
	}
	o.publish(time.Minute, true, 1)
	if _, err := c.Purge(t.Context(), o.targets(1), out(2)); bulkhead.KindOf(err) != bulkhead.KindGate || !strings.Contains(err.Error(), o.url) {
		t.Errorf("the edge is behind: %v", err)
	}
	if n := len(r.requests()); n != 0 || strings.Contains(log.String(), "purge: node") {
		t.Fatalf("%d purges left before the edge served what is public", n)
	}
	// The edge follows while the purge waits for it.
	log.Reset()
	var followed time.Time
	go func() {
		time.Sleep(50 * time.Millisecond)
		followed = time.Now()
		_ = o.edge.Refresh(context.Background()) // a failure shows as a gate below
	}()
	p := must(c.Purge(t.Context(), o.targets(1), out(2)))(t)
	if !p.Accepted || len(r.requests()) == 0 {
		t.Fatalf("%+v", p)
	}
	for _, s := range r.requests() {
		if s.at.Before(followed) {
			t.Errorf("%s left before the edge had followed", s.target)
		}
	}
	var order []string
	for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		var x struct{ Msg, Tier string }
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(x.Msg, "purge: ") {
			order = append(order, strings.TrimSpace(strings.TrimPrefix(x.Msg, "purge: ")+" "+x.Tier))
		}
	}
	if got := strings.Join(order, ", "); got != "published, edges follow edge, node lb, node cdn" {
		t.Errorf("the order in the log is %s", got)
	}
	// A head that moves meanwhile is said.
	n := uint64(2)
	moving := func(context.Context) (Publication, error) { n++; return Publication{Sequence: n, At: time.Now()}, nil }
	if p := must(c.Purge(t.Context(), o.targets(1), moving))(t); p.Moved != 4 || !strings.Contains(p.String(), "purge again") {
		t.Errorf("%+v", p)
	}
}

// TestVerdicts holds a cache's answers against the newest one: other people's, errors, garbage, a newer one of ours.
func TestVerdicts(t *testing.T) {
	o := newOrigin(t)
	o.publish(time.Hour, false, 1)
	old := o.targets(1)
	o.publish(time.Minute, true, 1)
	revoked := o.targets(1)
	o.publish(time.Second, true, 1)
	again := o.targets(1)
	stranger := newOrigin(t)
	stranger.publish(time.Second, true, 1)
	foreign := stranger.targets(1)
	now := time.Now()
	r := revoked.requests("")[0]
	l := revoked.requests("")[len(revoked.requests(""))-1]
	for name, c := range map[string]struct {
		r    request
		body []byte
		want string
	}{
		"same":            {r, revoked.Answers[0].Forms[0].Response, Newest},
		"older":           {r, old.Answers[0].Forms[0].Response, Older},
		"signed since":    {r, again.Answers[0].Forms[0].Response, Newest},
		"another's":       {r, foreign.Answers[0].Forms[0].Response, Other},
		"newer, un-said":  {old.requests("")[0], again.Answers[0].Forms[0].Response, Other},
		"error":           {r, []byte{0x30, 3, 0x0a, 1, 6}, Other},
		"garbage":         {r, []byte("<html>"), Other},
		"CRL same":        {l, must(o.dir.Get(t.Context(), revoked.Lists[0].Ref.Name))(t), Newest},
		"CRL older":       {l, must(o.dir.Get(t.Context(), old.Lists[0].Ref.Name))(t), Older},
		"CRL newer":       {l, must(o.dir.Get(t.Context(), again.Lists[0].Ref.Name))(t), Newest},
		"CRL another's":   {again.requests("")[len(again.requests(""))-1], must(stranger.dir.Get(t.Context(), foreign.Lists[0].Ref.Name))(t), Older},
		"CRL newer forge": {request{list: &List{Ref: stranger.head.Issuers[0].CRLs[0], ID: "tiers", Issuer: stranger.cert}}, must(o.dir.Get(t.Context(), again.Lists[0].Ref.Name))(t), Other},
		"CRL garbage":     {l, []byte("<html>"), Other},
	} {
		if j := c.r.judge(c.body, now); j.verdict != c.want {
			t.Errorf("%s: %s (%s), want %s", name, j.verdict, j.detail, c.want)
		}
	}
}

func TestPathForms(t *testing.T) {
	der := []byte{0xfb, 0xef, 0xbe, 0xff, 0xff, 0xff, 0xfe} // "++++////" and padding: every character that is escaped
	got := paths("/ocsp/", der)
	for _, want := range []string{"/ocsp/++++////" + "/g==", "/ocsp/%2B%2B%2B%2B%2F%2F%2F%2F%2Fg%3D%3D", "/ocsp/%2b%2b%2b%2b%2f%2f%2f%2f%2fg%3d%3d", "/ocsp/++++%2F%2F%2F%2F%2Fg=="} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %q", want, got)
		}
	}
	if len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("a form is there twice: %q", got)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Tiers: day2016(), Base: "http://status.test", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	for name, edit := range map[string]func(c *Config){
		"no clock": func(c *Config) { c.Now = nil }, "no tiers": func(c *Config) { c.Tiers = nil }, "wrong tiers": func(c *Config) { c.Tiers = []Tier{{}} },
		"no base": func(c *Config) { c.Base = "" }, "https": func(c *Config) { c.Base = "https://status.test" },
	} {
		c := good
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is let through", name)
		}
	}
	c := must(New(good))(t)
	for _, targets := range []Targets{{}, {Answers: make([]Answer, MaxAnswers+1)}} {
		if _, err := c.Verify(t.Context(), 1, targets); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("verify: %v", err)
		}
		if _, err := c.Purge(t.Context(), targets, out(1)); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("purge: %v", err)
		}
	}
}
