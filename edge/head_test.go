package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// remote is a source that is no directory, and that can be away.
type remote struct {
	publish.Reader
	away   atomic.Bool
	opened atomic.Int64
}

var errAway = errors.New("connection refused")

func (r *remote) fail() error {
	if r.away.Load() {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "source is away").WithCause(errAway)
	}
	return nil
}

func (r *remote) Head(ctx context.Context) ([]byte, error) {
	if err := r.fail(); err != nil {
		return nil, err
	}
	return r.Reader.Head(ctx)
}

func (r *remote) Get(ctx context.Context, name string) ([]byte, error) {
	if err := r.fail(); err != nil {
		return nil, err
	}
	r.opened.Add(1)
	return r.Reader.Get(ctx, name)
}

func (r *remote) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := r.fail(); err != nil {
		return nil, 0, err
	}
	r.opened.Add(1)
	return r.Reader.Open(ctx, name)
}

func (w *world) remote() *remote { return &remote{Reader: struct{ publish.Reader }{w.dir}} }

func ready(t *testing.T, e *Edge) (Health, int) {
	t.Helper()
	w := httptest.NewRecorder()
	e.serve(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var h Health
	if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil {
		t.Fatal(err)
	}
	return h, w.Code
}

// TestDelta: a delta speaks before the base, and only of what it holds; a compacted base says the same.
func TestDelta(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(1), w.good(2), w.good(3))
	w.publish()
	e := w.refreshed()
	states := func() (s string) {
		for _, n := range []int64{1, 2, 3, 4} {
			s += a.stateOf(t, e.askFor(t, a.request(t, ocsp.SHA1, n)), n, w.clock()) + " "
		}
		return s
	}
	if got := states(); got != "good good good unauthorized " {
		t.Errorf("base: %s", got)
	}
	w.add(a, w.revoked(2), w.good(4))
	w.publish()
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	const want = "good revoked good good "
	if got := states(); got != want {
		t.Errorf("delta: %s", got)
	}
	before := e.askFor(t, a.request(t, ocsp.SHA1, 2))

	var packs []*pack.Pack
	for _, ref := range w.head.Issuer("a").Packs {
		packs = append(packs, must(pack.Open(must(w.dir.Get(t.Context(), ref.Name))(t)))(t))
	}
	var b bytes.Buffer
	pw := must(pack.NewWriter(&b, a.issuer))(t)
	if err := pack.Merge(pw, nil, packs...); err != nil {
		t.Fatal(err)
	}
	ref := mustFinish(t, pw, &b)
	ref.Name = w.put("packs", a.id, b.Bytes())
	w.head.Issuer("a").Packs = []pack.ObjectRef{ref}
	w.publish()
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := states(); got != want || !bytes.Equal(before, e.askFor(t, a.request(t, ocsp.SHA1, 2))) {
		t.Errorf("compacted: %s", got)
	}
}

