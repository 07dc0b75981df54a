package signer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/pki/tlog"
	"bulkhead/signer"
	"bulkhead/store/sqlite"
)

const (
	ecdsaCA  bulkhead.AuthorityID = "issuing-p256"
	rsaCA    bulkhead.AuthorityID = "issuing-rsa"
	infraCA  bulkhead.AuthorityID = "infrastructure"
	rootCA   bulkhead.AuthorityID = "root"
	accountA                      = "account-a"
	headName                      = "status.test/head"
	dayTime                       = 24 * time.Hour
)

var urls = profile.URLs{Base: "http://status.test"}

// house is a signer over a real store and real keys, with a clock that tests can move.
type house struct {
	t      testing.TB
	store  *sqlite.Store
	ring   keys.Ring
	signer *signer.Signer
	root   *x509.Certificate
	rootPK crypto.Signer
	certs  map[bulkhead.AuthorityID]*x509.Certificate
	head   string // URI of the head key
	shift  atomic.Int64
	hook   atomic.Pointer[func(op string, commit func() error) error]
	n      atomic.Int64
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.shift.Load())) }

func (h *house) move(d time.Duration) { h.shift.Add(int64(d)) }

// onCommit sets what happens at each commit; nil commits.
func (h *house) onCommit(f func(op string, commit func() error) error) {
	if f == nil {
		h.hook.Store(nil)
		return
	}
	h.hook.Store(&f)
}

func newHouse(t testing.TB, change ...func(*signer.Config)) *house {
	t.Helper()
	h := &house{t: t, certs: map[bulkhead.AuthorityID]*x509.Certificate{}}
	dir := t.TempDir()
	_, err := keys.NewIdentity(filepath.Join(dir, "identity"))
	ok(t, err)
	h.ring, err = keys.OpenFileRing(keys.Config{Dir: filepath.Join(dir, "keys"), IdentityFile: filepath.Join(dir, "identity")})
	ok(t, err)
	h.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "bulkhead.db"), CommitHook: func(op string, commit func() error) error {
		if f := h.hook.Load(); f != nil {
			return (*f)(op, commit)
		}
		return commit()
	}})
	ok(t, err)
	t.Cleanup(func() { h.store.Close() })
	h.makeRoot()
	h.makeAuthority(ecdsaCA, bulkhead.IssuingAuthority, keys.P256)
	h.makeAuthority(infraCA, bulkhead.InfrastructureAuthority, keys.P256)
	h.head, _, err = h.ring.Generate(t.Context(), "head", keys.Ed25519)
	ok(t, err)
	h.account(accountA)
	h.signer = h.newSigner(change...)
	return h
}

func (h *house) newSigner(change ...func(*signer.Config)) *signer.Signer {
	h.t.Helper()
	l, err := lint.New(lint.Config{PrivateNames: true})
	ok(h.t, err)
	c := signer.Config{Store: h.store, Keys: h.ring, Profiles: profile.Builtin(), URLs: urls, Linter: l, HeadKeyURI: h.head, HeadName: headName, Now: h.now}
	for _, f := range change {
		f(&c)
	}
	s, err := signer.New(c)
	ok(h.t, err)
	h.t.Cleanup(func() { s.Close() })
	return s
}

func (h *house) makeRoot() {
	key := newKey(h.t)
	serial := h.serial()
	tmpl, err := profile.Root(profile.House{Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"Test"}, CommonName: "Test Root"},
		PublicKey: key.Public(), Serial: serial, Now: h.now().Add(-time.Hour), Validity: 3650 * dayTime})
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(h.t, err)
	h.root, err = x509.ParseCertificate(der)
	ok(h.t, err)
	h.rootPK, h.certs[rootCA] = key, h.root
	h.put(bulkhead.Authority{ID: rootCA, Kind: bulkhead.RootAuthority, Subject: h.root.RawSubject, SPKI: h.root.RawSubjectPublicKeyInfo, Certificate: der, Shards: 1})
}

