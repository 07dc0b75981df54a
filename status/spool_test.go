package status

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/publish"
)

// TestSpool: a large object is written once, where it will lie, or elsewhere where the store takes none in the making; it is
// published as it was written, and nothing is left beside it.
func TestSpool(t *testing.T) {
	root := t.TempDir()
	dir, err := publish.NewDir(root)
	if err != nil {
		t.Fatal(err)
	}
	plain := struct{ publish.Store }{dir}
	part := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for name, objects := range map[string]publish.Store{"x/draft": dir, "x/copy": plain} {
		s := &spool{ctx: t.Context(), objects: objects}
		var want bytes.Buffer
		for want.Len() <= spooled+len(part) {
			want.Write(part)
			if _, err := s.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		left, err := os.ReadDir(filepath.Join(root, ".tmp"))
		if err != nil || len(left) == 1 != (name == "x/draft") {
			t.Errorf("%s: %d files in the making, %v", name, len(left), err)
		}
		if err := objects.Put(t.Context(), publish.Object{Name: name, Body: s.body()}); err != nil {
			t.Fatal(err)
		}
		s.close()
		if got, err := dir.Get(t.Context(), name); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: %d octets of %d, %v", name, len(got), want.Len(), err)
		}
		if left, err := os.ReadDir(filepath.Join(root, ".tmp")); err != nil || len(left) > 0 {
			t.Errorf("%s: %d files are left, %v", name, len(left), err)
		}
	}
}