// TestRefusedHeads plants one fault at a time; what is served stays, readyz says why, and the next good head is taken.
func TestRefusedHeads(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, w *world, a *authority){
		"another key": func(t *testing.T, w *world, a *authority) {
			real := w.signer
			w.signer, _ = noteKey(t, origin)
			w.publish()
			w.signer = real
		},
		"no signature": func(t *testing.T, w *world, a *authority) {
			if err := w.dir.SetHead(t.Context(), []byte("bulkhead-head/v1 x\n{}\n")); err != nil {
				t.Fatal(err)
			}
		},
		"lower sequence": func(t *testing.T, w *world, a *authority) { w.head.Sequence = 3; w.publish() },
		"same sequence": func(t *testing.T, w *world, a *authority) {
			w.head.Sequence = 9
			w.head.Issuers[0].Generation++
			w.publish()
		},
		"lower epoch": func(t *testing.T, w *world, a *authority) {
			w.head.Issuers[0].Epoch = 0
			w.publish()
			w.head.Issuers[0].Epoch = 1
		},
		"object missing": func(t *testing.T, w *world, a *authority) {
			w.damage(func(p *pack.ObjectRef) { p.Name, p.Digest = "packs/none", bulkhead.Digest(nil) })
		},
		"digest": func(t *testing.T, w *world, a *authority) { w.damage(func(p *pack.ObjectRef) { p.Digest[0] ^= 1 }) },
		"size":   func(t *testing.T, w *world, a *authority) { w.damage(func(p *pack.ObjectRef) { p.Size++ }) },
		"not a pack": func(t *testing.T, w *world, a *authority) {
			w.damage(func(p *pack.ObjectRef) { *p = w.head.Issuers[0].Certificate })
		},
		"pack of another issuer": func(t *testing.T, w *world, a *authority) {
			other := newAuthority(t, "a", "Other", newKey(t))
			b, ref := other.pack(t, w.good(1))
			ref.Name = w.put("packs", a.id, b)
			w.damage(func(p *pack.ObjectRef) { *p = ref })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := newAuthority(t, "a", "A", newKey(t))
			w.add(a, w.good(1))
			w.add(a, w.good(2))
			w.head.Sequence = 9
			w.publish()
			for source, edit := range map[string]func(*Config){
				"directory": func(*Config) {},
				"remote":    func(c *Config) { c.Source = w.remote() },
				"cached":    func(c *Config) { c.Source = w.remote(); c.CacheDir = t.TempDir() },
			} {
				good := must(w.dir.Head(t.Context()))(t)
				e := w.refreshed(edit)
				state := func() string {
					return a.stateOf(t, e.askFor(t, a.request(t, ocsp.SHA1, 2)), 2, w.clock())
				}
				plant(t, w, a)
				for range 2 { // the second look finds it in the refused slot
					if err := e.Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
						t.Errorf("%s: %v", source, err)
					}
				}
				h, code := ready(t, e)
				if e.Sequence() != 10 || state() != "good" || code != 200 || len(h.Problems) != 1 || !strings.HasPrefix(h.Problems[0], "head: ") {
					t.Errorf("%s: sequence %d, state %s, HTTP %d, %v", source, e.Sequence(), state(), code, h.Problems)
				}
				w.head.Sequence = 19
				w.publish()
				if err := e.Refresh(t.Context()); err != nil || e.Sequence() != 20 {
					t.Errorf("%s: a good head afterwards: %v", source, err)
				}
				if h, _ := ready(t, e); len(h.Problems) != 0 {
					t.Errorf("%s: problems stay: %v", source, h.Problems)
				}
				w.head.Sequence = 10
				if err := w.dir.SetHead(t.Context(), good); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// damage publishes a head whose newest pack reference is edited, and repairs it in w.
func (w *world) damage(edit func(*pack.ObjectRef)) {
	w.t.Helper()
	p := &w.head.Issuers[0].Packs[0]
	good := *p
	edit(p)
	w.publish()
	*p = good
}

// TestTwoIssuersOneKey: two issuers of the same name and key would make answers depend on order.
func TestTwoIssuersOneKey(t *testing.T) {
	w := newWorld(t)
	key := newKey(t)
	w.add(newAuthority(t, "a", "A", key), w.good(1))
	w.add(newAuthority(t, "b", "A", key), w.good(2))
	w.publish()
	if err := w.edge().Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("accepted: %v", err)
	}
}

// TestRestart: an edge that starts again never goes back, and serves from its cache while the source is away.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(1))
	old := w.publish()
	w.add(a, w.revoked(1))
	newest := w.publish()
	for source, src := range map[string]publish.Reader{"directory": w.dir, "remote": w.remote()} {
		cache := t.TempDir()
		use := func(c *Config) { c.Source, c.CacheDir = src, cache }
		setHead := func(b []byte) {
			if err := w.dir.SetHead(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		setHead(newest)
		w.refreshed(use)
		setHead(old)
		e := w.edge(use)
		if err := e.Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("%s: an older head after a restart: %v", source, err)
		}
		if got := a.stateOf(t, e.askFor(t, a.request(t, ocsp.SHA1, 1)), 1, w.clock()); got != "revoked" {
			t.Errorf("%s: serves %s after a restart", source, got)
		}
		if forgetful := w.refreshed(func(c *Config) { c.Source = src }); forgetful.Sequence() != 1 {
			t.Errorf("%s: without a cache there is nothing to remember", source)
		}
		setHead(newest)
	}
	away := w.remote()
	cache := t.TempDir()
	w.refreshed(func(c *Config) { c.Source, c.CacheDir = away, cache })
	away.away.Store(true)
	e := w.edge(func(c *Config) { c.Source, c.CacheDir = away, cache })
	if err := e.Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("the source is away: %v", err)
	}
	if h, code := ready(t, e); code != 200 || !h.Ready || len(h.Problems) != 1 || h.Problems[0] != "source: source is away" {
		t.Errorf("health with the source away: %d %+v", code, h)
	}
	if got := a.stateOf(t, e.askFor(t, a.request(t, ocsp.SHA1, 1)), 1, w.clock()); got != "revoked" {
		t.Errorf("serves %s with the source away", got)
	}

	if err := os.WriteFile(filepath.Join(cache, "head"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := e.cfg
	if _, err := New(cfg); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a damaged memory: %v", err)
	}
}

// TestCache: objects are fetched once, damage on our disk is fetched again, and what no head names goes.
func TestCache(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(1))
	first := w.head.Issuer("a").Packs[0].Digest.String()
	w.publish()
	src, cache := w.remote(), t.TempDir()
	use := func(c *Config) { c.Source, c.CacheDir = src, cache }
	w.refreshed(use)
	fetched := src.opened.Load()
	w.refreshed(use)
	if src.opened.Load() != fetched {
		t.Error("objects were fetched again")
	}
	path := filepath.Join(cache, "objects", first)
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	e := w.refreshed(use)
	if src.opened.Load() != fetched+1 {
		t.Error("a damaged object was not fetched again")
	}
	w.head.Issuer("a").Packs = nil
	w.add(a, w.revoked(1))
	w.publish()
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an object that no head names stays in the cache")
	}
}

