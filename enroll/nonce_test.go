package enroll_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	front "bulkhead/enroll/acme"
)

// frontEnds puts two ACME surfaces behind one address that sends each request to the other one than the last.
func (w *world) frontEnds(shared bool) {
	w.t.Helper()
	var backs [2]*httputil.ReverseProxy
	for i := range backs {
		svc := w.service()
		w.serve(func(c *front.Config) {
			c.Service = svc
			if shared {
				c.Nonces = &front.SharedNonces{Key: bytes.Repeat([]byte{3}, 32), Take: svc.TakeOnce, Now: w.now}
			}
		})
		to, err := url.Parse(w.base)
		ok(w.t, err)
		backs[i] = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	}
	var n atomic.Int64
	both := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { backs[n.Add(1)%2].ServeHTTP(rw, r) }))
	w.t.Cleanup(both.Close)
	w.base = both.URL
}

// TestSharedNonces: with shared nonces a client whose every request meets another process is never rejected, and a
// nonce serves once, at whichever process; without them the same conversation is rejected.
func TestSharedNonces(t *testing.T) {
	w := newWorld(t)
	w.frontEnds(true)
	r := newRaw(t, w.base, newKey(t)).register()
	for range 6 {
		if resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), nil); resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s %v", resp.Status, doc)
		}
	}
	used := r.freshNonce()
	for i, want := range []int{201, 400, 400} {
		resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.nonce = used })
		if resp.StatusCode != want || want == 400 && doc["type"] != "urn:ietf:params:acme:error:badNonce" {
			t.Fatalf("use %d of one nonce: %s %v", i+1, resp.Status, doc)
		}
	}
	old := r.freshNonce()
	w.shift.Store(int64(61 * time.Minute))
	for name, bad := range map[string]string{"old": old, "altered": used[:len(used)-4] + "AAAA", "short": "AAAA", "empty": ""} {
		resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.nonce = bad })
		if resp.StatusCode != 400 || doc["type"] != "urn:ietf:params:acme:error:badNonce" {
			t.Fatalf("%s nonce: %s %v", name, resp.Status, doc)
		}
	}

	apart := newWorld(t)
	apart.frontEnds(false)
	lost := newRaw(t, apart.base, newKey(t))
	if resp, _ := lost.send("/acme/new-account", map[string]any{}, nil); resp.StatusCode != 400 {
		t.Fatalf("a nonce of another process was taken: %s", resp.Status)
	}
}
