// Package publishtest holds the conformance suite that every publish.Store runs, and a Store that fails on demand for
// the failure tables of those who publish.
//
// Invariant: what the suite asks is what publish.Store promises, and nothing that only one adapter could give.
//
// Refuses: to be imported outside tests; it takes a *testing.T.
package publishtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/publish"
)

// Exercise runs the suite. open returns an empty store; reopen another handle on the same one, as a process started
// later would have.
func Exercise(t *testing.T, open func(t *testing.T) (store publish.Store, reopen func() publish.Store)) {
	for name, f := range map[string]func(*testing.T, publish.Store, func() publish.Store){
		"objects":     objects,
		"immutable":   immutable,
		"names":       names,
		"head":        head,
		"list":        list,
		"delete":      remove,
		"cancelled":   cancelled,
		"large":       large,
		"racing puts": racingPuts,
		"racing head": racingHead,
	} {
		t.Run(name, func(t *testing.T) {
			s, reopen := open(t)
			f(t, s, reopen)
		})
	}
}

func object(name, body string) publish.Object {
	return publish.Object{Name: name, Type: "application/octet-stream", CacheControl: "public, max-age=60", SurrogateKey: "k", Body: strings.NewReader(body)}
}

func put(t *testing.T, s publish.Store, name, body string) {
	t.Helper()
	if err := s.Put(t.Context(), object(name, body)); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func wantKind(t *testing.T, what string, err error, kind bulkhead.Kind) {
	t.Helper()
	if bulkhead.KindOf(err) != kind {
		t.Errorf("%s: %v, want kind %q", what, err, kind)
	}
}

func wantBody(t *testing.T, s publish.Reader, name, body string) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if err != nil || string(got) != body {
		t.Errorf("get %s: %q %v, want %q", name, got, err, body)
	}
	r, size, err := s.Open(t.Context(), name)
	if err != nil {
		t.Errorf("open %s: %v", name, err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != body || size != int64(len(body)) {
		t.Errorf("open %s: %q of size %d, %v", name, got, size, err)
	}
}

func objects(t *testing.T, s publish.Store, reopen func() publish.Store) {
	_, err := s.Get(t.Context(), "packs/a/1")
	wantKind(t, "get of nothing", err, bulkhead.KindNotFound)
	_, _, err = s.Open(t.Context(), "packs/a/1")
	wantKind(t, "open of nothing", err, bulkhead.KindNotFound)
	put(t, s, "packs/a/1", "one")
	put(t, s, "packs/a/2", "")
	put(t, s, "top", "level")
	for _, r := range []publish.Store{s, reopen()} {
		wantBody(t, r, "packs/a/1", "one")
		wantBody(t, r, "packs/a/2", "")
		wantBody(t, r, "top", "level")
		_, err := r.Get(t.Context(), "packs/a")
		wantKind(t, "get of a folder", err, bulkhead.KindNotFound)
		_, err = r.Get(t.Context(), "top/x")
		wantKind(t, "get through an object", err, bulkhead.KindNotFound)
	}
}

func immutable(t *testing.T, s publish.Store, reopen func() publish.Store) {
	put(t, s, "a/b", "first")
	put(t, s, "a/b", "first")
	put(t, reopen(), "a/b", "first")
	for _, other := range []string{"other", "", "firs", "first "} {
		wantKind(t, "put of other bytes", s.Put(t.Context(), object("a/b", other)), bulkhead.KindConflict)
	}
	wantBody(t, s, "a/b", "first")
	half := strings.NewReader("abc")
	if _, err := half.Seek(2, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), publish.Object{Name: "whole", Body: half}); err != nil {
		t.Fatal(err)
	}
	wantBody(t, s, "whole", "abc")
	if err := s.Put(t.Context(), publish.Object{Name: "none"}); err == nil {
		t.Error("an object without a body was stored")
	}
}

func names(t *testing.T, s publish.Store, _ func() publish.Store) {
	for _, bad := range []string{
		"", ".", "..", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".hidden", "a/.tmp", "A", "a b", "a\\b", "a\x00b", "é",
		"head", "-a", "a:b", "a%2fb", strings.Repeat("a", publish.MaxName+1),
	} {
		wantKind(t, fmt.Sprintf("put %q", bad), s.Put(t.Context(), object(bad, "x")), bulkhead.KindMalformed)
		_, err := s.Get(t.Context(), bad)
		wantKind(t, fmt.Sprintf("get %q", bad), err, bulkhead.KindMalformed)
		_, _, err = s.Open(t.Context(), bad)
		wantKind(t, fmt.Sprintf("open %q", bad), err, bulkhead.KindMalformed)
		wantKind(t, fmt.Sprintf("delete %q", bad), s.Delete(t.Context(), bad), bulkhead.KindMalformed)
	}
	if left, err := s.List(t.Context(), ""); err != nil || len(left) != 0 {
		t.Errorf("refused names left %v, %v", left, err)
	}
	for _, good := range []string{"solo", "0", "a.b_c-d/e..f", "heads", "a/head", strings.Repeat("b", publish.MaxName)} {
		put(t, s, good, good)
		wantBody(t, s, good, good)
	}
}

func head(t *testing.T, s publish.Store, reopen func() publish.Store) {
	_, err := s.Head(t.Context())
	wantKind(t, "head of nothing", err, bulkhead.KindNotFound)
	for _, h := range []string{"one", "a longer one", "2"} {
		if err := s.SetHead(t.Context(), []byte(h)); err != nil {
			t.Fatal(err)
		}
		for _, r := range []publish.Store{s, reopen()} {
			if got, err := r.Head(t.Context()); err != nil || string(got) != h {
				t.Errorf("head is %q %v, want %q", got, err, h)
			}
		}
	}
	if l, err := s.List(t.Context(), ""); err != nil || len(l) != 0 {
		t.Errorf("the head is listed: %v %v", l, err)
	}
}

func list(t *testing.T, s publish.Store, _ func() publish.Store) {
	if l, err := s.List(t.Context(), "nothing/"); err != nil || len(l) != 0 {
		t.Errorf("list of nothing: %v %v", l, err)
	}
	for _, n := range []string{"packs/b/1", "packs/a/10", "packs/a/9", "crl/a", "packs-old"} {
		put(t, s, n, n)
	}
	for prefix, want := range map[string]string{
		"":          "[crl/a packs-old packs/a/10 packs/a/9 packs/b/1]",
		"packs/":    "[packs/a/10 packs/a/9 packs/b/1]",
		"packs":     "[packs-old packs/a/10 packs/a/9 packs/b/1]",
		"packs/a/9": "[packs/a/9]",
		"x":         "[]",
	} {
		infos, err := s.List(t.Context(), prefix)
		got := []string{}
		for _, i := range infos {
			got = append(got, i.Name)
			if i.Size != int64(len(i.Name)) || i.At.IsZero() {
				t.Errorf("list says %+v", i)
			}
		}
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("list %q: %v %v, want %s", prefix, got, err, want)
		}
	}
}

