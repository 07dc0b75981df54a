package spool

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestSpool: whatever goes in comes out at any offset, in memory, in a file that has no name, and where no file can be made.
func TestSpool(t *testing.T) {
	for name, c := range map[string]struct {
		limit  int
		folder string
		file   bool
	}{"memory": {1000, t.TempDir(), false}, "file": {10, t.TempDir(), true}, "a folder of its own": {10, t.TempDir(), true}, "no folder": {10, filepath.Join(t.TempDir(), "none"), false}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", c.folder)
			s := Spool{Limit: c.limit}
			if name == "a folder of its own" {
				s.Dir = c.folder
				t.Setenv("TMPDIR", filepath.Join(c.folder, "none"))
			}
			var want []byte
			for i := range 40 {
				p := bytes.Repeat([]byte{byte(i)}, i%7)
				if n, err := s.Write(p); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
				want = append(want, p...)
			}
			if s.Size() != int64(len(want)) || (s.file != nil) != c.file {
				t.Errorf("%d octets of %d, file %v", s.Size(), len(want), s.file)
			}
			if left, err := os.ReadDir(c.folder); err == nil && len(left) > 0 {
				t.Errorf("%s has a name", left[0].Name())
			}
			got, err := io.ReadAll(io.NewSectionReader(&s, 0, s.Size()))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, want %x: %v", got, want, err)
			}
			p := make([]byte, 9)
			if n, err := s.ReadAt(p, 50); n != 9 || err != nil || !bytes.Equal(p, want[50:59]) {
				t.Error(n, err)
			}
			if n, err := s.ReadAt(p, s.Size()-4); n != 4 || err != io.EOF {
				t.Error(n, err)
			}
			if _, err := s.ReadAt(p, s.Size()); err != io.EOF {
				t.Error(err)
			}
			if err := s.Close(); err != nil || s.Size() != 0 {
				t.Error(err)
			}
		})
	}
}