// makeAuthority makes a subordinate authority whose key is in the ring.
func (h *house) makeAuthority(id bulkhead.AuthorityID, kind bulkhead.AuthorityKind, alg keys.Algorithm) bulkhead.Authority {
	uri, key, err := h.ring.Generate(context.Background(), string(id), alg)
	ok(h.t, err)
	tmpl, err := profile.Issuing(profile.House{Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"Test"}, CommonName: "Test " + string(id)},
		PublicKey: key.Public(), Serial: h.serial(), Now: h.now().Add(-time.Hour), Validity: 1000 * dayTime, Parent: h.root, ParentID: rootCA, URLs: urls})
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, h.root, key.Public(), h.rootPK)
	ok(h.t, err)
	cert, err := x509.ParseCertificate(der)
	ok(h.t, err)
	h.certs[id] = cert
	return h.put(bulkhead.Authority{ID: id, Kind: kind, Parent: rootCA, Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo, Certificate: der,
		Chain: [][]byte{h.root.Raw}, KeyURI: uri, Shards: 4})
}

func (h *house) put(a bulkhead.Authority) bulkhead.Authority {
	a.State, a.CreatedAt = bulkhead.AuthorityActive, h.now().UTC()
	ok(h.t, h.store.PutAuthority(context.Background(), a))
	return a
}

func (h *house) serial() bulkhead.Serial {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = 1
	s, err := bulkhead.SerialFromBytes(b)
	ok(h.t, err)
	return s
}

func (h *house) account(id string) {
	ok(h.t, h.store.CreateAccount(context.Background(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: "thumb-" + id, CreatedAt: h.now()}))
}

// proof changes the evidence of one name before it is stored.
type proof func(v *bulkhead.Validation, c *bulkhead.CAACheck)

// order stores an order of accountA with evidence for every name and returns its id.
func (h *house) order(names []bulkhead.Identifier, proofs ...proof) string {
	h.t.Helper()
	ctx, now, id := context.Background(), h.now().UTC(), fmt.Sprintf("order-%d", h.n.Add(1))
	o := bulkhead.Order{ID: id, AccountID: accountA, State: bulkhead.OrderPending, Identifiers: names, CreatedAt: now, ExpiresAt: now.Add(dayTime)}
	var fresh []bulkhead.Authorization
	var checks []bulkhead.CAACheck
	validations := make([]*bulkhead.Validation, len(names))
	for i, n := range names {
		a := bulkhead.Authorization{ID: fmt.Sprintf("%s-authz-%d", id, i), AccountID: accountA, Identifier: n.Base(), Wildcard: n.Wildcard(), State: bulkhead.AuthorizationPending,
			CreatedAt: now, ExpiresAt: now.Add(dayTime)}
		v := &bulkhead.Validation{ID: a.ID + "-v", AuthorizationID: a.ID, AccountID: accountA, Identifier: n.Base(), Wildcard: n.Wildcard(), Method: bulkhead.DNS01,
			At: now, ReuseUntil: now.Add(10 * dayTime)}
		if n.Type != bulkhead.DNS {
			v.Method = bulkhead.OperatorApproval
		}
		c := &bulkhead.CAACheck{OrderID: id, Identifier: n, At: now, ValidUntil: now.Add(8 * time.Hour), Result: bulkhead.CAAPermitted}
		for _, p := range proofs {
			p(v, c)
		}
		fresh, validations[i] = append(fresh, a), v
		o.Authorizations = append(o.Authorizations, a.ID)
		if c.Result != "" {
			checks = append(checks, *c)
		}
	}
	ok(h.t, h.store.CreateOrder(ctx, o, fresh))
	for i, a := range fresh {
		if validations[i].Method == "" {
			continue
		}
		a.State = bulkhead.AuthorizationValid
		ok(h.t, h.store.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, validations[i]))
	}
	ok(h.t, h.store.PutCAAChecks(ctx, checks))
	return id
}

// request is a complete, acceptable request for the names with a new key.
func (h *house) request(names ...string) bulkhead.CertificateRequest {
	h.t.Helper()
	ids := ids(h.t, names...)
	return bulkhead.CertificateRequest{Authority: ecdsaCA, Profile: "tls-server", Names: ids, AccountID: accountA, OrderID: h.order(ids), CSR: csr(h.t, newKey(h.t), ids)}
}

func (h *house) issue(names ...string) bulkhead.IssuedCertificate {
	h.t.Helper()
	c, err := h.signer.Issue(context.Background(), h.request(names...))
	ok(h.t, err)
	return c
}

// rows counts the certificates of every state.
func (h *house) rows() map[bulkhead.CertificateState]int {
	all, _, err := h.store.Certificates(context.Background(), bulkhead.CertificateFilter{Limit: 1000})
	ok(h.t, err)
	n := map[bulkhead.CertificateState]int{}
	for _, c := range all {
		n[c.State]++
	}
	return n
}

