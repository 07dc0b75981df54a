package rel_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/store/internal/rel"
	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"
)

// gathering is a PostgreSQL store whose first commit waits until the writes of a test stand behind it.
type gathering struct {
	*testing.T
	*postgres.Store
	first sync.Once
	held  chan struct{}
	let   chan struct{}
	dsn   string
	mu    sync.Mutex
	lost  error // what the commits after the first are reported as
}

func gather(t *testing.T) *gathering {
	t.Helper()
	g := &gathering{T: t, held: make(chan struct{}), let: make(chan struct{}), dsn: pgtest.New(t)}
	var err error
	g.Store, err = postgres.Open(t.Context(), postgres.Config{DSN: g.dsn, CommitHook: func(op string, commit func() error) error {
		if op == "CreateAccount" || op == "UpdateAccount" {
			return commit()
		}
		g.first.Do(func() {
			close(g.held)
			<-g.let
		})
		g.mu.Lock()
		lost := g.lost
		g.mu.Unlock()
		return errors.Join(commit(), lost)
	}})
	g.ok(err)
	t.Cleanup(func() { _ = g.Store.Close() })
	for _, id := range []string{"a", "gone"} {
		g.ok(g.CreateAccount(t.Context(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id}))
	}
	g.ok(g.UpdateAccount(t.Context(), bulkhead.Account{ID: "gone", State: bulkhead.AccountDeactivated, Thumbprint: "gone"}, bulkhead.AccountValid))
	return g
}

func (g *gathering) ok(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// together starts the writes while a first order is at its commit, and lets that commit when all of them wait. It returns their errors
// and how many statements they took.
func (g *gathering) together(first string, writes ...func() error) (errs []error, statements int64) {
	g.Helper()
	errs = make([]error, len(writes))
	var wg sync.WaitGroup
	g.first, g.held, g.let = sync.Once{}, make(chan struct{}), make(chan struct{})
	wg.Go(func() { _ = g.place(first, "a") })
	<-g.held
	_, before := g.Statements()
	for i, w := range writes {
		wg.Go(func() { errs[i] = w() })
		for end := time.Now().Add(time.Minute); rel.WaitingKeyed(g.Store.Store) != i+1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				g.Fatal("a write does not wait")
			}
		}
	}
	close(g.let)
	wg.Wait()
	_, after := g.Statements()
	return errs, after - before
}

// place places an order with everything that an operator's word brings.
func (g *gathering) place(id, account string) error {
	name := bulkhead.Identifier{Type: bulkhead.DNS, Value: id + ".test"}
	a := bulkhead.Authorization{ID: "z" + id, AccountID: account, Identifier: name, State: bulkhead.AuthorizationValid,
		Challenges: []bulkhead.Challenge{{ID: "c" + id, Method: bulkhead.OperatorApproval, Token: "t", State: bulkhead.ChallengeValid}}}
	o := bulkhead.Order{ID: id, AccountID: account, State: bulkhead.OrderProcessing, Identifiers: []bulkhead.Identifier{name}, Authorizations: []string{a.ID}, CSR: []byte("csr")}
	v := bulkhead.Validation{ID: "v" + id, AuthorizationID: a.ID, AccountID: account, Identifier: name, Method: bulkhead.OperatorApproval}
	return g.PlaceOrder(g.Context(), o, []bulkhead.Authorization{a}, []bulkhead.Validation{v}, []bulkhead.CAACheck{{OrderID: id, Identifier: name, Result: bulkhead.CAAPermitted}},
		leaf("placed "+id), leaf("seen "+id))
}

// finish makes an order valid, as what follows a certificate.
func (g *gathering) finish(id string) error {
	serial, err := bulkhead.SerialFromBytes([]byte{7})
	if err != nil {
		return err
	}
	return g.UpdateOrder(g.Context(), bulkhead.Order{ID: id, State: bulkhead.OrderValid, Profile: "p", Certificate: bulkhead.CertificateRef{Issuer: "i", Serial: serial}}, bulkhead.OrderProcessing)
}

// record is the state of each order and the details of all leaves, whose chain is verified.
func (g *gathering) record(ids ...string) (states []string, leaves []string) {
	g.Helper()
	for _, id := range ids {
		o, err := g.Order(g.Context(), id)
		state := string(o.State)
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			state = "none"
		} else {
			g.ok(err)
		}
		states = append(states, state)
	}
	rows, err := g.EvidenceAfter(g.Context(), 0, 1000)
	g.ok(err)
	var chain bulkhead.Hash
	for i, r := range rows {
		if chain = tlog.Chain(chain, r.Leaf); r.Seq != int64(i)+1 || r.Chain != chain {
			g.Fatalf("row %d breaks the chain", r.Seq)
		}
		e, err := tlog.Parse(r.Leaf)
		g.ok(err)
		leaves = append(leaves, e.Detail)
	}
	return states, leaves
}

// TestKinStatements holds the round trips of writes that wait: a handful, however many they are.
func TestKinStatements(t *testing.T) {
	g := gather(t)
	var places, finishes []func() error
	for i := range 30 {
		id := fmt.Sprint("o", i)
		places = append(places, func() error { return g.place(id, "a") })
		finishes = append(finishes, func() error { return g.finish(id) })
	}
	errs, n := g.together("first", places...)
	g.ok(errors.Join(errs...))
	if n > 3 { // the head, the rows, the leaves with the head
		t.Errorf("%d statements for 30 orders that waited", n)
	}
	errs, n = g.together("second", append(finishes, func() error { return g.place("o30", "a") })...)
	g.ok(errors.Join(errs...))
	if n > 5 { // the head, the orders, a savepoint, the rows, the leaves with the head
		t.Errorf("%d statements for 30 orders that ended and one that began", n)
	}
	states, leaves := g.record("o0", "o29", "o30", "first")
	if !slices.Equal(states, []string{"valid", "valid", "processing", "processing"}) || len(leaves) != 2*33 {
		t.Errorf("%v, %d leaves", states, len(leaves))
	}
}

