package sqlite

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// locked reports whether this process has locks on a file.
func locked(t *testing.T, path string) bool {
	t.Helper()
	var st syscall.Stat_t
	ok(t, syscall.Stat(path, &st))
	all, err := os.ReadFile("/proc/locks") // "1: POSIX  ADVISORY  READ 4711 fd:00:INODE 128 128"
	ok(t, err)
	for line := range strings.Lines(string(all)) {
		if f := strings.Fields(line); len(f) > 5 && f[4] == fmt.Sprint(os.Getpid()) && strings.HasSuffix(f[5], fmt.Sprintf(":%d", st.Ino)) {
			return true
		}
	}
	return false
}

// TestIndexKeepsLocks: another index of the same file takes no lock from SQLite when it is closed, and the descriptor is closed once
// the file is gone.
func TestIndexKeepsLocks(t *testing.T) {
	writer, c, path := aside(t)
	if !locked(t, path+"-shm") {
		t.Fatal("SQLite has no lock on the index: this test shows nothing")
	}
	had := len(indexFiles.all)
	for range 3 {
		again, err := openIndex(path)
		ok(t, err)
		if h, known := again.header(); !known || h.change() == 0 {
			t.Errorf("%v, %t", h, known)
		}
		ok(t, again.close())
		if _, known := again.header(); known {
			t.Error("a closed index has a header")
		}
	}
	if !locked(t, path+"-shm") {
		t.Error("SQLite lost its locks on the index")
	}
	if n := len(indexFiles.all); n != had {
		t.Errorf("%d files for one", n)
	}
	ok(t, c.close())
	ok(t, writer.Close())
	ok(t, c.index.close())
	for _, f := range indexFiles.all {
		if _, err := os.Stat(path + "-shm"); f.file.Name() == path+"-shm" || err == nil {
			t.Error("the file of the index is kept open, or still there")
		}
	}
}

// TestIndexCut: an index that somebody cuts is one that cannot be read, and nothing is quiet by it.
func TestIndexCut(t *testing.T) {
	path := t.TempDir() + "/x-shm"
	ok(t, os.WriteFile(path, make([]byte, 32768), 0o600))
	f, err := openIndexFile(path)
	ok(t, err)
	defer f.leave()
	x := &walIndex{file: f}
	if _, known := x.words(); !known {
		t.Fatal("the words cannot be read")
	}
	if _, known := x.header(); known {
		t.Error("a header of nothing")
	}
	ok(t, os.Truncate(path, 3))
	if _, known := x.header(); known || x.unmoved() != 0 {
		t.Error("there is still a header")
	}
	if _, err := openIndexFile(path); err == nil {
		f.leave() // the same file, which is mapped already
	}
	ok(t, os.WriteFile(path+"2", nil, 0o600))
	if _, err := openIndexFile(path + "2"); err == nil {
		t.Error("an empty index is opened")
	}
}
