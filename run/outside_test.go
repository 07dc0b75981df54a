package run

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/store/storetest/pgtest"
	"bulkhead/watch/forged"
	"bulkhead/watch/outside"
)

// world is a real house on a clock of the test, served on loopback, with two certificates of which one is revoked.
type world struct {
	*testing.T
	h       *House
	db      *sql.DB // past every rule: for planting faults
	server  *httptest.Server
	live    bulkhead.CertificateRef
	revoked bulkhead.CertificateRef
	key     *ecdsa.PrivateKey // of live

	mu     sync.Mutex
	desk   string // folder of the first operator's key; "" means the house's
	root   string // folder of the offline root, with the second operator's key
	at     time.Time
	raised map[string]bulkhead.Alarm // detector and key
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func (w *world) raise(_ context.Context, a bulkhead.Alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raised[a.Detector+"/"+a.Key] = a
}

// alarms takes what was raised since the last call.
func (w *world) alarms() map[string]bulkhead.Alarm {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.raised
	w.raised = map[string]bulkhead.Alarm{}
	return out
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// firstHouse makes one first start for all tests: they work on copies of it.
var firstHouse = sync.OnceValues(func() (string, error) {
	parent, err := os.MkdirTemp("", "bulkhead-run-test-")
	if err != nil {
		return "", err
	}
	houses.Store(parent)
	cfg := DefaultConfig()
	cfg.Resolver, cfg.StatusURL = "127.0.0.1:1", "http://status.test"
	dir := filepath.Join(parent, "data")
	_, err = FirstStart(context.Background(), dir, cfg, nil)
	return dir, err
})

var houses atomic.Value // string: where firstHouse worked

func TestMain(m *testing.M) {
	if dir := os.Getenv(roleOfTest); dir != "" {
		os.Exit(runRole(dir))
	}
	code := m.Run()
	if dir, ok := houses.Load().(string); ok {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{T: t, at: time.Now().UTC().Truncate(time.Second), raised: map[string]bulkhead.Alarm{}}
	dir := filepath.Join(t.TempDir(), "data")
	made, err := firstHouse()
	w.ok(err)
	w.ok(exec.Command("cp", "-a", made, dir).Run()) // with its modes
	w.root = RootDir(made)
	w.db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "bulkhead.db")+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	w.open(dir, change)
	return w
}

// newWorldOnPostgres is newWorld over PostgreSQL.
func newWorldOnPostgres(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{T: t, at: time.Now().UTC().Truncate(time.Second), raised: map[string]bulkhead.Alarm{}}
	parent, url := t.TempDir(), pgtest.New(t)
	dir, dsn := filepath.Join(parent, "data"), filepath.Join(parent, "dsn")
	w.ok(os.WriteFile(dsn, []byte(url+"\n"), 0o600))
	_, err := FirstStart(t.Context(), dir, configForTest("postgres:"+dsn), nil)
	w.ok(err)
	w.root = RootDir(dir)
	w.db, err = sql.Open("pgx", url)
	w.ok(err)
	w.open(dir, change)
	return w
}

// open opens the house and has it issue and revoke.
func (w *world) open(dir string, change []func(*Config)) {
	w.Helper()
	t := w.T
	cfg, err := LoadConfig(dir)
	w.ok(err)
	for _, f := range change {
		f(&cfg)
	}
	w.h, err = OpenWith(t.Context(), Options{Dir: dir, Config: cfg, Now: w.now})
	w.ok(err)
	t.Cleanup(func() { _ = w.h.Close() })
	w.ok(w.h.Start(t.Context()))
	t.Cleanup(func() { _ = w.db.Close() })
	w.server = httptest.NewServer(w.h.edge.Handler())
	t.Cleanup(w.server.Close)
	w.revoked, _ = w.issue("gone.test")
	w.live, w.key = w.issue("here.test")
	w.publish()
	w.revoke(w.revoked)
	w.pass(time.Hour)
	w.publish()
}

func (w *world) issue(name string) (bulkhead.CertificateRef, *ecdsa.PrivateKey) {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	got, err := w.order(name, key)
	w.ok(err)
	return got.Certificate.CertificateRef, key
}

func (w *world) order(name string, key *ecdsa.PrivateKey) (bulkhead.IssuedCertificate, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	w.ok(err)
	return (&orders{Service: w.h.enroll}).IssueForOperator(w.Context(), "test", bulkhead.CertificateRequest{CSR: csr})
}

func (w *world) publish() {
	w.Helper()
	w.ok(w.h.status.Tick(w.Context()))
	w.ok(w.h.edge.Refresh(w.Context()))
}

// renewed publishes until the answers of the issuer were signed anew; that is done in the background.
func (w *world) renewed() {
	w.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		w.publish()
		v, err := newPublication(w.h).Open(w.Context())
		w.ok(err)
		fresh := true
		for _, is := range v.Issuers {
			for _, p := range is.Packs {
				early, _ := p.Window()
				fresh = fresh && (is.Head.ID != w.live.Issuer || early.Sub(w.now()) > 12*time.Hour)
			}
		}
		v.Close()
		if fresh {
			w.h.status.Wait() // others are signed anew besides
			w.publish()
			return
		}
		if time.Now().After(end) {
			w.Fatal("the answers are not renewed")
		}
	}
}

// turned publishes until every CRL of the issuer has another number; that is done in the background.
func (w *world) turned() {
	w.Helper()
	type number struct{ shard, n int64 }
	numbers := func() (out []number) {
		v, err := newPublication(w.h).Open(w.Context())
		w.ok(err)
		defer v.Close()
		for _, c := range v.Issuers[w.live.Issuer].Head.CRLs {
			out = append(out, number{int64(c.Shard), c.Number})
		}
		return out
	}
	before := numbers()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		w.publish()
		w.h.status.Wait()
		if now := numbers(); !slices.ContainsFunc(now, func(n number) bool { return slices.Contains(before, n) }) {
			return
		}
		if time.Now().After(end) {
			w.Fatal("the CRLs are not renewed")
		}
	}
}

