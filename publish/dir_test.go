package publish_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/publish"
	"bulkhead/publish/publishtest"
)

func openDir(t *testing.T, root string) *publish.Dir {
	t.Helper()
	d, err := publish.NewDir(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirConformance(t *testing.T) {
	publishtest.Exercise(t, func(t *testing.T) (publish.Store, func() publish.Store) {
		root := filepath.Join(t.TempDir(), "objects")
		return openDir(t, root), func() publish.Store { return openDir(t, root) }
	})
}

// TestDraft: an object that was written where it lies is one like any other, and is not written any more; a draft that nobody
// published leaves nothing.
func TestDraft(t *testing.T) {
	root := t.TempDir()
	d, other := openDir(t, root), openDir(t, t.TempDir())
	draft := func(text string) publish.Draft {
		t.Helper()
		x, err := publishtest.NewFaulty(d).Draft(t.Context())
		if err == nil {
			_, err = x.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	put := func(to publish.Store, name string, x publish.Draft) error {
		return to.Put(t.Context(), publish.Object{Name: name, Body: x})
	}
	x := draft("first")
	if err := errors.Join(put(d, "a/x", x), put(d, "a/x", x), put(other, "a/x", x)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write([]byte("more")); err == nil {
		t.Error("a published object was written")
	}
	twin, differs := draft("first"), draft("second")
	if err := put(d, "a/x", twin); err != nil {
		t.Error(err)
	}
	if err := put(d, "a/x", differs); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("other bytes under a taken name: %v", err)
	}
	dead := filepath.Join(root, ".tmp", "draft-of-a-process-that-died")
	if err := os.WriteFile(dead, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	alive := draft("written while another process starts")
	openDir(t, root)
	if err := put(d, "a/z", alive); err != nil {
		t.Errorf("a draft that somebody was writing is gone: %v", err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a draft that nobody writes is still there: %v", err)
	}
	for _, x := range []publish.Draft{x, twin, differs, alive, draft("nobody wants it")} {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []*publish.Dir{d, other} {
		if body, err := d.Get(t.Context(), "a/x"); err != nil || string(body) != "first" {
			t.Errorf("%q, %v", body, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(root, ".tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d temporary files are left, %v", len(left), err)
	}
	path, _ := d.LocalPath("a/x")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestFaultyConformance: without a plan the wrapper is the store it wraps.
func TestFaultyConformance(t *testing.T) {
	publishtest.Exercise(t, func(t *testing.T) (publish.Store, func() publish.Store) {
		root := t.TempDir()
		wrap := func() publish.Store { return publishtest.NewFaulty(openDir(t, root)) }
		return wrap(), wrap
	})
}

func TestFaultyFailsAsPlanned(t *testing.T) {
	f := publishtest.NewFaulty(openDir(t, t.TempDir()))
	f.Plan(func(op, name string) publishtest.Fault {
		switch name {
		case "lost":
			return publishtest.Lost
		case "head":
			return publishtest.PersistedButReportedLost
		default:
			return publishtest.None
		}
	})
	put := func(name string) error {
		return f.Put(t.Context(), publish.Object{Name: name, Body: strings.NewReader("x")})
	}
	if err := put("lost"); !errors.Is(err, publishtest.ErrInjected) {
		t.Error(err)
	}
	if _, err := f.Get(t.Context(), "lost"); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("a lost object is there: %v", err)
	}
	if err := f.SetHead(t.Context(), []byte("h")); !errors.Is(err, publishtest.ErrInjected) {
		t.Error(err)
	}
	if h, err := f.Head(t.Context()); err != nil || string(h) != "h" {
		t.Errorf("a persisted head is not there: %q %v", h, err)
	}
	if err := put("kept"); err != nil {
		t.Error(err)
	}
}

func TestDirFiles(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	if err := d.Put(t.Context(), publish.Object{Name: "a/b", Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	if err := d.SetHead(t.Context(), []byte("h")); err != nil {
		t.Fatal(err)
	}
	path, err := d.LocalPath("a/b")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Join(root, "head")} {
		info, err := os.Stat(p)
		if err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v %v, want mode 0644", p, info, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(root, ".tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary files stay: %v %v", left, err)
	}
	if err := d.Put(t.Context(), publish.Object{Name: "a/b/c", Body: strings.NewReader("x")}); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a name through another object: %v", err)
	}
	if err := d.Put(t.Context(), publish.Object{Name: "a", Body: strings.NewReader("x")}); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a name that is a folder: %v", err)
	}
}

// TestDirClearsRemains: what a killed writer left is cleared once it is old, and nothing that may be in use is.
func TestDirClearsRemains(t *testing.T) {
	root := t.TempDir()
	openDir(t, root)
	old, fresh := filepath.Join(root, ".tmp", "old"), filepath.Join(root, ".tmp", "fresh")
	for _, p := range []string{old, fresh} {
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	openDir(t, root)
	if _, err := os.Stat(old); err == nil {
		t.Error("old remains stay")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("a file in use was cleared")
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a/b", "../a", "head", "a//b", ".tmp/x", "a/..", "packs/issuing-p256/1.pack"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if publish.CheckName(name) != nil {
			return
		}
		if !filepath.IsLocal(name) || filepath.ToSlash(filepath.Clean(name)) != name || strings.HasPrefix(name, ".") {
			t.Fatalf("%q leaves the store or means two things", name)
		}
	})
}
