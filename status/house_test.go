package status_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/publish"
	"bulkhead/publish/publishtest"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/sqlite"
	"bulkhead/store/storetest"
)

const (
	rootCA    bulkhead.AuthorityID = "root"
	caA       bulkhead.AuthorityID = "issuing-a"
	caB       bulkhead.AuthorityID = "issuing-b"
	headName                       = "status.test/head"
	statusURL                      = "http://status.test"
	day                            = 24 * time.Hour
)

// house is a status service over a real store, a real signer, authorities of a real ceremony and a directory of
// objects, with a clock, commits, object writes and a signer's door that tests can touch.
type house struct {
	t        testing.TB
	store    storetest.Store
	headURI  string
	ring     keys.Ring // of the online authorities
	rootRing keys.Ring
	linter   *lint.Linter
	root     *x509.Certificate
	rootURI  string
	dir      *publish.Dir
	objects  *publishtest.Faulty
	signer   *signer.Signer
	door     *door
	verifier note.Verifier
	status   *status.Service
	policy   status.Policy
	shift    atomic.Int64
	hook     atomic.Pointer[func(op string, commit func() error) error]
	serials  atomic.Int64
}

// now is a clock in whole seconds that starts with the machine's and stands still until it is moved.
func (h *house) now() time.Time { return epoch.Add(time.Duration(h.shift.Load())) }

var epoch = time.Now().UTC().Truncate(time.Second)

func (h *house) move(d time.Duration) { h.shift.Add(int64(d)) }

func (h *house) onCommit(f func(op string, commit func() error) error) {
	if f == nil {
		h.hook.Store(nil)
		return
	}
	h.hook.Store(&f)
}

// newHouse has a root that is offline and the issuing authorities A and B.
func newHouse(t testing.TB, change ...func(*status.Policy)) *house {
	t.Helper()
	h := bareHouse(t, change...)
	h.addRoot()
	h.addIssuing(rootCA, caA, h.csr("a", name("Issuing A")), name("Issuing A"), 2)
	h.addIssuing(rootCA, caB, h.csr("b", name("Issuing B")), name("Issuing B"), 2)
	ok(t, h.status.Start(t.Context()))
	return h
}

func bareHouse(t testing.TB, change ...func(*status.Policy)) *house {
	t.Helper()
	h := &house{t: t}
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "bulkhead.db"), CommitHook: func(op string, commit func() error) error {
		if f := h.hook.Load(); f != nil {
			return (*f)(op, commit)
		}
		return commit()
	}})
	ok(t, err)
	h.furnish(store, change...)
	return h
}

// furnish makes a house on a record.
func (h *house) furnish(store storetest.Store, change ...func(*status.Policy)) {
	t, dir := h.t, h.t.TempDir()
	t.Helper()
	h.store = store
	t.Cleanup(func() { h.store.Close() })
	for _, f := range change {
		f(&h.policy)
	}
	var err error
	h.ring, h.rootRing = openRing(t, dir, "online"), openRing(t, dir, "root")
	h.linter, err = lint.New(lint.Config{PrivateNames: true})
	ok(t, err)
	h.dir, err = publish.NewDir(filepath.Join(dir, "objects"))
	ok(t, err)
	h.objects = publishtest.NewFaulty(h.dir)
	head, headKey, err := h.ring.Generate(t.Context(), "head", keys.Ed25519)
	ok(t, err)
	h.headURI = head
	h.verifier, err = signer.HeadVerifier(headName, headKey.Public().(ed25519.PublicKey))
	ok(t, err)
	h.signer, err = signer.New(signer.Config{Store: h.store, Keys: h.ring, Profiles: profile.Builtin(), URLs: profile.URLs{Base: statusURL}, Linter: h.linter,
		HeadKeyURI: head, HeadName: headName, Now: h.now})
	ok(t, err)
	t.Cleanup(func() { h.signer.Close() })
	h.door = &door{Signer: h.signer}
	h.status = h.restart()
}

func openRing(t testing.TB, dir, name string) keys.Ring {
	t.Helper()
	identity := filepath.Join(dir, name+".identity")
	_, err := keys.NewIdentity(identity)
	ok(t, err)
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(dir, name), IdentityFile: identity})
	ok(t, err)
	return ring
}

// restart gives the service that the next process would have. It is not started.
func (h *house) restart() *status.Service {
	h.t.Helper()
	s, err := status.New(status.Config{Store: h.store, Signer: h.door, Objects: h.objects, HeadVerifier: h.verifier, Policy: h.policy, Now: h.now})
	ok(h.t, err)
	return s
}

