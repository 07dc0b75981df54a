package edge

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/live"
	"bulkhead/pki/ocsp"
)

// liveDoor certifies delegates of real authorities and lets windows be opened unless it is shut.
type liveDoor struct {
	authorities []*authority
	shut        atomic.Bool
	serial      atomic.Int64
}

func (d *liveDoor) LiveAuthorities(context.Context) (out []bulkhead.Authority, _ error) {
	for _, a := range d.authorities {
		out = append(out, bulkhead.Authority{ID: a.id, Subject: a.cert.RawSubject, SPKI: a.cert.RawSubjectPublicKeyInfo, Certificate: a.cert.Raw})
	}
	return out, nil
}

func (d *liveDoor) CertifyLive(_ context.Context, id bulkhead.AuthorityID, csr []byte) (bulkhead.IssuedCertificate, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	for _, a := range d.authorities {
		if a.id != id {
			continue
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1000 + d.serial.Add(1)), Subject: pkix.Name{CommonName: "Live"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(23 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, req.PublicKey, a.key)
		return bulkhead.IssuedCertificate{DER: der}, err
	}
	return bulkhead.IssuedCertificate{}, errors.New("no such authority")
}

func (d *liveDoor) OpenLiveWindow(context.Context, bulkhead.Hash, int, time.Time) (string, error) {
	if d.shut.Load() {
		return "", errors.New("evidence cannot be written")
	}
	return "w", nil
}

func (d *liveDoor) CloseLiveWindow(context.Context, string, []bulkhead.Hash) error { return nil }

// livened is an edge on w whose switch serves the authorities.
func livened(t testing.TB, w *world, d *liveDoor, edit ...func(*Config)) *Edge {
	t.Helper()
	s := must(live.New(live.Config{Door: d, Now: w.clock, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}))(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w.refreshed(append(edit, func(c *Config) { c.Live = s })...)
}

func (a *authority) ids(hash ocsp.HashAlgorithm, serials ...int64) (ids []ocsp.CertID) {
	for _, n := range serials {
		ids = append(ids, a.issuer.CertID(hash, serialOf(n)))
	}
	return ids
}

// sawn collects sightings.
type sawn struct {
	mu  sync.Mutex
	all []Unassigned
}

func (s *sawn) take(e *Edge) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		select {
		case u := <-e.observed:
			s.all = append(s.all, u)
		default:
			return len(s.all)
		}
	}
}

