package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"
)

// sent counts what goes to the server.
type sent struct {
	mu              sync.Mutex
	trips, queries  int
	batched, single []string
}

func (s *sent) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips, s.queries, s.single = s.trips+1, s.queries+1, append(s.single, d.SQL)
	return ctx
}
func (s *sent) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *sent) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips++
	s.queries += d.Batch.Len()
	for _, q := range d.Batch.QueuedQueries {
		s.batched = append(s.batched, q.SQL)
	}
	return ctx
}
func (s *sent) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *sent) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// openLooks are looks that are counted, and a connection beside them.
func openLooks(t *testing.T, dsn string) (*sql.DB, *sql.DB, *postgres.Looks, *sent) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	count := &sent{}
	cfg.Tracer = count
	l := postgres.NewLooks(*cfg)
	db, beside := sql.OpenDB(l), database(t, dsn)
	t.Cleanup(func() { _ = db.Close() })
	return db, beside, l, count
}

// held runs asks while both connections wait for a lock, so that all of them wait together, then lets go.
func held(t *testing.T, db, beside *sql.DB, l *postgres.Looks, asks []func() error) []error {
	t.Helper()
	hold, err := beside.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if _, err := hold.ExecContext(t.Context(), `SELECT pg_advisory_lock(7)`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range postgres.Lookers { // not alike, or one of them would answer both
		wg.Go(func() {
			var n int64
			if err := db.QueryRowContext(t.Context(), `SELECT count(*) + $1::bigint FROM (SELECT pg_advisory_xact_lock_shared(7)) x`, int64(i)).Scan(&n); err != nil {
				t.Error(err)
			}
		})
	}
	until(t, "both connections wait", func() bool {
		var n int
		err := beside.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`).Scan(&n)
		return err == nil && n == postgres.Lookers
	})
	errs := make([]error, len(asks))
	for i, ask := range asks {
		wg.Go(func() { errs[i] = ask() })
	}
	until(t, "all wait", func() bool { return postgres.Waiting(l) == int64(len(asks)) })
	if _, err := hold.ExecContext(t.Context(), `SELECT pg_advisory_unlock(7)`); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return errs
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen within 20 s: %s", what)
		}
	}
}

// TestLooksShare: who waits together is answered together, and what several ask is asked once; everybody gets the answer to
// the own question, and one that the server refuses fails alone.
func TestLooksShare(t *testing.T) {
	db, beside, l, count := openLooks(t, pgtest.New(t))
	var asks []func() error
	for i := range 24 {
		asks = append(asks, func() error {
			want, got := int64(i%4), int64(0)
			if err := db.QueryRowContext(t.Context(), `SELECT $1::bigint`, want).Scan(&got); err != nil || got != want {
				return fmt.Errorf("asked for %d, got %d: %w", want, got, err)
			}
			return nil
		})
	}
	if errs := errors.Join(held(t, db, beside, l, asks)...); errs != nil {
		t.Fatal(errs)
	}
	count.mu.Lock()
	queries := 0
	for _, q := range append(count.batched, count.single...) {
		if strings.HasPrefix(q, "SELECT $1::bigint") {
			queries++
		}
	}
	count.mu.Unlock()
	if queries > 4*postgres.Lookers {
		t.Errorf("%d queries for 24 callers with 4 questions on %d connections", queries, postgres.Lookers)
	}

	asks[5] = func() error { // the server can divide by nothing but zero
		var n int64
		return db.QueryRowContext(t.Context(), `SELECT 1 / $1::bigint`, int64(0)).Scan(&n)
	}
	errs := held(t, db, beside, l, asks)
	var said *pgconn.PgError
	if !errors.As(errs[5], &said) || said.Code != "22012" {
		t.Errorf("the wrong question got %v", errs[5])
	}
	errs[5] = nil
	if err := errors.Join(errs...); err != nil {
		t.Errorf("others paid for it: %v", err)
	}
}

// TestLooksGiveUp: a caller that gives up while it waits is gone at once, and the rest are served.
func TestLooksGiveUp(t *testing.T) {
	db, beside, l, _ := openLooks(t, pgtest.New(t))
	ctx, cancel := context.WithCancel(t.Context())
	asks := []func() error{func() error {
		time.AfterFunc(10*time.Millisecond, cancel)
		return db.QueryRowContext(ctx, `SELECT 1::bigint`).Scan(new(int64))
	}, func() error { return db.QueryRowContext(t.Context(), `SELECT 2::bigint`).Scan(new(int64)) }}
	errs := held(t, db, beside, l, asks)
	if errs[1] != nil || errs[0] != nil && !errors.Is(errs[0], context.Canceled) {
		t.Errorf("got %v", errs)
	}
}

// TestLooksRefuse: nothing is changed and no transaction begun through them; values of the record come through as they are.
func TestLooksRefuse(t *testing.T) {
	db, _, _, _ := openLooks(t, pgtest.New(t))
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE x (n bigint)`); !errors.Is(err, postgres.ErrLooksOnly) {
		t.Errorf("a statement got %v", err)
	}
	if _, err := db.BeginTx(t.Context(), nil); !errors.Is(err, postgres.ErrLooksOnly) {
		t.Errorf("a transaction got %v", err)
	}
	if _, err := db.QueryContext(t.Context(), `WITH x AS (INSERT INTO stops DEFAULT VALUES RETURNING 1) SELECT 1::bigint`); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a write in a query got %v", err)
	}
	var n int64
	var word string
	var blob []byte
	var yes bool
	err := db.QueryRowContext(t.Context(), `SELECT 7::bigint, 'wort'::text, '\x00ff'::bytea, true FROM unnest($1::text[]) AS x (w) WHERE x.w = 'b'`, []string{"a", "b"}).Scan(&n, &word, &blob, &yes)
	if err != nil || n != 7 || word != "wort" || string(blob) != "\x00\xff" || !yes {
		t.Errorf("got %d %q %x %v: %v", n, word, blob, yes, err)
	}
	if err := db.QueryRowContext(t.Context(), `SELECT now()`).Scan(&word); err == nil {
		t.Error("a value that the record does not have came through")
	}
	if err := db.QueryRowContext(t.Context(), `SELECT 1::bigint WHERE false`).Scan(&n); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("no row got %v", err)
	}
}
