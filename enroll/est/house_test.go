package est_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/enroll/est"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/publish"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/sqlite"
)

const issuingCA bulkhead.AuthorityID = "issuing-p256"

const headName = "status.test/head"

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seen is a validator that sees whatever it is asked to look at.
type seen struct{}

func (seen) Validate(context.Context, bulkhead.Identifier, bulkhead.Method, string, string) (string, error) {
	return "seen by the test", nil
}

func (seen) CheckCAA(_ context.Context, id bulkhead.Identifier, _ bool, _ string, _ bulkhead.Method) (bulkhead.CAACheck, error) {
	now := time.Now()
	return bulkhead.CAACheck{Identifier: id, At: now, ValidUntil: now.Add(1000 * 24 * time.Hour), Result: bulkhead.CAAPermitted, Detail: "no CAA records"}, nil
}

// slow is the signer's door, which a test may hold shut.
type slow struct {
	enroll.Issuer
	shut atomic.Bool
}

func (s *slow) IssueAfter(ctx context.Context, req bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error) {
	if s.shut.Load() {
		<-ctx.Done()
		return bulkhead.IssuedCertificate{}, ctx.Err()
	}
	return s.Issuer.IssueAfter(ctx, req, stored)
}

// house is the surface over a real store, signer and status service, behind TLS that asks for client certificates as
// the product's listener does.
type house struct {
	t       testing.TB
	dir     string
	store   *sqlite.Store
	ring    keys.Ring
	signer  *signer.Signer
	status  *status.Service
	issuer  *slow
	svc     *enroll.Service
	cfg     enroll.Config
	root    *x509.Certificate
	rootKey *ecdsa.PrivateKey
	issuing *x509.Certificate
	shift   atomic.Int64 // of the clock, in nanoseconds
	base    string       // URL of the operations
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.shift.Load())) }

func newHouse(t testing.TB, change ...func(*enroll.Config)) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	var err error
	h.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(h.dir, "bulkhead.db")})
	ok(t, err)
	t.Cleanup(func() { _ = h.store.Close() })
	_, err = keys.NewIdentity(filepath.Join(h.dir, "identity"))
	ok(t, err)
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(h.dir, "keys"), IdentityFile: filepath.Join(h.dir, "identity")})
	ok(t, err)
	h.ring = ring
	h.hierarchy()
	h.open()
	h.issuer = &slow{Issuer: h.signer}
	cfg := enroll.Config{Store: h.store, Issuer: h.issuer, Revoker: h.status, Validator: seen{}, Profiles: profile.Builtin(),
		DefaultProfile: "tls-server", DefaultAuthority: func(string) bulkhead.AuthorityID { return issuingCA }, Now: h.now, Rand: rand.Reader}
	for _, f := range change {
		f(&cfg)
	}
	h.serve(cfg)
	h.pem("root.pem", "CERTIFICATE", h.root.Raw)
	h.pem("issuing.pem", "CERTIFICATE", h.issuing.Raw)
	return h
}

// serve opens service and surface over the record, as another process might.
func (h *house) serve(cfg enroll.Config) {
	h.t.Helper()
	h.cfg = cfg
	var err error
	h.svc, err = enroll.New(cfg)
	ok(h.t, err)
	svc := h.svc
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = svc.Close(ctx)
	})
	handler, err := est.New(est.Config{Service: h.svc, DefaultProfile: "tls-server"})
	ok(h.t, err)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	h.t.Cleanup(server.Close)
	h.base = server.URL + "/.well-known/est"
	h.pem("tls.pem", "CERTIFICATE", server.Certificate().Raw)
}

// hierarchy makes a root and an issuing authority.
func (h *house) hierarchy() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(h.t, err)
	h.rootKey = key
	tmpl, err := profile.Root(profile.House{Subject: pkix.Name{Organization: []string{"Test"}, CommonName: "Test Root"}, PublicKey: key.Public(),
		Serial: randomSerial(h.t), Now: h.now().Add(-time.Hour), Validity: 3650 * 24 * time.Hour})
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(h.t, err)
	h.root, err = x509.ParseCertificate(der)
	ok(h.t, err)
	ok(h.t, h.store.PutAuthority(h.t.Context(), bulkhead.Authority{ID: "root", Kind: bulkhead.RootAuthority, State: bulkhead.AuthorityRetired,
		Subject: h.root.RawSubject, SPKI: h.root.RawSubjectPublicKeyInfo, Certificate: h.root.Raw, Shards: 1, CreatedAt: h.now()}))
	h.issuing = h.authority(issuingCA)
}

