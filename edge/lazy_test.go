package edge

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// base publishes a pack of n good answers, from serial 1 on.
func (w *world) base(a *authority, n int64) pack.ObjectRef {
	var list []answer
	for i := range n {
		list = append(list, w.good(i+1))
	}
	w.add(a, list...)
	w.publish()
	return w.issuer(a).Packs[0]
}

// flip turns one bit of a file over, and leaves nothing else of it changed but its times.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f := must(os.OpenFile(path, os.O_RDWR, 0))(t)
	defer f.Close()
	var b [1]byte
	_ = must(f.ReadAt(b[:], at))(t)
	b[0] ^= 1
	_ = must(f.WriteAt(b[:], at))(t)
}

func serialState(t *testing.T, w *world, e *Edge, a *authority, n int64) string {
	t.Helper()
	return a.stateOf(t, e.askFor(t, a.request(t, ocsp.SHA1, n)), n, w.clock())
}

// verified is how many pages of an edge's packs were held against their digests, of how many.
func verified(e *Edge) (good, all int) {
	for _, i := range e.current.Load().list {
		for _, p := range i.packs {
			good, all = good+p.Verified(), all+p.Pages()
		}
	}
	return good, all
}

// TestStartReadsTails: the first life as every other serves packs of which it read the tail, and a few pages: nothing is read
// that grows with the answers but two octets for each. What is asked for is verified first, the rest in the background.
func TestStartReadsTails(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.base(a, 3000)
	e := w.refreshed()
	before, all := verified(e)
	if all < 50 || before > 3 {
		t.Errorf("a start verifies %d of %d pages", before, all)
	}
	if got := serialState(t, w, e, a, 1500); got != "good" {
		t.Errorf("serial 1500 is %s", got)
	}
	if after, _ := verified(e); after == before || after > before+3 {
		t.Errorf("one answer verifies %d pages", after-before)
	}
	e.verifyPages(t.Context(), e.current.Load())
	if after, _ := verified(e); after != all {
		t.Errorf("in the background %d of %d pages were verified", after, all)
	}
	if h, code := ready(t, e); code != 200 || len(h.Problems) != 0 {
		t.Errorf("without a fault: %d %v", code, h.Problems)
	}
}

// TestDamagedPage: a bit that turned over on the disk before the start is found before anything of its page is served, by who asks or in the
// background; the older pack below is not asked in its place, other pages go on being served, readyz says it, and once the file is
// mended all is served again. Damage of the tail, or of what is taken up later, keeps the head from being accepted.
func TestDamagedPage(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.base(a, 1600)
	var list []answer
	for n := range int64(3000) {
		list = append(list, w.revoked(n+1))
	}
	w.add(a, list...)
	w.publish()
	ref := w.issuer(a).Packs[0]
	path := must(w.dir.LocalPath(ref.Name))(t)
	whole := must(os.ReadFile(path))(t)
	p := must(pack.Open(whole))(t)
	key := serialOf(1500).Fixed()
	var f pack.Found
	if ok, err := p.Find(&key, &f); !ok || err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(whole, f.TBS))
	flip(t, path, at+10)

	e := w.refreshed()
	if got := serialState(t, w, e, a, 1500); got != "tryLater" {
		t.Errorf("the answer in the damaged page is %s, the older pack says good", got)
	}
	if got := serialState(t, w, e, a, 2900); got != "revoked" {
		t.Errorf("an answer in a sound page is %s", got)
	}
	named := func(e *Edge) bool {
		h, code := ready(t, e)
		return code == 200 && len(h.Problems) == 1 && strings.HasPrefix(h.Problems[0], "damaged: object "+ref.Name)
	}
	if !named(e) {
		t.Error("readyz does not name the damaged object")
	}
	unasked := w.refreshed()
	unasked.verifyPages(t.Context(), unasked.current.Load())
	if !named(unasked) {
		t.Error("the background does not find the damaged page")
	}
	if err := unasked.Refresh(t.Context()); err != nil || !named(unasked) {
		t.Errorf("a look at the same head forgets the damage: %v", err)
	}

	mended := path + ".new"
	if err := os.WriteFile(mended, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(mended, path); err != nil {
		t.Fatal(err)
	}
	w.advance(retryMend)
	if err := e.Refresh(t.Context()); err != nil || serialState(t, w, e, a, 1500) != "revoked" {
		t.Errorf("the mended file is not taken up: %v", err)
	}
	if h, _ := ready(t, e); len(h.Problems) != 0 {
		t.Errorf("problems stay: %v", h.Problems)
	}

	flip(t, path, ref.Size-200)
	if err := w.edge().Refresh(t.Context()); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a damaged tail is accepted: %v", err)
	}
}

// TestDamagedCopy: what was damaged in the cache of an edge away from its source is fetched again by itself, while it serves.
func TestDamagedCopy(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	ref := w.base(a, 3000)
	src, cache := w.remote(), t.TempDir()
	use := func(c *Config) { c.Source, c.CacheDir, c.Poll, c.Now = src, cache, 5*time.Millisecond, time.Now }
	w.refreshed(use)
	flip(t, filepath.Join(cache, "objects", ref.Digest.String()), ref.Size/2)
	fetched := src.opened.Load()
	e := w.edge(use)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for ctx.Err() == nil && src.opened.Load() == fetched {
		time.Sleep(time.Millisecond)
	}
	for ctx.Err() == nil && len(e.Health().Problems) > 0 {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Fatalf("the copy is not fetched again: %v", e.Health().Problems)
	}
	for n := int64(1); n < 3000; n += 100 {
		if got := serialState(t, w, e, a, n); got != "good" {
			t.Errorf("serial %d is %s", n, got)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOldPack: a pack of version 1, as older heads name it, is verified whole before anything of it is served.
func TestOldPack(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	b := must(os.ReadFile("../pki/pack/testdata/v1.pack"))(t)
	for damaged, want := range map[bool]bulkhead.Kind{false: "", true: bulkhead.KindConflict} {
		ref := pack.ObjectRef{Name: map[bool]string{false: "packs/a/old", true: "packs/a/bad"}[damaged], Digest: bulkhead.Digest(b), Size: int64(len(b))}
		if damaged {
			b[len(b)/2] ^= 1
		}
		if err := w.dir.Put(t.Context(), publish.Object{Name: ref.Name, Body: bytes.NewReader(b)}); err != nil {
			t.Fatal(err)
		}
		o, err := w.edge().fetch(t.Context(), ref, !ref.Tail.IsZero())
		if err == nil {
			err = o.asPack(ref)
		}
		if (err != nil) != damaged || err != nil && bulkhead.KindOf(err) != want {
			t.Errorf("damaged %v: %v", damaged, err)
		}
	}
	_ = a
}
