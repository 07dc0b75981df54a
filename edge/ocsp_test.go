package edge

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

func encodePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	text := "-----BEGIN " + kind + "-----\n"
	b64 := base64.StdEncoding.EncodeToString(der)
	for len(b64) > 64 {
		text += b64[:64] + "\n"
		b64 = b64[64:]
	}
	text += b64 + "\n-----END " + kind + "-----\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// slashed finds a serial whose request has "//" in base64, and where every "//" is.
func slashed(t *testing.T, a *authority, hash ocsp.HashAlgorithm) (int64, string) {
	t.Helper()
	for shift := range 24 {
		n := int64(0x5500000000000055) | 0x1fff<<(8+shift)
		text := base64.StdEncoding.EncodeToString(a.request(t, hash, n))
		if strings.Count(text, "//") == 1 && strings.Count(text, "///") == 0 {
			return n, text
		}
	}
	t.Fatal("no request with // was found")
	return 0, ""
}

// TestFormsOfRequest: every way in which clients and proxies write a GET gives the bytes that POST gives.
func TestFormsOfRequest(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	n, text := slashed(t, a, ocsp.SHA1)
	w.add(a, w.good(n), w.revoked(7))
	w.publish()
	e := w.refreshed()
	srv := serve(t, e)
	der := must(base64.StdEncoding.DecodeString(text))(t)
	want := e.askFor(t, der)
	if got := a.stateOf(t, want, n, w.clock()); got != "good" {
		t.Fatalf("POST gives %s", got)
	}
	bare := strings.TrimRight(text, "=")
	forms := map[string]string{
		"escaped":            "/ocsp/" + url.QueryEscape(text),
		"lower-case escapes": "/ocsp/" + strings.NewReplacer("%2F", "%2f", "%2B", "%2b", "%3D", "%3d").Replace(url.QueryEscape(text)),
		"bare":               "/ocsp/" + text,
		"no padding":         "/ocsp/" + bare,
		"URL alphabet":       "/ocsp/" + strings.NewReplacer("+", "-", "/", "_").Replace(bare),
		"everything escaped": "/ocsp/" + func() (s string) {
			for _, c := range []byte(text) {
				s += "%" + strconv.FormatInt(int64(c), 16)
			}
			return s
		}(),
		"joined with //":        "/ocsp//" + text,
		"// taken for /":        "/ocsp/" + strings.Replace(text, "//", "/", 1),
		"// taken, no padding":  "/ocsp/" + strings.Replace(bare, "//", "/", 1),
		"// taken for %2F":      "/ocsp/" + strings.Replace(text, "//", "%2F", 1),
		"with a query":          "/ocsp/" + text + "?x=1",
		"absolute form":         srv.URL + "/ocsp/" + url.QueryEscape(text),
		"absolute form, slash":  srv.URL + "/ocsp/" + text,
		"absolute form, merged": srv.URL + "/ocsp/" + strings.Replace(text, "//", "/", 1),
	}
	for name, target := range forms {
		r := do(t, srv, http.MethodGet, target, nil)
		if r.StatusCode != http.StatusOK || !bytes.Equal(r.body, want) {
			t.Errorf("%s: HTTP %d, %x", name, r.StatusCode, r.body)
		}
	}
	for _, target := range []string{"/ocsp", "/ocsp/"} {
		if r := do(t, srv, http.MethodPost, target, der, "Content-Type", "application/ocsp-request"); !bytes.Equal(r.body, want) {
			t.Errorf("POST %s: %x", target, r.body)
		}
	}
	if r := do(t, srv, http.MethodGet, getPath(a.request(t, ocsp.SHA256, n)), nil); !bytes.Equal(r.body, want) {
		t.Errorf("SHA-256 CertID: %x", r.body)
	}
	if len(e.observed) != 0 {
		t.Error("a request that was answered was observed")
	}
}