func (h *house) leaves() []bulkhead.Evidence {
	h.t.Helper()
	rows, err := h.store.EvidenceAfter(context.Background(), 0, 100000)
	ok(h.t, err)
	all := make([]bulkhead.Evidence, len(rows))
	for i, r := range rows {
		all[i], err = tlog.Parse(r.Leaf)
		ok(h.t, err)
	}
	return all
}

func (h *house) count(kind bulkhead.EvidenceKind) (n int) {
	for _, e := range h.leaves() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// audit checks that store and evidence agree: every leaf keeps the ledger's rules, every row is in the state that its
// leaves say, and every certificate in the record is the one of its outcome. It returns the signatures by key.
func (h *house) audit() map[bulkhead.Hash]tlog.KeyCount {
	h.t.Helper()
	ledger := tlog.NewLedger()
	state := map[bulkhead.CertificateRef]bulkhead.CertificateState{}
	digest := map[bulkhead.CertificateRef]bulkhead.Hash{}
	for i, e := range h.leaves() {
		for _, v := range ledger.Add(int64(i), e) {
			h.t.Errorf("evidence: %s: %s", v.Rule, v.Message)
		}
		ref := bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}
		switch e.Kind {
		case bulkhead.EvCertificateIntent:
			state[ref] = bulkhead.Reserved
		case bulkhead.EvCertificateOutcome:
			state[ref], digest[ref] = bulkhead.Issued, e.Digest
		case bulkhead.EvCertificateAbandon:
			state[ref] = bulkhead.Abandoned
		}
	}
	all, _, err := h.store.Certificates(context.Background(), bulkhead.CertificateFilter{Limit: 1000})
	ok(h.t, err)
	for _, c := range all {
		if c.State == bulkhead.Revoked {
			c.State = bulkhead.Issued // revocation has evidence of its own
		}
		if want := state[c.CertificateRef]; c.State != want {
			h.t.Errorf("certificate %s is %s, evidence says %s", c.CertificateRef, c.State, want)
		}
		delete(state, c.CertificateRef)
		if c.State == bulkhead.Issued {
			_, der, err := h.store.Certificate(context.Background(), c.CertificateRef)
			ok(h.t, err)
			if got := bulkhead.Digest(der); got != digest[c.CertificateRef] || got != c.Fingerprint {
				h.t.Errorf("certificate %s is not the one of its outcome", c.CertificateRef)
			}
		}
	}
	for ref := range state {
		h.t.Errorf("evidence speaks of %s, which is not in the record", ref)
	}
	return ledger.Keys()
}

func (h *house) signerHash(id bulkhead.AuthorityID) bulkhead.Hash {
	return keycheck.SPKIHash(h.certs[id].RawSubjectPublicKeyInfo)
}

func ids(t testing.TB, names ...string) []bulkhead.Identifier {
	t.Helper()
	var list []bulkhead.Identifier
	for _, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		ok(t, err)
		list = append(list, id)
	}
	return list
}

// csr is a DER PKCS #10 for the names; change may add what it likes.
func csr(t testing.TB, key crypto.Signer, names []bulkhead.Identifier, change ...func(*x509.CertificateRequest)) []byte {
	t.Helper()
	r := &x509.CertificateRequest{}
	for _, n := range names {
		switch n.Type {
		case bulkhead.DNS:
			r.DNSNames = append(r.DNSNames, n.Value)
		case bulkhead.IP:
			r.IPAddresses = append(r.IPAddresses, net.ParseIP(n.Value))
		case bulkhead.Email:
			r.EmailAddresses = append(r.EmailAddresses, n.Value)
		}
	}
	for _, f := range change {
		f(r)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	ok(t, err)
	return der
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return key
}

func keyHash(t testing.TB, pub crypto.PublicKey) bulkhead.Hash {
	t.Helper()
	spki, err := keycheck.SPKI(pub)
	ok(t, err)
	return keycheck.SPKIHash(spki)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind fails unless err is a fault of the kind with a hint, whose text has the word.
func wantKind(t testing.TB, err error, kind bulkhead.Kind, word string) {
	t.Helper()
	if bulkhead.KindOf(err) != kind {
		t.Fatalf("got %v, want kind %s", err, kind)
	}
	f := bulkhead.AsFault(err)
	if f.Hint == "" {
		t.Errorf("%v has no hint", err)
	}
	if !strings.Contains(f.Detail, word) {
		t.Errorf("detail %q does not say %q", f.Detail, word)
	}
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() { defer wg.Done(); f(i) }()
	}
	wg.Wait()
}
