package agefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T) *Folder {
	t.Helper()
	f, err := Open(Config{Dir: t.TempDir(), Passphrase: []byte("passphrase"), WorkFactor: 10})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNamesStayInside(t *testing.T) {
	f := open(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/x", ".hidden"} {
		if err := f.Create(name, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("create %q: %v", name, err)
		}
		if _, err := f.Read(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("read %q: %v", name, err)
		}
		if err := f.Destroy(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("destroy %q: %v", name, err)
		}
	}
}

// TestDestroyOverwrites: what a second name of the same file shows afterwards is not the sealed key.
func TestDestroyOverwrites(t *testing.T) {
	f := open(t)
	if err := f.Create("x", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	path, second := filepath.Join(f.dir, "x"), filepath.Join(f.dir, "second")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, second); err != nil {
		t.Fatal(err)
	}
	if err := f.Destroy("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file is still there: %v", err)
	}
	after, err := os.ReadFile(second)
	if err != nil || len(after) != len(before) || string(after) == string(before) {
		t.Errorf("%d octets of %d, %v; unchanged: %v", len(after), len(before), err, string(after) == string(before))
	}
	if _, err := f.Read("second"); !errors.Is(err, ErrDamaged) {
		t.Errorf("read what is left: %v", err)
	}
}

// TestPlaceNeverReplaces, with links and without.
func TestPlaceNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path, temp := filepath.Join(dir, "taken"), filepath.Join(dir, "temp")
	for _, p := range []string{path, temp} {
		if err := os.WriteFile(p, []byte(p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := place(temp, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("name taken: %v", err)
	}
	// A folder cannot be linked: the rename takes over, and looks first.
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := place(folder, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("name taken, no links: %v", err)
	}
	if err := place(folder, filepath.Join(dir, "free")); err != nil {
		t.Errorf("name free, no links: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != path {
		t.Errorf("the file of that name was touched: %v", err)
	}
}

func TestWorkFactor(t *testing.T) {
	for _, n := range []int{1, 9, 23, 64, -1} {
		if _, err := Open(Config{Dir: t.TempDir(), Passphrase: []byte("x"), WorkFactor: n}); err == nil {
			t.Errorf("work factor %d is accepted", n)
		}
	}
}
