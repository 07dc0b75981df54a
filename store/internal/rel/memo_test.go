package rel_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
)

// remembering is a store that has an account and remembers, and another connection to its file.
func remembering(t *testing.T) (s *sqlite.Store, other *sql.DB, hook *atomic.Pointer[func(string, func() error) error]) {
	t.Helper()
	hook = new(atomic.Pointer[func(string, func() error) error])
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, CommitHook: func(op string, commit func() error) error {
		if f := hook.Load(); f != nil {
			return (*f)(op, commit)
		}
		return commit()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if other, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	err = s.CreateAccount(t.Context(), bulkhead.Account{ID: "a", State: bulkhead.AccountValid, Thumbprint: "t", JWK: []byte("{}"), CreatedAt: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	return s, other, hook
}

// settle makes commits that touch nothing that is remembered: with them the end of the log is known.
func settle(t *testing.T, s *sqlite.Store) {
	t.Helper()
	for range 2 {
		if _, err := s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvOrderRefused, At: time.Unix(1, 0), Actor: "test"}); err != nil {
			t.Fatal(err)
		}
	}
}

// stopped is how many stops the standing of the account has, and by how many statements it was read.
func stopped(t *testing.T, s *sqlite.Store) (n int, statements int64) {
	t.Helper()
	before, _ := s.Statements()
	st, err := s.Standing(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	after, _ := s.Statements()
	return len(st.Stops), after - before
}

func stop(n int) bulkhead.Stop {
	return bulkhead.Stop{ID: fmt.Sprint(n), Kind: bulkhead.StopAll, Reason: "r", Actor: "x", At: time.Unix(1, 0)}
}

// TestRemembered: a standing is read once, again after each write that can have changed it, and after every commit of somebody else.
func TestRemembered(t *testing.T) {
	s, other, hook := remembering(t)
	expect := func(when string, stops int, statements int64) {
		t.Helper()
		if n, asked := stopped(t, s); n != stops || asked != statements {
			t.Errorf("%s: %d stops by %d statements, want %d by %d", when, n, asked, stops, statements)
		}
	}
	stopped(t, s)
	expect("the second time", 0, 0)
	settle(t, s)
	expect("after writes of other tables", 0, 0)
	if err := s.PutStop(t.Context(), stop(1)); err != nil {
		t.Fatal(err)
	}
	expect("after a stop", 1, 2)
	expect("after a stop, again", 1, 0)
	lose := func(string, func() error) error { return errors.New("lost") }
	hook.Store(&lose)
	if err := s.PutStop(t.Context(), stop(2)); err == nil {
		t.Fatal("nothing was lost")
	}
	hook.Store(nil)
	expect("after a stop that was lost", 1, 2)
	kept := func(_ string, commit func() error) error { return errors.Join(commit(), errors.New("reported lost")) }
	hook.Store(&kept)
	if err := s.PutStop(t.Context(), stop(3)); err == nil {
		t.Fatal("nothing was reported lost")
	}
	hook.Store(nil)
	expect("after a stop that was reported lost", 2, 2)
	if _, err := other.Exec(`INSERT INTO stops (id, kind, value, reason, actor, at, ended_at, ended_by, ending) VALUES ('9', 'all', '', 'r', 'x', 1, 0, '', '')`); err != nil {
		t.Fatal(err)
	}
	expect("after a stop by another process", 3, 2)
	expect("and until a write of ours", 3, 2)
	settle(t, s)
	expect("behind one", 3, 2)
	expect("behind one, again", 3, 0)
	st, err := s.Standing(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	st.Stops[0].Reason = "scribbled" // what a reader does to its copy is its own affair
	if again, err := s.Standing(t.Context(), "a"); err != nil || again.Stops[0].Reason != "r" {
		t.Errorf("%+v %v", again.Stops, err)
	}
	if rel.Remembering(s.Store) == 0 {
		t.Error("nothing is remembered")
	}
}

// TestRememberedBlocks: a key is known as blocked from the return of the block on, with few blocked keys and with many.
func TestRememberedBlocks(t *testing.T) {
	s, _, _ := remembering(t)
	key := func(n int) bulkhead.Hash { return bulkhead.Digest(fmt.Append(nil, n)) }
	look := func(n, want int) {
		t.Helper()
		list, err := s.BlockedKeys(t.Context(), key(n), key(n), key(-n))
		if err != nil || len(list) != want {
			t.Fatalf("key %d: %d blocked, want %d: %v", n, len(list), want, err)
		}
	}
	for n := range 1010 {
		if n%100 < 3 || n > 990 {
			look(n+1, 0)
		}
		if err := s.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: key(n + 1), BlockedAt: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		if n%100 < 3 || n > 990 {
			look(n+1, 1)
		}
	}
}

// TestRememberedNever: while stops come and go, by this store and by another process, and other writes share its transactions, nobody
// who asks sees less than was settled before he asked.
func TestRememberedNever(t *testing.T) {
	s, other, _ := remembering(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var settled atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				least := settled.Load()
				st, err := s.Standing(context.WithoutCancel(ctx), "a")
				if err != nil || int64(len(st.Stops)) < least {
					t.Errorf("%d stops after %d were settled: %v", len(st.Stops), least, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.AppendEvidence(context.WithoutCancel(ctx), bulkhead.Evidence{Kind: bulkhead.EvOrderRefused, At: time.Unix(1, 0), Actor: "test"}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range 60 {
		var err error
		if n%3 == 2 {
			_, err = other.Exec(`INSERT INTO stops (id, kind, value, reason, actor, at, ended_at, ended_by, ending) VALUES ($1, 'all', '', 'r', 'x', 1, 0, '', '')`, fmt.Sprint(n))
		} else {
			err = s.PutStop(t.Context(), stop(n))
		}
		if err != nil {
			t.Fatal(err)
		}
		settled.Add(1)
		time.Sleep(2 * time.Millisecond) // so that answers are remembered in between
	}
	cancel()
	wg.Wait()
	if s.Remembered() == 0 {
		t.Error("nothing was ever remembered")
	}
}

// TestWrites: which tables a statement writes is read in its text.
func TestWrites(t *testing.T) {
	for text, want := range map[string]string{
		"INSERT INTO stops (id) VALUES ($1) ON CONFLICT DO NOTHING":               "stops",
		"UPDATE accounts SET state = $1":                                          "accounts",
		"UPDATE OR IGNORE \"partners\" SET x = 1":                                 "partners",
		"DELETE FROM standbys WHERE 1":                                            "standbys",
		"WITH x AS (DELETE FROM blocked_keys RETURNING 1) SELECT 1":               "blocked_keys",
		"insert or replace into authorities values (1)":                           "authorities",
		"UPDATE authorizations SET a = 1 WHERE EXISTS (SELECT 1 FROM accounts c)": "authorizations",
		"INSERT INTO validations (id) VALUES ($1)":                                "authorizations",
		"DELETE FROM certificate_ders WHERE intent_seq IN ($1)":                   "certificate_ders",
		"UPDATE campaigns SET a = 1":                                              "",
		"SELECT 1 FROM stops":                                                     "",
	} {
		if got := rel.Writes(text); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// TestRememberedHead: the evidence head is read again after somebody else moved it, and after a commit of which nobody knows.
func TestRememberedHead(t *testing.T) {
	s, other, hook := remembering(t)
	add := func() (seq, statements int64) {
		t.Helper()
		_, before := s.Statements()
		seqs, err := s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvOrderRefused, At: time.Unix(1, 0), Actor: "test"})
		if err != nil {
			t.Fatal(err)
		}
		_, after := s.Statements()
		return seqs[0], after - before
	}
	expect := func(when string, seq, statements int64) {
		t.Helper()
		if got, asked := add(); got != seq || asked != statements {
			t.Errorf("%s: evidence %d by %d statements, want %d by %d", when, got, asked, seq, statements)
		}
	}
	last, _ := add()
	expect("as ever", last+1, 2)
	lose := func(string, func() error) error { return errors.New("lost") }
	hook.Store(&lose)
	if _, err := s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvOrderRefused, At: time.Unix(1, 0), Actor: "test"}); err == nil {
		t.Fatal("nothing was lost")
	}
	hook.Store(nil)
	expect("after one that was lost", last+2, 2)
	if _, err := other.Exec(`INSERT INTO evidence (seq, leaf, chain) SELECT seq + 1, x'00', chain FROM evidence_head;
		UPDATE evidence_head SET seq = seq + 1`); err != nil {
		t.Fatal(err)
	}
	if got, asked := add(); got != last+4 || asked != 3 {
		t.Errorf("behind somebody else: evidence %d by %d statements", got, asked)
	}
	expect("and then", last+5, 2)
}
