package rel_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
)

// gang holds the first transaction at its commit until writers wait behind it, so that they share the next one.
type gang struct {
	t     *testing.T
	store *sqlite.Store
	first sync.Once
	held  chan struct{} // closed when the first is at its commit
	let   chan struct{} // close it to let the first commit
	mu    sync.Mutex
	fates map[string]error // by operation, once the first has committed: reported
	lose  bool             // and not committed either
}

var errLost = errors.New("the line went dead")

func newGang(t *testing.T) *gang {
	t.Helper()
	g := &gang{t: t, held: make(chan struct{}), let: make(chan struct{}), fates: map[string]error{}}
	var err error
	g.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db"), CommitHook: g.hook})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.store.Close() })
	return g
}

func (g *gang) hook(op string, commit func() error) error {
	g.first.Do(func() {
		close(g.held)
		<-g.let
	})
	g.mu.Lock()
	fate, lose := g.fates[op], g.lose
	g.mu.Unlock()
	if lose && fate != nil {
		return fate
	}
	return errors.Join(commit(), fate)
}

// run starts the writes, in this order, behind a first one, and returns what each of them returned. while is called when
// all of them wait.
func (g *gang) run(writes []func() error, while func()) []error {
	g.t.Helper()
	errs := make([]error, len(writes))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := g.store.AppendEvidence(context.Background(), leaf("first")); err != nil {
			g.t.Error(err)
		}
	})
	<-g.held
	for i, w := range writes {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			errs[i] = w()
		})
		for end := time.Now().Add(time.Minute); rel.Waiting(g.store.Store) != i+1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				g.t.Fatal("a write does not wait")
			}
		}
	}
	if while != nil {
		while()
	}
	close(g.let)
	wg.Wait()
	return errs
}

func leaf(detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvStart, At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Actor: "role:test", Detail: detail}
}

func (g *gang) leave(detail string) func() error {
	return func() error {
		_, err := g.store.AppendEvidence(context.Background(), leaf(detail))
		return err
	}
}

func (g *gang) account(id string) func() error {
	return func() error {
		return g.store.CreateAccount(context.Background(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id}, leaf("account "+id))
	}
}

// explode panics inside its transaction, after it has written.
func (g *gang) explode() error {
	_, err := g.store.Prune(context.Background(), bulkhead.Prune{Before: time.Unix(1<<40, 0), CRLFrom: time.Unix(1<<40, 0)}, 10,
		func(bulkhead.Pruned) bulkhead.Evidence { panic("no leaf") })
	return err
}

// details are the leaves of the record, whose chain it checks.
func (g *gang) details() []string {
	g.t.Helper()
	rows, err := g.store.EvidenceAfter(context.Background(), 0, 1000)
	if err != nil {
		g.t.Fatal(err)
	}
	var out []string
	var chain bulkhead.Hash
	for i, r := range rows {
		if chain = tlog.Chain(chain, r.Leaf); r.Seq != int64(i+1) || r.Chain != chain {
			g.t.Fatalf("the record is broken at %d", i+1)
		}
		e, err := tlog.Parse(r.Leaf)
		if err != nil {
			g.t.Fatal(err)
		}
		out = append(out, e.Detail)
	}
	seq, head, err := g.store.EvidenceHead(context.Background())
	if err != nil || seq != int64(len(rows)) || head != chain {
		g.t.Fatalf("the head is at %d of %d (%v)", seq, len(rows), err)
	}
	return out
}

func (g *gang) want(details ...string) {
	g.t.Helper()
	if got := g.details(); fmt.Sprint(got) != fmt.Sprint(details) {
		g.t.Errorf("the record is %q, want %q", got, details)
	}
}