// authority makes an issuing authority under the root.
func (h *house) authority(id bulkhead.AuthorityID) *x509.Certificate {
	h.t.Helper()
	uri, pub, err := h.ring.Generate(h.t.Context(), string(id), keys.P256)
	ok(h.t, err)
	tmpl, err := profile.Issuing(profile.House{Subject: pkix.Name{Organization: []string{"Test"}, CommonName: "Test " + string(id)}, PublicKey: pub.Public(),
		Serial: randomSerial(h.t), Now: h.now().Add(-time.Hour), Validity: 1000 * 24 * time.Hour, Parent: h.root, ParentID: "root",
		URLs: profile.URLs{Base: "http://status.test"}})
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, h.root, pub.Public(), h.rootKey)
	ok(h.t, err)
	cert, err := x509.ParseCertificate(der)
	ok(h.t, err)
	ok(h.t, h.store.PutAuthority(h.t.Context(), bulkhead.Authority{ID: id, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, Parent: "root",
		Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo, Certificate: der, Chain: [][]byte{h.root.Raw}, KeyURI: uri, Shards: 1, CreatedAt: h.now()}))
	return cert
}

// state moves an authority on.
func (h *house) state(id bulkhead.AuthorityID, s bulkhead.AuthorityState, successor bulkhead.AuthorityID) {
	h.t.Helper()
	a, err := h.store.Authority(h.t.Context(), id)
	ok(h.t, err)
	a.State, a.Successor = s, successor
	ok(h.t, h.store.PutAuthority(h.t.Context(), a))
}

// open makes signer and status service.
func (h *house) open() {
	head, headKey, err := h.ring.Generate(h.t.Context(), "head", keys.Ed25519)
	ok(h.t, err)
	linter, err := lint.New(lint.Config{PrivateNames: true})
	ok(h.t, err)
	h.signer, err = signer.New(signer.Config{Store: h.store, Keys: h.ring, Profiles: profile.Builtin(), URLs: profile.URLs{Base: "http://status.test"},
		Linter: linter, HeadKeyURI: head, HeadName: headName, Now: h.now})
	ok(h.t, err)
	h.t.Cleanup(func() { h.signer.Close() })
	text, err := note.NewEd25519VerifierKey(headName, headKey.Public().(ed25519.PublicKey))
	ok(h.t, err)
	verifier, err := note.NewVerifier(text)
	ok(h.t, err)
	objects, err := publish.NewDir(filepath.Join(h.dir, "public"))
	ok(h.t, err)
	h.status, err = status.New(status.Config{Store: h.store, Signer: h.signer, Objects: objects, HeadVerifier: verifier, Now: h.now})
	ok(h.t, err)
	ok(h.t, h.status.Start(h.t.Context()))
}