// TestLiveAnswers: nonce, several CertIDs, unknown; and what stays pre-signed or refused.
func TestLiveAnswers(t *testing.T) {
	w := newWorld(t)
	a, b, outside := newAuthority(t, "a", "A", newKey(t)), newAuthority(t, "b", "B", newKey(t)), newAuthority(t, "c", "C", newKey(t))
	w.add(a, w.good(7), w.revoked(8))
	w.add(b, w.good(7))
	w.publish()
	e := livened(t, w, &liveDoor{authorities: []*authority{a}}, func(c *Config) { c.MaxCertIDs = 3 })
	srv := serve(t, e)
	nonce := bytes.Repeat([]byte{9}, 32)
	const good, revoked, unknown = ocsp.Good, ocsp.Revoked, ocsp.Unknown
	for name, c := range map[string]struct {
		ids    []ocsp.CertID
		nonce  []byte
		status ocsp.ResponseStatus
		states []ocsp.State
		live   bool
		seen   int
	}{
		"plain":                {a.ids(ocsp.SHA1, 7), nil, 0, []ocsp.State{good, good}, false, 0}, // the fixture's packs hold two statements
		"nonce":                {a.ids(ocsp.SHA1, 7), nonce, 0, []ocsp.State{good}, true, 0},
		"nonce of 1":           {a.ids(ocsp.SHA256, 8), nonce[:1], 0, []ocsp.State{revoked}, true, 0},
		"nonce of 128":         {a.ids(ocsp.SHA256, 8), bytes.Repeat(nonce, 4), 0, []ocsp.State{revoked}, true, 0},
		"several in order":     {a.ids(ocsp.SHA256, 8, 7, 8), nil, 0, []ocsp.State{revoked, good, revoked}, true, 0},
		"several, one unknown": {a.ids(ocsp.SHA1, 7, 99), nonce, 0, []ocsp.State{good, unknown}, true, 1},
		"too many":             {a.ids(ocsp.SHA1, 7, 7, 7, 7), nil, ocsp.MalformedRequest, nil, false, 0},
		"unassigned":           {a.ids(ocsp.SHA1, 99), nil, 0, []ocsp.State{unknown}, true, 1},
		"unassigned and nonce": {a.ids(ocsp.SHA1, 99), nonce, 0, []ocsp.State{unknown}, true, 1},
		"SHA-384":              {a.ids(ocsp.SHA384, 7), nil, 0, []ocsp.State{good}, true, 0},
		"SHA-512":              {a.ids(ocsp.SHA512, 8), nil, 0, []ocsp.State{revoked}, true, 0},
		"foreign":              {outside.ids(ocsp.SHA1, 7), nil, ocsp.Unauthorized, nil, false, 0},
		"foreign and nonce":    {outside.ids(ocsp.SHA1, 7), nonce, ocsp.Unauthorized, nil, false, 0},
		"ours and foreign":     {append(a.ids(ocsp.SHA1, 7), outside.ids(ocsp.SHA1, 7)...), nil, ocsp.Unauthorized, nil, false, 0},
		"two issuers":          {append(a.ids(ocsp.SHA1, 7), b.ids(ocsp.SHA1, 7)...), nil, ocsp.Unauthorized, nil, false, 0},
		"not live, nonce":      {b.ids(ocsp.SHA1, 7), nonce, 0, []ocsp.State{good, good}, false, 0},
		"not live, unassigned": {b.ids(ocsp.SHA1, 99), nil, ocsp.Unauthorized, nil, false, 1},
		"not live, several":    {b.ids(ocsp.SHA1, 7, 7), nil, ocsp.Unauthorized, nil, false, 0},
		"same name, other key": {[]ocsp.CertID{{Hash: ocsp.SHA1, NameHash: a.ids(ocsp.SHA1, 7)[0].NameHash, KeyHash: b.ids(ocsp.SHA1, 7)[0].KeyHash, Serial: serialOf(7)}}, nonce, ocsp.Unauthorized, nil, false, 0},
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			var s sawn
			s.take(e)
			s.all = nil
			der := must(ocsp.EncodeRequest(c.ids, c.nonce))(t)
			target, body := "/ocsp/", der
			if method == http.MethodGet {
				target, body = getPath(der), nil
			}
			got := do(t, srv, method, target, body)
			r := must(ocsp.ParseResponse(got.body))(t)
			if r.Status != c.status || len(r.Singles) != len(c.states) {
				t.Errorf("%s %s: %s, %d statements", method, name, r.Status, len(r.Singles))
				continue
			}
			if n := s.take(e); n != c.seen {
				t.Errorf("%s %s: %d sightings", method, name, n)
			}
			if c.live != (r.HasNonce || got.Header.Get("ETag") == "" && r.Status == ocsp.Successful) || c.live && !bytes.Equal(r.Nonce, c.nonce) {
				t.Errorf("%s %s: nonce %x, ETag %q", method, name, r.Nonce, got.Header.Get("ETag"))
			}
			cacheable := !c.live && r.Status == ocsp.Successful && method == http.MethodGet
			if (got.Header.Get("Cache-Control") == "no-store") == cacheable {
				t.Errorf("%s %s: Cache-Control %q", method, name, got.Header.Get("Cache-Control"))
			}
			for i, x := range r.Singles {
				if x.State != c.states[i] || c.live && !bytes.Equal(x.CertID.NameHash, c.ids[i].NameHash) {
					t.Errorf("%s %s: statement %d is %s", method, name, i, x.State)
				}
				if c.live {
					if _, err := ocsp.CheckResponse(r, a.cert, c.ids[i].Serial, w.clock()); err != nil {
						t.Errorf("%s %s: %v", method, name, err)
					}
				}
				if x.State == ocsp.Revoked && x.Reason != bulkhead.KeyCompromise {
					t.Errorf("%s %s: reason %v", method, name, x.Reason)
				}
			}
		}
	}
	if n := new(sawn).take(e); n != 0 {
		t.Errorf("%d sightings too many", n)
	}
}

// TestLiveNonceLengths: nothing and more than 128 octets are malformed, whatever the mode (RFC 9654 section 2.1).
func TestLiveNonceLengths(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(7))
	w.publish()
	for mode, e := range map[string]*Edge{"live": livened(t, w, &liveDoor{authorities: []*authority{a}}), "pre-signed": w.refreshed()} {
		for _, n := range []int{0, 129, 1000} {
			r := must(ocsp.ParseResponse(e.askFor(t, withNonce(t, a.request(t, ocsp.SHA1, 7), n))))(t)
			if r.Status != ocsp.MalformedRequest {
				t.Errorf("%s, %d octets: %s", mode, n, r.Status)
			}
		}
		r := must(ocsp.ParseResponse(e.askFor(t, withNonce(t, a.request(t, ocsp.SHA1, 7), 128))))(t)
		if r.Status != ocsp.Successful || len(r.Nonce) != 128 && mode == "live" || r.HasNonce != (mode == "live") {
			t.Errorf("%s, 128 octets: %s, %d", mode, r.Status, len(r.Nonce))
		}
	}
}

