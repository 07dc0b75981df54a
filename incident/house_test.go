package incident_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/incident/plan"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/publish"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/postgres"
	"bulkhead/store/sqlite"
	"bulkhead/store/storetest"
	"bulkhead/store/storetest/pgtest"
)

const (
	rootCA    bulkhead.AuthorityID = "root"
	issuingCA bulkhead.AuthorityID = "issuing-p256"
	headName                       = "status.test/head"
)

// record is everything that the parts of the test ask of the store.
type record interface {
	storetest.Store
	incident.Store
	status.Store
	signer.Store
}

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

// house is a desk over a real store, a real signer and a real status service; the certificates are rows.
type house struct {
	t      testing.TB
	store  record
	status *status.Service
	desk   *incident.Service
	cfg    incident.Config
	clock  atomic.Int64 // nanoseconds beyond the start
	start  time.Time
	hook   atomic.Pointer[func(op string, commit func() error) error]
	alarms []bulkhead.Alarm
	serial int
	on     onDisk
}

// onDisk is what another process needs to open the same house.
type onDisk struct {
	Engine, Where, Dir string // the store, where it is, and the folder of keys and objects
	Head, HeadKey      string // of the signed head: its key's URI, and the key as a verifier reads it
	Start              time.Time
}

func (h *house) now() time.Time       { return h.start.Add(time.Duration(h.clock.Load())) }
func (h *house) pass(d time.Duration) { h.clock.Add(int64(d)) }

func (h *house) commit(op string, commit func() error) error {
	if f := h.hook.Load(); f != nil {
		return (*f)(op, commit)
	}
	return commit()
}

type engine struct {
	name string
	make func(t testing.TB) (where string)
	open func(t testing.TB, where string, hook storetest.Hook) record
}

// engines are both stores.
func engines() []engine {
	return []engine{
		{"sqlite", func(t testing.TB) string { return filepath.Join(t.TempDir(), "i.db") }, func(t testing.TB, where string, hook storetest.Hook) record {
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: where, CommitHook: hook})
			ok(t, err)
			t.Cleanup(func() { _ = s.Close() })
			return s
		}},
		{"postgres", func(t testing.TB) string { return pgtest.New(t) }, func(t testing.TB, where string, hook storetest.Hook) record {
			s, err := postgres.Open(t.Context(), postgres.Config{DSN: where, CommitHook: hook})
			ok(t, err)
			t.Cleanup(func() { _ = s.Close() })
			return s
		}},
	}
}

func newHouse(t testing.TB, change ...func(*incident.Config)) *house {
	return newHouseOn(t, engines()[0], change...)
}

func newHouseOn(t testing.TB, e engine, change ...func(*incident.Config)) *house {
	t.Helper()
	h := &house{t: t, start: time.Now().UTC().Truncate(time.Second)}
	h.on = onDisk{Engine: e.name, Where: e.make(t), Dir: t.TempDir(), Start: h.start}
	h.store = e.open(t, h.on.Where, h.commit)
	_, err := keys.NewIdentity(filepath.Join(h.on.Dir, "identity"))
	ok(t, err)
	ring := h.ring()
	h.hierarchy(ring)
	head, headKey, err := ring.Generate(t.Context(), "head", keys.Ed25519)
	ok(t, err)
	h.on.Head = head
	h.on.HeadKey, err = note.NewEd25519VerifierKey(headName, headKey.Public().(ed25519.PublicKey))
	ok(t, err)
	h.open(ring)
	h.staff(change...)
	return h
}

func (h *house) ring() keys.Ring {
	h.t.Helper()
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(h.on.Dir, "keys"), IdentityFile: filepath.Join(h.on.Dir, "identity")})
	ok(h.t, err)
	return ring
}

// staff opens the desk.
func (h *house) staff(change ...func(*incident.Config)) {
	h.t.Helper()
	h.cfg = incident.Config{Store: h.store, Revoker: revoker{h.status, h.store}, Capacity: plan.Capacity{Signatures: 100_000, Validations: 100_000, Notices: 100_000}, Chunk: 50, OnePerson: 10,
		TicketSecret: make([]byte, 32), Explanation: "https://ca.test/day", Now: h.now,
		Own:   func(c bulkhead.Certificate) bool { return c.AccountID == "house" },
		Alarm: func(_ context.Context, a bulkhead.Alarm) { h.alarms = append(h.alarms, a) },
		Product: func(p string) string {
			return map[string]string{"smime": "smime", "code": "code-signing"}[p] + map[bool]string{true: "tls"}[p != "smime" && p != "code"]
		}}
	for _, f := range change {
		f(&h.cfg)
	}
	h.desk = h.process()
}

