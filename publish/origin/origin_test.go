package origin_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/publish"
	"bulkhead/publish/origin"
	"bulkhead/publish/publishtest"
)

// half writes to the directory and reads through the web server over it.
type half struct {
	publish.Store
	*origin.Origin
}

func (h half) Get(ctx context.Context, name string) ([]byte, error) { return h.Origin.Get(ctx, name) }
func (h half) Head(ctx context.Context) ([]byte, error)             { return h.Origin.Head(ctx) }
func (h half) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	return h.Origin.Open(ctx, name)
}

// TestConformance: what is published in a directory is read through an ordinary web server as from the directory.
func TestConformance(t *testing.T) {
	publishtest.Exercise(t, func(t *testing.T) (publish.Store, func() publish.Store) {
		root := filepath.Join(t.TempDir(), "objects")
		files := http.FileServer(http.Dir(root))
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			files.ServeHTTP(w, r)
		}))
		t.Cleanup(web.Close)
		open := func() publish.Store {
			d, err := publish.NewDir(root)
			if err != nil {
				t.Fatal(err)
			}
			o, err := origin.Open(web.URL)
			if err != nil {
				t.Fatal(err)
			}
			return half{d, o}
		}
		return open(), open
	})
}

// TestHostileOrigin: redirects, endless and broken answers are troubles and nothing else.
func TestHostileOrigin(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"no length": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "x"); w.(http.Flusher).Flush() },
		"short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "x")
		},
		"too long": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "99999999999") },
		"error":    func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(h)
			defer web.Close()
			o, err := origin.Open(web.URL + "/base/")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Get(t.Context(), "packs/1"); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
				t.Errorf("%v", err)
			}
		})
	}
	followed := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer elsewhere.Close()
	web := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer web.Close()
	o, err := origin.Open(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Get(t.Context(), "packs/1"); bulkhead.KindOf(err) != bulkhead.KindNotFound || followed {
		t.Errorf("a redirect: %v, followed: %t", err, followed)
	}
	for _, bad := range []string{"", "ftp://x", "http://", "http://u:p@x/", "http://x/?q", strings.Repeat(":", 3)} {
		if _, err := origin.Open(bad); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
