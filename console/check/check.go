// Package check is the public analyser: a page on which anybody may have one host looked at, in Japanese and English, without
// a login and without JavaScript, and the same as JSON.
//
// Invariant: one request is one bounded look at one host; each source address and each host has a limit that holds for all
// processes of the house; a result that is shared is found only by an id that cannot be guessed, and ends.
//
// Refuses: private, link-local and metadata addresses (the port refuses them); ports at which nothing speaks TLS; blocks of
// addresses; to keep who asked.
package check

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/scan/advice"
)

// Looker looks at every address of one host. It refuses what strangers may not have looked at with KindForbidden, and what is
// no host with KindUsage.
type Looker interface {
	Check(ctx context.Context, target string) (bulkhead.CheckResult, error)
	// Host is the part of a target by which looks are limited; KindUsage when it is none.
	Host(target string) (string, error)
}

// Store keeps results until they expire.
type Store interface {
	PutCheck(ctx context.Context, id bulkhead.Hash, body []byte, now, expires time.Time) error
	Check(ctx context.Context, id bulkhead.Hash, now time.Time) ([]byte, error)
}

// Limits takes one unit from every limit, or nothing and says which is used up; for all processes of the house.
type Limits interface {
	TakeRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error)
}

// Config is what the page needs. Looker, Store, Limits and Now are required.
type Config struct {
	Looker Looker
	Store  Store
	Limits Limits
	Now    func() time.Time
	Log    *slog.Logger
	House  string        // whose page it is
	Keep   time.Duration // how long a result can be shared; 7 days
	Source RateLimit     // of one /32 or /64 that asks; 10 at once, 10 a minute
	Target RateLimit     // of one host that is looked at; 3 at once, 6 a minute
	All    RateLimit     // of everybody together; 60 at once, 120 a minute
	Flying int           // looks at the same time in this process; 16
}

// RateLimit is so many at once, and so many an hour in the long run.
type RateLimit struct{ Burst, Hourly int }

func (r RateLimit) charge(key string) bulkhead.RateCharge {
	every := time.Hour / time.Duration(r.Hourly)
	return bulkhead.RateCharge{Key: key, Interval: every, Burst: every * time.Duration(r.Burst)}
}

// page is a running analyser.
type page struct {
	cfg   Config
	slots chan struct{}
	mux   *http.ServeMux
}

// Limits of one request: its body, its target, and the whole of its look.
const (
	longestBody   = 4096
	longestTarget = 300
	longestLook   = 40 * time.Second
)

//go:embed style.css
var style []byte

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// New returns the handler of /check/ and /api/v1/check.
func New(cfg Config) (http.Handler, error) {
	if cfg.Looker == nil || cfg.Store == nil || cfg.Limits == nil || cfg.Now == nil {
		return nil, errors.New("check: Looker, Store, Limits and Now are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Keep <= 0 {
		cfg.Keep = 7 * 24 * time.Hour
	}
	for _, d := range []struct {
		r   *RateLimit
		def RateLimit
	}{{&cfg.Source, RateLimit{10, 600}}, {&cfg.Target, RateLimit{3, 360}}, {&cfg.All, RateLimit{60, 7200}}} {
		if d.r.Burst <= 0 || d.r.Hourly <= 0 {
			*d.r = d.def
		}
	}
	if cfg.Flying <= 0 {
		cfg.Flying = 16
	}
	p := &page{cfg: cfg, slots: make(chan struct{}, cfg.Flying), mux: http.NewServeMux()}
	p.mux.HandleFunc("GET /check/{$}", p.form)
	p.mux.HandleFunc("POST /check/{$}", p.look)
	p.mux.HandleFunc("GET /check/r/{id}", p.result)
	p.mux.HandleFunc("GET /check/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(style) // the reader is gone: nothing to do
	})
	p.mux.HandleFunc("POST /api/v1/check", p.api)
	p.mux.HandleFunc("GET /api/v1/check", p.api)
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, longestBody)
	p.mux.ServeHTTP(w, r)
}

// language is ?lang=, else what the browser says.
func language(r *http.Request) advice.Language {
	switch l := advice.Language(r.URL.Query().Get("lang")); l {
	case advice.Japanese, advice.English:
		return l
	}
	return advice.LanguageOf(r.Header.Get("Accept-Language"))
}

// form shows the page; with ?target= it looks, as a plain GET form does.
func (p *page) form(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("target") != "" {
		p.look(w, r)
		return
	}
	p.show(w, r, http.StatusOK, view{})
}

