// Package ct submits precertificates to certificate transparency logs (RFC 6962, and static-ct-api logs, which take
// submissions the same way), and reads static-ct-api logs for certificates that our authorities signed and the record does
// not know.
//
// Purpose: an HTTP client for a fixed list of logs. It asks logs of different operators at once, goes on to the next log
// when one fails, and stops when there are enough timestamps.
//
// Invariant: what it returns is what the logs said, byte for byte. It verifies timestamps only to know when to go on to the
// next log; it holds no key, and the signer verifies everything again.
//
// Refuses: redirects, addresses that the configuration does not name, bodies that are too large, answers that are late.
package ct

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"bulkhead"
	"bulkhead/pki/sct"
)

const (
	// maxAnswer is far above any answer to add-pre-chain.
	maxAnswer = 64 << 10
	// defaultTimeout of one submission.
	defaultTimeout = 10 * time.Second
	// tries at one log that says "later".
	tries = 2
	pause = 500 * time.Millisecond
)

// Log is a log with its address.
type Log struct {
	sct.Log
	URL string // submission prefix, for example https://ct.example.com/2027h1/
}

// Config of a Client. Logs and Now are required.
type Config struct {
	Logs         []Log
	Now          func() time.Time
	Timeout      time.Duration // of one submission; 0 means 10 s
	AllowPrivate bool          // logs on loopback and private addresses, and over plain http: for a log of the house's own
	Log          *slog.Logger  // nil means discard
}

// Client submits; safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
}

// New checks the addresses. KindUsage names the log that is wrong.
func New(c Config) (*Client, error) {
	if len(c.Logs) == 0 || c.Now == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "ct: Logs or Now is not set").WithHint("name at least two logs of two operators")
	}
	for i, l := range c.Logs {
		if err := checkURL(l.Name, l.URL, c.AllowPrivate); err != nil {
			return nil, err
		}
		c.Logs[i].URL = strings.TrimRight(l.URL, "/")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: c, http: httpClient(c.AllowPrivate, c.Timeout)}, nil
}

func checkURL(name, address string, private bool) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !private) {
		return bulkhead.Faultf(bulkhead.KindUsage, "log %s: %q is not an https address", name, address).WithHint("give the prefix of the operator's list")
	}
	return nil
}

func httpClient(private bool, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error { return dialable(address, private) }}
	return &http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: timeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialable looks at the address after its name was resolved.
func dialable(address string, private bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	switch bulkhead.ClassOfAddress(at.Addr()) {
	case bulkhead.AddressPublic:
		return nil
	case bulkhead.AddressPrivate:
		if private {
			return nil
		}
		return fmt.Errorf("%s is not an address of the public network", at.Addr())
	default:
		return fmt.Errorf("%s is an address that nobody dials", at.Addr())
	}
}

// AddPreChain submits the chain (precertificate first) to logs that take certificates with this end, and returns the
// timestamps of the first n logs that answered, at least two operators and one log that is not tiled among them.
// KindUnavailable when there are too few; its cause names each log's failure.
func (c *Client) AddPreChain(ctx context.Context, chain [][]byte, notAfter time.Time, n int) ([]sct.SCT, error) {
	issuerKey, tbs, err := entry(chain)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct {
		Chain [][]byte `json:"chain"`
	}{chain})
	if err != nil {
		return nil, fmt.Errorf("ct: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		log Log
		sct sct.SCT
		err error
	}
	answers, asked := make(chan answer, len(c.cfg.Logs)), 0
	for _, l := range c.cfg.Logs {
		if !l.Takes(notAfter) {
			continue
		}
		asked++
		go func() {
			s, err := c.submit(ctx, l, body)
			if err == nil {
				err = sct.Verify(s, l.Log, issuerKey, tbs, c.cfg.Now())
			}
			answers <- answer{l, s, err}
		}()
	}
	var list []sct.SCT
	var from []Log
	var errs []error
	for range asked {
		a := <-answers
		if a.err != nil {
			errs = append(errs, fmt.Errorf("log %s: %w", a.log.Name, a.err))
			c.cfg.Log.WarnContext(ctx, "a log gave no timestamp", slog.String("log", a.log.Name), slog.String("error", a.err.Error()))
			continue
		}
		list, from = append(list, a.sct), append(from, a.log)
		if len(list) >= n && diverse(from) {
			return list, nil
		}
	}
	return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "%d of %d logs gave a timestamp, %d of two operators and one log that is not tiled are needed", len(list), asked, n).
		WithHint("try again; if it lasts, compare the list of logs with the operators' pages").WithRetry(time.Minute).WithCause(errors.Join(errs...))
}

