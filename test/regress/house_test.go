package regress

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/internal/heldport"
	"bulkhead/run"
)

const (
	issuing bulkhead.AuthorityID = "issuing-p256"
	other   bulkhead.AuthorityID = "issuing-rsa2048"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind bulkhead.Kind) {
	t.Helper()
	if bulkhead.KindOf(err) != kind {
		t.Fatalf("got %v, want %s", err, kind)
	}
}

// house is an open house of this process. Its clock runs, and can be put forward.
type house struct {
	t     testing.TB
	dir   string
	shift atomic.Int64 // nanoseconds that the clock is ahead
	open  *run.House
	run.Roles
	root     *x509.Certificate
	operator bulkhead.Account
	served   chan error // of Run, after serve
	cancel   context.CancelFunc
}

// newHouse makes a house and opens it; change sees its configuration first.
func newHouse(t testing.TB, change ...func(*run.Config)) *house {
	t.Helper()
	h := &house{t: t, dir: filepath.Join(t.TempDir(), "house")}
	cfg := run.DefaultConfig()
	cfg.Listen, cfg.StatusListen, cfg.MetricsListen = heldport.For(t).String(), heldport.For(t).String(), heldport.For(t).String()
	cfg.StatusURL = "http://" + cfg.StatusListen
	for _, f := range change {
		f(&cfg)
	}
	_, err := run.FirstStart(t.Context(), h.dir, cfg, nil)
	ok(t, err)
	h.start()
	t.Cleanup(h.stop)
	text, err := os.ReadFile(filepath.Join(h.dir, "trust", "root.pem"))
	ok(t, err)
	h.root = parsePEM(t, text)
	h.operator, _, err = h.Enroll.NewTokenAccount(t.Context(), "operator:test", true)
	ok(t, err)
	return h
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.shift.Load())) }

func (h *house) start() {
	h.t.Helper()
	cfg, err := run.LoadConfig(h.dir)
	ok(h.t, err)
	h.open, err = run.OpenWith(h.t.Context(), run.Options{Dir: h.dir, Config: cfg, Log: slog.New(slog.DiscardHandler), Version: "test", Now: h.now})
	ok(h.t, err)
	h.Roles = h.open.Roles()
	ok(h.t, h.open.Start(h.t.Context()))
}

// serve runs every role and listener until the house stops.
func (h *house) serve() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.served = cancel, make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		h.served <- h.open.Run(ctx, func(run.Ready) error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-h.served:
		h.served = nil
		h.t.Fatalf("run: %v", err)
	}
}

func (h *house) stop() {
	if h.served != nil {
		h.cancel()
		if err := <-h.served; err != nil {
			h.t.Errorf("run: %v", err)
		}
		h.served = nil
	}
	if h.open != nil {
		if err := h.open.Close(); err != nil {
			h.t.Errorf("close: %v", err)
		}
		h.open = nil
	}
}

func (h *house) restart() { h.t.Helper(); h.stop(); h.start() }

// edit changes bulkhead.yaml between two starts.
func (h *house) edit(old, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, run.ConfigFile)
	body, err := os.ReadFile(path)
	ok(h.t, err)
	if !strings.Contains(string(body), old) {
		h.t.Fatalf("%q is not in %s", old, body)
	}
	ok(h.t, os.WriteFile(path, []byte(strings.Replace(string(body), old, text, 1)), 0o600))
}

// look lets status and edge look once.
func (h *house) look() {
	h.t.Helper()
	ok(h.t, h.Status.Tick(h.t.Context()))
	h.Status.Wait()
	ok(h.t, h.Edge.Refresh(h.t.Context()))
}

// pass puts the clock forward and looks.
func (h *house) pass(d time.Duration) { h.t.Helper(); h.shift.Add(int64(d)); h.look() }

// paper is a certificate with its issuer.
type paper struct {
	bulkhead.Certificate
	leaf, issuer *x509.Certificate
	key          *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return k
}

func csrFor(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	ok(t, err)
	return der
}