func randomSerial(t testing.TB) bulkhead.Serial {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	ok(t, err)
	b[0] = 1
	s, err := bulkhead.SerialFromBytes(b)
	ok(t, err)
	return s
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) pem(name, kind string, der []byte) {
	h.t.Helper()
	ok(h.t, os.WriteFile(h.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// tool runs a foreign program in the house's folder and returns its standard output; it must be installed and succeed.
func tool(t testing.TB, dir string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: apt-get install %s", name, name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // one of them is the compiler
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, log bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(stdin), &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.Bytes(), log.Bytes())
	}
	return out.Bytes()
}

func (h *house) openssl(args ...string) string {
	h.t.Helper()
	return string(tool(h.t, h.dir, nil, "openssl", args...))
}

// answer is what curl received.
type answer struct {
	status int
	header map[string]string // names in lower case
	body   string
}

// curl calls an operation.
func (h *house) curl(operation string, args ...string) answer {
	h.t.Helper()
	return curl(h.t, h.dir, append([]string{"--cacert", "tls.pem", h.base + "/" + operation}, args...)...)
}

func curl(t testing.TB, dir string, args ...string) answer {
	t.Helper()
	out := tool(t, dir, nil, "curl", append([]string{"--silent", "--show-error", "--max-time", "50", "--include", "--http1.1"}, args...)...)
	a := answer{header: map[string]string{}}
	head, body, _ := strings.Cut(string(out), "\r\n\r\n")
	for strings.HasPrefix(head, "HTTP/1.1 100 ") {
		head, body, _ = strings.Cut(body, "\r\n\r\n")
	}
	a.body = body
	for i, line := range strings.Split(head, "\r\n") {
		if i == 0 {
			a.status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		a.header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return a
}

// want checks status and what the text says.
func (a answer) want(t testing.TB, status int, says string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, says) {
		t.Errorf("%d, want %d and %q: %s", a.status, status, says, a.body)
	}
	if status >= 400 && (a.header["content-type"] != "text/plain; charset=utf-8" || a.header["cache-control"] != "no-store") {
		t.Errorf("a refusal comes with %v", a.header)
	}
	if (status == 401) != (a.header["www-authenticate"] != "") {
		t.Errorf("%d with WWW-Authenticate %q", status, a.header["www-authenticate"])
	}
}

// certificates reads a certs-only answer with openssl, the way a person would.
func certificates(t testing.TB, dir string, a answer) []*x509.Certificate {
	t.Helper()
	if a.status != 200 || a.header["content-type"] != "application/pkcs7-mime; smime-type=certs-only" {
		t.Fatalf("%d %v: %s", a.status, a.header, a.body)
	}
	der := tool(t, dir, []byte(a.body), "openssl", "base64", "-d")
	tool(t, dir, der, "openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER")
	text := tool(t, dir, der, "openssl", "pkcs7", "-inform", "DER", "-print_certs")
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		x, err := x509.ParseCertificate(block.Bytes)
		ok(t, err)
		out = append(out, x)
	}
	return out
}

// request makes NAME.key and NAME.csr with openssl and returns how curl sends it.
func (h *house) request(name string, names ...string) []string {
	h.t.Helper()
	var san []string
	for _, n := range names {
		kind := "DNS:"
		if strings.Count(n, ".") == 3 && strings.Trim(n, "0123456789.") == "" {
			kind = "IP:"
		}
		san = append(san, kind+n)
	}
	args := []string{"req", "-new", "-subj", "/", "-addext", "subjectAltName=" + strings.Join(san, ","), "-outform", "DER", "-out", name + ".der"}
	if _, err := os.Stat(h.path(name + ".key")); err == nil {
		args = append(args, "-key", name+".key")
	} else {
		args = append(args, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name+".key")
	}
	h.openssl(args...)
	h.openssl("base64", "-in", name+".der", "-out", name+".b64")
	return []string{"--header", "Content-Type: application/pkcs10", "--header", "Content-Transfer-Encoding: base64", "--data-binary", "@" + name + ".b64"}
}

// enrolled asks for a certificate and puts it into NAME.pem.
func (h *house) enrolled(operation, name string, args ...string) *x509.Certificate {
	h.t.Helper()
	got := certificates(h.t, h.dir, h.curl(operation, args...))
	if len(got) != 1 {
		h.t.Fatalf("%d certificates", len(got))
	}
	h.pem(name+".pem", "CERTIFICATE", got[0].Raw)
	h.openssl("verify", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "-no_check_time", name+".pem")
	return got[0]
}

func with(name string) []string { return []string{"--cert", name + ".pem", "--key", name + ".key"} }

// token makes an account for the API.
func (h *house) token(operator bool) (bulkhead.Account, []string) {
	h.t.Helper()
	a, token, err := h.svc.NewTokenAccount(h.t.Context(), "operator:alice", operator)
	ok(h.t, err)
	return a, []string{"--user", "est:" + token}
}

// validated has an account show control of names.
func (h *house) validated(acct bulkhead.Account, names ...string) {
	h.t.Helper()
	var ids []bulkhead.Identifier
	for _, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		ok(h.t, err)
		ids = append(ids, id)
	}
	o, err := h.svc.NewOrder(h.t.Context(), acct, enroll.OrderRequest{Identifiers: ids})
	ok(h.t, err)
	for _, id := range o.Authorizations {
		a, err := h.svc.Authorization(h.t.Context(), acct, id)
		ok(h.t, err)
		if a.State == bulkhead.AuthorizationPending {
			_, err = h.svc.Respond(h.t.Context(), acct, a.ID, a.Challenges[0].ID)
			ok(h.t, err)
		}
	}
	for end := time.Now().Add(time.Minute); o.State != bulkhead.OrderReady; time.Sleep(2 * time.Millisecond) {
		if o, err = h.svc.Order(h.t.Context(), acct, o.ID); err != nil || time.Now().After(end) {
			h.t.Fatalf("%v, the order is %s", err, o.State)
		}
	}
}

func (h *house) row(x *x509.Certificate) bulkhead.Certificate {
	h.t.Helper()
	c, err := h.svc.FindCertificate(h.t.Context(), x.Raw)
	ok(h.t, err)
	return c
}

// issuedRows counts certificates, intents included.
func (h *house) issuedRows() int {
	h.t.Helper()
	rows, _, err := h.store.Certificates(h.t.Context(), bulkhead.CertificateFilter{Kind: bulkhead.LeafCertificate, Limit: 1000})
	ok(h.t, err)
	return len(rows)
}

func join(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}
