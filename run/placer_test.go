package run

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"bulkhead"
)

// TestPlacer: files of every size arrive as they were, with their modes; a name that is taken and a body that fails are told.
func TestPlacer(t *testing.T) {
	dir, p := t.TempDir(), newPlacer()
	sizes := []int{0, 1, placerChunk - 1, placerChunk, placerChunk + 1, 10*placerChunk + 7, 3}
	path := func(i int) string { return filepath.Join(dir, "a", string(rune('a'+i)), "file") }
	for i, n := range sizes {
		if err := p.place(path(i), 0o640, iotest.OneByteReader(bytes.NewReader(bytes.Repeat([]byte{byte(i)}, n)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		body, err := os.ReadFile(path(i))
		info, _ := os.Stat(path(i))
		if err != nil || !bytes.Equal(body, bytes.Repeat([]byte{byte(i)}, n)) || info.Mode() != 0o640 {
			t.Errorf("%d octets: %d %v %v", n, len(body), info.Mode(), err)
		}
	}
	p = newPlacer()
	if err := p.place(path(0), 0o600, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("a name that is taken: %v", err)
	}
	p, cut := newPlacer(), errors.New("cut off")
	if err := p.place(filepath.Join(dir, "cut"), 0o600, io.MultiReader(bytes.NewReader(make([]byte, 2*placerChunk)), iotest.ErrReader(cut))); !errors.Is(err, cut) {
		t.Errorf("a body that fails: %v", err)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