// TestExpiry: an expired answer is not served and no older one in its place; an expired CRL is not kept by caches;
// an edge on which everything has expired is not ready.
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	long := w.good(1)
	long.next = long.next.Add(24 * time.Hour)
	w.add(a, long, w.good(2))
	w.add(a, w.revoked(1))
	der := w.crl(a, 0, 1, 1)
	w.publish()
	e := w.refreshed()
	srv := serve(t, e)
	if r := do(t, srv, http.MethodGet, "/crl/a/0.crl", nil); r.Header.Get("Cache-Control") != "public, max-age=7198, no-transform, must-revalidate" || r.Header.Get("Expires") == "" {
		t.Errorf("fresh CRL: %v", r.Header)
	}
	w.advance(3 * time.Hour)
	r := do(t, srv, http.MethodGet, getPath(a.request(t, ocsp.SHA1, 1)), nil)
	if p := must(ocsp.ParseResponse(r.body))(t); p.Status != ocsp.TryLater || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("an expired answer gives %s, %v", p.Status, r.Header)
	}
	r = do(t, srv, http.MethodGet, "/crl/a/0.crl", nil)
	if !bytes.Equal(r.body, der) || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Expires") != "" {
		t.Errorf("an expired CRL: HTTP %d, %v", r.StatusCode, r.Header)
	}
	h, code := ready(t, e)
	if code != 200 || len(h.Near) != 2 || len(h.Problems) != 2 {
		t.Errorf("half expired: %d %+v", code, h)
	}
	w.advance(24 * time.Hour)
	if h, code := ready(t, e); code != 503 || h.Ready {
		t.Errorf("all expired: %d %+v", code, h)
	}
}

func TestBeforeTheFirstHead(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	e := w.edge()
	if err := e.Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("no head: %v", err)
	}
	if p := must(ocsp.ParseResponse(e.askFor(t, a.request(t, ocsp.SHA1, 1))))(t); p.Status != ocsp.TryLater {
		t.Errorf("no head: %s", p.Status)
	}
	srv := serve(t, e)
	for target, code := range map[string]int{"/readyz": 503, "/livez": 200, "/crl/a/0.crl": 503} {
		if r := do(t, srv, http.MethodGet, target, nil); r.StatusCode != code || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: HTTP %d %v", target, r.StatusCode, r.Header)
		}
	}
}

