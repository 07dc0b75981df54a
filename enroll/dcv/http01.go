package dcv

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

const (
	maxRedirects = 10
	maxBody      = 512 // a key authorization has less than 128 characters
	maxHeader    = 16 << 10
	userAgent    = "bulkhead-dcv/1 (RFC 8555 http-01)"
)

// hop is one request of a chain of redirects.
type hop struct {
	url    *url.URL
	host   string
	port   int
	secure bool
}

// http01 fetches the key authorization (RFC 8555 section 8.3, BR 3.2.2.4.19).
func (v *Validator) http01(ctx context.Context, id bulkhead.Identifier, token, keyAuthorization string) (string, error) {
	host := id.Value
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if v.cfg.HTTPPort != 80 {
		host += ":" + strconv.Itoa(v.cfg.HTTPPort)
	}
	next := "http://" + host + "/.well-known/acme-challenge/" + url.PathEscape(token)
	seen := map[string]bool{}
	var trail []string
	for range maxRedirects + 1 {
		h, err := v.parseHop(next)
		if err != nil {
			return "", err
		}
		if seen[h.url.String()] {
			return "", bulkhead.Faultf(bulkhead.KindConnection, "the redirects go round in circles at %s", shown(h.url))
		}
		seen[h.url.String()] = true
		to, location, err := v.fetch(ctx, h, keyAuthorization)
		if err != nil {
			return "", err
		}
		trail = append(trail, shown(h.url)+" at "+to.String())
		if location == "" {
			return "key authorization seen at " + strings.Join(trail, ", then "), nil
		}
		u, err := h.url.Parse(location)
		if err != nil {
			return "", bulkhead.Faultf(bulkhead.KindConnection, "%s redirects to something that is no URL", shown(h.url))
		}
		next = u.String()
	}
	return "", bulkhead.Faultf(bulkhead.KindConnection, "more than %d redirects", maxRedirects)
}

// parseHop admits http and https on the configured ports; the schemes' default ports stand for the configured ones.
func (v *Validator) parseHop(text string) (hop, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > 2000 || u.Hostname() == "" || u.User != nil {
		return hop{}, bulkhead.NewFault(bulkhead.KindConnection, "a redirect leads to a URL without a usable host")
	}
	u.Fragment = ""
	h := hop{url: u, host: strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), secure: u.Scheme == "https"}
	usual, own := "80", v.cfg.HTTPPort
	switch u.Scheme {
	case "http":
	case "https":
		usual, own = "443", v.cfg.TLSPort
	default:
		return hop{}, bulkhead.Faultf(bulkhead.KindConnection, "a redirect leads to scheme %q; only http and https are followed", u.Scheme)
	}
	if p := u.Port(); p != "" && p != usual && p != strconv.Itoa(own) {
		return hop{}, bulkhead.Faultf(bulkhead.KindConnection, "a redirect leads to port %s; only %s and %d are followed for %s", p, usual, own, u.Scheme)
	}
	h.port = own
	id, err := bulkhead.ParseIdentifier(h.host)
	if err != nil || id.Type == bulkhead.Email || id.Wildcard() {
		return hop{}, bulkhead.NewFault(bulkhead.KindConnection, "a redirect leads to a host that is neither a DNS name nor an address")
	}
	return h, nil
}

