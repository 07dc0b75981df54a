package enroll_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/publish"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/sqlite"
)

const (
	rootCA    bulkhead.AuthorityID = "root"
	issuingCA bulkhead.AuthorityID = "issuing-p256"
	headName                       = "status.test/head"
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

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return k
}

// script is a validator whose answers a test decides.
type script struct {
	validate func(id bulkhead.Identifier, m bulkhead.Method) (string, error)
	caa      func(id bulkhead.Identifier) (bulkhead.CAACheck, error)
	hang     bool // a look ends with its context
	looks    atomic.Int32
}

func (s *script) Validate(ctx context.Context, id bulkhead.Identifier, m bulkhead.Method, _, _ string) (string, error) {
	s.looks.Add(1)
	if s.hang {
		<-ctx.Done()
	}
	if s.validate != nil {
		return s.validate(id, m)
	}
	return "seen by the test", nil
}

func (s *script) CheckCAA(_ context.Context, id bulkhead.Identifier, _ bool, _ string, _ bulkhead.Method) (bulkhead.CAACheck, error) {
	if s.caa != nil {
		return s.caa(id)
	}
	now := time.Now()
	return bulkhead.CAACheck{Identifier: id, At: now, ValidUntil: now.Add(time.Hour), Result: bulkhead.CAAPermitted, Detail: "no CAA records"}, nil
}

// slowCAA makes the next look at CAA fail, so that the issuance makes its own.
func (s *script) slowCAA(kind bulkhead.Kind) {
	var once sync.Once
	s.caa = func(id bulkhead.Identifier) (c bulkhead.CAACheck, err error) {
		once.Do(func() { err = bulkhead.NewFault(kind, "the resolver is slow") })
		now := time.Now()
		return bulkhead.CAACheck{Identifier: id, At: now, ValidUntil: now.Add(time.Hour), Result: bulkhead.CAAPermitted, Detail: "no CAA records"}, err
	}
}

// house is enrolment over a real store, a real signer and a real status service.
type house struct {
	t      testing.TB
	store  *sqlite.Store
	signer *signer.Signer
	status *status.Service
	svc    *enroll.Service
	script *script
	root   *x509.Certificate
	shift  atomic.Int64 // of the clock, in nanoseconds
	hook   atomic.Pointer[func(op string, commit func() error) error]
	cfg    enroll.Config
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.shift.Load())) }

func newHouse(t testing.TB, change ...func(*enroll.Config)) *house {
	t.Helper()
	h := &house{t: t, script: &script{}}
	dir := t.TempDir()
	var err error
	h.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "bulkhead.db"), CommitHook: func(op string, commit func() error) error {
		if f := h.hook.Load(); f != nil {
			return (*f)(op, commit)
		}
		return commit()
	}})
	ok(t, err)
	t.Cleanup(func() { _ = h.store.Close() })
	_, err = keys.NewIdentity(filepath.Join(dir, "identity"))
	ok(t, err)
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(dir, "keys"), IdentityFile: filepath.Join(dir, "identity")})
	ok(t, err)
	h.hierarchy(ring)
	h.open(ring, dir)
	h.cfg = enroll.Config{Store: h.store, Issuer: h.signer, Revoker: h.status, Validator: h.script, Profiles: profile.Builtin(),
		DefaultProfile: "tls-server", DefaultAuthority: func(string) bulkhead.AuthorityID { return issuingCA }, AccountURI: func(id string) string { return "https://ca.test/acme/account/" + id },
		ExplanationURL: "https://ca.test/renewal", Now: h.now, Rand: rand.Reader}
	for _, f := range change {
		f(&h.cfg)
	}
	h.svc = h.service()
	return h
}

