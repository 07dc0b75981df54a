package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/store/sqlite"
	"bulkhead/store/storetest"
)

// start is the time of the tests' world.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fresh names a file that does not exist yet, with characters that a URI must escape.
func fresh(t testing.TB) storetest.Open {
	return opener(filepath.Join(t.TempDir(), "a 100%20? #1.db"))
}

func opener(path string) storetest.Open {
	return func(t testing.TB, hook storetest.Hook) storetest.Store {
		t.Helper()
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, CommitHook: hook})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
}

func TestMain(m *testing.M) {
	os.Exit(storetest.Main(m, func(ctx context.Context, path string) (storetest.Store, error) {
		return sqlite.Open(ctx, sqlite.Config{Path: path})
	}))
}

func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	storetest.Kill(t, path, opener(path))
}

func TestStore(t *testing.T) { storetest.Run(t, fresh) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, fresh) }