func (w *world) revoke(ref bulkhead.CertificateRef) {
	w.Helper()
	_, err := w.h.status.RevokeCertificates(w.Context(), "operator:test", "planted", []bulkhead.ChangeItem{{CertificateRef: ref, Reason: bulkhead.Superseded}})
	w.ok(err)
	w.ok(w.h.edge.Refresh(w.Context()))
}

// plant changes the record past every rule.
func (w *world) plant(statement string, args ...any) {
	w.Helper()
	r, err := w.db.ExecContext(w.Context(), statement, args...)
	w.ok(err)
	if n, _ := r.RowsAffected(); n == 0 {
		w.Fatalf("%s changed nothing", statement)
	}
}

func (w *world) reconciler(public outside.Public) *outside.Reconciler {
	w.Helper()
	if public == nil {
		public = newPublication(w.h)
	}
	r, err := outside.NewReconciler(outside.ReconcilerConfig{Record: w.h.store, Public: public, Raise: w.raise, Now: w.now})
	w.ok(err)
	return r
}

func (w *world) prober(points ...outside.Point) *outside.Prober {
	w.Helper()
	r := w.reconciler(nil)
	r.Tick(w.Context())
	w.alarms()
	p, err := outside.NewProber(outside.ProberConfig{Record: w.h.store, Public: newPublication(w.h), Points: points, Base: w.h.cfg.StatusURL, Raise: w.raise, Ledger: r, Now: w.now, Timeout: 2 * time.Second})
	w.ok(err)
	return p
}

// want asserts that exactly the alarms with these beginnings were raised, and that each says all the words.
func (w *world) want(what string, want map[string][]string) {
	w.Helper()
	got := w.alarms()
	for begin, words := range want {
		found := false
		for k, a := range got {
			if !strings.HasPrefix(k, begin) {
				continue
			}
			found = true
			for _, word := range words {
				if !strings.Contains(a.Message, word) {
					w.Errorf("%s: %s does not say %q: %s", what, k, word, a.Message)
				}
			}
			if _, err := os.Stat(filepath.Join("../doc/runbooks", a.Runbook)); err != nil || a.Runbook == "" || a.Severity == "" {
				w.Errorf("%s: %+v, %v", what, a, err)
			}
			delete(got, k)
		}
		if !found {
			w.Errorf("%s: no alarm %s; there are %v", what, begin, keysOf(got))
		}
	}
	for k, a := range got {
		w.Errorf("%s: alarm %s: %s", what, k, a.Message)
	}
}

