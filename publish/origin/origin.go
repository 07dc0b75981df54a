// Package origin reads published objects from an HTTP origin: a web server or a CDN over the published directory or
// bucket. It is for edges that stand where no credentials should be.
//
// Invariant: that of publish.Reader. What arrives is trusted with nothing: the edge checks the head's signature and each
// object's digest.
//
// Refuses: redirects, more octets than announced, addresses with a query or a user in them.
package origin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/publish"
)

// Limits of one answer.
const (
	maxHead   = 16 << 20
	maxObject = 1 << 30
)

// Origin is a publish.Reader over HTTP.
type Origin struct {
	base   string
	client *http.Client
}

var _ publish.Reader = (*Origin)(nil)

// Open takes the address under which objects lie under their names and the head as "head".
func Open(base string) (*Origin, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%q is not the address of an origin", base).WithHint("write http://HOST:PORT/PATH or https://…")
	}
	t := &http.Transport{Proxy: nil, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, DisableCompression: true}
	return &Origin{base: strings.TrimRight(base, "/") + "/", client: &http.Client{Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

func (o *Origin) request(ctx context.Context, name string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.base+name, nil)
	if err != nil {
		return nil, trouble(name, err)
	}
	req.Header.Set("Cache-Control", "no-cache")
	res, err := o.client.Do(req)
	if err != nil {
		return nil, trouble(name, err)
	}
	switch {
	case res.StatusCode == http.StatusOK && res.ContentLength >= 0:
		return res, nil
	case res.StatusCode == http.StatusNotFound, res.StatusCode/100 == 3: // web servers redirect the name of a folder
		err = bulkhead.Faultf(bulkhead.KindNotFound, "object %s is not published", name)
	default:
		err = trouble(name, fmt.Errorf("answer %s, %d octets announced", res.Status, res.ContentLength))
	}
	_ = res.Body.Close()
	return nil, err
}

func (o *Origin) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	res, err := o.request(ctx, name)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.ContentLength > limit {
		return nil, trouble(name, fmt.Errorf("%d octets announced, %d are taken", res.ContentLength, limit))
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, trouble(name, err)
	}
	return body, nil
}

// Get implements publish.Reader.
func (o *Origin) Get(ctx context.Context, name string) ([]byte, error) {
	if err := publish.CheckName(name); err != nil {
		return nil, err
	}
	return o.read(ctx, name, maxObject)
}

// Open implements publish.Reader.
func (o *Origin) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := publish.CheckName(name); err != nil {
		return nil, 0, err
	}
	res, err := o.request(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	return res.Body, res.ContentLength, nil
}

// Head implements publish.Reader.
func (o *Origin) Head(ctx context.Context) ([]byte, error) { return o.read(ctx, "head", maxHead) }

func trouble(name string, err error) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "origin: %s could not be fetched", name).WithHint("look at the origin and the way to it").WithCause(err)
}
