package outside

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// Point is one address through which strangers can get answers.
type Point struct {
	Name  string        // "status listener", or the tier's name
	Base  string        // http://HOST:PORT
	TTL   time.Duration // for how long it may lawfully serve what the origin no longer does, inner tiers included
	Owner string        // who is called
}

const (
	maxAnswer = 64 << 10 // octets of an OCSP response
	crlSlack  = 1 << 20  // octets by which a CRL may exceed the published one
	largeCRL  = 4 << 20  // a CRL above that is fetched through a point every largeEvery only
	// largeEvery spaces out the fetches of large CRLs: watching must not become the load.
	largeEvery = 15 * time.Minute
	// settle is how long the way from the switch of a head to every edge may take, beside a point's TTL.
	settle = 15 * time.Second
	// DefaultEvery is the time between two rounds: a fault is seen in the next one, so within three minutes.
	DefaultEvery = time.Minute
	// DefaultAgree is within what time CRL, OCSP and record must agree on a revocation.
	DefaultAgree = 15 * time.Minute
)

// ProberConfig is what a prober needs. Record, Public, Points, Base and Raise are required.
type ProberConfig struct {
	Record  Record
	Public  Public
	Points  []Point
	Base    string // the status URL that certificates name: host and path of every request
	Raise   Raise
	Ledger  *Reconciler   // knows when our keys signed; nil leaves that unasked
	Every   time.Duration // 0 means DefaultEvery
	Agree   time.Duration // 0 means DefaultAgree
	Timeout time.Duration // of one fetch; 0 means 10 s (BR 4.10.2)
	Now     func() time.Time
	Log     *slog.Logger
}

// Prober fetches one live and one revoked certificate's status for each authority through each point.
type Prober struct {
	cfg  ProberConfig
	base *url.URL
	http *http.Client

	mu      sync.Mutex // guards below
	samples map[bulkhead.AuthorityID]samples
	large   map[string]time.Time // when a large CRL was last fetched through a point
	looks   map[string]Look      // by point
}

// samples are the certificates that a round asks about; a zero serial is none.
type samples struct{ live, revoked bulkhead.Status }

// Look sums up what is known of a point.
type Look struct {
	Point   string    `json:"point"`
	Base    string    `json:"base"`
	At      time.Time `json:"at"`      // of the last round
	Good    time.Time `json:"good_at"` // of the last round without a finding
	Fetched int64     `json:"fetched"` // since the start
	Wrong   int64     `json:"wrong"`   // findings since the start
	Blind   int64     `json:"blind"`   // fetches without an answer since the start
}

// NewProber checks the configuration.
func NewProber(cfg ProberConfig) (*Prober, error) {
	if cfg.Record == nil || cfg.Public == nil || cfg.Raise == nil {
		return nil, errors.New("outside: record, public and raise are required")
	}
	base, err := url.Parse(cfg.Base)
	if err != nil || base.Scheme != "http" || base.Host == "" {
		return nil, fmt.Errorf("outside: %q is not a plain http URL", cfg.Base)
	}
	for _, p := range cfg.Points {
		if u, err := url.Parse(p.Base); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" {
			return nil, fmt.Errorf("outside: %q is not http://HOST:PORT", p.Base)
		}
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&cfg.Every, DefaultEvery)
	set(&cfg.Agree, DefaultAgree)
	set(&cfg.Timeout, 10*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Prober{cfg: cfg, base: base, samples: map[bulkhead.AuthorityID]samples{}, large: map[string]time.Time{}, looks: map[string]Look{}}
	p.http = &http.Client{Timeout: cfg.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: what is looked at is the point.
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 2 * time.Minute, TLSHandshakeTimeout: cfg.Timeout, MaxResponseHeaderBytes: maxAnswer}}
	return p, nil
}

