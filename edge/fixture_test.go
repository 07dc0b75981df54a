package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// authority is an issuer with a real key, a real delegate, and the answers of its packs.
type authority struct {
	id       bulkhead.AuthorityID
	key      *ecdsa.PrivateKey
	cert     *x509.Certificate
	issuer   ocsp.Issuer
	delegate *ecdsa.PrivateKey
	respCert *x509.Certificate
	respHash [20]byte
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

func serialOf(n int64) bulkhead.Serial {
	s, err := bulkhead.SerialFromBig(big.NewInt(n))
	if err != nil {
		panic(err)
	}
	return s
}

// newAuthority makes a self-signed authority of the given name and key, valid around now.
func newAuthority(t testing.TB, id, name string, key *ecdsa.PrivateKey) *authority {
	t.Helper()
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))(t)
	a := &authority{id: bulkhead.AuthorityID(id), key: key, cert: must(x509.ParseCertificate(der))(t), delegate: newKey(t)}
	noCheck := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}
	resp := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name + " OCSP"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, ExtraExtensions: []pkix.Extension{noCheck}}
	der = must(x509.CreateCertificate(rand.Reader, resp, a.cert, a.delegate.Public(), key))(t)
	a.respCert = must(x509.ParseCertificate(der))(t)
	a.issuer = must(ocsp.NewIssuer(a.cert.RawSubject, a.cert.RawSubjectPublicKeyInfo))(t)
	a.respHash = must(ocsp.KeyHash(a.respCert.RawSubjectPublicKeyInfo))(t)
	return a
}

// answer is one thing a pack says.
type answer struct {
	serial     bulkhead.Serial
	revoked    bool
	this, next time.Time
}

func (a *authority) sign(t testing.TB, x answer) (tbs, sig []byte) {
	t.Helper()
	s := ocsp.Single{Serial: x.serial, State: ocsp.Good, ThisUpdate: x.this, NextUpdate: x.next}
	if x.revoked {
		s.State, s.RevokedAt, s.Reason, s.HasReason = ocsp.Revoked, x.this, bulkhead.KeyCompromise, true
	}
	tbs = must(twoStatements(a, x.this, s))(t)
	sum := sha256.Sum256(tbs)
	return tbs, must(ecdsa.SignASN1(rand.Reader, a.delegate, sum[:]))(t)
}

// twoStatements makes one response for both CertID hashes, so that one entry of a pack serves every request.
func twoStatements(a *authority, at time.Time, s ocsp.Single) ([]byte, error) {
	return ocsp.BuildLiveTBS(a.respHash, at, []ocsp.Statement{{ID: a.issuer.CertID(ocsp.SHA1, s.Serial), Single: s}, {ID: a.issuer.CertID(ocsp.SHA256, s.Serial), Single: s}}, nil)
}

func (a *authority) pack(t testing.TB, answers ...answer) ([]byte, pack.ObjectRef) {
	t.Helper()
	sort.Slice(answers, func(i, j int) bool { return answers[i].serial.Compare(answers[j].serial) < 0 })
	var b bytes.Buffer
	w := must(pack.NewWriter(&b, a.issuer))(t)
	r := must(w.AddResponder(a.respCert.Raw))(t)
	for _, x := range answers {
		tbs, sig := a.sign(t, x)
		e := pack.Entry{Serial: x.serial, TBS: tbs, Signature: sig, Responder: r, ThisUpdate: x.this, NextUpdate: x.next, Revoked: x.revoked}
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	ref := mustFinish(t, w, &b)
	return b.Bytes(), ref
}

func mustFinish(t testing.TB, w *pack.Writer, b *bytes.Buffer) pack.ObjectRef {
	t.Helper()
	ref := must(w.Finish())(t)
	if ref.Size != int64(b.Len()) {
		t.Fatal("size differs")
	}
	return ref
}

// world is a published directory with its head key, a clock, and an edge on it.
type world struct {
	t        testing.TB
	root     string // of dir
	dir      *publish.Dir
	vkey     string
	head     pack.Head
	signer   note.Signer
	verifier note.Verifier
	objects  int

	mu  sync.Mutex
	now time.Time
}

const origin = "status.test/head"

func noteKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	signer, vkey := noteKeyText(t, name)
	return signer, must(note.NewVerifier(vkey))(t)
}

func noteKeyText(t testing.TB, name string) (signer note.Signer, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return must(note.NewSigner(skey))(t), vkey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), now: time.Now().Truncate(time.Second)}
	w.dir = must(publish.NewDir(w.root))(t)
	w.signer, w.vkey = noteKeyText(t, origin)
	w.verifier = must(note.NewVerifier(w.vkey))(t)
	w.head.Origin = origin
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// good is a usual answer: an hour old, three hours to go.
func (w *world) good(n int64) answer {
	return answer{serial: serialOf(n), this: w.clock().Add(-time.Hour), next: w.clock().Add(3 * time.Hour)}
}

func (w *world) revoked(n int64) answer {
	a := w.good(n)
	a.revoked, a.this = true, a.this.Add(30*time.Minute)
	return a
}