func remove(t *testing.T, s publish.Store, reopen func() publish.Store) {
	put(t, s, "a/1", "x")
	put(t, s, "a/2", "y")
	r, _, err := s.Open(t.Context(), "a/1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if err := s.Delete(t.Context(), "a/1"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "x" {
		t.Errorf("an open object ended with its deletion: %q %v", got, err)
	}
	_, err = reopen().Get(t.Context(), "a/1")
	wantKind(t, "get after delete", err, bulkhead.KindNotFound)
	wantBody(t, s, "a/2", "y")
	if err := s.Delete(t.Context(), "a/2/z"); err != nil {
		t.Errorf("delete of what cannot exist: %v", err)
	}
}

func cancelled(t *testing.T, s publish.Store, _ func() publish.Store) {
	put(t, s, "a", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, "put", s.Put(ctx, object("b", "x")), bulkhead.KindUnavailable)
	wantKind(t, "set head", s.SetHead(ctx, []byte("x")), bulkhead.KindUnavailable)
	wantKind(t, "delete", s.Delete(ctx, "a"), bulkhead.KindUnavailable)
	_, err := s.Get(ctx, "a")
	wantKind(t, "get", err, bulkhead.KindUnavailable)
	_, err = s.Head(ctx)
	wantKind(t, "head", err, bulkhead.KindUnavailable)
	_, err = s.List(ctx, "")
	wantKind(t, "list", err, bulkhead.KindUnavailable)
	if l, err := s.List(t.Context(), ""); err != nil || len(l) != 1 {
		t.Errorf("cancelled calls left %v, %v", l, err)
	}
}

func large(t *testing.T, s publish.Store, _ func() publish.Store) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	for range 2 {
		if err := s.Put(t.Context(), publish.Object{Name: "large", Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	body[len(body)-1]++
	wantKind(t, "put of other bytes", s.Put(t.Context(), publish.Object{Name: "large", Body: bytes.NewReader(body)}), bulkhead.KindConflict)
}

// racingPuts: of many writers with different bytes one wins, and the name never means anything else.
func racingPuts(t *testing.T, s publish.Store, reopen func() publish.Store) {
	const n = 8
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = reopen().Put(t.Context(), object("deep/er/name", fmt.Sprint("writer ", i))) })
	}
	wg.Wait()
	got, err := s.Get(t.Context(), "deep/er/name")
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if won := string(got) == fmt.Sprint("writer ", i); won != (err == nil) || !won && bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("writer %d got %v; the object says %q", i, err, got)
		}
	}
}

// racingHead: readers see one head or another, whole.
func racingHead(t *testing.T, s publish.Store, _ func() publish.Store) {
	heads := []string{strings.Repeat("a", 9000), strings.Repeat("b", 100)}
	if err := s.SetHead(t.Context(), []byte(heads[0])); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 40 {
			if err := s.SetHead(t.Context(), []byte(heads[i%2])); err != nil {
				t.Error(err)
			}
		}
	})
	for range 400 {
		if got, err := s.Head(t.Context()); err != nil || string(got) != heads[0] && string(got) != heads[1] {
			t.Fatalf("half a head: %d octets, %v", len(got), err)
		}
	}
	wg.Wait()
}
