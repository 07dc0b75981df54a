package live

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// door is a signer's side with a real authority: it certifies, and keeps the windows that it was told of.
type door struct {
	t    testing.TB
	id   bulkhead.AuthorityID
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	change func(*x509.Certificate)       // of the next delegates
	pub    *ecdsa.PublicKey              // certified instead of the CSR's key
	fail   atomic.Pointer[error]         // of OpenLiveWindow
	shut   atomic.Pointer[error]         // of CloseLiveWindow
	hold   atomic.Pointer[chan struct{}] // OpenLiveWindow waits for it

	mu      sync.Mutex
	limits  map[string]int
	closed  map[string][]bulkhead.Hash
	serials int64
}

func newDoor(t testing.TB) *door {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "A"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(t, err)
	cert, err := x509.ParseCertificate(der)
	ok(t, err)
	return &door{t: t, id: "a", key: key, cert: cert, limits: map[string]int{}, closed: map[string][]bulkhead.Hash{}, serials: 1}
}

func (d *door) LiveAuthorities(context.Context) ([]bulkhead.Authority, error) {
	return []bulkhead.Authority{{ID: d.id, State: bulkhead.AuthorityActive, Subject: d.cert.RawSubject, SPKI: d.cert.RawSubjectPublicKeyInfo, Certificate: d.cert.Raw, KeyURI: "test"}}, nil
}