// service opens another process, so to say, over the same record.
func (h *house) service() *enroll.Service {
	h.t.Helper()
	s, err := enroll.New(h.cfg)
	ok(h.t, err)
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

// hierarchy makes a root and an issuing authority.
func (h *house) hierarchy(ring keys.Ring) {
	key := newKey(h.t)
	urls := profile.URLs{Base: "http://status.test"}
	tmpl, err := profile.Root(profile.House{Subject: pkix.Name{Organization: []string{"Test"}, CommonName: "Test Root"}, PublicKey: key.Public(),
		Serial: randomSerial(h.t), Now: h.now().Add(-time.Hour), Validity: 3650 * 24 * time.Hour})
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(h.t, err)
	h.root, err = x509.ParseCertificate(der)
	ok(h.t, err)
	uri, pub, err := ring.Generate(h.t.Context(), string(issuingCA), keys.P256)
	ok(h.t, err)
	tmpl, err = profile.Issuing(profile.House{Subject: pkix.Name{Organization: []string{"Test"}, CommonName: "Test Issuing"}, PublicKey: pub.Public(),
		Serial: randomSerial(h.t), Now: h.now().Add(-time.Hour), Validity: 1000 * 24 * time.Hour, Parent: h.root, ParentID: rootCA, URLs: urls})
	ok(h.t, err)
	der, err = x509.CreateCertificate(rand.Reader, tmpl, h.root, pub.Public(), key)
	ok(h.t, err)
	cert, err := x509.ParseCertificate(der)
	ok(h.t, err)
	for _, a := range []bulkhead.Authority{
		{ID: rootCA, Kind: bulkhead.RootAuthority, State: bulkhead.AuthorityRetired, Subject: h.root.RawSubject, SPKI: h.root.RawSubjectPublicKeyInfo, Certificate: h.root.Raw, Shards: 1},
		{ID: issuingCA, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, Parent: rootCA, Subject: cert.RawSubject,
			SPKI: cert.RawSubjectPublicKeyInfo, Certificate: der, Chain: [][]byte{h.root.Raw}, KeyURI: uri, Shards: 1},
	} {
		a.CreatedAt = h.now()
		ok(h.t, h.store.PutAuthority(h.t.Context(), a))
	}
}

// open makes signer and status service.
func (h *house) open(ring keys.Ring, dir string) {
	head, headKey, err := ring.Generate(h.t.Context(), "head", keys.Ed25519)
	ok(h.t, err)
	linter, err := lint.New(lint.Config{PrivateNames: true})
	ok(h.t, err)
	h.signer, err = signer.New(signer.Config{Store: h.store, Keys: ring, Profiles: profile.Builtin(), URLs: profile.URLs{Base: "http://status.test"},
		Linter: linter, HeadKeyURI: head, HeadName: headName, Now: h.now})
	ok(h.t, err)
	h.t.Cleanup(func() { h.signer.Close() })
	text, err := note.NewEd25519VerifierKey(headName, headKey.Public().(ed25519.PublicKey))
	ok(h.t, err)
	verifier, err := note.NewVerifier(text)
	ok(h.t, err)
	objects, err := publish.NewDir(filepath.Join(dir, "public"))
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

// account registers a new key.
func (h *house) account() (bulkhead.Account, *ecdsa.PrivateKey) {
	h.t.Helper()
	k := newKey(h.t)
	a, created, err := h.svc.NewAccount(h.t.Context(), accountRequest(h.t, k.Public()))
	ok(h.t, err)
	if !created {
		h.t.Fatal("a new key found an account")
	}
	return a, k
}

func accountRequest(t testing.TB, pub crypto.PublicKey) enroll.AccountRequest {
	t.Helper()
	jwk := jose.JSONWebKey{Key: pub}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	ok(t, err)
	text, err := json.Marshal(jwk)
	ok(t, err)
	return enroll.AccountRequest{JWK: text, Thumbprint: bulkhead.Digest(sum).String(), Key: pub}
}

func ids(t testing.TB, names ...string) []bulkhead.Identifier {
	t.Helper()
	var out []bulkhead.Identifier
	for _, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		ok(t, err)
		out = append(out, id)
	}
	return out
}

// csr makes a request of the key for the names.
func csr(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	var tmpl x509.CertificateRequest
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else if strings.Contains(n, "@") {
			tmpl.EmailAddresses = append(tmpl.EmailAddresses, n)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	ok(t, err)
	return der
}

// ready places an order and answers its challenges until it is ready.
func (h *house) ready(acct bulkhead.Account, names ...string) bulkhead.Order {
	h.t.Helper()
	o, err := h.svc.NewOrder(h.t.Context(), acct, enroll.OrderRequest{Identifiers: ids(h.t, names...)})
	ok(h.t, err)
	h.respond(acct, o)
	return h.until(acct, o.ID, bulkhead.OrderReady)
}

func (h *house) respond(acct bulkhead.Account, o bulkhead.Order) {
	h.t.Helper()
	for _, id := range o.Authorizations {
		a, err := h.svc.Authorization(h.t.Context(), acct, id)
		ok(h.t, err)
		if a.State == bulkhead.AuthorizationPending {
			_, err = h.svc.Respond(h.t.Context(), acct, a.ID, a.Challenges[0].ID)
			ok(h.t, err)
		}
	}
}

// until polls an order until it is in the state.
func (h *house) until(acct bulkhead.Account, id string, want bulkhead.OrderState) bulkhead.Order {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		o, err := h.svc.Order(h.t.Context(), acct, id)
		ok(h.t, err)
		if o.State == want {
			return o
		}
		if time.Now().After(deadline) || o.State == bulkhead.OrderInvalid {
			h.t.Fatalf("the order is %s (%v), want %s", o.State, o.Problem, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// issued brings an order to its certificate.
func (h *house) issued(acct bulkhead.Account, key crypto.Signer, names ...string) bulkhead.IssuedCertificate {
	h.t.Helper()
	o := h.ready(acct, names...)
	o, err := h.svc.Finalize(h.t.Context(), acct, o.ID, csr(h.t, key, names...))
	ok(h.t, err)
	if o.State == bulkhead.OrderProcessing {
		o = h.until(acct, o.ID, bulkhead.OrderValid)
	}
	if o.State != bulkhead.OrderValid {
		h.t.Fatalf("the order is %s: %v", o.State, o.Problem)
	}
	c, err := h.svc.Certificate(h.t.Context(), acct, o.Certificate)
	ok(h.t, err)
	return c
}

// leaves counts evidence rows.
func (h *house) leaves() int64 {
	h.t.Helper()
	n, _, err := h.store.EvidenceHead(h.t.Context())
	ok(h.t, err)
	return n
}
