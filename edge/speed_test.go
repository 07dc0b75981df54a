package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// sink is a ResponseWriter that keeps nothing, so that what is counted is ours.
type sink struct {
	h    http.Header
	n    int
	code int
}

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }
func (s *sink) WriteHeader(code int)        { s.code = code }

type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// TestAllocations: a request costs no allocation of ours, whatever its form and outcome. (The blocks from which ETag
// texts are cut count as one allocation in 256 requests.)
func TestAllocations(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	var answers []answer
	for n := range int64(50) {
		answers = append(answers, w.good(n+1))
	}
	w.add(a, answers...)
	w.add(a, w.revoked(7))
	w.publish()
	e := w.refreshed()
	etag := func() string {
		rec := httptest.NewRecorder()
		e.serve(rec, httptest.NewRequest(http.MethodGet, getPath(a.request(t, ocsp.SHA1, 9)), nil))
		return rec.Header().Get("ETag")
	}()
	s := &sink{h: http.Header{}}
	for name, c := range map[string]struct {
		method, target string
		body           []byte
		match          string
		code           int
	}{
		"GET":            {"GET", getPath(a.request(t, ocsp.SHA1, 9)), nil, "", 0},
		"GET revoked":    {"GET", getPath(a.request(t, ocsp.SHA256, 7)), nil, "", 0},
		"HEAD":           {"HEAD", getPath(a.request(t, ocsp.SHA1, 9)), nil, "", 0},
		"GET 304":        {"GET", getPath(a.request(t, ocsp.SHA1, 9)), nil, etag, 304},
		"POST":           {"POST", "/ocsp/", a.request(t, ocsp.SHA1, 9), "", 0},
		"GET unassigned": {"GET", getPath(a.request(t, ocsp.SHA1, 999)), nil, "", 0},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		if c.match != "" {
			r.Header.Set("If-None-Match", c.match)
		}
		rd := body{bytes.NewReader(c.body)}
		n := testing.AllocsPerRun(2000, func() {
			rd.Reset(c.body)
			r.Body, r.ContentLength = rd, int64(len(c.body))
			s.code, s.n = 0, 0
			clear(s.h)
			e.serve(s, r)
		})
		if n > spareAllocations {
			t.Errorf("%s: %v allocations", name, n)
		}
		if s.code != c.code {
			t.Errorf("%s: HTTP %d", name, s.code)
		}
	}
}

// bigPack holds n answers with real response data and one signature used again: the edge verifies none, and n
// signatures would take minutes.
func bigPack(b *testing.B, w *world, a *authority, n int) (serials []bulkhead.Serial) {
	b.Helper()
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for range n {
		var k [16]byte
		binary.BigEndian.PutUint64(k[:], rng.Uint64()>>1|1<<62)
		binary.BigEndian.PutUint64(k[8:], rng.Uint64())
		serials = append(serials, must(bulkhead.SerialFromBytes(k[:]))(b))
	}
	slices.SortFunc(serials, bulkhead.Serial.Compare)
	sum := sha256.Sum256([]byte("any"))
	sig := must(ecdsa.SignASN1(rand.Reader, a.delegate, sum[:]))(b)
	var buf bytes.Buffer
	pw := must(pack.NewWriter(&buf, a.issuer))(b)
	r := must(pw.AddResponder(a.respCert.Raw))(b)
	now := w.clock()
	for i, s := range serials {
		x := ocsp.Single{Serial: s, State: ocsp.Good, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(80 * time.Hour)}
		if i%10 == 0 {
			x.State, x.RevokedAt = ocsp.Revoked, now.Add(-2*time.Hour)
		}
		tbs := must(ocsp.BuildTBSFor(a.issuer, a.respHash, x.ThisUpdate, x, ocsp.SHA1))(b)
		if err := pw.Add(pack.Entry{Serial: s, TBS: tbs, Signature: sig, Responder: r, ThisUpdate: x.ThisUpdate, NextUpdate: x.NextUpdate, Revoked: i%10 == 0}); err != nil {
			b.Fatal(err)
		}
	}
	ref := mustFinish(b, pw, &buf)
	ref.Name = "packs/a/big"
	if err := w.dir.Put(b.Context(), publish.Object{Name: ref.Name, Body: bytes.NewReader(buf.Bytes())}); err != nil {
		b.Fatal(err)
	}
	w.issuer(a).Packs = []pack.ObjectRef{ref}
	return serials
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkHandler is what a request costs between net/http's call and its return.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b)
	a := newAuthority(b, "a", "A", newKey(b))
	serials := bigPack(b, w, a, 200_000)
	w.publish()
	e := w.refreshed()
	var gets []*http.Request
	var bodies [][]byte
	for i := range 20_000 {
		der := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(ocsp.SHA1, serials[i*10%len(serials)])}, nil))(b)
		bodies = append(bodies, der)
		gets = append(gets, httptest.NewRequest(http.MethodGet, getPath(der), nil))
	}
	s := &sink{h: http.Header{}}
	b.Run("GET", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			clear(s.h)
			e.serve(s, gets[i%len(gets)])
		}
	})
	b.Run("POST", func(b *testing.B) {
		post := httptest.NewRequest(http.MethodPost, "/ocsp/", nil)
		rd := body{bytes.NewReader(nil)}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			clear(s.h)
			rd.Reset(bodies[i%len(bodies)])
			post.Body, post.ContentLength = rd, int64(len(bodies[i%len(bodies)]))
			e.serve(s, post)
		}
	})
}