// process opens another process, so to say, over the same record.
func (h *house) process() *incident.Service {
	h.t.Helper()
	s, err := incident.New(h.cfg)
	ok(h.t, err)
	return s
}

// revoker is the port as the composed house has it, without the look at the quorum.
type revoker struct {
	*status.Service
	store status.Store
}

func (r revoker) ActivateForCampaign(ctx context.Context, c bulkhead.Campaign, change bulkhead.Change) error {
	if change.State == bulkhead.ChangePlanned {
		if _, _, err := r.Preview(ctx, change.ID); err != nil {
			return err
		}
	}
	now, err := r.Change(ctx, change.ID)
	if err != nil {
		return err
	}
	if now.State == bulkhead.ChangePreviewed {
		if err := r.Approve(ctx, now.ID, now.PreviewHash, c.Approval); err != nil {
			return err
		}
	}
	return r.Activate(ctx, now.ID)
}

func (h *house) hierarchy(ring keys.Ring) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(h.t, err)
	urls := profile.URLs{Base: "http://status.test"}
	tmpl, err := profile.Root(profile.House{Subject: pkix.Name{Organization: []string{"Test"}, CommonName: "Test Root"}, PublicKey: key.Public(), Serial: h.next(), Now: h.now().Add(-time.Hour), Validity: 3650 * 24 * time.Hour})
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(h.t, err)
	root, err := x509.ParseCertificate(der)
	ok(h.t, err)
	uri, pub, err := ring.Generate(h.t.Context(), string(issuingCA), keys.P256)
	ok(h.t, err)
	tmpl, err = profile.Issuing(profile.House{Subject: pkix.Name{Organization: []string{"Test"}, CommonName: "Test Issuing"}, PublicKey: pub.Public(), Serial: h.next(), Now: h.now().Add(-time.Hour),
		Validity: 1000 * 24 * time.Hour, Parent: root, ParentID: rootCA, URLs: urls})
	ok(h.t, err)
	der, err = x509.CreateCertificate(rand.Reader, tmpl, root, pub.Public(), key)
	ok(h.t, err)
	cert, err := x509.ParseCertificate(der)
	ok(h.t, err)
	for _, a := range []bulkhead.Authority{
		{ID: rootCA, Kind: bulkhead.RootAuthority, State: bulkhead.AuthorityRetired, Subject: root.RawSubject, SPKI: root.RawSubjectPublicKeyInfo, Certificate: root.Raw, Shards: 1},
		{ID: issuingCA, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, Parent: rootCA, Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo, Certificate: der,
			Chain: [][]byte{root.Raw}, KeyURI: uri, Shards: 1},
	} {
		a.CreatedAt = h.now()
		ok(h.t, h.store.PutAuthority(h.t.Context(), a))
	}
}

func (h *house) open(ring keys.Ring) {
	linter, err := lint.New(lint.Config{PrivateNames: true})
	ok(h.t, err)
	sg, err := signer.New(signer.Config{Store: h.store, Keys: ring, Profiles: profile.Builtin(), URLs: profile.URLs{Base: "http://status.test"}, Linter: linter, HeadKeyURI: h.on.Head, HeadName: headName, Now: h.now})
	ok(h.t, err)
	h.t.Cleanup(func() { _ = sg.Close() })
	verifier, err := note.NewVerifier(h.on.HeadKey)
	ok(h.t, err)
	objects, err := publish.NewDir(filepath.Join(h.on.Dir, "public"))
	ok(h.t, err)
	h.status, err = status.New(status.Config{Store: h.store, Signer: sg, Objects: objects, HeadVerifier: verifier, Now: h.now})
	ok(h.t, err)
	ok(h.t, h.status.Start(h.t.Context()))
}

