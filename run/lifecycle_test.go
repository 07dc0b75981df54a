package run

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/publish"
	"bulkhead/status/caches"
	"bulkhead/status/verifiers"
)

// node is a cache that keeps what it fetched, and purges by URL, or says so and does nothing.
type cacheNode struct {
	mu     sync.Mutex
	next   http.Handler
	kept   map[string]*httptest.ResponseRecorder
	deaf   bool
	purged []time.Time
}

func (n *cacheNode) setDeaf(deaf bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = deaf
}

func (n *cacheNode) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Method == "PURGE" {
		n.purged = append(n.purged, time.Now())
		for key := range n.kept {
			if _, rest, _ := strings.Cut(key, " "); !n.deaf && strings.HasPrefix(rest, r.RequestURI+" ") {
				delete(n.kept, key)
			}
		}
		return
	}
	key := r.Method + " " + r.RequestURI + " " + string(body)
	k := n.kept[key]
	if k == nil {
		k = httptest.NewRecorder()
		up := r.Clone(r.Context())
		up.Body = io.NopCloser(bytes.NewReader(body))
		n.next.ServeHTTP(k, up)
		n.kept[key] = k
	}
	for name, values := range k.Header() {
		rw.Header()[name] = values
	}
	rw.WriteHeader(k.Code)
	_, _ = rw.Write(k.Body.Bytes())
}

// tiered is a world whose edge is behind two nodes of a cache.
func tiered(t *testing.T) (*world, [2]*cacheNode, [2]string) {
	var nodes [2]*cacheNode
	var urls [2]string
	for i := range nodes {
		nodes[i] = &cacheNode{kept: map[string]*httptest.ResponseRecorder{}, next: http.NotFoundHandler()}
		s := httptest.NewServer(nodes[i])
		t.Cleanup(s.Close)
		urls[i] = s.URL
	}
	w := newWorld(t, func(c *Config) {
		c.Status.Verifiers = []string{verifiers.None}
		c.Caches.Timeout = Duration(5 * time.Second)
		c.Caches.Tiers = []CacheTier{{Name: "lb", Kind: string(caches.LoadBalancer), TTL: Duration(8 * time.Hour), Owner: "the network team", Nodes: urls[:], Purge: CachePurge{Adapter: string(caches.Nginx)}}}
	})
	w.h.status.Wait() // the world begins with a revocation of its own, which is followed
	for _, n := range nodes {
		n.mu.Lock()
		n.next, n.kept, n.purged = w.h.edge.Handler(), map[string]*httptest.ResponseRecorder{}, nil
		n.mu.Unlock()
	}
	return w, nodes, urls
}

// followed has what is public looked at, once.
func (w *world) followed() {
	w.Helper()
	w.pass(2 * time.Hour) // longer than a change rests after trouble
	w.publish()
	w.h.status.Wait()
}

// bucket is a store whose objects are no files of this machine.
type bucket struct{ publish.Store }

// TestTiers: a revocation by the service, with the tiers as they are configured: purged after the switch, fetched through
// every node, and settled when each serves the newest; until then the node that says 200 and keeps the old answer is
// named, with whom to call and when its answer dies. It is the same where objects lie in a bucket.
func TestTiers(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]func(*House){"folder": func(*House) {}, "bucket": func(h *House) { h.objects = bucket{h.objects} }} {
		t.Run(name, func(t *testing.T) {
			w, nodes, urls := tiered(t)
			in(w.h)
			w.fill(urls)
			nodes[1].setDeaf(true)
			switched := time.Now()
			id, err := w.h.status.RevokeCertificates(t.Context(), "operator:test", "tiers", []bulkhead.ChangeItem{{CertificateRef: w.live, Reason: bulkhead.Superseded}})
			w.ok(err)
			w.ok(w.h.edge.Refresh(t.Context()))
			w.followed()
			c, err := w.h.status.Change(t.Context(), id)
			w.ok(err)
			if c.State != bulkhead.ChangePublished || !strings.Contains(c.Problem, urls[1]) || !strings.Contains(c.Problem, "the network team") || strings.Contains(c.Problem, urls[0]) || c.Dies.IsZero() {
				t.Fatalf("the change is %s: %q, dies %s", c.State, c.Problem, c.Dies)
			}
			for i, n := range nodes {
				n.mu.Lock()
				if len(n.purged) == 0 || n.purged[0].Before(switched) {
					t.Errorf("node %d was purged %d times, first at %v; the change began at %s", i, len(n.purged), n.purged[:min(1, len(n.purged))], switched)
				}
				n.mu.Unlock()
			}
			nodes[1].setDeaf(false)
			w.followed()
			if c, err = w.h.status.Change(t.Context(), id); err != nil || c.State != bulkhead.ChangeSettled || c.Problem != "" || !c.Dies.IsZero() {
				t.Errorf("with every node purged the change is %s: %q, %v", c.State, c.Problem, err)
			}
			story, err := w.h.status.Story(t.Context(), id)
			w.ok(err)
			at := func(k bulkhead.EvidenceKind) int {
				return slices.IndexFunc(story, func(e bulkhead.Evidence) bool { return e.Kind == k })
			}
			if p, q, v := at(bulkhead.EvChangePublished), at(bulkhead.EvCachesPurged), at(bulkhead.EvCachesVerified); p < 0 || q < p || v < q {
				t.Errorf("published, purged and verified are leaves %d, %d and %d of the story", p, q, v)
			}
		})
	}
}

// fill has every node fetch what it would be asked for.
func (w *world) fill(urls [2]string) {
	w.Helper()
	v, err := tiers{w.h}.view()
	w.ok(err)
	defer v.Close()
	got, err := v.Verify(w.Context(), CacheSelection{Ref: w.live}, w.h.log)
	w.ok(err)
	if !got.Complete {
		w.Fatalf("before anything happened: %s", got)
	}
}

// TestTiersUnpublished: what is not public at the edges is not purged.
func TestTiersUnpublished(t *testing.T) {
	t.Parallel()
	w, nodes, _ := tiered(t)
	c, err := w.h.status.PlanRevocation(t.Context(), "operator:test", "not yet", []bulkhead.ChangeItem{{CertificateRef: w.live, Reason: bulkhead.Superseded}})
	w.ok(err)
	if _, err := (tiers{w.h}).Purge(context.Background(), c.ID); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Errorf("a purge of a change that is %s: %v", c.State, err)
	}
	for i, n := range nodes {
		n.mu.Lock()
		if len(n.purged) > 0 {
			t.Errorf("node %d was purged", i)
		}
		n.mu.Unlock()
	}
}
