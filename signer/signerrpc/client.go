package signerrpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"bulkhead"
)

// ClientConfig says where the signer is and who asks; all but Timeout is required.
type ClientConfig struct {
	// Address is HOST:PORT, or unix:PATH.
	Address string
	// Own is the role's certificate, asked for at each connection so that a renewal needs no restart.
	Own func() *tls.Certificate
	// Roots are the house's: the signer must show the name of its role under one of them.
	Roots *x509.CertPool
	// Timeout of one call; 0 means a minute.
	Timeout time.Duration
}

// Client is the signer's door seen from another process.
type Client struct {
	http *http.Client
	cfg  ClientConfig
}

// maxAnswer bounds an answer that is not a CRL: a batch of 1,000 answers is under 2 MB.
const maxAnswer = 32 << 20

// NewClient checks the configuration; nothing is dialled yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Address == "" || cfg.Own == nil || cfg.Roots == nil {
		return nil, errors.New("signerrpc: address, certificate and roots are required")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	network, address := "tcp", cfg.Address
	if path, ok := strings.CutPrefix(cfg.Address, "unix:"); ok {
		network, address = "unix", path
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	t := &http.Transport{Proxy: nil, ForceAttemptHTTP2: true, DisableCompression: true, TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: cfg.Roots, ServerName: Signer.Name(),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.Own(), nil }}}
	return &Client{http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, cfg: cfg}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// post sends one call. The caller closes the body of the answer.
func (c *Client) post(ctx context.Context, m Method, q any) (*http.Response, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("signer call: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+Signer.Name()+prefix+string(m), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("signer call: %w", err)
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, away(err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var p problem
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&p); err != nil || p.Kind == "" {
		return nil, away(fmt.Errorf("answer %s", res.Status))
	}
	return nil, p.fault()
}

func (p problem) fault() error {
	f := bulkhead.NewFault(p.Kind, p.Detail).WithHint(p.Hint).WithRetry(p.Retry)
	f.Subs = p.Subs
	return f
}

// away is a signer that did not answer: nobody knows whether it signed. Orders are resumed by the ordinary path.
func away(err error) error {
	return bulkhead.NewFault(bulkhead.KindUnavailable, "the signer does not answer").WithRetry(5 * time.Second).WithHint("see that the signer runs: bulkhead doctor").WithCause(err)
}

func call[A any](ctx context.Context, c *Client, m Method, q any) (A, error) {
	var a A
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	res, err := c.post(ctx, m, q)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&a); err != nil {
		return a, away(err)
	}
	return a, nil
}

// Issue asks for one certificate.
func (c *Client) Issue(ctx context.Context, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error) {
	return call[bulkhead.IssuedCertificate](ctx, c, Issue, req)
}

// IssueAfter asks for one certificate once its order is stored: the signer is asked for nothing before.
func (c *Client) IssueAfter(ctx context.Context, req bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error) {
	if stored != nil {
		if err := stored(ctx); err != nil {
			return bulkhead.IssuedCertificate{}, err
		}
	}
	return c.Issue(ctx, req)
}

// SignAnswers asks for OCSP answers.
func (c *Client) SignAnswers(ctx context.Context, req bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error) {
	return call[bulkhead.AnswerBatch](ctx, c, Answers, req)
}

// SignHead asks for the signature on a head.
func (c *Client) SignHead(ctx context.Context, body []byte) ([]byte, error) {
	a, err := call[headAnswer](ctx, c, Head, headRequest{body})
	return a.Signed, err
}

// IssueInfrastructure asks for a listener's certificate.
func (c *Client) IssueInfrastructure(ctx context.Context, names []bulkhead.Identifier, csr []byte) (bulkhead.IssuedCertificate, error) {
	return call[bulkhead.IssuedCertificate](ctx, c, Listener, certifyRequest{names, csr})
}

// RenewIdentity asks for the caller's own certificate again, for the key of csr.
func (c *Client) RenewIdentity(ctx context.Context, csr []byte) (bulkhead.IssuedCertificate, error) {
	return call[bulkhead.IssuedCertificate](ctx, c, Identity, certifyRequest{CSR: csr})
}

// SignCRL asks for a CRL and writes its DER to w. What was written counts only when the error is nil.
func (c *Client) SignCRL(ctx context.Context, req bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error) {
	var rec bulkhead.CRLRecord
	res, err := c.post(ctx, CRL, req)
	if err != nil {
		return rec, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, res.Body); err != nil {
		return rec, away(err)
	}
	if text := res.Trailer.Get(crlFault); text != "" {
		var p problem
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return rec, away(err)
		}
		return rec, p.fault()
	}
	if err := json.Unmarshal([]byte(res.Trailer.Get(crlRecord)), &rec); err != nil {
		return rec, away(err)
	}
	return rec, nil
}
