package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"bulkhead/store/sqlite"
)

// TestSnapshotFromHere: a copy is made where it is asked for, also when database and copy are named from the folder that the
// program was started in, as `bulkhead backup` without --data does.
func TestSnapshotFromHere(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join("data", "b.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, to := range []string{filepath.Join("data", "here.db"), filepath.Join(dir, "there.db")} {
		schema, err := sqlite.Snapshot(t.Context(), filepath.Join("data", "b.db"), to)
		if err != nil || schema == 0 {
			t.Errorf("%s: %d, %v", to, schema, err)
		}
		if i, err := os.Stat(to); err != nil || i.Size() == 0 || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", to, err)
		}
	}
}
