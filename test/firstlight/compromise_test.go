package firstlight

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// readKey reads a private key that `issue` wrote.
func readKey(t testing.TB, path string) crypto.Signer {
	t.Helper()
	body, err := os.ReadFile(path)
	ok(t, err)
	block, _ := pem.Decode(body)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ok(t, err)
	return key.(crypto.Signer)
}

// requestFor makes a CSR file with openssl.
func requestFor(t testing.TB, keyFile, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name+".csr")
	if text, err := openssl(t, "req", "-new", "-key", keyFile, "-subj", "/", "-addext", "subjectAltName=DNS:"+name, "-out", out); err != nil {
		t.Fatalf("openssl req: %v\n%s", err, text)
	}
	return out
}

// post sends JSON to the API with an account's token and returns status and problem.
func (h *house) post(path, token, body string) (int, map[string]any) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.ready.API+path, strings.NewReader(body))
	ok(h.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := h.client.Do(req)
	ok(h.t, err)
	defer res.Body.Close()
	var v map[string]any
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	ok(h.t, err)
	if err := json.Unmarshal(b.Bytes(), &v); err != nil || res.StatusCode >= 400 && res.Header.Get("Content-Type") != "application/problem+json" {
		h.t.Errorf("%s: %s %s: %s", path, res.Status, res.Header.Get("Content-Type"), b.String())
	}
	return res.StatusCode, v
}

func (h *house) token() string {
	h.t.Helper()
	var v struct{ Token string }
	h.query(&v, "account", "add")
	return v.Token
}

// TestCompromisedKeyStaysOut: a key that was revoked for keyCompromise is refused on every path, old certificates and
// new accounts included; another key for the same name is not.
func TestCompromisedKeyStaysOut(t *testing.T) {
	t.Parallel()
	h, n := shared(t)
	n.host(t, "127.0.0.1", "leak.test")
	got := h.issue("leak.test")
	csr := requestFor(t, got.Files.Key, "leak.test")
	h.must("issue", "--csr", csr, "--out", t.TempDir()) // before: the same key again is no question
	h.must("cert", "revoke", got.Files.Cert, "--reason", "keyCompromise")
	key := readKey(t, got.Files.Key)

	h.refused(3, "compromise", "issue", "--csr", csr, "--out", t.TempDir())
	body, err := os.ReadFile(csr)
	ok(t, err)
	upload, err := json.Marshal(map[string]string{"csr": string(body)})
	ok(t, err)
	if code, p := h.post("/certificates", h.token(), string(upload)); code != 400 || p["title"] != "badPublicKey" {
		t.Errorf("upload: %d %v", code, p)
	}
	s := h.subscriber(n, "http-01", ecKey(t))
	_, err = s.obtain(key, nil, "leak.test")
	wantProblem(t, err, "badPublicKey")
	fresh, err := s.obtain(ecKey(t), nil, "leak.test")
	ok(t, err)
	_, err = s.obtain(key, func(p *acmez.OrderParameters) { p.Replaces = fresh.leaf }, "leak.test")
	wantProblem(t, err, "badPublicKey")

	c := &acme.Client{Directory: h.ready.ACMEDirectory, HTTPClient: h.client}
	_, err = c.NewAccount(t.Context(), acme.Account{PrivateKey: key, TermsOfServiceAgreed: true})
	wantProblem(t, err, "badPublicKey")
	_, err = s.AccountKeyRollover(t.Context(), s.account, key)
	wantProblem(t, err, "badPublicKey")
	h.must("cert", "renew", got.Files.Cert, "--out", t.TempDir()) // a new key for the same names
}

// TestKeyShownByRevocation: who revokes with the certificate's key has shown it; it is blocked as well.
func TestKeyShownByRevocation(t *testing.T) {
	t.Parallel()
	h, n := shared(t)
	n.host(t, "127.0.0.1", "shown.test")
	s, key := h.subscriber(n, "http-01", ecKey(t)), ecKey(t)
	p, err := s.obtain(key, nil, "shown.test")
	ok(t, err)
	ok(t, s.RevokeCertificate(t.Context(), s.account, p.leaf, key, acme.ReasonSuperseded))
	if state, reason := h.state(p.leaf); state != "revoked" || reason != "keyCompromise" {
		t.Errorf("%s for %s", state, reason)
	}
	_, err = s.obtain(key, func(o *acmez.OrderParameters) { o.Replaces = p.leaf }, "shown.test")
	wantProblem(t, err, "badPublicKey")
}
