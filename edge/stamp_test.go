package edge

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// answers reports whether an edge has an answer for serial 9.
func answers(t *testing.T, e *Edge, a *authority) bool {
	t.Helper()
	rec := httptest.NewRecorder()
	e.serve(rec, httptest.NewRequest("GET", getPath(a.request(t, ocsp.SHA1, 9)), nil))
	r, err := ocsp.ParseResponse(rec.Body.Bytes())
	return err == nil && len(r.Singles) > 0
}

func early(e *Edge) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.current.Load().objects {
		if o.early {
			n++
		}
	}
	return n
}

// TestRestartReadsIndexes: the second life serves packs that the first one verified, and verifies them again while it
// serves; a file that was touched between the lives is verified before, and one that only seems untouched is found and
// taken out of service.
func TestRestartReadsIndexes(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	var list []answer
	for n := range int64(5000) {
		list = append(list, w.good(n+1))
	}
	w.add(a, list...)
	w.publish()
	cache := t.TempDir()
	use := func(c *Config) { c.CacheDir, c.Poll = cache, 10*time.Millisecond }
	if e := w.refreshed(use); early(e) != 0 || !answers(t, e, a) {
		t.Fatal("the first life trusts what nobody verified, or has no answer")
	}
	ref := w.issuer(a).Packs[0]
	path, err := w.dir.LocalPath(ref.Name)
	if err != nil {
		t.Fatal(err)
	}
	stamp := filepath.Join(stamps(cache), ref.Digest.String())

	e := w.refreshed(use)
	if early(e) != 1 || !answers(t, e, a) {
		t.Fatalf("%d packs are served on the first life's word", early(e))
	}
	e.verifyEarly(t.Context())
	if early(e) != 0 || !answers(t, e, a) {
		t.Error("what was verified again is not served as such")
	}

	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
	touched := w.edge(use)
	if err := touched.Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict || touched.Sequence() != 0 {
		t.Errorf("a file that was touched is served: %v", err)
	}

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	forged, err := stampOf(f)
	if err == nil {
		err = os.WriteFile(stamp, []byte(forged), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	fooled := w.edge(use)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- fooled.Run(ctx) }()
	served := false
	for ctx.Err() == nil {
		if fooled.Sequence() != 0 {
			served = true
		} else if fooled.problem.Load() != nil {
			break // found, and not taken up again
		}
		time.Sleep(time.Millisecond)
	}
	if h, code := ready(t, fooled); ctx.Err() != nil || code == 200 {
		t.Errorf("a damaged pack under a forged stamp is still served (%v); readyz says %d %+v", served, code, h)
	}
	if _, err := os.Stat(stamp); err == nil {
		t.Error("the stamp of a damaged file is still there")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