func name(cn string) ceremony.Name {
	return ceremony.Name{CommonName: "Test " + cn, Organization: "Test", Country: "DE"}
}

// csr makes a key in the online ring and its request.
func (h *house) csr(keyName string, n ceremony.Name) ceremony.Request {
	h.t.Helper()
	r, err := ceremony.NewCSR(h.t.Context(), h.ring, keyName, n, keys.P256)
	ok(h.t, err)
	return r
}

// requestFor is a request by a key that exists.
func (h *house) requestFor(uri string, n ceremony.Name) ceremony.Request {
	h.t.Helper()
	key, err := h.ring.Open(h.t.Context(), uri)
	ok(h.t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: n.PKIX()}, key)
	ok(h.t, err)
	return ceremony.Request{CSR: der, KeyURI: uri}
}

// hold holds a ceremony and puts its result into the record.
func (h *house) hold(p ceremony.Plan) *ceremony.Result {
	h.t.Helper()
	p.Title, p.StatusURL, p.Root = "test", statusURL, rootCA
	res, err := ceremony.Execute(h.t.Context(), ceremony.Config{Ring: h.rootRing, Now: h.now, Rand: rand.Reader, Who: []string{"test"}, Lint: h.linter}, p)
	ok(h.t, err)
	ctx := context.Background()
	for _, a := range res.Authorities {
		a.CreatedAt = h.now()
		ok(h.t, h.store.PutAuthority(ctx, a))
	}
	for _, c := range res.Certificates {
		h.plant(c.Certificate, c.DER)
	}
	for _, p := range res.Prepared {
		if p.Kind == bulkhead.PreparedDelegate {
			ok(h.t, h.store.PutDelegate(ctx, bulkhead.Delegate{Authority: p.Authority, Certificate: p.DER, KeyURI: p.KeyURI, NotBefore: p.NotBefore, NotAfter: p.NotAfter}))
		}
	}
	ok(h.t, h.store.PutPrepared(ctx, res.Prepared))
	return res
}

func (h *house) addRoot() {
	res := h.hold(ceremony.Plan{Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: rootCA, Subject: name("Root"), Algorithm: keys.P256, Days: 20 * 365}},
		{Delegate: &ceremony.DelegateStep{Authority: rootCA, Subject: name("Root OCSP"), Requests: []ceremony.Request{h.csr("root-ocsp", name("Root OCSP"))}, TurnoverDays: 365, OverlapDays: 30}},
		{CRL: &ceremony.CRLStep{Authority: rootCA, HorizonDays: 365, TurnoverDays: 90, OverlapDays: 30}},
	}})
	uris, err := h.rootRing.List(h.t.Context())
	ok(h.t, err)
	h.rootURI = uris[0]
	h.root, err = x509.ParseCertificate(res.Authorities[0].Certificate)
	ok(h.t, err)
}

// existing names an authority of the record for another ceremony.
func (h *house) existing(id bulkhead.AuthorityID) ceremony.Existing {
	a := h.authority(id)
	x := ceremony.Existing{ID: id, Kind: a.Kind, Certificate: a.Certificate}
	if id == rootCA {
		x.KeyURI = h.rootURI
	}
	for _, c := range a.Chain {
		x.Chain = append(x.Chain, c)
	}
	return x
}

func (h *house) addIssuing(parent, id bulkhead.AuthorityID, r ceremony.Request, n ceremony.Name, shards int) {
	h.t.Helper()
	h.hold(ceremony.Plan{Existing: []ceremony.Existing{h.existing(parent)}, Steps: []ceremony.Step{
		{Issuing: &ceremony.IssuingStep{ID: id, Kind: bulkhead.IssuingAuthority, Parent: parent, Subject: n, Request: r, Days: 5 * 365, Shards: shards}}}})
}

func (h *house) authority(id bulkhead.AuthorityID) bulkhead.Authority {
	h.t.Helper()
	a, err := h.store.Authority(context.Background(), id)
	ok(h.t, err)
	return a
}