// entry is what the logs will sign.
func entry(chain [][]byte) (issuerKey, tbs []byte, err error) {
	bad := bulkhead.NewFault(bulkhead.KindMalformed, "the chain is not a precertificate with its issuer").WithHint("give the precertificate first, then its issuer")
	if len(chain) < 2 {
		return nil, nil, bad
	}
	pre, err1 := x509.ParseCertificate(chain[0])
	issuer, err2 := x509.ParseCertificate(chain[1])
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, bad.WithCause(err)
	}
	tbs, poisoned, err := sct.Bare(pre.RawTBSCertificate)
	if err != nil || !poisoned {
		return nil, nil, bad.WithCause(err)
	}
	return issuer.RawSubjectPublicKeyInfo, tbs, nil
}

func diverse(logs []Log) bool {
	return slices.ContainsFunc(logs, func(l Log) bool { return !l.Tiled }) && slices.ContainsFunc(logs, func(l Log) bool { return l.Operator != logs[0].Operator })
}

// later says that the log asks to come back.
type later struct{ status int }

func (e later) Error() string { return fmt.Sprintf("status %d", e.status) }

func (c *Client) submit(ctx context.Context, l Log, body []byte) (s sct.SCT, err error) {
	for try := range tries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return s, ctx.Err()
			case <-time.After(pause):
			}
		}
		if s, err = c.once(ctx, l, body); err == nil {
			return s, nil
		}
		if _, again := errors.AsType[later](err); !again {
			return s, err
		}
	}
	return s, err
}

func (c *Client) once(ctx context.Context, l Log, body []byte) (sct.SCT, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL+"/ct/v1/add-pre-chain", bytes.NewReader(body))
	if err != nil {
		return sct.SCT{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return sct.SCT{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return sct.SCT{}, err
	case len(text) > maxAnswer:
		return sct.SCT{}, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	case res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests:
		return sct.SCT{}, later{res.StatusCode}
	case res.StatusCode != http.StatusOK:
		return sct.SCT{}, fmt.Errorf("status %d", res.StatusCode)
	}
	return ParseAnswer(text)
}

// ParseAnswer reads the answer to add-pre-chain (RFC 6962 section 4.1).
func ParseAnswer(text []byte) (sct.SCT, error) {
	var in struct {
		Version    *uint8 `json:"sct_version"`
		ID         string `json:"id"`
		Timestamp  uint64 `json:"timestamp"`
		Extensions string `json:"extensions"`
		Signature  string `json:"signature"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return sct.SCT{}, fmt.Errorf("the answer is not JSON: %w", err)
	}
	id, err1 := base64.StdEncoding.DecodeString(in.ID)
	extensions, err2 := base64.StdEncoding.DecodeString(in.Extensions)
	signed, err3 := base64.StdEncoding.DecodeString(in.Signature)
	if err := errors.Join(err1, err2, err3); err != nil || in.Version == nil || *in.Version != 0 || len(id) != 32 || len(extensions) > 1<<16-1 {
		return sct.SCT{}, errors.New("the answer is no version 1 timestamp")
	}
	s := sct.SCT{Timestamp: in.Timestamp, Extensions: extensions}
	copy(s.LogID[:], id)
	// DigitallySigned (RFC 5246 section 4.7): hash, signature algorithm, length, value.
	if len(signed) < 4 || int(signed[2])<<8|int(signed[3]) != len(signed)-4 {
		return sct.SCT{}, errors.New("the answer's signature is malformed")
	}
	s.Hash, s.Sig, s.Signature = signed[0], signed[1], signed[4:]
	return s, nil
}