// Run makes rounds until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	defer p.http.CloseIdleConnections()
	t := time.NewTicker(p.cfg.Every)
	defer t.Stop()
	for {
		p.Once(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Looks returns what is known of every point, in the order of the configuration.
func (p *Prober) Looks() []Look {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Look
	for _, x := range p.cfg.Points {
		out = append(out, p.looks[x.Base])
	}
	return out
}

// finding is one thing that is not as it should be.
type finding struct {
	alarm bulkhead.Alarm
	blind bool
}

// Once makes one round.
func (p *Prober) Once(ctx context.Context) {
	now := p.cfg.Now()
	tasks, err := p.tasks(ctx, now)
	if err != nil {
		p.raise(ctx, alarm(now, "probe", "blind,origin", bulkhead.Warning, "probe-blind.md", "the probes could not look: what stands at the origin, or the record, cannot be read: "+bulkhead.AsFault(err).Detail))
		return
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, point := range p.cfg.Points {
		g.Go(func() error {
			p.point(ctx, point, tasks)
			return nil
		})
	}
	_ = g.Wait() // nothing there returns an error
}

func (p *Prober) raise(ctx context.Context, a bulkhead.Alarm) {
	if ctx.Err() == nil { // what was cut off half-way is no finding
		p.cfg.Raise(ctx, a)
	}
}

// point makes every request of a round through one point. A finding counts when a second look shows it too.
func (p *Prober) point(ctx context.Context, at Point, tasks []task) {
	now := p.cfg.Now()
	look := Look{At: now}
	for _, t := range tasks {
		if !p.due(at, t, now) {
			continue
		}
		look.Fetched++
		found := p.try(ctx, at, t)
		if len(found) > 0 {
			if again, err := p.again(ctx, t); err == nil {
				found = p.try(ctx, at, again)
			}
		}
		for _, f := range found {
			if f.blind {
				look.Blind++
			} else {
				look.Wrong++
			}
			p.raise(ctx, f.alarm)
		}
		if ctx.Err() != nil {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.looks[at.Base]
	good := old.Good
	if look.Wrong+look.Blind == 0 {
		good = now
	}
	p.looks[at.Base] = Look{Point: at.Name, Base: at.Base, At: now, Good: good, Fetched: old.Fetched + look.Fetched, Wrong: old.Wrong + look.Wrong, Blind: old.Blind + look.Blind}
}

// due spaces out large CRLs.
func (p *Prober) due(at Point, t task, now time.Time) bool {
	if t.list == nil || t.list.Size < largeCRL {
		return true
	}
	key := fmt.Sprintf("%s,%s,%d", at.Base, t.authority.ID, t.list.Shard)
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.large[key]; ok && now.Sub(last) < largeEvery {
		return false
	}
	p.large[key] = now
	return true
}

// try makes one request and judges the reply.
func (p *Prober) try(ctx context.Context, at Point, t task) []finding {
	body, err := p.fetch(ctx, at.Base, t)
	now := p.cfg.Now()
	if err != nil {
		return []finding{{blind: true, alarm: alarm(now, "probe", "blind,"+at.Base, bulkhead.Warning, "probe-blind.md",
			fmt.Sprintf("the probes cannot look through %s (%s): %s: %s%s", at.Name, at.Base, t.what(), err, call(at)))}}
	}
	if t.list != nil {
		return p.judgeList(ctx, at, t, body, now)
	}
	return p.judgeAnswer(ctx, at, t, body, now)
}

func call(at Point) string {
	if at.Owner == "" {
		return ""
	}
	return "; call " + at.Owner
}

// fetch asks as a client would.
func (p *Prober) fetch(ctx context.Context, node string, t task) ([]byte, error) {
	u, err := url.Parse(node)
	if err != nil {
		return nil, err
	}
	u.Opaque = strings.TrimRight(p.base.Path, "/") + t.path // a parsed path would be written in Go's own escaping
	req := (&http.Request{Method: t.method, URL: u, Host: p.base.Host, Header: http.Header{"User-Agent": {"bulkhead-watch"}}, ContentLength: int64(len(t.body))}).WithContext(ctx)
	if t.body != nil {
		req.Header.Set("Content-Type", "application/ocsp-request")
		req.Body = io.NopCloser(bytes.NewReader(t.body))
	}
	resp, err := p.http.Do(req)
	if err != nil {
		var x *url.Error
		if errors.As(err, &x) {
			if err = x.Err; x.Timeout() {
				err = errors.New("no answer in time")
			}
		}
		return nil, err
	}
	defer resp.Body.Close()
	limit := int64(maxAnswer)
	if t.list != nil {
		limit = t.list.Size + crlSlack
	}
	got, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	case int64(len(got)) > limit:
		return nil, fmt.Errorf("the reply is longer than %d octets", limit)
	}
	return got, nil
}

// task is one request of a round with what is right.
type task struct {
	method, path string
	body         []byte
	authority    bulkhead.Authority
	issuer       *Issuer // Certificate and Head only: the packs are closed
	status       bulkhead.Status
	newest       published // of status, when list is nil
	list         *pack.CRLRef
	about        []bulkhead.Status // what the CRL must hold or must not
}

func (t task) what() string {
	if t.list != nil {
		return fmt.Sprintf("CRL %s shard %d", t.authority.ID, t.list.Shard)
	}
	return fmt.Sprintf("OCSP %s for %s", t.method, t.status.CertificateRef)
}

// tasks says what to ask and what is right, from the record and the origin.
func (p *Prober) tasks(ctx context.Context, now time.Time) ([]task, error) {
	view, err := p.cfg.Public.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	authorities, err := p.cfg.Record.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var out []task
	for _, a := range authorities {
		is := view.Issuers[a.ID]
		if is == nil || !served(ctx, p.cfg.Record, a, now) {
			continue // a hole in the head is the reconciler's to find
		}
		s, err := p.choose(ctx, a.ID, is, now)
		if err != nil {
			return nil, err
		}
		lists := map[int][]bulkhead.Status{}
		for _, st := range []bulkhead.Status{s.live, s.revoked} {
			if st.Serial.IsZero() {
				continue
			}
			made, err := ask(a, is, st)
			if err != nil {
				return nil, err
			}
			out = append(out, made...)
			if lists[st.Shard] = append(lists[st.Shard], st); a.Foreign() { // its CRLs are its own: an index may have said more since
				lists[st.Shard] = nil
			}
		}
		for shard, about := range lists {
			if ref, ok := is.crl(shard); ok {
				out = append(out, task{method: http.MethodGet, path: fmt.Sprintf("/crl/%s/%d.crl", a.ID, shard), authority: a, issuer: is, list: &ref, about: about})
			}
		}
	}
	return out, nil
}

// ask makes the requests for one certificate: GET and POST.
func ask(a bulkhead.Authority, is *Issuer, st bulkhead.Status) ([]task, error) {
	newest, ok := is.find(st.Serial)
	if !ok {
		return nil, nil
	}
	names, err := ocsp.NewIssuer(is.Certificate.RawSubject, is.Certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	var out []task
	for method, hash := range map[string]ocsp.HashAlgorithm{http.MethodGet: ocsp.SHA1, http.MethodPost: ocsp.SHA256} {
		req, err := ocsp.EncodeRequest([]ocsp.CertID{names.CertID(hash, st.Serial)}, nil)
		if err != nil {
			return nil, err
		}
		t := task{method: method, path: "/ocsp/", body: req, authority: a, issuer: is, status: st, newest: newest}
		if method == http.MethodGet {
			t.path, t.body = "/ocsp/"+url.QueryEscape(base64.StdEncoding.EncodeToString(req)), nil
		}
		out = append(out, t)
	}
	return out, nil
}

// again is the same question with what is right by now.
func (p *Prober) again(ctx context.Context, t task) (task, error) {
	view, err := p.cfg.Public.Open(ctx)
	if err != nil {
		return t, err
	}
	defer view.Close()
	is := view.Issuers[t.authority.ID]
	if is == nil {
		return t, bulkhead.NewFault(bulkhead.KindNotFound, "the issuer is gone from the head")
	}
	t.issuer = is
	refresh := func(st bulkhead.Status) (bulkhead.Status, error) {
		rows, err := p.cfg.Record.Statuses(ctx, st.Issuer, []bulkhead.Serial{st.Serial})
		if err != nil || len(rows) != 1 {
			return st, errors.Join(err, errGone)
		}
		return rows[0], nil
	}
	if t.list != nil {
		ref, ok := is.crl(t.list.Shard)
		if !ok {
			return t, errGone
		}
		t.list = &ref
		about := append([]bulkhead.Status(nil), t.about...)
		for i := range about {
			if about[i], err = refresh(about[i]); err != nil {
				return t, err
			}
		}
		t.about = about
		return t, nil
	}
	if t.status, err = refresh(t.status); err != nil {
		return t, err
	}
	newest, ok := is.find(t.status.Serial)
	if !ok {
		return t, errGone
	}
	t.newest = newest
	return t, nil
}

var errGone = errors.New("what was asked about is gone")

// choose keeps the samples of an authority while they serve and finds others when they do not.
func (p *Prober) choose(ctx context.Context, id bulkhead.AuthorityID, is *Issuer, now time.Time) (samples, error) {
	p.mu.Lock()
	s := p.samples[id]
	p.mu.Unlock()
	var err error
	if s.live, err = p.sample(ctx, id, is, s.live, bulkhead.Issued, now); err != nil {
		return s, err
	}
	if s.revoked, err = p.sample(ctx, id, is, s.revoked, bulkhead.Revoked, now); err != nil {
		return s, err
	}
	p.mu.Lock()
	p.samples[id] = s
	p.mu.Unlock()
	return s, nil
}

// candidates is among how many of the newest certificates a sample is looked for.
const candidates = 20

func (p *Prober) sample(ctx context.Context, id bulkhead.AuthorityID, is *Issuer, old bulkhead.Status, state bulkhead.CertificateState, now time.Time) (bulkhead.Status, error) {
	if !old.Serial.IsZero() && old.NotAfter.After(now.Add(time.Minute)) {
		rows, err := p.cfg.Record.Statuses(ctx, id, []bulkhead.Serial{old.Serial})
		if err != nil {
			return old, err
		}
		if len(rows) == 1 && rows[0].State == state {
			return rows[0], nil
		}
	}
	f := bulkhead.CertificateFilter{Issuer: id, State: state, Kind: bulkhead.LeafCertificate, ExpiresFrom: now.Add(2 * time.Minute), Limit: candidates}
	rows, _, err := p.cfg.Record.Certificates(ctx, f)
	if err == nil && len(rows) == 0 { // an authority above others
		f.Kind = ""
		rows, _, err = p.cfg.Record.Certificates(ctx, f)
	}
	if err != nil {
		return bulkhead.Status{}, err
	}
	for _, c := range rows {
		if _, ok := is.find(c.Serial); !ok {
			continue
		}
		st, err := p.cfg.Record.Statuses(ctx, id, []bulkhead.Serial{c.Serial})
		if err != nil {
			return bulkhead.Status{}, err
		}
		if len(st) == 1 && st[0].State == state {
			return st[0], nil
		}
	}
	return bulkhead.Status{}, nil
}