func (h *house) next() bulkhead.Serial {
	h.serial++
	var b [16]byte
	b[0] = 1
	binary.BigEndian.PutUint64(b[8:], uint64(h.serial))
	s, err := bulkhead.SerialFromBytes(b[:])
	ok(h.t, err)
	return s
}

// cert is a row for issue.
func (h *house) cert(account, name string, change ...func(*bulkhead.Certificate)) bulkhead.Certificate {
	n := h.next()
	c := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: issuingCA, Serial: n}, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, Profile: "tls-server",
		Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}, Subject: "CN=" + name, KeyHash: bulkhead.Digest([]byte("key " + n.String())), AccountID: account, OrderID: "order-" + n.String(),
		NotBefore: h.now(), NotAfter: h.now().Add(60 * 24 * time.Hour), ReservedAt: h.now()}
	for _, f := range change {
		f(&c)
	}
	return c
}

// issue puts rows into the record as certificates that were issued, and returns their refs.
func (h *house) issue(certs ...bulkhead.Certificate) []bulkhead.CertificateRef {
	h.t.Helper()
	var refs []bulkhead.CertificateRef
	for len(certs) > 0 {
		part := certs[:min(len(certs), 1000)]
		certs = certs[len(part):]
		var rs []bulkhead.Reservation
		var cs []bulkhead.Completion
		for _, c := range part {
			leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now(), Actor: "test", Authority: c.Issuer, Serial: c.Serial, Digest: bulkhead.Digest([]byte("tbs" + c.Serial.String())), Signer: bulkhead.Digest([]byte("s"))}
			rs = append(rs, bulkhead.Reservation{Certificate: c, Intent: leaf})
			der := []byte("der " + c.Serial.String())
			leaf.Kind, leaf.Link, leaf.Digest = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest(der)
			cs = append(cs, bulkhead.Completion{CertificateRef: c.CertificateRef, DER: der, Outcome: leaf})
			refs = append(refs, c.CertificateRef)
		}
		_, errs, err := h.store.Reserve(h.t.Context(), rs)
		ok(h.t, err)
		for _, err := range errs {
			ok(h.t, err)
		}
		_, errs, err = h.store.Complete(h.t.Context(), cs)
		ok(h.t, err)
		for _, err := range errs {
			ok(h.t, err)
		}
		for _, c := range part {
			if c.Replaces != (bulkhead.CertificateRef{}) {
				ok(h.t, h.store.MarkReplaced(h.t.Context(), c.Replaces, c.CertificateRef))
			}
		}
	}
	return refs
}

// many makes n certificates of as many accounts as are given.
func (h *house) many(n, accounts int) []bulkhead.CertificateRef {
	var certs []bulkhead.Certificate
	for i := range n {
		certs = append(certs, h.cert(fmt.Sprintf("a%d", i%accounts), fmt.Sprintf("w%d.example.com", i)))
	}
	return h.issue(certs...)
}

// incident opens one over a scope.
func (h *house) incident(in incident.Intake) bulkhead.Incident {
	h.t.Helper()
	if in.Title == "" {
		in.Title = "a bad day"
	}
	i, err := h.desk.Open(h.t.Context(), "operator:a", in)
	ok(h.t, err)
	return i
}

// campaign plans and starts one.
func (h *house) campaign(i bulkhead.Incident, req incident.PlanRequest) bulkhead.Campaign {
	h.t.Helper()
	req.Incident = i.ID
	c, _, err := h.desk.Plan(h.t.Context(), "operator:a", req)
	ok(h.t, err)
	c, err = h.desk.Start(h.t.Context(), c.ID, c.PlanHash, "request:r1")
	ok(h.t, err)
	return c
}

func (h *house) item(ref bulkhead.CertificateRef) bulkhead.CampaignItem {
	h.t.Helper()
	_, it, err := h.store.MembershipOf(h.t.Context(), ref)
	ok(h.t, err)
	return it
}

func (h *house) state(ref bulkhead.CertificateRef) bulkhead.CertificateState {
	h.t.Helper()
	c, _, err := h.store.Certificate(h.t.Context(), ref)
	ok(h.t, err)
	return c.State
}

func (h *house) tick() {
	h.t.Helper()
	ok(h.t, h.desk.Tick(h.t.Context()))
}
