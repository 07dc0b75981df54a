// Package client speaks to a running house's API for the command line.
//
// Invariant: requests go over TLS verified against the house's trust anchor and are signed by an operator's key or
// carry an account's token; neither is ever printed.
//
// Refuses: to talk without a trust anchor, to follow redirects, answers above a limit.
package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/quorum"
	"bulkhead/run"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Options say where the house is and who asks. Empty fields are taken from the data directory's runtime file.
type Options struct {
	Dir         string // data directory
	Addr        string // https://HOST:PORT
	CACert      string // path of the trust anchor
	OperatorKey string // path; default DIR/operator/operator-1.key
	Token       string // account token; wins over the key
}

// Client is one asker at one house.
type Client struct {
	base  string
	http  *http.Client
	key   ed25519.PrivateKey
	token string
}

// New reads the runtime file, the trust anchor and the key.
func New(o Options) (*Client, error) {
	ready, rerr := ReadReady(o.Dir)
	if o.Addr == "" {
		if rerr != nil {
			return nil, rerr
		}
		o.Addr = strings.TrimSuffix(ready.API, "/api/v1")
	}
	if o.CACert == "" {
		if o.CACert = ready.TrustAnchor; o.CACert == "" {
			return nil, bulkhead.NewFault(bulkhead.KindUsage, "no trust anchor for "+o.Addr).WithHint("--cacert FILE or BULKHEAD_CACERT")
		}
	}
	pem, err := os.ReadFile(o.CACert)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the trust anchor %s cannot be read", o.CACert).WithHint("--cacert FILE").WithCause(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s holds no PEM certificate", o.CACert).WithHint("--cacert FILE")
	}
	c := &Client{base: strings.TrimRight(o.Addr, "/"), token: o.Token, http: &http.Client{Timeout: 2 * time.Minute,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if !strings.HasPrefix(c.base, "https://") {
		c.base = "https://" + c.base
	}
	if c.token != "" {
		return c, nil
	}
	if o.OperatorKey == "" {
		o.OperatorKey = filepath.Join(o.Dir, "operator", "operator-1.key")
	}
	c.key, err = ReadKey(o.OperatorKey)
	return c, err
}

// ReadReady reads the runtime file of a data directory; KindUnavailable when no house is ready there.
func ReadReady(dir string) (run.Ready, error) {
	var r run.Ready
	body, err := os.ReadFile(filepath.Join(dir, "run", "ready.json"))
	if err == nil {
		err = json.Unmarshal(body, &r)
	}
	if err != nil {
		return r, bulkhead.Faultf(bulkhead.KindUnavailable, "no house is ready on %s", dir).WithHint("bulkhead up --data " + dir).WithCause(err)
	}
	return r, nil
}

// ReadKey reads an operator's key file.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the operator key %s cannot be read", path).WithHint("--operator-key FILE, or BULKHEAD_TOKEN").WithCause(err)
	}
	return quorum.ParseKey(body)
}

// problem is the server's RFC 9457 document.
type problem struct {
	Title       string `json:"title"`
	Detail      string `json:"detail"`
	Hint        string `json:"hint"`
	Change      string `json:"change"`
	Subproblems []struct {
		Type       string              `json:"type"`
		Detail     string              `json:"detail"`
		Identifier bulkhead.Identifier `json:"identifier"`
	} `json:"subproblems"`
}

// Do performs one call. in is nil for none; out may be nil. Problems come back as faults of the server's kind.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, method, path, "", in, out)
}

func (c *Client) do(ctx context.Context, method, path, idempotencyKey string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindUsage, "the server address cannot be used").WithCause(err)
	}
	if err := c.authorize(req, body); err != nil {
		return err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", idempotencyKey)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "%s cannot be reached: %s", c.base, rootCause(err)).WithHint("is it up? bulkhead up; or name it with --addr").WithCause(lost(err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "the answer of %s broke off", c.base).WithCause(lost(err))
	}
	if res.StatusCode/100 != 2 {
		return asFault(res, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return bulkhead.NewFault(bulkhead.KindInternal, "the answer is not what this version expects").WithCause(err)
	}
	return nil
}

func (c *Client) authorize(req *http.Request, body []byte) error {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
		return nil
	}
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("random nonce: %w", err)
	}
	h, err := quorum.SignRequest(c.key, req.Method, req.URL.RequestURI(), body, time.Now(), hex.EncodeToString(nonce))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", h)
	return nil
}

func asFault(res *http.Response, body []byte) error {
	var p problem
	if json.Unmarshal(body, &p) != nil || p.Title == "" {
		return bulkhead.Faultf(bulkhead.KindInternal, "the server answered %s", res.Status)
	}
	f := bulkhead.NewFault(bulkhead.Kind(p.Title), p.Detail).WithHint(p.Hint)
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 {
		f = f.WithRetry(time.Duration(n) * time.Second)
	}
	for _, s := range p.Subproblems {
		f.Subs = append(f.Subs, bulkhead.SubFault{Identifier: s.Identifier, Kind: bulkhead.Kind(strings.TrimPrefix(s.Type, "urn:bulkhead:problem:")), Detail: s.Detail})
	}
	return f
}

func rootCause(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}