func (w *world) put(kind string, id bulkhead.AuthorityID, b []byte) string {
	w.t.Helper()
	w.objects++
	name := fmt.Sprintf("%s/%s/%d", kind, id, w.objects)
	if err := w.dir.Put(w.t.Context(), publish.Object{Name: name, Body: bytes.NewReader(b)}); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func (w *world) issuer(a *authority) *pack.IssuerHead {
	if i := w.head.Issuer(a.id); i != nil {
		return i
	}
	ih := pack.IssuerHead{ID: a.id, Epoch: 1}
	name := w.put("ca", a.id, a.cert.Raw)
	ih.Certificate = pack.ObjectRef{Name: name, Digest: bulkhead.Digest(a.cert.Raw), Size: int64(len(a.cert.Raw))}
	w.head.Issuers = append(w.head.Issuers, ih)
	sort.Slice(w.head.Issuers, func(i, j int) bool { return w.head.Issuers[i].ID < w.head.Issuers[j].ID })
	return w.head.Issuer(a.id)
}

// add puts a pack in front of the issuer's others.
func (w *world) add(a *authority, answers ...answer) {
	w.t.Helper()
	b, ref := a.pack(w.t, answers...)
	ref.Name = w.put("packs", a.id, b)
	i := w.issuer(a)
	i.Generation++
	i.Packs = append([]pack.ObjectRef{ref}, i.Packs...)
}

// crl publishes a real CRL as the newest of its shard.
func (w *world) crl(a *authority, shard int, number int64, serials ...int64) []byte {
	w.t.Helper()
	ref := pack.CRLRef{Shard: shard, Number: number, ThisUpdate: w.clock().Add(-time.Minute).UTC(), NextUpdate: w.clock().Add(2 * time.Hour).UTC()}
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: ref.ThisUpdate, NextUpdate: ref.NextUpdate}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: ref.ThisUpdate})
	}
	der := must(x509.CreateRevocationList(rand.Reader, list, a.cert, a.key))(w.t)
	ref.ObjectRef = pack.ObjectRef{Name: w.put("crl", a.id, der), Digest: bulkhead.Digest(der), Size: int64(len(der))}
	i := w.issuer(a)
	i.CRLs = append(i.CRLs, ref)
	for n := range i.CRLs[:len(i.CRLs)-1] {
		if i.CRLs[n].Shard == shard {
			i.CRLs[n] = ref
			i.CRLs = i.CRLs[:len(i.CRLs)-1]
			break
		}
	}
	return der
}

// publish signs the next head and sets it.
func (w *world) publish() []byte {
	w.t.Helper()
	w.head.Sequence++
	w.head.At = w.clock()
	signed := must(pack.SignHead(must(w.head.Body())(w.t), w.signer))(w.t)
	if err := w.dir.SetHead(w.t.Context(), signed); err != nil {
		w.t.Fatal(err)
	}
	return signed
}

func (w *world) edge(edit ...func(*Config)) *Edge {
	w.t.Helper()
	cfg := Config{Source: w.dir, HeadVerifier: w.verifier, Log: slog.New(slog.DiscardHandler), Now: w.clock}
	for _, f := range edit {
		f(&cfg)
	}
	return must(New(cfg))(w.t)
}

// refreshed is an edge that has looked once, with success.
func (w *world) refreshed(edit ...func(*Config)) *Edge {
	w.t.Helper()
	e := w.edge(edit...)
	if err := e.Refresh(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (a *authority) request(t testing.TB, hash ocsp.HashAlgorithm, n int64) []byte {
	t.Helper()
	return must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(hash, serialOf(n))}, nil))(t)
}

func getPath(der []byte) string {
	return "/ocsp/" + url.QueryEscape(base64.StdEncoding.EncodeToString(der))
}

// reply is a response read to its end.
type reply struct {
	*http.Response
	body []byte
}

// do sends a request line as it stands, without cleaning the path, to a real server.
func do(t testing.TB, srv *httptest.Server, method, target string, body []byte, header ...string) reply {
	t.Helper()
	var rd io.Reader
	if body != nil {
		rd = bytes.NewReader(body)
	}
	req := must(http.NewRequestWithContext(t.Context(), method, srv.URL, rd))(t)
	req.URL.Opaque = target
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp := must(srv.Client().Do(req))(t)
	defer resp.Body.Close()
	return reply{resp, must(io.ReadAll(resp.Body))(t)}
}

func serve(t testing.TB, e *Edge) *httptest.Server {
	srv := httptest.NewServer(e.Handler())
	t.Cleanup(srv.Close)
	return srv
}

// ask answers one request without a network: the OCSPResponse's bytes.
func (e *Edge) askFor(t testing.TB, der []byte) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	e.serve(w, httptest.NewRequest(http.MethodPost, "/ocsp/", bytes.NewReader(der)))
	if w.Code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// stateOf reads an answer of a and checks its signer: "good", "revoked", or the name of the error.
func (a *authority) stateOf(t testing.TB, der []byte, n int64, now time.Time) string {
	t.Helper()
	r := must(ocsp.ParseResponse(der))(t)
	if r.Status != ocsp.Successful {
		return r.Status.String()
	}
	s := must(ocsp.CheckResponse(r, a.cert, serialOf(n), now))(t)
	return s.State.String()
}