// TestHeaders checks what caches rely on (RFC 9919 section 6, RFC 9111), on the wire.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	x := w.good(7)
	w.add(a, x)
	w.publish()
	e := w.refreshed()
	srv := serve(t, e)
	path := getPath(a.request(t, ocsp.SHA1, 7))
	get := do(t, srv, http.MethodGet, path, nil)
	want := map[string]string{
		"Content-Type":   "application/ocsp-response",
		"Content-Length": strconv.Itoa(len(get.body)),
		"Cache-Control":  "public, max-age=10798, no-transform, must-revalidate",
		"Expires":        x.next.UTC().Format(http.TimeFormat),
		"Last-Modified":  x.this.UTC().Format(http.TimeFormat),
	}
	for k, v := range want {
		if got := get.Header.Get(k); got != v {
			t.Errorf("%s: %q, want %q", k, got, v)
		}
	}
	for _, k := range []string{"Date", "Expires", "Last-Modified"} {
		if v := get.Header.Get(k); !strings.HasSuffix(v, " GMT") {
			t.Errorf("%s: %q is no HTTP date", k, v)
		}
	}
	etag := get.Header.Get("ETag")
	if len(etag) != etagText || etag[0] != '"' {
		t.Errorf("ETag %q is not strong", etag)
	}
	head := do(t, srv, http.MethodHead, path, nil)
	for k := range want {
		if head.Header.Get(k) != get.Header.Get(k) {
			t.Errorf("HEAD %s: %q, GET has %q", k, head.Header.Get(k), get.Header.Get(k))
		}
	}
	if len(head.body) != 0 || head.Header.Get("ETag") != etag {
		t.Error("HEAD differs from GET")
	}
	post := do(t, srv, http.MethodPost, "/ocsp/", a.request(t, ocsp.SHA1, 7))
	if post.Header.Get("Cache-Control") != "no-store" || post.Header.Get("ETag") != etag {
		t.Errorf("POST headers: %v", post.Header)
	}

	since, before := x.this.UTC().Format(http.TimeFormat), x.this.Add(-time.Second).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		name, method string
		header       []string
		code         int
	}{
		{"same ETag", "GET", []string{"If-None-Match", etag}, 304},
		{"same ETag, HEAD", "HEAD", []string{"If-None-Match", etag}, 304},
		{"in a list", "GET", []string{"If-None-Match", `"x", W/` + etag}, 304},
		{"any", "GET", []string{"If-None-Match", "*"}, 304},
		{"another ETag", "GET", []string{"If-None-Match", `"x"`}, 200},
		{"another ETag wins over the date", "GET", []string{"If-None-Match", `"x"`, "If-Modified-Since", since}, 200},
		{"same date", "GET", []string{"If-Modified-Since", since}, 304},
		{"earlier date", "GET", []string{"If-Modified-Since", before}, 200},
		{"bad date", "GET", []string{"If-Modified-Since", "yesterday"}, 200},
		{"POST", "POST", []string{"If-None-Match", etag}, 200},
	} {
		target, body := path, []byte(nil)
		if c.method == "POST" {
			target, body = "/ocsp/", a.request(t, ocsp.SHA1, 7)
		}
		r := do(t, srv, c.method, target, body, c.header...)
		if r.StatusCode != c.code {
			t.Errorf("%s: HTTP %d, want %d", c.name, r.StatusCode, c.code)
		}
		if c.code == 304 && (len(r.body) != 0 || r.Header.Get("ETag") != etag || r.Header.Get("Cache-Control") == "" || r.Header.Get("Content-Type") != "") {
			t.Errorf("%s: 304 with %v", c.name, r.Header)
		}
	}
	if e := w.refreshed(func(c *Config) { c.MaxAge = time.Minute }); cacheControlOf(t, e, path) != "public, max-age=60, no-transform, must-revalidate" {
		t.Error("MaxAge does not cap max-age")
	}
	w.advance(3*time.Hour - time.Second)
	if got := cacheControlOf(t, e, path); got != "no-store" {
		t.Errorf("one second before nextUpdate: Cache-Control %q", got)
	}
}