// TestGroup lets writes share a transaction, and one of them fail in each way that there is. Nobody else is hurt.
func TestGroup(t *testing.T) {
	t.Run("one commit", func(t *testing.T) {
		g := newGang(t)
		var writes []func() error
		for i := range 20 {
			writes = append(writes, g.leave(fmt.Sprint(i)))
		}
		for _, err := range g.run(writes, nil) {
			if err != nil {
				t.Error(err)
			}
		}
		if commits, n := g.store.Commits(); commits != 2 || n != 21 {
			t.Errorf("%d writes in %d transactions, want 21 in 2", n, commits)
		}
		if got := g.details(); len(got) != 21 || got[1] != "0" || got[20] != "19" {
			t.Errorf("the record is %q", got)
		}
	})
	t.Run("one is refused", func(t *testing.T) {
		g := newGang(t)
		errs := g.run([]func() error{g.account("a"), g.account("a"), g.leave("after"), g.account("b")}, nil)
		if errs[0] != nil || bulkhead.KindOf(errs[1]) != bulkhead.KindConflict || errs[2] != nil || errs[3] != nil {
			t.Errorf("got %v", errs)
		}
		g.want("first", "account a", "after", "account b")
	})
	t.Run("the first is refused", func(t *testing.T) {
		g := newGang(t)
		missing := func() error {
			return g.store.MarkReplaced(context.Background(), bulkhead.CertificateRef{Issuer: "x"}, bulkhead.CertificateRef{})
		}
		errs := g.run([]func() error{missing, g.leave("after")}, nil)
		if bulkhead.KindOf(errs[0]) != bulkhead.KindNotFound || errs[1] != nil {
			t.Errorf("got %v", errs)
		}
		g.want("first", "after")
	})
	t.Run("one panics", func(t *testing.T) {
		g := newGang(t)
		over := func() error { // something for the write that panics to delete first
			return g.store.CreateOrder(context.Background(), bulkhead.Order{ID: "o", State: bulkhead.OrderInvalid, ExpiresAt: time.Unix(1, 0)}, nil)
		}
		errs := g.run([]func() error{over, g.explode, g.leave("after")}, nil)
		if errs[0] != nil || errs[1] == nil || errs[1].Error() != "panic: no leaf" || errs[2] != nil {
			t.Errorf("got %v", errs)
		}
		g.want("first", "after")
		if _, err := g.store.Order(context.Background(), "o"); err != nil {
			t.Errorf("what the panic had deleted is gone: %v", err)
		}
	})
}

// TestGroupCommitFails loses a shared commit, or its acknowledgement: all who were in it are told, also the one who was
// refused because of a row of the same transaction.
func TestGroupCommitFails(t *testing.T) {
	for _, lose := range []bool{true, false} {
		t.Run(fmt.Sprintf("lost %v", lose), func(t *testing.T) {
			g := newGang(t)
			errs := g.run([]func() error{g.leave("one"), g.account("a"), g.account("a"), g.leave("two")}, func() {
				g.mu.Lock()
				g.fates["CreateAccount"], g.lose = errLost, lose
				g.mu.Unlock()
			})
			for i, err := range errs {
				if !errors.Is(err, errLost) {
					t.Errorf("write %d was told %v", i, err)
				}
			}
			g.mu.Lock()
			clear(g.fates)
			g.mu.Unlock()
			err := g.account("a")() // the ordinary path, run again
			if lose {
				if err != nil {
					t.Error(err)
				}
				g.want("first", "account a")
				return
			}
			if bulkhead.KindOf(err) != bulkhead.KindConflict {
				t.Errorf("again: %v", err)
			}
			g.want("first", "one", "account a", "two")
		})
	}
}

// TestGroupGivenUp: who waits may go, and nothing of his is written; the others go on.
func TestGroupGivenUp(t *testing.T) {
	g := newGang(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	errs := g.run([]func() error{g.leave("one"), func() error {
		defer close(gone)
		_, err := g.store.AppendEvidence(ctx, leaf("given up"))
		return err
	}, g.leave("two")}, func() {
		cancel()
		<-gone
	})
	if errs[0] != nil || bulkhead.KindOf(errs[1]) != bulkhead.KindUnavailable || !errors.Is(errs[1], context.Canceled) || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	g.want("first", "one", "two")
}

// TestGroupTaken: whose write is in a transaction already gets the outcome, whatever his context says.
func TestGroupTaken(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db"), CommitHook: func(_ string, commit func() error) error {
		cancel()
		return commit()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.AppendEvidence(ctx, leaf("kept")); err != nil {
		t.Error(err)
	}
	if seq, _, err := s.EvidenceHead(t.Context()); seq != 1 || err != nil {
		t.Errorf("the head is at %d (%v)", seq, err)
	}
}

// TestGroupPatient: a move to processing that nobody waits for goes with the next write, in one transaction; when somebody waits, or it is not
// patient, it goes at once.
func TestGroupPatient(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	move := func(id string, until <-chan struct{}) chan error {
		o := bulkhead.Order{ID: id, State: bulkhead.OrderReady, ExpiresAt: time.Unix(1, 0)}
		if err := s.CreateOrder(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		o.State = bulkhead.OrderProcessing
		done := make(chan error, 1)
		go func() { done <- s.ProcessOrder(t.Context(), o, nil, until) }()
		return done
	}
	shared := false
	for i := 0; i < 20 && !shared; i++ { // on a machine that is busy patience may end before the next write comes
		never := make(chan struct{})
		done := move(fmt.Sprint("patient", i), never)
		before, writes := s.Commits()
		for end := time.Now().Add(time.Second); rel.Waiting(s.Store) == 0 && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond)
		}
		if _, err := s.AppendEvidence(t.Context(), leaf("next")); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		after, all := s.Commits()
		shared = after-before == 1 && all-writes == 2
	}
	if !shared {
		t.Error("a patient write never shared the next one's transaction")
	}
	hurry := make(chan struct{})
	done := move("hurried", hurry)
	close(hurry)
	for _, done := range []chan error{done, move("not patient", nil)} {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("it is not written")
		}
	}
}