func (p *page) look(w http.ResponseWriter, r *http.Request) {
	target := strings.TrimSpace(r.FormValue("target"))
	id, _, err := p.check(r, target)
	if err != nil {
		p.refuse(w, r, target, err)
		return
	}
	http.Redirect(w, r, "/check/r/"+id+"?lang="+string(language(r)), http.StatusSeeOther)
}

// check takes the limits, looks, and keeps the result.
func (p *page) check(r *http.Request, target string) (id string, res bulkhead.CheckResult, err error) {
	if target == "" || len(target) > longestTarget {
		return "", res, bulkhead.NewFault(bulkhead.KindUsage, "no host was named")
	}
	host, err := p.cfg.Looker.Host(target)
	if err != nil {
		return "", res, err
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return "", res, bulkhead.NewFault(bulkhead.KindUnavailable, "too many looks are under way").WithRetry(10 * time.Second)
	}
	now := p.cfg.Now()
	refused, err := p.cfg.Limits.TakeRate(r.Context(), now, []bulkhead.RateCharge{
		p.cfg.Source.charge("check/source/" + source(r)), p.cfg.Target.charge("check/target/" + host), p.cfg.All.charge("check/all")})
	if err != nil {
		return "", res, err
	}
	if refused != nil {
		return "", res, bulkhead.NewFault(bulkhead.KindRateLimited, "too many looks: each asker and each host has a limit").WithRetry(max(time.Second, refused.Retry))
	}
	ctx, cancel := context.WithTimeout(r.Context(), longestLook)
	defer cancel()
	if res, err = p.cfg.Looker.Check(ctx, target); err != nil {
		return "", res, err
	}
	if r.Context().Err() != nil {
		return "", res, r.Context().Err()
	}
	res.ExpiresAt = now.Add(p.cfg.Keep).UTC().Truncate(time.Second)
	body, err := json.Marshal(res)
	if err != nil {
		return "", res, err
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", res, err
	}
	id = base64.RawURLEncoding.EncodeToString(raw)
	return id, res, p.cfg.Store.PutCheck(r.Context(), bulkhead.Digest([]byte(id)), body, now, res.ExpiresAt)
}

// source is the network of whoever asks, as the connection has it; headers are for anybody to write.
func source(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	a := at.Addr().Unmap().WithZone("")
	if p, err := a.Prefix(64); a.Is6() && err == nil {
		return p.String()
	}
	return a.String()
}

func (p *page) result(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	body, err := p.cfg.Store.Check(r.Context(), bulkhead.Digest([]byte(id)), p.cfg.Now())
	var res bulkhead.CheckResult
	if err == nil {
		err = json.Unmarshal(body, &res)
	}
	if err != nil {
		p.refuse(w, r, "", err)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, http.StatusOK, res)
		return
	}
	p.show(w, r, http.StatusOK, view{Target: res.Target, Result: &res, Path: "/check/r/" + id})
}

// LookRequest is the body of POST /api/v1/check.
type LookRequest struct {
	Target string `json:"target"` // a host, HOST:PORT, or SCHEME://HOST as the command line takes it
}

// LookAnswer is what /api/v1/check answers.
type LookAnswer struct {
	bulkhead.CheckResult
	Page   string        `json:"page"` // path of the page that can be shared
	Advice advice.Advice `json:"advice"`
}

// api is the same look as JSON: {"target": "…"}, or ?target=.
func (p *page) api(w http.ResponseWriter, r *http.Request) {
	target := r.URL.Query().Get("target")
	if r.Method == http.MethodPost {
		var in LookRequest
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			p.problem(w, r, bulkhead.NewFault(bulkhead.KindMalformed, `the body is not {"target": "HOST"}`))
			return
		}
		target = in.Target
	}
	id, res, err := p.check(r, strings.TrimSpace(target))
	if err != nil {
		p.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, LookAnswer{res, "/check/r/" + id, adviceFor(res, language(r))})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the reader is gone: nothing to do
}

var codes = map[bulkhead.Kind]int{
	bulkhead.KindUsage: http.StatusBadRequest, bulkhead.KindMalformed: http.StatusBadRequest, bulkhead.KindForbidden: http.StatusForbidden, bulkhead.KindNotFound: http.StatusNotFound,
	bulkhead.KindRateLimited: http.StatusTooManyRequests, bulkhead.KindUnavailable: http.StatusServiceUnavailable,
}