func keysOf(m map[string]bulkhead.Alarm) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// through is a cache in front of the edge that a test has in its hands.
func (w *world) through(h func(rw http.ResponseWriter, r *http.Request, next http.Handler)) outside.Point {
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { h(rw, r, w.h.edge.Handler()) }))
	w.Cleanup(s.Close)
	return outside.Point{Name: "tier cdn", Base: s.URL, Owner: "the cdn desk"}
}

func (w *world) own() outside.Point {
	return outside.Point{Name: "status listener", Base: w.server.URL}
}

// TestProbesSilent: a house that is well raises nothing, over a refresh, a new certificate and a revocation.
func TestProbesSilent(t *testing.T) {
	w := newWorld(t)
	p, r := w.prober(w.own()), w.reconciler(nil)
	round := func(what string) {
		t.Helper()
		p.Once(t.Context())
		r.Tick(t.Context())
		w.want(what, nil)
	}
	round("at first")
	w.issue("new.test")
	round("not yet published")
	w.publish()
	round("published")
	extra, _ := w.issue("extra.test")
	w.publish()
	w.revoke(extra)
	round("revoked just now")
	w.pass(20 * time.Minute)
	round("revoked a while ago")
	w.pass(13 * time.Hour) // past the half-life of answers
	w.renewed()
	round("refreshed")
	if l := p.Looks(); len(l) != 1 || l[0].Wrong+l[0].Blind != 0 || l[0].Fetched == 0 || l[0].Good.IsZero() {
		t.Errorf("%+v", l)
	}
	if s := r.State(); s.Rows == 0 || s.Behind != 0 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

// TestForeignResponder is D6: an answer at an edge by a key that is not in our responder set; the key is named.
func TestForeignResponder(t *testing.T) {
	w := newWorld(t)
	stranger, err := forged.Make(rand.Reader, time.Now(), 48*time.Hour)
	w.ok(err)
	p := w.prober(w.own(), w.through(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasPrefix(r.URL.Path, "/ocsp") {
			_, _ = rw.Write(stranger.Cases[0].Response)
			return
		}
		next.ServeHTTP(rw, r)
	}))
	began := w.now()
	p.Once(t.Context())
	if d := w.now().Sub(began); d > 3*time.Minute {
		t.Errorf("after %s", d)
	}
	r, err := ocsp.ParseResponse(stranger.Cases[0].Response)
	w.ok(err)
	signer, err := x509.ParseCertificate(r.Certificates[0])
	w.ok(err)
	w.want("a foreign answer", map[string][]string{"D6/": {"no key of ours", "tier cdn", "Demo A", "key SHA-256 " + bulkhead.Digest(signer.RawSubjectPublicKeyInfo).String(), "produced"}})
}

// TestSiblingResponder is D6 on the day of 2020: the key of one of our authorities answers for the child of another. The alarm
// names the authority whose key it is, and no stranger.
func TestSiblingResponder(t *testing.T) {
	w := newWorld(t)
	root, sibling := w.authority(rootID), w.authority(p256ID)
	key, err := w.h.ring.Open(t.Context(), sibling.KeyURI)
	w.ok(err)
	p := w.prober(w.own(), w.through(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if x, err := ocsp.ParseResponse(body); err == nil && x.Status == ocsp.Successful {
			serial := x.Singles[0].Serial
			if _, _, err := w.h.store.Certificate(r.Context(), bulkhead.CertificateRef{Issuer: rootID, Serial: serial}); err == nil {
				body, err = answerBy(root, key, sibling.Certificate, w.now(), ocsp.Single{Serial: serial, State: ocsp.Good, ThisUpdate: w.now(), NextUpdate: w.now().Add(time.Hour)}, x.Singles[0].CertID.Hash)
				w.ok(err)
			}
		}
		_, _ = rw.Write(body)
	}))
	p.Once(t.Context())
	w.want("a sibling's answer", map[string][]string{"D6/": {"the key of our authority " + string(p256ID) + " signed", "may not answer for root", "key SHA-256 " + bulkhead.Digest(sibling.SPKI).String()}})
}

