package caches

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"bulkhead"
)

const (
	maxAnswer     = 64 << 10 // octets of an OCSP response, or of a purge's reply
	crlSlack      = 1 << 20  // octets by which a CRL through a cache may exceed the newest one
	defaultWithin = 10 * time.Second
)

// Config says what Caches works on. Tiers, Base, Now and Log are required.
type Config struct {
	Tiers   []Tier
	Base    string        // the status URL that certificates name: host and path of every fetch
	Timeout time.Duration // of one call; 0 means 10 s
	Now     func() time.Time
	Log     *slog.Logger
}

// Caches purges and verifies. Safe for concurrent use.
type Caches struct {
	cfg  Config
	base *url.URL
	http *http.Client
}

// New checks the configuration.
func New(cfg Config) (*Caches, error) {
	if cfg.Now == nil || cfg.Log == nil {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "caches: clock and log are required")
	}
	if len(cfg.Tiers) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "no cache tiers are configured").WithHint("set caches.tiers, from the origin outwards")
	}
	if err := Check(cfg.Tiers); err != nil {
		return nil, err
	}
	base, err := url.Parse(cfg.Base)
	if err != nil || base.Scheme != "http" || base.Host == "" {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%q is not a plain http URL", cfg.Base).WithHint("set status_url")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultWithin
	}
	c := &Caches{cfg: cfg, base: base}
	c.http = &http.Client{Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: what is measured is the node, and purges carry secrets.
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: cfg.Timeout, MaxResponseHeaderBytes: maxAnswer}}
	return c, nil
}

// Close lets idle connections go.
func (c *Caches) Close() { c.http.CloseIdleConnections() }

// answer is what came back, read to its end.
type answer struct {
	code int
	age  string // the Age header
	body []byte
}

// call sends one request to a node for a path of the status URL, octet by octet as given.
func (c *Caches) call(ctx context.Context, node, method, path string, body []byte, header http.Header, limit int64) (answer, error) {
	u, err := url.Parse(node)
	if err != nil {
		return answer{}, badAddress(node)
	}
	u.Opaque = path // a parsed path would be written in Go's own escaping, and caches tell forms apart
	req := (&http.Request{Method: method, URL: u, Host: c.base.Host, Header: header, ContentLength: int64(len(body))}).WithContext(ctx)
	if body != nil {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return c.send(req, limit)
}

func (c *Caches) send(req *http.Request, limit int64) (answer, error) {
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", "bulkhead-caches")
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, plain(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return answer{}, plain(err)
	}
	if int64(len(p)) > limit {
		return answer{}, fmt.Errorf("the answer is longer than %d octets", limit)
	}
	return answer{code: resp.StatusCode, age: resp.Header.Get("Age"), body: p}, nil
}

// plain leaves the URL and everything sent out of an error.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return errors.New("no answer in time")
		}
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

func (r request) limit() int64 {
	if r.list != nil {
		return r.list.Ref.Size + crlSlack
	}
	return maxAnswer
}

// fetch asks a node as a client would and judges what comes.
func (c *Caches) fetch(ctx context.Context, node string, r request) (judged, string) {
	h := http.Header{}
	if r.body != nil {
		h.Set("Content-Type", "application/ocsp-request")
	}
	a, err := c.call(ctx, node, r.method, r.path, r.body, h, r.limit())
	if err != nil {
		return judged{verdict: Unchecked, detail: err.Error()}, ""
	}
	if a.code != http.StatusOK {
		return judged{verdict: Unchecked, detail: fmt.Sprintf("HTTP %d", a.code)}, a.age
	}
	return r.judge(a.body, c.cfg.Now()), a.age
}
