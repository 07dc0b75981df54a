package edge

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
	"bulkhead/pki/profile"
)

// partitioned publishes a CRL of our own writer for a shard.
func (w *world) partitioned(a *authority, shard int, urls profile.URLs) {
	w.t.Helper()
	ref := pack.CRLRef{Shard: shard, Number: 1, ThisUpdate: w.clock().Add(-time.Minute).UTC(), NextUpdate: w.clock().Add(2 * time.Hour).UTC()}
	var b bytes.Buffer
	_, err := crl.Write(&b, crl.Info{Issuer: a.cert, Number: 1, ThisUpdate: ref.ThisUpdate, NextUpdate: ref.NextUpdate, URL: urls.CRL(a.id, shard), Scope: crl.ScopeUserCerts}, nil,
		func(t crl.ToSign) ([]byte, error) { return a.key.Sign(rand.Reader, t.Digest, crypto.SHA256) })
	if err != nil {
		w.t.Fatal(err)
	}
	ref.ObjectRef = pack.ObjectRef{Name: w.put("crl", a.id, b.Bytes()), Digest: bulkhead.Digest(b.Bytes()), Size: int64(b.Len())}
	i := w.issuer(a)
	i.CRLs = append(i.CRLs, ref)
}

// TestCRLURLs: the list that CCADB asks for names every shard and nothing else; every URL of it is retrievable and its
// CRL names that URL byte for byte; what lies beside does not exist.
func TestCRLURLs(t *testing.T) {
	const shards = 12
	w := newWorld(t)
	a, b := newAuthority(t, "a", "A", newKey(t)), newAuthority(t, "b", "B", newKey(t))
	urls := profile.URLs{Base: "http://status.test:8080/"}
	for shard := range shards {
		w.partitioned(a, shard, urls)
	}
	w.issuer(b) // no CRL yet
	w.publish()
	srv := serve(t, w.refreshed(func(c *Config) { c.StatusURL = urls.Base }))
	list := func(id string) (out []string, r reply) {
		r = do(t, srv, http.MethodGet, "/crl/"+id+"/urls.json", nil)
		if err := json.Unmarshal(r.body, &out); err != nil || out == nil || r.Header.Get("Content-Type") != "application/json" || !strings.Contains(r.Header.Get("Cache-Control"), "max-age=3600") {
			t.Fatalf("%s: HTTP %d %v %s", id, r.StatusCode, r.Header, r.body)
		}
		return out, r
	}
	got, r := list("a")
	if len(got) != shards {
		t.Errorf("%d URLs: %v", len(got), got)
	}
	if again := do(t, srv, http.MethodGet, "/crl/a/urls.json", nil, "If-None-Match", r.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("conditional: HTTP %d", again.StatusCode)
	}
	for shard, u := range got {
		if u != urls.CRL(a.id, shard) {
			t.Errorf("shard %d: %s", shard, u)
		}
		path, ok := strings.CutPrefix(u, "http://status.test:8080")
		r := do(t, srv, http.MethodGet, path, nil)
		if !ok || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: HTTP %d", u, r.StatusCode)
		}
		l, err := crl.Parse(r.body, nil)
		if err != nil || l.URL != u {
			t.Errorf("%s: the CRL names %q, %v", u, l.URL, err)
		}
	}
	if none, _ := list("b"); len(none) != 0 {
		t.Errorf("an issuer without CRLs has %v", none)
	}
	for _, path := range []string{"/crl/a/-1.crl", fmt.Sprintf("/crl/a/%d.crl", shards), "/crl/a/01.crl", "/crl/a/+1.crl", "/crl/a/.crl", "/crl/c/urls.json", "/crl/a/urls.json/", "/crl/a/0.crl/"} {
		if r := do(t, srv, http.MethodGet, path, nil); r.StatusCode != http.StatusNotFound || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: HTTP %d %s", path, r.StatusCode, r.Header.Get("Cache-Control"))
		}
	}
	if r := do(t, serve(t, w.refreshed()), http.MethodGet, "/crl/a/urls.json", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("without a status URL: HTTP %d", r.StatusCode)
	}
}
