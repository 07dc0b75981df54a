package regress

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
)

// statusAddress is the status listener.
func (p paper) statusAddress(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(p.leaf.OCSPServer[0])
	ok(t, err)
	return u.Host
}

// TestHTTPDates: one peer sent dates that end in "UTC", which caches do not read. RFC 9110 section 5.6.7 knows GMT only.
func TestHTTPDates(t *testing.T) {
	h := newHouse(t)
	h.serve()
	p := h.issue(name(1))
	gone := h.issue(name(2))
	h.revoke(bulkhead.Superseded, gone.CertificateRef)
	base := "http://" + p.statusAddress(t)
	type question struct{ method, url, body string }
	var all []question
	for _, x := range []paper{p, gone, p.at(randomSerial(t))} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			der := x.request(t, hash)
			all = append(all, question{http.MethodPost, base + "/ocsp/", string(der)}, question{http.MethodGet, base + getPath(der), ""}, question{http.MethodHead, base + getPath(der), ""})
		}
	}
	for _, u := range []string{p.leaf.CRLDistributionPoints[0], p.leaf.IssuingCertificateURL[0], base + "/livez", base + "/readyz", base + "/nothing", base + "/ocsp/@"} {
		all = append(all, question{http.MethodGet, u, ""}, question{http.MethodHead, u, ""})
	}
	dated := 0
	check := func(q question, res *http.Response) {
		t.Helper()
		for _, field := range []string{"Date", "Last-Modified", "Expires"} {
			for _, text := range res.Header.Values(field) {
				if at, err := time.Parse(http.TimeFormat, text); err != nil || at.UTC().Format(http.TimeFormat) != text {
					t.Errorf("%s %s: %s is %q", q.method, q.url, field, text)
				}
				dated++
			}
		}
		if res.Header.Get("Date") == "" {
			t.Errorf("%s %s: no Date", q.method, q.url)
		}
	}
	for _, q := range all {
		req, err := http.NewRequestWithContext(t.Context(), q.method, q.url, strings.NewReader(q.body))
		ok(t, err)
		res, err := http.DefaultClient.Do(req)
		ok(t, err)
		res.Body.Close()
		check(q, res)
		if since := res.Header.Get("Last-Modified"); since != "" && q.method == http.MethodGet { // and 304 as well
			req.Header.Set("If-Modified-Since", since)
			res, err := http.DefaultClient.Do(req)
			ok(t, err)
			res.Body.Close()
			if res.StatusCode != http.StatusNotModified {
				t.Errorf("%s %s: %s for its own Last-Modified", q.method, q.url, res.Status)
			}
			check(q, res)
		}
	}
	if dated < 3*len(all)/2 {
		t.Errorf("%d dates in %d answers", dated, len(all))
	}
}

// variants are the ways in which clients write one GET.
func variants(der []byte) []string {
	plain := base64.StdEncoding.EncodeToString(der)
	return []string{"/ocsp/" + plain, "/ocsp/" + url.PathEscape(plain), "/ocsp/" + url.QueryEscape(plain), "/ocsp/" + strings.TrimRight(plain, "="),
		"/ocsp/" + base64.URLEncoding.EncodeToString(der), "/ocsp//" + plain, "/ocsp" + "/" + strings.ReplaceAll(url.QueryEscape(plain), "%2F", "%2f")}
}