// TestKinRefused: of writes that wait together each is refused for its own reason and alone, wherever it stands.
func TestKinRefused(t *testing.T) {
	g := gather(t)
	place := func(id, account string) func() error { return func() error { return g.place(id, account) } }
	finish := func(id string) func() error { return func() error { return g.finish(id) } }
	errs, _ := g.together("o1", place("o2", "a"), place("o3", "gone"), place("o4", "absent"), place("o1", "a"), place("o5", "a"), place("o5", "a"), place("o6", "a"))
	want := []bulkhead.Kind{"", bulkhead.KindConflict, bulkhead.KindNotFound, bulkhead.KindConflict, "", bulkhead.KindConflict, ""}
	for i, err := range errs {
		if bulkhead.KindOf(err) != want[i] {
			t.Errorf("%d: %v, want %q", i, err, want[i])
		}
	}
	// What ends first is kept while an order behind it is refused: it is undone behind its savepoint.
	errs, _ = g.together("o7", finish("o1"), finish("o2"), finish("o2"), finish("absent"), place("o8", "gone"), place("o9", "a"))
	want = []bulkhead.Kind{"", "", bulkhead.KindConflict, bulkhead.KindNotFound, bulkhead.KindConflict, ""}
	for i, err := range errs {
		if bulkhead.KindOf(err) != want[i] {
			t.Errorf("%d: %v, want %q", i, err, want[i])
		}
	}
	states, leaves := g.record("o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9")
	if !slices.Equal(states, []string{"valid", "valid", "none", "none", "processing", "processing", "processing", "none", "processing"}) {
		t.Errorf("%v", states)
	}
	slices.Sort(leaves)
	if good := []string{"placed o1", "placed o2", "placed o5", "placed o6", "placed o7", "placed o9", "seen o1", "seen o2", "seen o5", "seen o6", "seen o7", "seen o9"}; !slices.Equal(leaves, good) {
		t.Errorf("leaves %q", leaves)
	}
}

// TestKinLost: a commit that is only reported lost is so for every write in it; all of it is there.
func TestKinLost(t *testing.T) {
	g := gather(t)
	g.mu.Lock()
	g.lost = errLost
	g.mu.Unlock()
	errs, _ := g.together("o1", func() error { return g.place("o2", "a") }, func() error { return g.place("o3", "a") }, func() error { return g.finish("o1") })
	for i, err := range errs {
		if !errors.Is(err, errLost) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if states, leaves := g.record("o1", "o2", "o3"); !slices.Equal(states, []string{"valid", "processing", "processing"}) || len(leaves) != 6 {
		t.Errorf("%v, %q", states, leaves)
	}
}

// certificates are what the signer commits for n of them.
func (g *gathering) certificates(batch byte, n int) ([]bulkhead.Reservation, []bulkhead.Completion) {
	g.Helper()
	items := make([]bulkhead.Reservation, n)
	done := make([]bulkhead.Completion, n)
	for i := range items {
		serial, err := bulkhead.SerialFromBytes([]byte{batch, byte(i)})
		g.ok(err)
		ref := bulkhead.CertificateRef{Issuer: "i", Serial: serial}
		ev := func(kind bulkhead.EvidenceKind) bulkhead.Evidence {
			return bulkhead.Evidence{Kind: kind, At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Actor: "role:test", Authority: "i", Serial: serial, Signer: bulkhead.Digest([]byte("key")), Digest: bulkhead.Digest([]byte{byte(i)}), Link: bulkhead.Digest([]byte{1, byte(i)})}
		}
		items[i] = bulkhead.Reservation{Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprint(i, ".test")}}, KeyHash: bulkhead.Digest([]byte(fmt.Sprint(i)))}, Intent: ev(bulkhead.EvCertificateIntent)}
		done[i] = bulkhead.Completion{CertificateRef: ref, DER: []byte{byte(i)}, Outcome: ev(bulkhead.EvCertificateOutcome)}
	}
	return items, done
}

// TestSignerStatements holds the round trips of what the signer commits for many certificates at once.
func TestSignerStatements(t *testing.T) {
	g := gather(t)
	const n = 30
	items, done := g.certificates(1, n)
	close(g.let)
	before := func() int64 { _, in := g.Statements(); return in }
	was := before()
	_, errs, err := g.Reserve(t.Context(), items)
	g.ok(errors.Join(append(errs, err)...))
	if n := before() - was; n > 5 { // the head; serials and keys; leaves with rows; counters with the head
		t.Errorf("%d statements for 30 intents", n)
	}
	was = before()
	_, errs, err = g.Complete(t.Context(), done)
	g.ok(errors.Join(append(errs, err)...))
	if n := before() - was; n > 4 { // the head, the rows; leaves with what moves; counters with the head
		t.Errorf("%d statements for 30 outcomes", n)
	}
	if _, leaves := g.record(); len(leaves) != 2*n {
		t.Errorf("%d leaves", len(leaves))
	}
}