// TestUnloggedSignature is D6's other half: a key of ours, used past the signer.
func TestUnloggedSignature(t *testing.T) {
	w := newWorld(t)
	w.pass(30 * time.Minute)
	var issuer *x509.Certificate
	all, err := w.h.store.Authorities(t.Context())
	w.ok(err)
	for _, a := range all {
		if a.ID == w.live.Issuer {
			issuer, err = x509.ParseCertificate(a.Certificate)
			w.ok(err)
		}
	}
	delegates, err := w.h.store.Delegates(t.Context(), w.live.Issuer)
	w.ok(err)
	d, err := x509.ParseCertificate(delegates[0].Certificate)
	w.ok(err)
	key, err := w.h.ring.Open(t.Context(), delegates[0].KeyURI)
	w.ok(err)
	names, err := ocsp.NewIssuer(issuer.RawSubject, issuer.RawSubjectPublicKeyInfo)
	w.ok(err)
	responder, err := ocsp.KeyHash(d.RawSubjectPublicKeyInfo)
	w.ok(err)
	forge := func(hash ocsp.HashAlgorithm) []byte {
		at := w.now().Add(-5 * time.Minute)
		tbs, err := ocsp.BuildTBSFor(names, responder, at, ocsp.Single{Serial: w.live.Serial, State: ocsp.Good, ThisUpdate: at, NextUpdate: at.Add(10 * time.Hour)}, hash)
		w.ok(err)
		sum := bulkhead.Digest(tbs)
		sig, err := key.Sign(rand.Reader, sum[:], shaOpts{})
		w.ok(err)
		return ocsp.Assemble(tbs, sig, d.Raw)
	}
	get, post := forge(ocsp.SHA1), forge(ocsp.SHA256)
	p := w.prober(w.through(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		if x, err := ocsp.ParseResponse(rec.Body.Bytes()); err == nil && x.Status == ocsp.Successful && x.Singles[0].Serial == w.live.Serial {
			if r.Method == http.MethodPost {
				_, _ = rw.Write(post)
			} else {
				_, _ = rw.Write(get)
			}
			return
		}
		_, _ = rw.Write(rec.Body.Bytes())
	}))
	p.Once(t.Context())
	w.want("a signature past the signer", map[string][]string{"D6/": {"evidence does not know", "outside the signer"}})
}

// frozen keeps every first reply for ever, as the load balancer of 2016 did for eight hours.
// TestSignedSinceTheLastTick: an answer that was signed after the reconciler last read evidence, or by leaves that it has not come to, is
// looked up before anybody is told that a key is used past the signer.
func TestSignedSinceTheLastTick(t *testing.T) {
	w := newWorld(t)
	at := w.frozen()
	at.TTL = 48 * time.Hour
	p := w.prober(at) // its reconciler has ticked, and does not again
	for _, what := range []string{"filled", "an older answer within the TTL"} {
		w.pass(13 * time.Hour)
		w.renewed()
		p.Once(t.Context())
		w.want(what, nil)
	}
}

func (w *world) frozen() outside.Point {
	var mu sync.Mutex
	kept := map[string][]byte{}
	return w.through(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		defer mu.Unlock()
		key := r.Method + r.RequestURI
		if r.Method == http.MethodPost {
			body := make([]byte, r.ContentLength)
			_, _ = r.Body.Read(body)
			key += string(body)
			r.Body = http.NoBody
			r, _ = http.NewRequest(http.MethodPost, r.URL.Path, strings.NewReader(string(body)))
			r.Header.Set("Content-Type", "application/ocsp-request")
		}
		if kept[key] == nil {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			kept[key] = rec.Body.Bytes()
		}
		_, _ = rw.Write(kept[key])
	})
}