func (d *door) CertifyLive(_ context.Context, _ bulkhead.AuthorityID, csr []byte) (bulkhead.IssuedCertificate, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	d.serials++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(d.serials), Subject: pkix.Name{CommonName: "A OCSP"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(23 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}
	if d.change != nil {
		d.change(tmpl)
	}
	pub := req.PublicKey
	if d.pub != nil {
		pub = d.pub
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, d.cert, pub, d.key)
	return bulkhead.IssuedCertificate{DER: der}, err
}

func (d *door) OpenLiveWindow(ctx context.Context, _ bulkhead.Hash, limit int, _ time.Time) (string, error) {
	if hold := d.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if err := d.fail.Load(); err != nil {
		return "", *err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	id := fmt.Sprintf("w%d", len(d.limits))
	d.limits[id] = limit
	return id, nil
}

func (d *door) CloseLiveWindow(_ context.Context, id string, signatures []bulkhead.Hash) error {
	if err := d.shut.Load(); err != nil {
		return *err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.limits[id]; !ok {
		d.t.Errorf("window %s was not announced", id)
	}
	if _, twice := d.closed[id]; twice {
		d.t.Errorf("window %s is accounted for twice", id)
	}
	d.closed[id] = signatures
	return nil
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock can be moved.
type clock struct{ shift atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.shift.Load())) }

func newSwitch(t testing.TB, d *door, change ...func(*Config)) (*Switch, *clock) {
	t.Helper()
	c := &clock{}
	cfg := Config{Door: d, Now: c.now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	ok(t, err)
	return s, c
}

func (d *door) statements(t testing.TB, hash ocsp.HashAlgorithm, serials ...int64) []ocsp.Statement {
	t.Helper()
	issuer, err := ocsp.NewIssuer(d.cert.RawSubject, d.cert.RawSubjectPublicKeyInfo)
	ok(t, err)
	var list []ocsp.Statement
	for _, n := range serials {
		serial, err := bulkhead.SerialFromBig(big.NewInt(n))
		ok(t, err)
		list = append(list, ocsp.Statement{ID: issuer.CertID(hash, serial), Single: ocsp.Single{Serial: serial, State: ocsp.Good,
			ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}})
	}
	return list
}

// TestEverySignatureIsCounted: many askers at once, small windows: the outcomes hold exactly the signatures that were
// handed out, no window more than it announced, and answers stand up to the check that clients should make.
func TestEverySignatureIsCounted(t *testing.T) {
	const askers, each, limit = 16, 20, 7
	d := newDoor(t)
	kept := map[string]int{}
	s, _ := newSwitch(t, d, func(c *Config) {
		c.Limit = limit
		c.Keep = func(w string, x []bulkhead.Hash) error { kept[w] = len(x); return nil }
	})
	ok(t, s.Start(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	var mu sync.Mutex
	out := map[bulkhead.Hash]bool{}
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for n := range int64(each) {
				list := d.statements(t, ocsp.SHA256, n+1, n+2)
				der, err := s.Answer(t.Context(), "a", list, []byte("nonce"))
				if err != nil {
					t.Error(err)
					return
				}
				r, err := ocsp.ParseResponse(der)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := ocsp.CheckResponse(r, d.cert, list[1].Serial, time.Now()); err != nil || string(r.Nonce) != "nonce" || len(r.Singles) != 2 {
					t.Errorf("%v, %+v", err, r)
				}
				mu.Lock()
				out[bulkhead.Digest(r.Signature)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	cancel()
	ok(t, <-ended)
	total := 0
	for id, list := range d.closed {
		total += len(list)
		if len(list) > limit || d.limits[id] != limit || kept[id] != len(list) {
			t.Errorf("window %s: %d signatures, %d kept, announced %d", id, len(list), kept[id], d.limits[id])
		}
		for _, x := range list {
			if !out[x] {
				t.Error("a signature is accounted for that nobody got")
			}
		}
	}
	if total != askers*each || len(out) != total || len(d.closed) != len(d.limits) {
		t.Errorf("%d signatures in %d of %d windows, %d handed out", total, len(d.closed), len(d.limits), len(out))
	}
	if _, err := s.Answer(t.Context(), "a", d.statements(t, ocsp.SHA1, 1), nil); err == nil {
		t.Error("it signs after its end")
	}
}

// TestNoWindowNoSignature: the intent is not durable, so nothing is signed; afterwards it is.
func TestNoWindowNoSignature(t *testing.T) {
	d := newDoor(t)
	s, c := newSwitch(t, d)
	ok(t, s.Start(t.Context()))
	full := errors.New("disk full")
	d.fail.Store(&full)
	for range 3 {
		if der, err := s.Answer(t.Context(), "a", d.statements(t, ocsp.SHA1, 1), nil); bulkhead.KindOf(err) != bulkhead.KindUnavailable || der != nil {
			t.Fatalf("%v", err)
		}
	}
	d.fail.Store(nil)
	c.shift.Add(int64(2 * retryOpen))
	_, err := s.Answer(t.Context(), "a", d.statements(t, ocsp.SHA1, 1), nil)
	ok(t, err)

	// An outcome that cannot be written is written later.
	d.shut.Store(&full)
	c.shift.Add(int64(2 * DefaultWindow))
	s.sweep(t.Context(), false)
	if len(d.closed) != 0 {
		t.Error("accounted for while the disk was full")
	}
	d.shut.Store(nil)
	s.sweep(t.Context(), false)
	if len(d.closed) != 1 || len(d.closed["w0"]) != 1 {
		t.Errorf("outcomes %v", d.closed)
	}
	// The window is over: the next answer has another.
	_, err = s.Answer(t.Context(), "a", d.statements(t, ocsp.SHA1, 1), nil)
	ok(t, err)
	if len(d.limits) != 2 {
		t.Errorf("%d windows", len(d.limits))
	}
}

// TestQueueIsBounded: more than the queue holds are sent away at once.
func TestQueueIsBounded(t *testing.T) {
	d := newDoor(t)
	s, _ := newSwitch(t, d, func(c *Config) { c.Queue = 3 })
	ok(t, s.Start(t.Context()))
	hold := make(chan struct{})
	d.hold.Store(&hold)
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := s.Answer(context.Background(), "a", d.statements(t, ocsp.SHA1, 1), nil)
			errs <- err
		}()
	}
	for len(s.slots) < 3 {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.Answer(t.Context(), "a", d.statements(t, ocsp.SHA1, 1), nil); bulkhead.KindOf(err) != bulkhead.KindRateLimited {
		t.Errorf("the fourth: %v", err)
	}
	close(hold)
	for range 3 {
		ok(t, <-errs)
	}
}

// TestBadDelegates: each planted fault keeps the switch from starting; without one it starts.
func TestBadDelegates(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	for name, plant := range map[string]func(*door){
		"none":        func(*door) {},
		"ca":          func(d *door) { d.change = func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true } },
		"two uses":    func(d *door) { d.change = func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, 1) } },
		"no nocheck":  func(d *door) { d.change = func(c *x509.Certificate) { c.ExtraExtensions = nil } },
		"ended":       func(d *door) { d.change = func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) } },
		"another key": func(d *door) { d.pub = &other.PublicKey },
	} {
		d := newDoor(t)
		plant(d)
		s, _ := newSwitch(t, d)
		if err := s.Start(t.Context()); (err == nil) != (name == "none") || err != nil && bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRenewal: at half of its validity a delegate is replaced, one that is refused is not taken, and no answer outlives
// the delegate that signed it.
func TestRenewal(t *testing.T) {
	d := newDoor(t)
	s, c := newSwitch(t, d)
	ok(t, s.Start(t.Context()))
	v := (*s.services.Load())[0]
	first := v.delegate
	c.shift.Add(int64(11*time.Hour + 30*time.Minute))
	d.change = func(c *x509.Certificate) { c.ExtraExtensions = nil }
	ok(t, s.look(t.Context(), false))
	if v.delegate != first {
		t.Error("a refused delegate was taken")
	}
	d.change = func(x *x509.Certificate) { x.NotAfter = c.now().Add(23 * time.Hour) }
	ok(t, s.look(t.Context(), false))
	if v.delegate == first {
		t.Error("not renewed at half")
	}
	list := d.statements(t, ocsp.SHA512, 5)
	list[0].NextUpdate = c.now().Add(200 * time.Hour)
	der, err := s.Answer(t.Context(), "a", list, nil)
	ok(t, err)
	r, err := ocsp.ParseResponse(der)
	ok(t, err)
	if !r.Singles[0].NextUpdate.Equal(v.delegate.cert.NotAfter) {
		t.Errorf("nextUpdate %s, delegate until %s", r.Singles[0].NextUpdate, v.delegate.cert.NotAfter)
	}
	for hash := ocsp.SHA1; hash <= ocsp.SHA512; hash++ {
		if id, found := s.Issuer(&d.statements(t, hash, 5)[0].ID); !found || id != "a" {
			t.Errorf("hash %d: %q", hash, id)
		}
	}
	bad := d.statements(t, ocsp.SHA1, 5)[0].ID
	bad.KeyHash = make([]byte, 20)
	if _, found := s.Issuer(&bad); found {
		t.Error("one hash was enough")
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Door: newDoor(t), Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	for name, f := range map[string]func(*Config){
		"door": func(c *Config) { c.Door = nil }, "now": func(c *Config) { c.Now = nil }, "rand": func(c *Config) { c.Rand = nil }, "log": func(c *Config) { c.Log = nil },
		"window": func(c *Config) { c.Window = -1 }, "limit": func(c *Config) { c.Limit = -1 }, "queue": func(c *Config) { c.Queue = -1 },
	} {
		c := good
		f(&c)
		if _, err := New(c); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}