// TestFiles: CRLs and CA certificates with types, validators and HEAD.
func TestFiles(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	crl := w.crl(a, 3, 1, 5, 6)
	w.publish()
	srv := serve(t, w.refreshed())
	for _, c := range []struct {
		target, mediaType string
		want              []byte
	}{{"/crl/a/3.crl", "application/pkix-crl", crl}, {"/ca/a.cer", "application/pkix-cert", a.cert.Raw}} {
		r := do(t, srv, http.MethodGet, c.target, nil, "Accept-Encoding", "gzip")
		etag := r.Header.Get("ETag")
		if !bytes.Equal(r.body, c.want) || r.Header.Get("Content-Type") != c.mediaType || len(etag) != etagText || etag[0] != '"' ||
			!strings.Contains(r.Header.Get("Cache-Control"), "max-age=") || !strings.HasSuffix(r.Header.Get("Expires"), " GMT") || r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: HTTP %d %v", c.target, r.StatusCode, r.Header)
		}
		if r := do(t, srv, http.MethodHead, c.target, nil); r.StatusCode != 200 || r.ContentLength != int64(len(c.want)) || r.Header.Get("ETag") != etag {
			t.Errorf("HEAD %s: HTTP %d %v", c.target, r.StatusCode, r.Header)
		}
		if r := do(t, srv, http.MethodGet, c.target, nil, "If-None-Match", etag); r.StatusCode != 304 || r.Header.Get("Cache-Control") == "" {
			t.Errorf("conditional %s: HTTP %d %v", c.target, r.StatusCode, r.Header)
		}
	}
}

// TestObserve: a question about a serial of ours without an answer is passed on (D1); others are not, and a flood is
// dropped and counted instead of waiting.
func TestObserve(t *testing.T) {
	w := newWorld(t)
	a, b := newAuthority(t, "a", "A", newKey(t)), newAuthority(t, "b", "B", newKey(t))
	w.add(a, w.good(1))
	w.publish()
	var got []Unassigned
	seen := make(chan Unassigned, observeQueue)
	reg := prometheus.NewRegistry()
	e := w.refreshed(func(c *Config) { c.Observe = func(u Unassigned) { seen <- u }; c.Metrics = reg })
	e.askFor(t, a.request(t, ocsp.SHA1, 1))
	e.askFor(t, b.request(t, ocsp.SHA1, 2))
	e.askFor(t, a.request(t, ocsp.SHA256, 3))
	for range observeQueue + 10 {
		e.askFor(t, a.request(t, ocsp.SHA1, 4))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	for range observeQueue {
		got = append(got, <-seen)
	}
	cancel()
	wg.Wait()
	if got[0] != (Unassigned{Issuer: "a", Serial: serialOf(3), At: w.clock()}) || got[1].Serial != serialOf(4) {
		t.Errorf("observed %+v", got[:2])
	}
	families := must(reg.Gather())(t)
	var dropped float64
	for _, f := range families {
		if f.GetName() == "bulkhead_edge_observations_dropped_total" {
			dropped = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if dropped != 11 {
		t.Errorf("dropped %v, want 11", dropped)
	}
}

// TestSwitchUnderLoad: while heads switch and old mappings end, every answer is whole and none is older than one seen
// before.
func TestSwitchUnderLoad(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(1))
	w.publish()
	e := w.edge(func(c *Config) { c.Poll = time.Millisecond })
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	req := a.request(t, ocsp.SHA1, 1)
	for range 3 {
		wg.Go(func() {
			var last time.Time
			for ctx.Err() == nil {
				r, err := ocsp.ParseResponse(e.askFor(t, req))
				if err != nil || r.Status != ocsp.Successful || r.Singles[0].ThisUpdate.Before(last) {
					t.Errorf("answer %+v after %v: %v", r, last, err)
					return
				}
				last = r.Singles[0].ThisUpdate
			}
		})
	}
	base := w.clock()
	for n := range 40 {
		i := w.head.Issuer("a")
		gone := i.Packs
		i.Packs = nil
		w.add(a, answer{serial: serialOf(1), this: base.Add(time.Duration(n) * time.Second), next: base.Add(time.Hour)})
		w.publish()
		for e.Sequence() != w.head.Sequence {
			time.Sleep(time.Millisecond)
		}
		for _, ref := range gone {
			if err := w.dir.Delete(t.Context(), ref.Name); err != nil {
				t.Error(err)
			}
		}
		runtime.GC() // ends the mappings that nobody holds
	}
	cancel()
	wg.Wait()
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	whole := w.edge().cfg
	for name, edit := range map[string]func(*Config){
		"source": func(c *Config) { c.Source = nil },
		"key":    func(c *Config) { c.HeadVerifier = nil },
		"log":    func(c *Config) { c.Log = nil },
		"poll":   func(c *Config) { c.Poll = -1 },
	} {
		cfg := whole
		edit(&cfg)
		if _, err := New(cfg); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}
