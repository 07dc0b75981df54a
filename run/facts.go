package run

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
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
	"bulkhead/enroll/dcv"
	"bulkhead/scan"
)

// fetchWait bounds one step of a fetch: a dial, a reply's headers.
const fetchWait = 5 * time.Second

// fetcher implements scan.Fetcher over plain HTTP: no redirect, no proxy, one request a connection.
type fetcher struct{ client *http.Client }

func newFetcher(dial func(ctx context.Context, network, address string) (net.Conn, error)) fetcher {
	return fetcher{client: &http.Client{Timeout: 2 * fetchWait, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: fetchWait, MaxResponseHeaderBytes: 32 << 10}}}
}

// asNamed asks whom the URL names, by addresses that the guard lets through.
func asNamed(guard *scan.Guard, names scan.Names) fetcher {
	return newFetcher(func(ctx context.Context, _, address string) (net.Conn, error) {
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, err
		}
		addrs := []netip.Addr{}
		if a, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, a)
		} else if addrs, err = names.Addresses(ctx, host); err != nil {
			return nil, err
		}
		err = fmt.Errorf("%s has no address", host)
		for _, a := range addrs[:min(len(addrs), 4)] {
			step, cancel := context.WithTimeout(ctx, fetchWait)
			c, failed := guard.Dial(step, netip.AddrPortFrom(a, uint16(port)))
			if cancel(); failed == nil {
				return c, nil
			}
			err = failed
		}
		return nil, err
	})
}

// throughTier asks one configured cache, whatever the URL names.
func throughTier(base string) (fetcher, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return fetcher{}, bulkhead.Faultf(bulkhead.KindUsage, "%q is not http://HOST:PORT", base)
	}
	to := u.Host
	if u.Port() == "" {
		to = net.JoinHostPort(u.Hostname(), "80")
	}
	d := &net.Dialer{Timeout: fetchWait}
	return newFetcher(func(ctx context.Context, network, _ string) (net.Conn, error) { return d.DialContext(ctx, network, to) }), nil
}

// Fetch implements scan.Fetcher.
func (f fetcher) Fetch(ctx context.Context, at, contentType string, body []byte, most int64) ([]byte, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil {
		return nil, errors.New("the certificate has no usable http URL")
	}
	method, in := http.MethodGet, io.Reader(http.NoBody)
	if body != nil {
		method, in = http.MethodPost, bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := f.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", res.StatusCode)
	}
	got, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err == nil && int64(len(got)) > most {
		err = fmt.Errorf("the answer has more than %d octets", most)
	}
	return got, err
}

// elsewhere asks whom a certificate names. The house's own status address is the operator's word, so it may be private.
type elsewhere struct {
	strangers, house fetcher
	base             string
}

// Fetch implements scan.Fetcher.
func (x elsewhere) Fetch(ctx context.Context, at, contentType string, body []byte, most int64) ([]byte, error) {
	if strings.HasPrefix(at, x.base) {
		return x.house.Fetch(ctx, at, contentType, body, most)
	}
	return x.strangers.Fetch(ctx, at, contentType, body, most)
}

// own asks the edge of this process.
type own struct{ http.Handler }

// Fetch implements scan.Fetcher.
func (o own) Fetch(ctx context.Context, at, contentType string, body []byte, most int64) ([]byte, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.RequestURI, req.RemoteAddr = req.URL.RequestURI(), "127.0.0.1:0"
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	w := &reply{header: http.Header{}, code: http.StatusOK}
	o.ServeHTTP(w, req)
	if w.code != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", w.code)
	}
	if int64(w.body.Len()) > most {
		return nil, fmt.Errorf("the answer has more than %d octets", most)
	}
	return w.body.Bytes(), nil
}

// CRLs of strangers' authorities may be this long for a stranger, and for the house.
const (
	crlForStrangers = 1 << 20
	crlForTheHouse  = 64 << 20
)

// ScanTier is a cache through which status is looked at.
type ScanTier struct{ Name, Base string }

// caaOf looks CAA up at the resolver; identities are the names by which records permit the house.
func caaOf(resolver string, identities []string) (func(ctx context.Context, name string) (bulkhead.CAASeen, error), error) {
	nameless := len(identities) == 0
	if nameless {
		identities = []string{"none.invalid"}
	}
	v, err := dcv.New(dcv.Config{Resolver: resolver, CAAIdentities: identities, Timeout: fetchWait, Total: 2 * fetchWait, Now: time.Now})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string) (bulkhead.CAASeen, error) {
		c, err := v.LookCAA(ctx, name)
		if nameless && c.Records != "" {
			c.Allows, c.Detail = "unknown", "it was not said by what name records would permit the house"
		}
		return c, err
	}, nil
}

// facts are what the house adds to looks: its own status from every tier, others' as their certificates say, CAA.
func (e eyes) facts(guard *scan.Guard, names scan.Names, ours []*x509.Certificate, book bulkhead.LookBook) (scan.Facts, error) {
	f := scan.Facts{Known: ours, Ours: ours, MostCRL: crlForTheHouse, Now: e.h.now}
	if book == bulkhead.PublicLooks {
		f.MostCRL = crlForStrangers
	}
	if e.h.edge != nil {
		f.Sources = append(f.Sources, scan.StatusSource{Tier: "the edge of this house", Fetcher: own{e.h.edge.Handler()}, Only: ours})
	}
	points, err := e.h.points(nil)
	if err != nil {
		return f, err
	}
	for _, p := range points {
		t, err := throughTier(p.Base)
		if err != nil {
			continue // a tier behind https is probed by the watch
		}
		f.Sources = append(f.Sources, scan.StatusSource{Tier: strings.TrimPrefix(p.Name, "tier ") + " (" + p.Base + ")", Fetcher: t, Only: ours})
	}
	f.Sources = append(f.Sources, scan.StatusSource{Fetcher: elsewhere{strangers: asNamed(guard, names), house: asNamed(scan.NewGuard(true), names), base: strings.TrimRight(e.h.cfg.StatusURL, "/") + "/"}})
	f.CAA, err = caaOf(e.h.cfg.Resolver, e.h.cfg.ACME.CAAIdentities)
	return f, err
}