// failed logs what is ours and sets what both faces say.
func (p *page) failed(w http.ResponseWriter, r *http.Request, err error) (*bulkhead.Fault, int) {
	f := bulkhead.AsFault(err)
	code, ok := codes[f.Kind]
	if !ok {
		code = http.StatusInternalServerError
		p.cfg.Log.ErrorContext(r.Context(), "the public analyser failed", slog.String("error", err.Error()))
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	return f, code
}

func (p *page) problem(w http.ResponseWriter, r *http.Request, err error) {
	f, code := p.failed(w, r, err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:bulkhead:problem:" + string(f.Kind), "title": http.StatusText(code), "status": code, "detail": f.Detail})
}

func (p *page) refuse(w http.ResponseWriter, r *http.Request, target string, err error) {
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		p.problem(w, r, err)
		return
	}
	f, code := p.failed(w, r, err)
	said := texts[language(r)].refusals[f.Kind]
	if said == "" {
		said = texts[language(r)].refusals[bulkhead.KindInternal]
	}
	p.show(w, r, code, view{Target: target, Problem: said})
}

// view is what the template shows.
type view struct {
	Lang    advice.Language
	Other   advice.Language
	House   string
	T       *pageWords
	Target  string
	Problem string
	Result  *bulkhead.CheckResult
	Advice  template.HTML
	Path    string
	Swap    string // this page in the other language
	Nodes   []node
	At, End string
}

type node struct {
	Address, Verdict, Reason, Detail, Cert, Key string
	Class                                       string
	Notes                                       []string
}

func adviceFor(res bulkhead.CheckResult, l advice.Language) advice.Advice {
	s := advice.State{Host: res.Host, Verdict: res.Verdict, Looked: res.At}
	for _, x := range res.Looks {
		for _, f := range x.Findings {
			if x.Chain != nil && (f.Rule == "key-kept" || f.Rule == "key-blocked") { // it was seen to leak, or is known to others
				s.OldKey, s.ServedKey, s.Issued = x.Chain.Key.SPKI, x.Chain.Key.SPKI, x.Chain.NotBefore
			}
		}
	}
	return advice.For(s, l)
}

func (p *page) show(w http.ResponseWriter, r *http.Request, code int, v view) {
	v.Lang, v.Other, v.House = language(r), advice.Japanese, p.cfg.House
	if v.Lang == advice.Japanese {
		v.Other = advice.English
	}
	v.T = texts[v.Lang]
	if v.Path == "" {
		v.Path = "/check/"
	}
	v.Swap = v.Path + "?" + url.Values{"lang": {string(v.Other)}}.Encode()
	if v.Result != nil {
		v.Advice = template.HTML(adviceFor(*v.Result, v.Lang).HTML()) //nolint:gosec // advice escapes everything that it puts in
		v.At, v.End = v.Result.At.UTC().Format("2006-01-02 15:04 UTC"), v.Result.ExpiresAt.UTC().Format("2006-01-02 15:04 UTC")
		for _, l := range v.Result.Looks {
			v.Nodes = append(v.Nodes, nodeOf(l, v.T))
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		p.cfg.Log.ErrorContext(r.Context(), "the page cannot be written", slog.String("error", err.Error()))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(v.Lang))
	h.Set("Vary", "Accept-Language, Accept")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // the reader is gone: nothing to do
}

func nodeOf(l bulkhead.CheckedLook, t *pageWords) node {
	n := node{Address: l.Endpoint.AddrPort().String(), Verdict: t.verdicts[l.Verdict], Reason: string(l.Reason), Detail: l.Detail, Class: string(l.Verdict)}
	if c := l.Chain; c != nil && c.Malformed == "" {
		n.Cert = fmt.Sprintf("%s (%s)", c.Subject, c.Issuer)
		n.Key = fmt.Sprintf("%s %d, SHA-256 %s", c.Key.Algorithm, c.Key.Bits, c.Key.SPKI)
		if !c.Expired && !c.NotAfter.IsZero() {
			n.Notes = append(n.Notes, t.until+c.NotAfter.UTC().Format("2006-01-02"))
		}
	}
	for _, f := range l.Findings {
		if words := t.rules[f.Rule]; words != "" {
			n.Notes = append(n.Notes, words+": "+f.Message)
		} else {
			n.Notes = append(n.Notes, f.Message)
		}
	}
	return n
}