// fetch makes one request. It returns the location of a redirect, or "" when the key authorization was there.
func (v *Validator) fetch(ctx context.Context, h hop, want string) (netip.AddrPort, string, error) {
	var to netip.AddrPort
	addrs, err := v.addresses(ctx, h.host)
	if err != nil {
		return to, "", err
	}
	conn, to, err := v.dial(ctx, addrs, h.port)
	if err != nil {
		return to, "", err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // ends what is under way
	ask := v.ask
	if h.secure {
		ask = v.roundTrip
	}
	resp, err := ask(ctx, conn, h)
	if err != nil {
		return to, "", bulkhead.Faultf(bulkhead.KindConnection, "%s at %s: %s", shown(h.url), to, plainNetError(err))
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		location := resp.Header.Get("Location")
		if location == "" {
			return to, "", bulkhead.Faultf(bulkhead.KindUnauthorized, "%s at %s redirects without a location", shown(h.url), to)
		}
		return to, location, nil
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return to, "", bulkhead.Faultf(bulkhead.KindUnauthorized, "%s at %s answers status %d", shown(h.url), to, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return to, "", bulkhead.Faultf(bulkhead.KindConnection, "reading %s at %s: %s", shown(h.url), to, plainNetError(cmp.Or(ctx.Err(), err)))
	}
	if len(body) > maxBody {
		return to, "", bulkhead.Faultf(bulkhead.KindUnauthorized, "%s at %s answers more than %d bytes", shown(h.url), to, maxBody)
	}
	// RFC 8555 section 8.3: trailing whitespace is the server's to ignore.
	if got := bytes.TrimRight(body, " \t\r\n"); subtle.ConstantTimeCompare(got, []byte(want)) != 1 {
		return to, "", bulkhead.Faultf(bulkhead.KindUnauthorized, "%s at %s answers %.80q instead of the key authorization", shown(h.url), to, got)
	}
	return to, "", nil
}

// ask speaks HTTP without TLS over the connection that was dialled. A transport of net/http costs two goroutines and their timers for one
// request; nothing of what it is for is needed here.
func (v *Validator) ask(ctx context.Context, conn net.Conn, h hop) (*http.Response, error) {
	if err := conn.SetDeadline(v.until(ctx)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, h.request()); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	limit := &io.LimitedReader{R: conn, N: maxHeader}
	in := bufio.NewReaderSize(limit, 1024)
	for range maxInformational {
		resp, err := http.ReadResponse(in, nil) // to a GET
		switch {
		case err != nil && limit.N == 0:
			return nil, fmt.Errorf("the header has more than %d bytes", maxHeader)
		case err != nil:
			return nil, cmp.Or(ctx.Err(), err)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			limit.N = maxWire
			return resp, conn.SetDeadline(v.whole(ctx))
		}
	}
	return nil, fmt.Errorf("more than %d informational answers", maxInformational)
}

// request is what net/http writes for newProbe. parseHop has admitted the host, and no URL that url.Parse admits has the end of a
// line in it.
func (h hop) request() string {
	return "GET " + h.url.RequestURI() + " HTTP/1.1\r\nHost: " + strings.TrimSuffix(h.url.Host, ":") + "\r\nUser-Agent: " + userAgent + "\r\nConnection: close\r\nAccept: */*\r\n\r\n"
}

const (
	maxInformational = 5       // answers of the hundreds before the one that counts, as net/http has it
	maxWire          = 8 << 10 // read behind the header: maxBody in chunks, however small
)

// until is when an answer must have begun, whole when all must be over.
func (v *Validator) until(ctx context.Context) time.Time {
	late := time.Now().Add(v.cfg.Timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(late) {
		return end
	}
	return late
}

func (v *Validator) whole(ctx context.Context) time.Time {
	if end, ok := ctx.Deadline(); ok {
		return end
	}
	return time.Now().Add(v.cfg.Timeout)
}

func newProbe(ctx context.Context, h hop) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "*/*")
	return req, nil
}

// roundTrip speaks HTTP over the connection that was dialled and over no other. A certificate is not verified: the
// client may be about to get its first one.
func (v *Validator) roundTrip(ctx context.Context, conn net.Conn, h hop) (*http.Response, error) {
	used := false
	t := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, fmt.Errorf("a second connection is not made")
			}
			used = true
			return conn, nil
		},
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, ServerName: serverName(h.host)}, //nolint:gosec // see above
		TLSHandshakeTimeout:    v.cfg.Timeout,
		ResponseHeaderTimeout:  v.cfg.Timeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableKeepAlives:      true,
		DisableCompression:     true,
	}
	req, err := newProbe(ctx, h)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

// serverName is the SNI of a host: none for an address (RFC 6066).
func serverName(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

// shown is a URL as details have it, cut to a length that fits a line.
func shown(u *url.URL) string {
	text := u.String()
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return text
}