// TestEdgeDiffers is D7: a tier that keeps an answer beyond its TTL, and not before; the tier and whom to call are named.
func TestEdgeDiffers(t *testing.T) {
	w := newWorld(t)
	at := w.frozen()
	at.TTL = time.Hour
	p := w.prober(w.own(), at)
	p.Once(t.Context())
	w.want("filled", nil)
	w.pass(13 * time.Hour)
	w.renewed()
	p.Once(t.Context())
	w.want("within the TTL", nil)
	w.pass(time.Hour + 2*time.Minute)
	p.Once(t.Context())
	w.want("beyond it", map[string][]string{"D7/": {"tier cdn", "another answer than the origin", "call the cdn desk"}})
}

// TestStaleGood is D8 seen from outside: a tier goes on saying good of a revoked certificate; within its TTL that is lawful.
func TestStaleGood(t *testing.T) {
	w := newWorld(t)
	ref, _ := w.issue("soon.test")
	w.publish()
	at := w.frozen()
	at.TTL = 30 * time.Minute
	// Fill the cache with the answer of what will be revoked.
	w.plant(`UPDATE certificates SET not_after = ? WHERE state = 'issued' AND issuer = ? AND serial != ?`, w.now().Unix()-1, string(ref.Issuer), fixed(ref.Serial))
	p := w.prober(at)
	p.Once(t.Context())
	w.want("filled", nil)
	w.revoke(ref)
	w.plant(`UPDATE certificates SET not_after = ? WHERE issuer = ? AND serial = ?`, w.now().Unix()+60, string(w.revoked.Issuer), fixed(w.revoked.Serial))
	w.pass(20 * time.Minute)
	p.Once(t.Context())
	w.want("within the TTL", nil)
	w.pass(15 * time.Minute)
	p.Once(t.Context())
	w.want("beyond it", map[string][]string{"D7/": nil, "D8/" + ref.String(): {"not revoked at tier cdn", "the laggard is"}})
}

func fixed(s bulkhead.Serial) []byte { b := s.Fixed(); return b[:] }

// TestFlipped is D9: an answer that says revoked for what nothing revoked, in the packs and through an edge; and a row that
// was revoked past every change.
func TestFlipped(t *testing.T) {
	w := newWorld(t)
	w.plant(`UPDATE certificates SET state = 'issued', revoked_at = 0, reason = 0 WHERE issuer = ? AND serial = ?`, string(w.revoked.Issuer), fixed(w.revoked.Serial))
	w.plant(`UPDATE certificates SET not_after = ? WHERE issuer = ? AND serial = ?`, w.now().Unix()-1, string(w.live.Issuer), fixed(w.live.Serial))
	p := w.prober(w.own())
	p.Once(t.Context())
	w.want("through the edge", map[string][]string{"D9/" + w.revoked.String(): {"nothing in the record revoked it"}})
	r := w.reconciler(nil)
	r.Tick(t.Context())
	w.want("in the packs", map[string][]string{"D9/" + w.revoked.String(): {"nothing in the record revoked it"}, "D8/" + w.revoked.String(): {"the laggard is the record"}})

	w = newWorld(t)
	w.plant(`UPDATE certificates SET state = 'revoked', revoked_at = ?, reason = 4 WHERE issuer = ? AND serial = ?`, w.now().Unix(), string(w.live.Issuer), fixed(w.live.Serial))
	w.reconciler(nil).Tick(t.Context())
	w.want("in the record", map[string][]string{"D9/" + w.live.String(): {"no change that went public named it"}})
}

// stopped is a publisher that does not move any more.
type stopped struct {
	outside.Public
	w    *world
	head []byte
}

func (s stopped) Open(ctx context.Context) (*outside.View, error) {
	now, err := s.w.h.objects.Head(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.w.h.objects.SetHead(ctx, now) }()
	if err := s.w.h.objects.SetHead(ctx, s.head); err != nil {
		return nil, err
	}
	return s.Public.Open(ctx)
}