// row is a certificate to be planted: status reads rows and never looks into certificates.
func (h *house) row(issuer bulkhead.AuthorityID, change ...func(*bulkhead.Certificate)) bulkhead.Certificate {
	n := h.serials.Add(1)
	serial, err := bulkhead.SerialFromBytes([]byte{1, byte(n >> 16), byte(n >> 8), byte(n)})
	ok(h.t, err)
	c := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: issuer, Serial: serial}, Kind: bulkhead.LeafCertificate, Profile: "tls-server",
		Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("h%d.test", n)}}, KeyHash: bulkhead.Digest([]byte(fmt.Sprint("key ", n))),
		NotBefore: h.now().Add(-time.Hour), NotAfter: h.now().Add(47 * day)}
	for _, f := range change {
		f(&c)
	}
	c.Shard = profile.ShardOf(c.Serial, h.authority(issuer).Shards)
	return c
}

// reserve makes the intent durable and nothing more.
func (h *house) reserve(c bulkhead.Certificate, der []byte) bulkhead.Evidence {
	h.t.Helper()
	c.State, c.ReservedAt, c.Fingerprint = bulkhead.Reserved, h.now(), bulkhead.Hash{}
	ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now(), Actor: "test", Authority: c.Issuer, Serial: c.Serial, KeyHash: c.KeyHash, Digest: bulkhead.Digest(der)}
	_, errs, err := h.store.Reserve(context.Background(), []bulkhead.Reservation{{Certificate: c, Intent: ev}})
	ok(h.t, err)
	ok(h.t, errs[0])
	return ev
}

// plant makes a row by the two writes of every issuance.
func (h *house) plant(c bulkhead.Certificate, der []byte) bulkhead.CertificateRef {
	h.t.Helper()
	ev := h.reserve(c, der)
	ev.Kind, ev.Link, ev.Digest = bulkhead.EvCertificateOutcome, ev.Digest, bulkhead.Digest(der)
	_, errs, err := h.store.Complete(context.Background(), []bulkhead.Completion{{CertificateRef: c.CertificateRef, DER: der, Outcome: ev}})
	ok(h.t, err)
	ok(h.t, errs[0])
	return c.CertificateRef
}

// issue plants n certificates of an issuer and publishes their answers.
func (h *house) issue(issuer bulkhead.AuthorityID, n int, change ...func(*bulkhead.Certificate)) []bulkhead.CertificateRef {
	h.t.Helper()
	var refs []bulkhead.CertificateRef
	for range n {
		c := h.row(issuer, change...)
		refs = append(refs, h.plant(c, []byte("certificate "+c.CertificateRef.String())))
	}
	h.tick()
	return refs
}

func (h *house) tick() { h.t.Helper(); ok(h.t, h.status.Tick(context.Background())) }

func items(reason bulkhead.Reason, refs ...bulkhead.CertificateRef) []bulkhead.ChangeItem {
	var list []bulkhead.ChangeItem
	for _, r := range refs {
		list = append(list, bulkhead.ChangeItem{CertificateRef: r, Reason: reason})
	}
	return list
}

func (h *house) revoke(refs ...bulkhead.CertificateRef) string {
	h.t.Helper()
	id, err := h.status.RevokeCertificates(context.Background(), "test", "a test", items(bulkhead.Superseded, refs...))
	ok(h.t, err)
	return id
}

func (h *house) change(id string) bulkhead.Change {
	h.t.Helper()
	c, err := h.store.Change(context.Background(), id)
	ok(h.t, err)
	return c
}

func (h *house) state(ref bulkhead.CertificateRef) bulkhead.CertificateState {
	h.t.Helper()
	c, _, err := h.store.Certificate(context.Background(), ref)
	ok(h.t, err)
	return c.State
}

// agree fails when what is public and the record differ.
func (h *house) agree() {
	h.t.Helper()
	for _, d := range h.check() {
		h.t.Errorf("%s: %s: %s", d.Rule, d.Ref, d.Message)
	}
	rec, err := h.store.Head(context.Background())
	ok(h.t, err)
	public, err := h.dir.Head(context.Background())
	ok(h.t, err)
	if string(public) != string(rec.Body) {
		h.t.Error("the public head is not the newest one of the record")
	}
}

func (h *house) check() []status.Disagreement {
	h.t.Helper()
	found, _, err := status.Check(context.Background(), status.CheckConfig{Store: h.store, Objects: h.dir, HeadVerifier: h.verifier, Now: h.now})
	ok(h.t, err)
	return found
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind bulkhead.Kind, word string) {
	t.Helper()
	if bulkhead.KindOf(err) != kind {
		t.Fatalf("got %v, want kind %s", err, kind)
	}
	if d := bulkhead.AsFault(err).Detail; !strings.Contains(d, word) {
		t.Errorf("detail %q does not say %q", d, word)
	}
}
