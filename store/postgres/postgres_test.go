package postgres_test

import (
	"context"
	"os"
	"testing"
	"time"

	"bulkhead/store/postgres"
	"bulkhead/store/storetest"
	"bulkhead/store/storetest/pgtest"
)

// start is the time of the tests' world.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func opener(dsn string) storetest.Open {
	return func(t testing.TB, hook storetest.Hook) storetest.Store {
		t.Helper()
		s, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn, CommitHook: hook})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
}

func TestMain(m *testing.M) {
	os.Exit(storetest.Main(m, func(ctx context.Context, dsn string) (storetest.Store, error) {
		return postgres.Open(ctx, postgres.Config{DSN: dsn})
	}))
}

func TestKill(t *testing.T) {
	dsn := pgtest.New(t)
	storetest.Kill(t, dsn, opener(dsn))
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Open { return opener(pgtest.New(t)) })
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(t testing.TB) storetest.Open { return opener(pgtest.NewDurable(t)) })
}