// TestRevocationMissing is D8 at the origin: one publisher stops, a revocation stays in the record alone; after 15 minutes and
// not before the alarm names the laggards. It is found by its evidence at once, and by the row whenever the reconciler began.
func TestRevocationMissing(t *testing.T) {
	w := newWorld(t)
	head, err := w.h.objects.Head(t.Context())
	w.ok(err)
	public := stopped{newPublication(w.h), w, head}
	r := w.reconciler(public)
	r.Tick(t.Context())
	w.want("before", nil)
	w.revoke(w.live)
	w.pass(14 * time.Minute)
	r.Tick(t.Context())
	w.want("14 minutes", nil)
	if s := r.State(); s.Pending != 1 {
		t.Errorf("%d revocations are pending", s.Pending)
	}
	w.pass(2 * time.Minute)
	r.Tick(t.Context())
	said := []string{"the laggard is", "the OCSP packs", "says good", "CRL ", "it has no entry"}
	w.want("16 minutes", map[string][]string{"D8/" + w.live.String(): said})
	w.reconciler(public).Tick(t.Context())
	w.want("a reconciler that begins later", map[string][]string{"D8/" + w.live.String(): said})
	healed := w.reconciler(nil)
	healed.Tick(t.Context())
	w.want("published again", nil)
	// The record loses what evidence has.
	w.plant(`UPDATE certificates SET state = 'issued', revoked_at = 0, reason = 0 WHERE issuer = ? AND serial = ?`, string(w.live.Issuer), fixed(w.live.Serial))
	w.reconciler(nil).Tick(t.Context())
	w.want("the record forgets", map[string][]string{"D8/" + w.live.String(): {"the laggard is the record"}, "D9/" + w.live.String(): nil})
}

// TestCoverage is D14: a certificate without an answer, a shard without a CRL, an authority that the head does not name.
func TestCoverage(t *testing.T) {
	w := newWorld(t)
	ref, _ := w.issue("unanswered.test")
	head, err := w.h.objects.Head(t.Context())
	w.ok(err)
	r := w.reconciler(stopped{newPublication(w.h), w, head})
	w.pass(14 * time.Minute)
	r.Tick(t.Context())
	w.want("14 minutes (BR 4.9.9 allows 15)", nil)
	w.pass(2 * time.Minute)
	r.Tick(t.Context()) // ends the round
	r.Tick(t.Context())
	w.want("16 minutes", map[string][]string{"D14/" + ref.String(): {"no pack holds an answer"}})
	w.publish()
	w.plant(`UPDATE certificates SET shard = 99 WHERE issuer = ? AND serial = ?`, string(ref.Issuer), fixed(ref.Serial))
	w.reconciler(nil).Tick(t.Context())
	w.want("a shard", map[string][]string{"D14/shard,": {"no CRL of it is published"}})
	w.plant(`UPDATE certificates SET shard = 0 WHERE issuer = ? AND serial = ?`, string(ref.Issuer), fixed(ref.Serial))
	w.reconciler(without{newPublication(w.h), ref.Issuer}).Tick(t.Context())
	got := w.alarms()
	if _, found := got["D14/authority,"+string(ref.Issuer)]; !found {
		t.Errorf("the missing authority: %v", keysOf(got))
	}
}

type without struct {
	outside.Public
	id bulkhead.AuthorityID
}

func (x without) Open(ctx context.Context) (*outside.View, error) {
	v, err := x.Public.Open(ctx)
	if err == nil {
		delete(v.Issuers, x.id)
	}
	return v, err
}

// TestRecordAndEvidence is D4 both ways: a row without its leaf, a leaf without its row.
func TestRecordAndEvidence(t *testing.T) {
	w := newWorld(t)
	r := w.reconciler(nil)
	r.Tick(t.Context())
	w.want("before", nil)
	w.plant(`UPDATE certificates SET state = 'abandoned' WHERE issuer = ? AND serial = ?`, string(w.live.Issuer), fixed(w.live.Serial))
	w.reconciler(nil).Tick(t.Context())
	w.want("a row is gone", map[string][]string{"D4/row," + w.live.String(): {"the record does not"}})
	w.plant(`UPDATE certificates SET state = 'issued' WHERE issuer = ? AND serial = ?`, string(w.live.Issuer), fixed(w.live.Serial))
	// A row under a serial of its own that borrows another's leaf.
	stranger, err := bulkhead.ParseSerial("123456789abcdef0123456789abcdef0")
	w.ok(err)
	w.plant(`UPDATE certificates SET serial = ? WHERE issuer = ? AND serial = ?`, fixed(stranger), string(w.live.Issuer), fixed(w.live.Serial))
	w.reconciler(nil).Tick(t.Context())
	w.want("a row is planted", map[string][]string{"D4/evidence," + string(w.live.Issuer) + "," + stranger.String(): {"evidence does not have its issue"}, "D4/row," + w.live.String(): nil})
}