func cacheControlOf(t *testing.T, e *Edge, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	e.serve(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Header().Get("Cache-Control")
}

// TestRefusals: everything that gets an error of OCSP or HTTP; none of it may be kept by a cache.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	a, b := newAuthority(t, "a", "A", newKey(t)), newAuthority(t, "b", "B", newKey(t))
	w.add(a, w.good(7))
	w.publish()
	e := w.refreshed()
	srv := serve(t, e)
	several := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, serialOf(7)), a.issuer.CertID(ocsp.SHA1, serialOf(8))}, nil))(t)
	sha512 := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA512, serialOf(7))}, nil))(t)
	nameOfB := a.issuer.CertID(ocsp.SHA1, serialOf(7))
	nameOfB.NameHash = b.issuer.CertID(ocsp.SHA1, serialOf(7)).NameHash
	mixed := must(ocsp.EncodeRequest([]ocsp.CertID{nameOfB}, nil))(t)
	good := a.request(t, ocsp.SHA1, 7)
	for _, c := range []struct {
		name string
		der  []byte
		want string
	}{
		{"several CertIDs", several, "unauthorized"},
		{"foreign issuer", b.request(t, ocsp.SHA1, 7), "unauthorized"},
		{"our key, another name", mixed, "unauthorized"},
		{"unassigned serial", a.request(t, ocsp.SHA1, 8), "unauthorized"},
		{"a hash without answers", sha512, "unauthorized"},
		{"empty", nil, "malformedRequest"},
		{"truncated", good[:len(good)-1], "malformedRequest"},
		{"trailing byte", append(append([]byte(nil), good...), 0), "malformedRequest"},
		{"not DER", []byte("hello"), "malformedRequest"},
		{"64 KiB of nothing", make([]byte, maxPost), "malformedRequest"},
	} {
		replies := []reply{do(t, srv, http.MethodPost, "/ocsp/", append([]byte{}, c.der...))}
		if len(c.der) < 1000 {
			replies = append(replies, do(t, srv, http.MethodGet, getPath(c.der), nil))
		}
		for _, r := range replies {
			p := must(ocsp.ParseResponse(r.body))(t)
			if r.StatusCode != http.StatusOK || p.Status.String() != c.want || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("ETag") != "" || r.Header.Get("Expires") != "" {
				t.Errorf("%s by %s: HTTP %d, %s, %v", c.name, r.Request.Method, r.StatusCode, p.Status, r.Header)
			}
		}
	}
	for _, c := range []struct {
		name, method, target string
		body                 []byte
		code                 int
	}{
		{"too large", "POST", "/ocsp/", make([]byte, maxPost+1), 413},
		{"PUT", "PUT", "/ocsp/", nil, 405},
		{"DELETE a CRL", "DELETE", "/crl/a/0.crl", nil, 405},
		{"POST to health", "POST", "/readyz", nil, 405},
		{"OPTIONS", "OPTIONS", "/ocsp/", nil, 204},
		{"no such path", "GET", "/ocspx", nil, 404},
		{"root", "GET", "/", nil, 404},
		{"no such shard", "GET", "/crl/a/99.crl", nil, 404},
		{"no such issuer", "GET", "/ca/x.cer", nil, 404},
		{"traversal", "GET", "/crl/../head", nil, 404},
	} {
		r := do(t, srv, c.method, c.target, c.body)
		if r.StatusCode != c.code || r.Header.Get("Cache-Control") != "no-store" || (c.code == 405 || c.code == 204) != (r.Header.Get("Allow") != "") {
			t.Errorf("%s: HTTP %d, %v", c.name, r.StatusCode, r.Header)
		}
	}
	chunked := must(http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/ocsp/", struct{ *bytes.Reader }{bytes.NewReader(make([]byte, maxPost+1))}))(t)
	resp := must(srv.Client().Do(chunked))(t)
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too large without a length: HTTP %d", resp.StatusCode)
	}
}

