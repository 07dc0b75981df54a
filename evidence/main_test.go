package evidence_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// childVar makes the test binary a log process: its value is the house's directory.
const childVar = "EVIDENCE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVar); dir != "" {
		os.Exit(child(dir))
	}
	code := m.Run()
	if original.dir != "" {
		os.RemoveAll(filepath.Dir(original.dir))
	}
	os.Exit(code)
}

// original is one filled house, made once and copied by the tests that damage it.
var original struct {
	once sync.Once
	dir  string
}

// copyOf is a fresh copy of a house with 300 pairs of leaves.
func copyOf(t *testing.T) *house {
	t.Helper()
	original.once.Do(func() {
		h := filled(t, 300)
		if err := h.store.Close(); err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "evidence-test-")
		if err != nil {
			t.Fatal(err)
		}
		original.dir = filepath.Join(dir, "house")
		if err := os.CopyFS(original.dir, os.DirFS(h.dir)); err != nil {
			t.Fatal(err)
		}
	})
	dir := filepath.Join(t.TempDir(), "house")
	if err := os.CopyFS(dir, os.DirFS(original.dir)); err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"evidence.key", "store.db"} {
		if err := os.Chmod(filepath.Join(dir, private), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newHouse(t, dir)
}