// order asks on the operator's word.
func (h *house) order(name string, key *ecdsa.PrivateKey, authority bulkhead.AuthorityID, replaces bulkhead.CertificateRef) (paper, error) {
	h.t.Helper()
	got, err := h.Enroll.OperatorOrder(h.t.Context(), "operator:test", h.operator, enroll.Upload{CSR: csrFor(h.t, key, name), Authority: authority, Replaces: replaces})
	if err != nil {
		return paper{}, err
	}
	return h.paper(got, key), nil
}

func (h *house) paper(got bulkhead.IssuedCertificate, key *ecdsa.PrivateKey) paper {
	h.t.Helper()
	leaf, err := x509.ParseCertificate(got.DER)
	ok(h.t, err)
	issuer, err := x509.ParseCertificate(got.Chain[0])
	ok(h.t, err)
	return paper{got.Certificate, leaf, issuer, key}
}

// issue is order that has to work, published.
func (h *house) issue(name string) paper { h.t.Helper(); return h.issueFrom(issuing, name) }

func (h *house) issueFrom(authority bulkhead.AuthorityID, name string) paper {
	h.t.Helper()
	p, err := h.order(name, newKey(h.t), authority, bulkhead.CertificateRef{})
	ok(h.t, err)
	h.look()
	return p
}

func (h *house) revoke(reason bulkhead.Reason, all ...bulkhead.CertificateRef) {
	h.t.Helper()
	var items []bulkhead.ChangeItem
	for _, ref := range all {
		items = append(items, bulkhead.ChangeItem{CertificateRef: ref, Reason: reason, RevokedAt: h.now()})
	}
	_, err := h.Status.RevokeCertificates(h.t.Context(), "operator:test", "a test", items)
	ok(h.t, err)
	ok(h.t, h.Edge.Refresh(h.t.Context()))
}

// plant puts issued rows with serials of the test's choice into the record, on one CRL shard, as the signer would.
func (h *house) plant(issuer bulkhead.AuthorityID, kind bulkhead.CertificateKind, subject string, key bulkhead.Hash, serials ...bulkhead.Serial) {
	h.t.Helper()
	ctx, now := h.t.Context(), h.now().UTC().Truncate(time.Second)
	for len(serials) > 0 {
		n := min(len(serials), 5000)
		reserve, complete := make([]bulkhead.Reservation, n), make([]bulkhead.Completion, n)
		for i, serial := range serials[:n] {
			row := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: issuer, Serial: serial}, Kind: kind, State: bulkhead.Reserved, Profile: "planted",
				Subject: subject, KeyHash: key, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour), ReservedAt: now}
			der := []byte("planted " + row.CertificateRef.String())
			leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: "role:test", Authority: issuer, Serial: serial, KeyHash: key, Digest: bulkhead.Digest(append(der, 't'))}
			reserve[i] = bulkhead.Reservation{Certificate: row, Intent: leaf}
			leaf.Kind, leaf.Link, leaf.Digest = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest(der)
			complete[i] = bulkhead.Completion{CertificateRef: row.CertificateRef, DER: der, Outcome: leaf}
		}
		_, errs, err := h.Store.Reserve(ctx, reserve)
		ok(h.t, err)
		for _, err := range errs {
			ok(h.t, err)
		}
		_, errs, err = h.Store.Complete(ctx, complete)
		ok(h.t, err)
		for _, err := range errs {
			ok(h.t, err)
		}
		serials = serials[n:]
	}
}

// at is a paper for a serial that stands in no certificate: its issuer's, asked for by number.
func (p paper) at(serial *big.Int) paper {
	leaf := *p.leaf
	leaf.SerialNumber = serial
	p.leaf = &leaf
	return p
}

func (p paper) request(t testing.TB, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(p.leaf, p.issuer, &ocsp.RequestOptions{Hash: hash})
	ok(t, err)
	return der
}

// reply is what the edge answered.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(code int)        { r.code = code }
func (r *reply) Write(p []byte) (int, error) { r.body = append(r.body, p...); return len(p), nil }

// do asks the edge's handler with the path exactly as given.
func (h *house) do(method, path string, body []byte, header ...string) *reply {
	res := &reply{code: http.StatusOK, header: http.Header{}}
	r := &http.Request{Method: method, RequestURI: path, URL: &url.URL{Path: path}, Header: http.Header{}, Body: http.NoBody, ContentLength: int64(len(body))}
	if body != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	h.Edge.Handler().ServeHTTP(res, r)
	return res
}

