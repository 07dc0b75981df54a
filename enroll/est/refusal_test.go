package est_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll/est"
)

// TestCredentials: each refusal is 401 with a challenge, and changes nothing.
func TestCredentials(t *testing.T) {
	h := newHouse(t)
	acct, user := h.token(true)
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	h.foreign()
	send := h.request("new", "one.internal")
	before := h.issuedRows()
	for _, c := range []struct {
		operation string
		args      []string
		says      string
	}{
		{"simpleenroll", nil, "takes a token"},
		{"simpleenroll", with("one"), "use simplereenroll"},
		{"simpleenroll", []string{"--user", "est:bh_wrong"}, "not that of an account"},
		{"simpleenroll", []string{"--user", "est:"}, "not that of an account"},
		{"simpleenroll", []string{"--header", "Authorization: Bearer x"}, "not Basic"},
		{"simplereenroll", nil, "takes the certificate being renewed"},
		{"simplereenroll", join(with("one"), []string{"--user", "est:bh_wrong"}), "not that of an account"},
		{"simplereenroll", with("foreign"), "was not issued here"},
		{"simplereenroll", with("twin"), "was not issued here"},
	} {
		h.curl(c.operation, join(c.args, send)...).want(t, 401, c.says)
	}
	_, err := h.svc.DeactivateAccount(t.Context(), acct)
	ok(t, err)
	h.curl("simplereenroll", join(with("one"), send)...).want(t, 401, "not in office")
	h.curl("simpleenroll", join(user, send)...).want(t, 401, "not that of an account")
	if h.issuedRows() != before {
		t.Error("something was issued")
	}
}

// foreign makes a self-signed certificate, and one that our root really signed for the same name and serial as a
// certificate of ours but that is not in the record.
func (h *house) foreign() {
	h.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=one.internal", "-addext", "subjectAltName=DNS:one.internal",
		"-keyout", "foreign.key", "-out", "foreign.pem")
	h.request("twin", "one.internal")
	der, err := os.ReadFile(h.path("twin.der"))
	ok(h.t, err)
	csr, err := x509.ParseCertificateRequest(der)
	ok(h.t, err)
	twin, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: randomSerial(h.t).Big(), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}, h.root, csr.PublicKey, h.rootKey)
	ok(h.t, err)
	h.pem("twin.pem", "CERTIFICATE", twin)
}

func TestExpiredCertificate(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.enrolled("tls-server-short/simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	send := h.request("new", "one.internal")
	h.shift.Store(int64(6*24*time.Hour + time.Minute))
	h.curl("simplereenroll", join(with("one"), send)...).want(t, 401, "is valid from")
	h.shift.Store(int64(-2 * time.Hour))
	h.curl("simplereenroll", join(with("one"), send)...).want(t, 401, "is valid from")
	h.shift.Store(int64(5 * 24 * time.Hour))
	h.enrolled("simplereenroll", "new", join(with("one"), send)...)
}

func TestRevokedCertificate(t *testing.T) {
	h := newHouse(t)
	acct, user := h.token(true)
	x := h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	y := h.enrolled("simpleenroll", "two", join(user, h.request("two", "two.internal"))...)
	_, err := h.svc.RevokeByAccount(t.Context(), acct, x.Raw, bulkhead.Superseded)
	ok(t, err)
	h.curl("simplereenroll", join(with("one"), h.request("new", "one.internal"))...).want(t, 401, "is revoked (superseded)")
	// A key that is blocked opens nothing, even before the certificates with it are revoked, and is never certified again.
	ok(t, h.status.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: h.row(y).KeyHash, BlockedAt: time.Now(), Reason: "found in a repository", Actor: "operator:alice"}))
	h.curl("simplereenroll", join(with("two"), h.request("new", "two.internal"))...).want(t, 401, "reported as compromised")
	before := h.issuedRows()
	h.curl("simpleenroll", join(user, h.request("two", "two.internal"))...).want(t, 400, "next: make a new key")
	if h.issuedRows() != before {
		t.Error("a blocked key was certified")
	}
}

// TestRenewalStaysWithinItself: other names, another profile and a wish for other names are refused.
func TestRenewalStaysWithinItself(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal", "two.internal"))...)
	before := h.issuedRows()
	for _, names := range [][]string{{"one.internal"}, {"one.internal", "two.internal", "three.internal"}, {"*.internal", "one.internal"}} {
		h.curl("simplereenroll", join(with("one"), h.request("new", names...))...).want(t, 400, "the certificate being renewed one.internal, two.internal")
	}
	h.curl("tls-client/simplereenroll", join(with("one"), h.request("new", "one.internal", "two.internal"))...).want(t, 403, "cannot become one of profile tls-client")
	ok(t, os.WriteFile(h.path("oid.cnf"), []byte("oid_section = oids\n[oids]\nchangeSubjectName = 1.3.6.1.5.5.7.7.36\n[req]\ndistinguished_name = dn\nattributes = attr\nreq_extensions = ext\nprompt = no\n"+
		"[dn]\nCN = one.internal\n[attr]\nchangeSubjectName = x\n[ext]\nsubjectAltName = DNS:one.internal,DNS:two.internal\n"), 0o600))
	h.openssl("req", "-new", "-config", "oid.cnf", "-key", "new.key", "-outform", "DER", "-out", "new.der")
	h.openssl("base64", "-in", "new.der", "-out", "new.b64")
	h.curl("simplereenroll", join(with("one"), []string{"--header", "Content-Type: application/pkcs10", "--data-binary", "@new.b64"})...).want(t, 400, "ChangeSubjectName")
	if h.issuedRows() != before {
		t.Error("something was issued")
	}
}

