package drill

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// cacheNode is a Cache of the drill's own, on the day's clock.
type cacheNode struct {
	name   string
	ttl    time.Duration
	next   http.Handler // towards the origin
	clock  *clock
	server *http.Server
	url    string

	mu    sync.Mutex // guards below
	kept  map[string]kept
	deaf  bool // answers a purge and does nothing
	hits  int
	asked int
}

type kept struct {
	until time.Time
	code  int
	head  http.Header
	body  []byte
}

// bounds of a node: a rehearsal's world is small.
const (
	maxKept = 100_000
	maxBody = 1 << 20
)

func newCacheNode(name string, ttl time.Duration, c *clock, next http.Handler) (*cacheNode, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &cacheNode{name: name, ttl: ttl, next: next, clock: c, url: "http://" + l.Addr().String(), kept: map[string]kept{}}
	n.server = &http.Server{Handler: n, ReadHeaderTimeout: 10 * time.Second}
	go n.server.Serve(l) //nolint:errcheck // it ends with close
	return n, nil
}

// Name implements Cache.
func (n *cacheNode) Name() string { return n.name }

// URL implements Cache.
func (n *cacheNode) URL() string { return n.url }

// Adapter implements Cache: it purges a URL as nginx does.
func (n *cacheNode) Adapter() string { return "nginx" }

// Close implements Cache.
func (n *cacheNode) Close() error { return n.server.Close() }

// SetDeaf implements Cache.
func (n *cacheNode) SetDeaf(deaf bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = deaf
	return nil
}

// Empty implements Cache.
func (n *cacheNode) Empty() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = map[string]kept{}
	return nil
}

// ServeHTTP implements http.Handler: GET and POST are cached by URL and body, PURGE drops a URL.
func (n *cacheNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		http.Error(w, "the request broke off", http.StatusBadRequest)
		return
	}
	if r.Method == "PURGE" {
		n.purge(r.RequestURI)
		w.WriteHeader(http.StatusOK)
		return
	}
	key := r.Method + " " + r.RequestURI + " " + string(body)
	k, ok := n.find(key)
	if !ok {
		k = n.fetch(r, body)
		n.keep(key, k)
	}
	for name, values := range k.head {
		w.Header()[name] = values
	}
	w.WriteHeader(k.code)
	_, _ = w.Write(k.body)
}

func (n *cacheNode) find(key string) (kept, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	k, ok := n.kept[key]
	if !ok || !n.clock.now().Before(k.until) {
		return kept{}, false
	}
	n.hits++
	return k, true
}

func (n *cacheNode) keep(key string, k kept) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.kept) < maxKept && !strings.Contains(k.head.Get("Cache-Control"), "no-store") {
		n.kept[key] = k
	}
}

func (n *cacheNode) purge(uri string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.deaf {
		return
	}
	for key := range n.kept {
		for _, method := range []string{"GET ", "HEAD ", "POST "} {
			if len(key) > len(method)+len(uri) && key[:len(method)] == method && key[len(method):len(method)+len(uri)+1] == uri+" " {
				delete(n.kept, key)
			}
		}
	}
}

func (n *cacheNode) fetch(r *http.Request, body []byte) kept {
	up := r.Clone(r.Context())
	up.Body, up.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	rec := &recorder{head: http.Header{}, code: http.StatusOK}
	n.next.ServeHTTP(rec, up)
	return kept{until: n.clock.now().Add(n.ttl), code: rec.code, head: rec.head, body: rec.body.Bytes()}
}

// recorder takes what a handler writes.
type recorder struct {
	head http.Header
	code int
	body bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.head }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