// TestGETAndPOSTChangeAlike: one peer purged the GET form of an answer from its caches and left the POST form.
func TestGETAndPOSTChangeAlike(t *testing.T) {
	h := newHouse(t)
	p, q := h.issue(name(1)), h.issue(name(2))
	h.want(p, "good")
	etags := map[string]string{}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for _, path := range variants(p.request(t, hash)) {
			res := h.do(http.MethodGet, path, nil)
			etags[path] = res.header.Get("ETag")
			if etags[path] == "" || !strings.Contains(res.header.Get("Cache-Control"), "max-age=") {
				t.Fatalf("GET %s: %v", path, res.header)
			}
			if again := h.do(http.MethodGet, path, nil, "If-None-Match", etags[path]); again.code != http.StatusNotModified {
				t.Fatalf("GET %s again: %d", path, again.code)
			}
		}
		if res := h.do(http.MethodPost, "/ocsp/", p.request(t, hash)); res.header.Get("Cache-Control") != "no-store" {
			t.Errorf("POST may be kept: %v", res.header) // nobody can purge what has no URL of its own
		}
	}
	list, _ := h.crl(p)
	crlPath := strings.TrimPrefix(p.leaf.CRLDistributionPoints[0], "http://"+p.statusAddress(t))
	crlTag := h.do(http.MethodGet, crlPath, nil).header.Get("ETag")
	before := h.Edge.Sequence()
	h.revoke(bulkhead.Superseded, p.CertificateRef)
	if now := h.Edge.Sequence(); now != before+1 {
		t.Errorf("one change took the head from %d to %d", before, now)
	}
	h.want(p, "revoked") // by either method, with either hash, and on the CRL, at once
	for path, old := range etags {
		for _, header := range [][]string{nil, {"If-None-Match", old}, {"If-None-Match", old, "If-Modified-Since", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}} {
			res := h.do(http.MethodGet, path, nil, header...)
			r, err := ocsp.ParseResponseForCert(res.body, p.leaf, p.issuer)
			if res.code != http.StatusOK || err != nil || r.Status != ocsp.Revoked || res.header.Get("ETag") == old {
				t.Errorf("GET %s %v: %d, %v, %v", path, header, res.code, err, res.header)
			}
		}
	}
	if res := h.do(http.MethodGet, crlPath, nil, "If-None-Match", crlTag); res.code != http.StatusOK || bytes.Equal(res.body, list.Raw) {
		t.Errorf("the CRL's URL still gives the old list: %d", res.code)
	}
	h.want(q, "good")
}

// TestDoubleSlashIsAnswered: one peer answers 301 to a GET whose base64 has "//", 0.6 % of all.
func TestDoubleSlashIsAnswered(t *testing.T) {
	h := newHouse(t)
	h.serve()
	p := h.issue(name(1))
	var serials []bulkhead.Serial
	var all []paper
	for i := range 6 { // serials full of ones make runs of slashes wherever they fall
		n := new(big.Int).Lsh(big.NewInt(int64(0x7f00+i)), 112)
		n.Or(n, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 112-uint(8*i)), big.NewInt(1)))
		serials, all = append(serials, serialOf(t, n)), append(all, p.at(n))
	}
	h.plant(issuing, bulkhead.LeafCertificate, "CN=slashes", bulkhead.Digest([]byte("slashes")), serials...)
	h.look()
	seen := 0
	for _, x := range all {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			der := x.request(t, hash)
			text := base64.StdEncoding.EncodeToString(der)
			seen += strings.Count(text, "//")
			code, body := raw(t, p.statusAddress(t), "/ocsp/"+text)
			r, err := ocsp.ParseResponseForCert(body, x.leaf, x.issuer)
			if code != http.StatusOK || err != nil || r.Status != ocsp.Good {
				t.Errorf("GET /ocsp/%s: %d, %v", text, code, err)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d double slashes were tried", seen)
	}
}

// raw sends a path exactly as it is and follows nothing.
func raw(t testing.TB, address, path string) (int, []byte) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	ok(t, err)
	defer c.Close()
	ok(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, address)
	ok(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	ok(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ok(t, err)
	return res.StatusCode, body
}

// TestSilentConnectionStopsNobody: with one peer a single connection on which nothing is said stops all others.
func TestSilentConnectionStopsNobody(t *testing.T) {
	h := newHouse(t)
	h.serve()
	p := h.issue(name(1))
	der := p.request(t, crypto.SHA1)
	for i := range 200 {
		c, err := net.Dial("tcp", p.statusAddress(t))
		ok(t, err)
		defer c.Close()
		part := []string{"", "G", "GET /ocsp/ HTTP/1.1\r\nHost: x\r\n", "POST /ocsp/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0"}[i%4]
		_, err = io.WriteString(c, part)
		ok(t, err)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		res, err := client.Post("http://"+p.statusAddress(t)+"/ocsp/", "application/ocsp-request", bytes.NewReader(der)) //nolint:noctx // the client has a time limit
		ok(t, err)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		ok(t, err)
		if r, err := ocsp.ParseResponseForCert(body, p.leaf, p.issuer); err != nil || r.Status != ocsp.Good {
			t.Fatalf("behind silent connections: %v", err)
		}
	}
}