// TestBadBodies: each is refused with its own text and status, and changes nothing.
func TestBadBodies(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.request("a", "a.internal")
	der, err := os.ReadFile(h.path("a.der"))
	ok(t, err)
	text := base64.StdEncoding.EncodeToString(der)
	broken := bytes.Clone(der)
	broken[len(broken)-1] ^= 1
	big := append([]byte{0x30, 0x83, 0x01, 0x10, 0x00}, make([]byte, 0x11000)...)
	h.openssl("req", "-in", "a.der", "-inform", "DER", "-out", "a.csr")
	asPEM, err := os.ReadFile(h.path("a.csr"))
	ok(t, err)
	h.openssl("req", "-new", "-key", "a.key", "-subj", "/", "-outform", "DER", "-out", "nameless.der")
	nameless, err := os.ReadFile(h.path("nameless.der"))
	ok(t, err)
	h.openssl("req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "weak.key", "-subj", "/", "-addext", "subjectAltName=DNS:a.internal", "-outform", "DER", "-out", "weak.der")
	weak, err := os.ReadFile(h.path("weak.der"))
	ok(t, err)
	h.request("alien", "www.example.org")
	alien, err := os.ReadFile(h.path("alien.b64"))
	ok(t, err)
	rows, leaves := h.issuedRows(), h.leaves()
	const pkcs10 = "application/pkcs10"
	for _, c := range []struct {
		name, media, body string
		status            int
		says              string
	}{
		{"no type", "", text, 415, "application/pkcs10"},
		{"other type", "application/json", text, 415, "application/pkcs10"},
		{"empty", pkcs10, "", 400, "the body is empty"},
		{"white space", pkcs10, " \r\n", 400, "not exactly one certification request"},
		{"pem", pkcs10, string(asPEM), 400, "the body is PEM"},
		{"not base64", pkcs10, "!" + text, 400, "neither base64 nor DER"},
		{"base64url", pkcs10, strings.NewReplacer("+", "-", "/", "_").Replace(text) + "-_", 400, "neither base64 nor DER"},
		{"cut short", pkcs10, text[:len(text)/2/4*4], 400, "not exactly one certification request"},
		{"two requests", pkcs10, base64.StdEncoding.EncodeToString(append(bytes.Clone(der), der...)), 400, "not exactly one certification request"},
		{"other DER", pkcs10, base64.StdEncoding.EncodeToString([]byte{0x30, 0x03, 0x02, 0x01, 0x05}), 400, "not a DER certification request"},
		{"a certificate", pkcs10, base64.StdEncoding.EncodeToString(h.issuing.Raw), 400, "not a DER certification request"},
		{"bad signature", pkcs10, base64.StdEncoding.EncodeToString(broken), 400, "signature of the request"},
		{"large", pkcs10, strings.Repeat("A", est.MaxBody+1), 413, "the body is larger"},
		{"large request", pkcs10, string(big), 413, "the request has"},
		{"no names", pkcs10, base64.StdEncoding.EncodeToString(nameless), 400, "names nothing"},
		{"weak key", pkcs10, base64.StdEncoding.EncodeToString(weak), 400, "1024"},
	} {
		ok(t, os.WriteFile(h.path("body"), []byte(c.body), 0o600))
		for _, operation := range []string{"simpleenroll", "simplereenroll"} {
			a := h.curl(operation, join(user, []string{"--header", "Content-Type: " + c.media, "--header", "Expect:", "--data-binary", "@body"})...)
			t.Run(operation+" "+c.name, func(t *testing.T) { a.want(t, c.status, c.says) })
		}
	}
	h.curl("simpleenroll", join(user, []string{"--header", "Content-Type: " + pkcs10, "--header", "Content-Encoding: gzip", "--data-binary", "@body"})...).want(t, 415, "content codings")
	if h.issuedRows() != rows || h.leaves() != leaves {
		t.Error("a refused body left rows behind")
	}
	// A name that is not the house's leaves evidence of the refusal, and nothing else.
	ok(t, os.WriteFile(h.path("body"), alien, 0o600))
	h.curl("simpleenroll", join(user, []string{"--header", "Content-Type: " + pkcs10, "--data-binary", "@body"})...).want(t, 400, "own names")
	if h.issuedRows() != rows || h.leaves() != leaves+1 {
		t.Errorf("%d leaves more", h.leaves()-leaves)
	}
}

func (h *house) leaves() int64 {
	h.t.Helper()
	n, _, err := h.store.EvidenceHead(h.t.Context())
	ok(h.t, err)
	return n
}

// TestOutsideTLS: a token must not travel in the clear.
func TestOutsideTLS(t *testing.T) {
	h := newHouse(t)
	handler, err := est.New(est.Config{Service: h.svc})
	ok(t, err)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, est.Prefix+"cacerts", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("%d", w.Code)
	}
}
