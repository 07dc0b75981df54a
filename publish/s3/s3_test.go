package s3_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"bulkhead"
	"bulkhead/publish"
	"bulkhead/publish/publishtest"
	"bulkhead/publish/s3"
)

var houses atomic.Int64

func config(g publishtest.Gateway) s3.Config {
	return s3.Config{Endpoint: g.Endpoint, Bucket: g.Bucket, AccessKey: g.AccessKey, SecretKey: g.SecretKey, Insecure: true}
}

// TestConformance runs the suite against a real server; each part has a prefix of its own.
func TestConformance(t *testing.T) {
	g := publishtest.StartGateway(t)
	publishtest.Exercise(t, func(t *testing.T) (publish.Store, func() publish.Store) {
		c := config(g)
		c.Prefix = fmt.Sprintf("house%d/", houses.Add(1))
		open := func() publish.Store {
			b, err := s3.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		return open(), open
	})
}

// TestRefusals: a bucket that is not there, a wrong secret, and plain HTTP beyond loopback.
func TestRefusals(t *testing.T) {
	g := publishtest.StartGateway(t)
	for name, c := range map[string]struct {
		change func(*s3.Config)
		kind   bulkhead.Kind
	}{
		"no such bucket":        {func(c *s3.Config) { c.Bucket = "elsewhere" }, bulkhead.KindNotFound},
		"wrong secret":          {func(c *s3.Config) { c.SecretKey = "wrong" }, bulkhead.KindUnavailable},
		"no server":             {func(c *s3.Config) { c.Endpoint = "127.0.0.1:1" }, bulkhead.KindUnavailable},
		"plain HTTP to a name":  {func(c *s3.Config) { c.Endpoint = "objects.example.test" }, bulkhead.KindUsage},
		"nothing":               {func(c *s3.Config) { *c = s3.Config{} }, bulkhead.KindUsage},
		"trust that holds none": {func(c *s3.Config) { c.RootsPEM = []byte("x") }, bulkhead.KindUsage},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(g)
			c.change(&cfg)
			if _, err := s3.Open(t.Context(), cfg); bulkhead.KindOf(err) != c.kind {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
}

// TestHeaders: what a CDN in front of the bucket needs stands beside the object.
func TestHeaders(t *testing.T) {
	g := publishtest.StartGateway(t)
	var seen http.Header
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			seen = r.Header.Clone()
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer proxy.Close()
	c := config(g)
	c.Endpoint = strings.TrimPrefix(proxy.URL, "http://")
	b, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Put(t.Context(), publish.Object{Name: "crl/a/1", Type: "application/pkix-crl", CacheControl: "public, max-age=60", SurrogateKey: "crl-a", Body: strings.NewReader("x")})
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"Content-Type": "application/pkix-crl", "Cache-Control": "public, max-age=60", "X-Amz-Meta-Surrogate-Key": "crl-a", "If-None-Match": "*"} {
		if got := strings.Trim(seen.Get(k), `"`); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
}