// TestBasis is D11: a certificate whose looks at CAA, or whose validations, are not in the record.
func TestBasis(t *testing.T) {
	for what, statement := range map[string]string{
		"no look at CAA": `UPDATE caa_checks SET name = 'other.test' WHERE name = 'bare.test'`,
		"no validation":  `UPDATE validations SET name = 'other.test' WHERE name = 'bare.test'`,
	} {
		w := newWorld(t)
		ref, _ := w.issue("bare.test")
		w.publish()
		w.reconciler(nil).Tick(t.Context())
		w.want("before", nil)
		w.plant(statement)
		w.reconciler(nil).Tick(t.Context())
		w.want(what, map[string][]string{"D11/" + ref.String(): {what}})
	}
}

// TestCRLContinuity is S2-18: an alarm once less than half of a CRL's life is left and nothing newer is out.
func TestCRLContinuity(t *testing.T) {
	w := newWorld(t)
	r := w.reconciler(nil)
	w.pass(82 * time.Hour) // almost half of seven days, where it is renewed
	r.Tick(t.Context())
	issuing := func() (n int, severity bulkhead.Severity) {
		for k, a := range w.alarms() {
			if strings.HasPrefix(k, "crl/") && strings.Contains(k, ","+string(w.live.Issuer)+",") {
				n, severity = n+1, a.Severity
			}
		}
		return n, severity
	}
	if n, _ := issuing(); n != 0 {
		t.Errorf("%d alarms at half-life", n)
	}
	w.pass(4 * time.Hour)
	r.Tick(t.Context())
	if n, s := issuing(); n != 8 || s != bulkhead.Warning {
		t.Errorf("%d alarms (%s) beyond it, want one a shard", n, s)
	}
	w.publish()
	r.Tick(t.Context())
	if n, _ := issuing(); n != 0 {
		t.Errorf("%d alarms after the renewal", n)
	}
	w.pass(130 * time.Hour)
	r.Tick(t.Context())
	if _, s := issuing(); s != bulkhead.Critical {
		t.Errorf("severity %q with less than a quarter left", s)
	}
}

// TestCRLNumberBack is S2-18's other half: an older CRL that becomes public again is an alarm, one for each shard, and none
// is raised while numbers go up. A restart of the watch forgets neither.
func TestCRLNumberBack(t *testing.T) {
	w := newWorld(t)
	r := w.reconciler(nil)
	back := func() (n int) {
		r.Tick(t.Context())
		for k, a := range w.alarms() {
			if !strings.HasPrefix(k, "crl/number,"+string(w.live.Issuer)+",") {
				continue
			}
			if n++; a.Severity != bulkhead.Critical || !strings.Contains(a.Message, "back to") {
				t.Errorf("%+v", a)
			}
		}
		return n
	}
	older, err := w.h.objects.Head(t.Context())
	w.ok(err)
	if n := back(); n != 0 {
		t.Errorf("%d alarms at first", n)
	}
	w.pass(86 * time.Hour) // past the half-life of CRLs
	w.turned()
	newer, err := w.h.objects.Head(t.Context())
	w.ok(err)
	if n := back(); n != 0 {
		t.Errorf("%d alarms after the renewal", n)
	}
	w.ok(w.h.objects.SetHead(t.Context(), older))
	if n := back(); n != 8 {
		t.Errorf("%d alarms for the older CRLs of 8 shards", n)
	}
	// A watch that starts only now has to know of it from the one before.
	r = w.reconciler(nil)
	if n := back(); n != 8 {
		t.Errorf("%d alarms after a restart for the older CRLs of 8 shards", n)
	}
	w.ok(w.h.objects.SetHead(t.Context(), newer))
	if n := back(); n != 0 {
		t.Errorf("%d alarms once it is mended", n)
	}
	r = w.reconciler(nil)
	if n := back(); n != 0 {
		t.Errorf("%d alarms after a restart without a fault", n)
	}
}