// TestGroupCrowd has many writers at once, of which a third is refused: sequence numbers have no gaps, everybody gets
// his own, and far fewer transactions than writes are made.
func TestGroupCrowd(t *testing.T) {
	g := newGang(t)
	close(g.let)
	const writers, each = 24, 20
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				if i%3 == 0 {
					if err := g.account(fmt.Sprint(n))(); err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict {
						t.Error(err)
					}
					continue
				}
				detail := fmt.Sprintf("%d/%d", i, n)
				seqs, err := g.store.AppendEvidence(context.Background(), leaf(detail))
				if err != nil {
					t.Error(err)
					continue
				}
				rows, err := g.store.EvidenceAfter(context.Background(), seqs[0]-1, 1)
				if err != nil || len(rows) != 1 {
					t.Error("what was acknowledged cannot be read", err)
					continue
				}
				if e, err := tlog.Parse(rows[0].Leaf); err != nil || e.Detail != detail {
					t.Errorf("number %d is %q, want %q (%v)", seqs[0], e.Detail, detail, err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := len(g.details()), writers/3*2*each+each; got != want {
		t.Errorf("%d leaves, want %d", got, want)
	}
	commits, writes := g.store.Commits()
	t.Logf("%d writes in %d transactions", writes, commits)
	if commits >= writes {
		t.Errorf("%d transactions for %d writes: nobody shared one", commits, writes)
	}
}

// TestGroupAgain: writes that can be done again share a transaction without savepoints; when one of them fails all are undone and
// done again, and nobody else is hurt.
func TestGroupAgain(t *testing.T) {
	order := func(g *gang, id string) func() error {
		return func() error {
			return g.store.CreateOrder(context.Background(), bulkhead.Order{ID: id, State: bulkhead.OrderPending, ExpiresAt: time.Unix(1, 0)}, nil)
		}
	}
	g := newGang(t)
	var before int64
	errs := g.run([]func() error{order(g, "a"), order(g, "b"), order(g, "c")}, func() { _, before = g.store.Statements() })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if _, after := g.store.Statements(); after-before != 3 {
		t.Errorf("%d statements for three rows", after-before)
	}

	g = newGang(t)
	reserve := func(serial byte, name string, refused *[]error) func() error {
		return func() error {
			id, err := bulkhead.SerialFromBytes([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, serial})
			if err != nil {
				return err
			}
			ref := bulkhead.CertificateRef{Issuer: "x", Serial: id}
			intent := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: time.Unix(1, 0), Actor: "role:signer", Authority: "x", Serial: id,
				KeyHash: bulkhead.Digest([]byte(name)), Signer: bulkhead.Digest([]byte("x")), Digest: bulkhead.Digest([]byte(name))}
			_, *refused, err = g.store.Reserve(context.Background(), []bulkhead.Reservation{{Intent: intent, Certificate: bulkhead.Certificate{CertificateRef: ref,
				Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, KeyHash: intent.KeyHash}}, {}})
			return err
		}
	}
	var first, second []error
	errs = g.run([]func() error{order(g, "a"), reserve(1, "r1", &first), order(g, "a"), order(g, "b"), reserve(1, "r2", &second), g.leave("after")}, nil)
	if bulkhead.KindOf(errs[2]) != bulkhead.KindConflict {
		t.Errorf("the second order a: %v", errs[2])
	}
	if err := errors.Join(errs[0], errs[1], errs[3], errs[4], errs[5]); err != nil {
		t.Error(err)
	}
	// The second item of each is malformed; a serial is taken for the second of them alone.
	if len(first) != 2 || first[0] != nil || first[1] == nil || len(second) != 2 || bulkhead.KindOf(second[0]) != bulkhead.KindConflict || second[1] == nil {
		t.Errorf("refused: %v and %v", first, second)
	}
	for _, id := range []string{"a", "b"} {
		if _, err := g.store.Order(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
	if commits, n := g.store.Commits(); commits != 2 || n != 6 {
		t.Errorf("%d writes in %d transactions, want 6 in 2", n, commits)
	}
}