func getPath(der []byte) string {
	return "/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(der))
}

// ask is the parsed answer to one request by a method and hash.
func (h *house) ask(p paper, method string, hash crypto.Hash) (*ocsp.Response, *reply, error) {
	h.t.Helper()
	der := p.request(h.t, hash)
	var res *reply
	if method == http.MethodPost {
		res = h.do(method, "/ocsp/", der)
	} else {
		res = h.do(method, getPath(der), nil)
	}
	r, err := ocsp.ParseResponseForCert(res.body, p.leaf, p.issuer)
	return r, res, err
}

// status is what all four ways to ask agree on, in words.
func (h *house) status(p paper) string {
	h.t.Helper()
	said := ""
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			r, _, err := h.ask(p, method, hash)
			word := ""
			if err != nil {
				word = err.Error()
			} else {
				word = map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[r.Status]
			}
			if said != "" && said != word {
				h.t.Fatalf("%s by %s with %s, %s otherwise", word, method, hash, said)
			}
			said = word
		}
	}
	return said
}

// crl gets the list that a certificate names and verifies it.
func (h *house) crl(p paper) (*x509.RevocationList, *reply) {
	h.t.Helper()
	u, err := url.Parse(p.leaf.CRLDistributionPoints[0])
	ok(h.t, err)
	res := h.do(http.MethodGet, u.Path, nil)
	list, err := x509.ParseRevocationList(res.body)
	ok(h.t, err)
	ok(h.t, list.CheckSignatureFrom(p.issuer))
	return list, res
}

func listed(list *x509.RevocationList, serial *big.Int) bool {
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}

func (h *house) want(p paper, status string) {
	h.t.Helper()
	if s := h.status(p); s != status {
		h.t.Fatalf("%s is %s, want %s", p.CertificateRef, s, status)
	}
	if list, _ := h.crl(p); listed(list, p.leaf.SerialNumber) != (status == "revoked") {
		h.t.Fatalf("%s is %s, and the CRL says otherwise", p.CertificateRef, status)
	}
}

func parsePEM(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("not PEM: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	ok(t, err)
	return c
}

func randomSerial(t testing.TB) *big.Int {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	ok(t, err)
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b)
}

func serialOf(t testing.TB, n *big.Int) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.SerialFromBig(n)
	ok(t, err)
	return s
}

func write(t testing.TB, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	ok(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed for this test: apt-get install openssl")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

// rotate replaces an issuing authority by a successor under the house's root.
func (h *house) rotate(old, successor bulkhead.AuthorityID) {
	h.t.Helper()
	ctx := h.t.Context()
	a, err := h.Hierarchy.AddAuthority(ctx, "operator:test", successor, "p256", "", "", old)
	ok(h.t, err)
	cert, chain, err := run.SignSubordinate(ctx, run.SubordinateRequest{DataDir: h.dir, RootDir: run.RootDir(h.dir), Name: successor,
		CSR: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: a.CSR}), Shards: a.Shards, Days: 1000})
	ok(h.t, err)
	var above [][]byte
	for _, c := range chain {
		above = append(above, parsePEM(h.t, []byte(c)).Raw)
	}
	_, err = h.Hierarchy.AcceptAuthority(ctx, "operator:test", successor, parsePEM(h.t, []byte(cert)).Raw, above)
	ok(h.t, err)
	h.look()
}

// each reads all evidence.
func (h *house) each(f func(ev bulkhead.Evidence)) {
	h.t.Helper()
	for seq := int64(0); ; {
		rows, err := h.Store.EvidenceAfter(h.t.Context(), seq, 1000)
		ok(h.t, err)
		if len(rows) == 0 {
			return
		}
		for _, r := range rows {
			ev, err := parseLeaf(r.Leaf)
			ok(h.t, err)
			f(ev)
			seq = r.Seq
		}
	}
}

func name(i int) string { return fmt.Sprintf("r%d.regress.test", i) }