// withNonce adds a nonce of any length to a request without extensions.
func withNonce(t testing.TB, der []byte, n int) []byte {
	t.Helper()
	type ext struct {
		ID    asn1.ObjectIdentifier
		Value []byte
	}
	type tbs struct {
		List asn1.RawValue
		Exts []ext `asn1:"explicit,tag:2"`
	}
	var in struct{ TBS struct{ List asn1.RawValue } }
	if _, err := asn1.Unmarshal(der, &in); err != nil {
		t.Fatal(err)
	}
	value := must(asn1.Marshal(make([]byte, n)))(t)
	return must(asn1.Marshal(struct{ TBS tbs }{tbs{in.TBS.List, []ext{{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, value}}}}))(t)
}

// TestLiveWithoutSigner: while no window can be opened nothing is signed; what is pre-signed goes on being served (P8).
func TestLiveWithoutSigner(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(7))
	w.publish()
	d := &liveDoor{authorities: []*authority{a}}
	e := livened(t, w, d)
	d.shut.Store(true)
	ask := func(ids []ocsp.CertID) *ocsp.Response {
		return must(ocsp.ParseResponse(e.askFor(t, must(ocsp.EncodeRequest(ids, []byte("n")))(t))))(t)
	}
	if r := ask(a.ids(ocsp.SHA1, 7)); r.Status != ocsp.Successful || r.HasNonce {
		t.Errorf("one with a nonce: %s", r.Status)
	}
	for _, ids := range [][]ocsp.CertID{a.ids(ocsp.SHA1, 7, 7), a.ids(ocsp.SHA1, 99), a.ids(ocsp.SHA512, 7)} {
		if r := ask(ids); r.Status != ocsp.TryLater {
			t.Errorf("%d CertIDs: %s", len(ids), r.Status)
		}
	}
	d.shut.Store(false)
	w.advance(3 * time.Second)
	if r := ask(a.ids(ocsp.SHA1, 7)); r.Status != ocsp.Successful || string(r.Nonce) != "n" {
		t.Errorf("afterwards: %s", r.Status)
	}
	w.advance(4 * time.Hour) // past nextUpdate: never served, live or not
	if r := ask(a.ids(ocsp.SHA1, 7)); r.Status != ocsp.TryLater {
		t.Errorf("expired: %s", r.Status)
	}
}

// TestLiveForeignReaders: openssl with its nonce and with several serials in one request, GnuTLS with a nonce, and Go.
func TestLiveForeignReaders(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(0x1234567890), w.revoked(0x7fedcba987))
	w.publish()
	srv := serve(t, livened(t, w, &liveDoor{authorities: []*authority{a}}))
	dir := t.TempDir()
	ca := encodePEM(t, dir, "ca.pem", "CERTIFICATE", a.cert.Raw)
	run := func(name string, args ...string) string {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("this test needs %s: %v", name, err)
		}
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	for _, digest := range []string{"-sha1", "-sha256", "-sha384", "-sha512"} {
		out := run("openssl", "ocsp", "-issuer", ca, digest, "-serial", strconv.Itoa(0x1234567890), "-serial", strconv.Itoa(0x7fedcba987), "-serial", "85", "-url", srv.URL+"/ocsp/", "-CAfile", ca)
		for _, want := range []string{"Response verify OK", ": good", ": revoked", "85: unknown"} {
			if !strings.Contains(out, want) || strings.Contains(out, "WARNING: no nonce") {
				t.Errorf("%s: no %q in\n%s", digest, want, out)
			}
		}
	}
	leaf := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(0x1234567890), NotAfter: time.Now().Add(time.Hour)}, a.cert, newKey(t).Public(), a.key))(t)
	out := run("ocsptool", "--ask="+srv.URL+"/ocsp/", "--nonce", "--load-issuer", ca, "--load-cert", encodePEM(t, dir, "leaf.pem", "CERTIFICATE", leaf))
	if !strings.Contains(out, "Certificate Status: good") || !strings.Contains(out, "Verifying OCSP Response: Success") {
		t.Errorf("gnutls:\n%s", out)
	}
	der := must(ocsp.EncodeRequest(a.ids(ocsp.SHA256, 0x7fedcba987), []byte("0123456789abcdef")))(t)
	got := do(t, srv, http.MethodGet, getPath(der), nil)
	if r, err := xocsp.ParseResponse(got.body, a.cert); err != nil || r.Status != xocsp.Revoked || r.RevocationReason != xocsp.KeyCompromise {
		t.Errorf("Go: %+v %v", r, err)
	}
}