// everyRound lets a minute pass on the test's clock at the beginning of each round of probes.
type everyRound struct {
	outside.Public
	w *world
}

func (e everyRound) Open(ctx context.Context) (*outside.View, error) {
	e.w.pass(outside.DefaultEvery)
	return e.Public.Open(ctx)
}

// TestSeenWithinThreeMinutes is S2-16 end to end: rounds of probes run by themselves, one a minute; the status of live
// certificates turns wrong in a cache, and the alarm is there less than three minutes later, on the clock of the rounds.
func TestSeenWithinThreeMinutes(t *testing.T) {
	w := newWorld(t)
	var wrong atomic.Bool
	var planted, rounds atomic.Int64
	point := w.through(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if !wrong.Load() {
			next.ServeHTTP(rw, r)
			return
		}
		http.Error(rw, "the responder is gone", http.StatusInternalServerError)
	})
	r := w.reconciler(nil)
	r.Tick(t.Context())
	w.alarms()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var seen atomic.Int64
	p, err := outside.NewProber(outside.ProberConfig{Record: w.h.store, Public: everyRound{newPublication(w.h), w}, Points: []outside.Point{point}, Base: w.h.cfg.StatusURL, Ledger: r, Now: w.now,
		Every: time.Millisecond, Timeout: 2 * time.Second, Raise: func(_ context.Context, a bulkhead.Alarm) {
			if !wrong.Load() {
				t.Errorf("an alarm before the fault: %s", a.Message)
			}
			seen.CompareAndSwap(0, w.now().UnixNano())
			stop()
		}})
	w.ok(err)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for ctx.Err() == nil && rounds.Load() < 3 { // silent while all is well
		if l := p.Looks(); !l[0].Good.IsZero() {
			rounds.Add(1)
		}
		time.Sleep(time.Millisecond)
	}
	planted.Store(w.now().UnixNano())
	wrong.Store(true)
	w.ok(<-done)
	if seen.Load() == 0 {
		t.Fatal("nothing was seen")
	}
	if d := time.Duration(seen.Load() - planted.Load()); d > 3*time.Minute {
		t.Errorf("seen after %s", d)
	}
}

// TestBlind: a probe that cannot look is an alarm of its own, with the address and whom to call.
func TestBlind(t *testing.T) {
	w := newWorld(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	sick := w.through(func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) { rw.WriteHeader(http.StatusBadGateway) })
	p := w.prober(outside.Point{Name: "tier lb", Base: dead.URL, Owner: "hosting"}, sick, w.own())
	p.Once(t.Context())
	w.want("dead and sick", map[string][]string{"probe/blind," + dead.URL: {"cannot look through tier lb", "call hosting"}, "probe/blind," + sick.Base: {"HTTP 502"}})
	w.ok(w.h.store.Close())
	p.Once(t.Context())
	w.reconciler(nil).Tick(t.Context())
	w.want("without the record", map[string][]string{"probe/blind,origin": {"could not look"}, "reconciler/blind,": {"could not look"}})
}

// TestBlockedKeyShown is D12: a request with a blocked key is refused, and is an alarm.
func TestBlockedKeyShown(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.h.watch.Run(ctx) }()
	defer func() { stop(); <-done }()
	seen := func() int {
		all, err := w.h.store.Alarms(t.Context(), 100)
		w.ok(err)
		n := 0
		for _, a := range all {
			if a.Detector == "D12" {
				n++
			}
		}
		return n
	}
	if _, err := w.order("again.test", w.key); err != nil || seen() != 0 {
		t.Fatalf("a key that is not blocked: %v, %d alarms", err, seen())
	}
	spki, err := x509.MarshalPKIXPublicKey(w.key.Public())
	w.ok(err)
	w.ok(w.h.status.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: bulkhead.Digest(spki), Reason: "test", Actor: "operator:test"}))
	if _, err := w.order("again.test", w.key); bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
		t.Fatalf("a blocked key: %v", err)
	}
	for end := time.Now().Add(time.Minute); seen() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no alarm")
		}
	}
}

type shaOpts struct{}

func (shaOpts) HashFunc() crypto.Hash { return crypto.SHA256 }