// TestTwoAnswers: where a pack has an answer for each hash, each question gets its own, with an ETag of its own.
func TestTwoAnswers(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	x := w.good(7)
	tbs, sig := a.sign(t, x)
	tbs256, sig256 := a.sign(t, x)
	var buf bytes.Buffer
	pw := must(pack.NewWriter(&buf, a.issuer))(t)
	r := must(pw.AddResponder(a.respCert.Raw))(t)
	if err := pw.Add(pack.Entry{Serial: x.serial, TBS: tbs, Signature: sig, TBS256: tbs256, Signature256: sig256, Responder: r, ThisUpdate: x.this, NextUpdate: x.next}); err != nil {
		t.Fatal(err)
	}
	ref := mustFinish(t, pw, &buf)
	ref.Name = w.put("packs", a.id, buf.Bytes())
	w.issuer(a).Packs = []pack.ObjectRef{ref}
	w.publish()
	srv := serve(t, w.refreshed())
	one := do(t, srv, http.MethodGet, getPath(a.request(t, ocsp.SHA1, 7)), nil)
	two := do(t, srv, http.MethodGet, getPath(a.request(t, ocsp.SHA256, 7)), nil)
	if !bytes.Equal(one.body, ocsp.Assemble(tbs, sig, a.respCert.Raw)) || !bytes.Equal(two.body, ocsp.Assemble(tbs256, sig256, a.respCert.Raw)) {
		t.Error("an answer went to the other question")
	}
	if one.Header.Get("ETag") == two.Header.Get("ETag") {
		t.Error("two answers have one ETag")
	}
}

// TestSignedRequestAndNonce: what pre-signed answers can ignore is ignored.
func TestSignedRequestAndNonce(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(7))
	w.publish()
	e := w.refreshed()
	nonce := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, serialOf(7))}, bytes.Repeat([]byte{9}, 32)))(t)
	if got := a.stateOf(t, e.askFor(t, nonce), 7, w.clock()); got != "good" {
		t.Errorf("with a nonce: %s", got)
	}
}

// TestForeignReaders: openssl by POST and Go by GET read good, revoked and unauthorized, and check the signature.
func TestForeignReaders(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("this test needs openssl: %v", err)
	}
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(0x1234567890), w.revoked(0x7fedcba987))
	w.publish()
	srv := serve(t, w.refreshed())
	ca := encodePEM(t, t.TempDir(), "ca.pem", "CERTIFICATE", a.cert.Raw)
	for _, c := range []struct {
		serial int64
		want   string
		status int
		err    error
	}{{0x1234567890, ": good", xocsp.Good, nil}, {0x7fedcba987, ": revoked", xocsp.Revoked, nil}, {0x55, "unauthorized", 0, xocsp.ResponseError{Status: xocsp.Unauthorized}}} {
		for _, digest := range []string{"-sha1", "-sha256"} {
			out, err := exec.CommandContext(t.Context(), openssl, "ocsp", "-issuer", ca, digest, "-serial", strconv.FormatInt(c.serial, 10), "-url", srv.URL+"/ocsp/", "-CAfile", ca).CombinedOutput()
			ok := strings.Contains(string(out), c.want) && (c.err != nil || strings.Contains(string(out), "Response verify OK"))
			if !ok || err != nil && c.err == nil {
				t.Errorf("openssl %s %x: %v\n%s", digest, c.serial, err, out)
			}
		}
		r := do(t, srv, http.MethodGet, getPath(a.request(t, ocsp.SHA1, c.serial)), nil)
		resp, err := xocsp.ParseResponseForCert(r.body, &x509.Certificate{SerialNumber: big.NewInt(c.serial)}, a.cert)
		if c.err != nil {
			if err != c.err {
				t.Errorf("x/crypto %x: %v", c.serial, err)
			}
			continue
		}
		if err != nil || resp.Status != c.status || resp.SerialNumber.Int64() != c.serial {
			t.Errorf("x/crypto %x: %+v %v", c.serial, resp, err)
		}
	}
}

func FuzzGet(f *testing.F) {
	f.Add("MFQ/AAA")
	f.Add("%4D%2f%3D=")
	f.Add("//MEUwQzBBMD8wPTAJBgUrDgMCGgUABBQ//MA==")
	f.Add("-_")
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := appendGet(nil, path)
		std, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(plainDigits(path), "="))
		if ok && (err != nil || !bytes.Equal(got, std)) {
			t.Fatalf("%q gives %x, the standard decoder %x %v", path, got, std, err)
		}
		e := &Edge{observed: make(chan Unassigned, 1), cfg: Config{Now: time.Now}}
		e.metrics, err = newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/ocsp/x", nil)
		r.RequestURI = "/ocsp/" + path
		e.serve(w, r)
		e.current.Store(&epoch{issuers: map[issuerKey]*issuer{}})
		e.serve(w, r)
	})
}
