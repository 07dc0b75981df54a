package rel_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
)

// recalling is a store under test, another store that writes to the same file, and one that only reads and remembers nothing.
type recalling struct {
	t                *testing.T
	rng              *rand.Rand
	ours, other, all *sqlite.Store
	hook             atomic.Pointer[func(string, func() error) error]
	orders           []string
	names            int
	serials          []bulkhead.CertificateRef
}

func newRecalling(t *testing.T, seed uint64) *recalling {
	t.Helper()
	r := &recalling{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
	path := filepath.Join(t.TempDir(), "x.db")
	open := func(hook func(string, func() error) error) *sqlite.Store {
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, CommitHook: hook})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	r.ours = open(func(op string, commit func() error) error {
		if f := r.hook.Load(); f != nil {
			return (*f)(op, commit)
		}
		return commit()
	})
	r.other, r.all = open(nil), open(nil)
	err := r.ours.CreateAccount(t.Context(), bulkhead.Account{ID: "a", State: bulkhead.AccountValid, Thumbprint: "t", JWK: []byte("{}"), CreatedAt: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func name(v string) bulkhead.Identifier { return bulkhead.Identifier{Type: bulkhead.DNS, Value: v} }

// at is a time with a fraction, which the record does not keep.
func at(n int) time.Time { return time.Unix(1_800_000_000+int64(n), 123_456_789) }

// create makes an order with one or two authorisations of its own, and sometimes one that another order has.
func (r *recalling) create(s *sqlite.Store) func() error {
	r.names++
	id := fmt.Sprintf("o%d", r.names)
	o := bulkhead.Order{ID: id, AccountID: "a", State: bulkhead.OrderPending, Profile: "p", CreatedAt: at(r.names), ExpiresAt: at(r.names + 1000)}
	var fresh []bulkhead.Authorization
	for i := range 1 + r.rng.IntN(2) {
		n := name(fmt.Sprintf("n%d-%d.test", r.names, i))
		a := bulkhead.Authorization{ID: fmt.Sprintf("%s-%d", id, i), AccountID: "a", Identifier: n, State: bulkhead.AuthorizationPending, CreatedAt: at(0), ExpiresAt: at(1000),
			Challenges: []bulkhead.Challenge{{ID: "c", Method: bulkhead.HTTP01, Token: "t", State: bulkhead.ChallengePending}}}
		o.Identifiers, o.Authorizations, fresh = append(o.Identifiers, n), append(o.Authorizations, a.ID), append(fresh, a)
	}
	if len(r.orders) > 0 && r.rng.IntN(3) == 0 {
		o.Authorizations = append(o.Authorizations, r.orders[r.rng.IntN(len(r.orders))]+"-0")
	}
	if r.rng.IntN(20) == 0 {
		o.Authorizations = append(o.Authorizations, "nobody's") // refused
	}
	r.orders = append(r.orders, id)
	return func() error { return s.CreateOrder(r.t.Context(), o, fresh) }
}

// step is a random write, by us or by somebody else.
func (r *recalling) step(s *sqlite.Store) func() error {
	ctx := r.t.Context()
	if len(r.orders) == 0 || r.rng.IntN(6) == 0 {
		return r.create(s)
	}
	id := r.orders[max(0, len(r.orders)-1-r.rng.IntN(5))]
	authz := id + "-0"
	n := r.rng.IntN(1000)
	switch r.rng.IntN(12) {
	case 0, 1, 2:
		return func() error {
			a, err := s.Authorization(ctx, authz)
			if err != nil {
				return err
			}
			a.Challenges[0].State, a.Challenges[0].ValidatedAt, a.State, a.ExpiresAt = bulkhead.ChallengeValid, at(n), bulkhead.AuthorizationValid, at(2000+n)
			return s.ConcludeAuthorization(ctx, a, bulkhead.Validation{ID: fmt.Sprint("v", id, n), AuthorizationID: a.ID, AccountID: "a", Identifier: a.Identifier,
				Method: bulkhead.HTTP01, At: at(n), ReuseUntil: at(n + 9), Detail: "seen \x00 here"}, "t", leaf("x"))
		}
	case 3:
		return func() error {
			a, err := s.Authorization(ctx, authz)
			if err != nil {
				return err
			}
			was := a.State
			a.State, a.Challenges[0].State = bulkhead.AuthorizationPending, bulkhead.ChallengeProcessing
			if n%2 == 0 {
				a.State, a.Challenges[0].Problem = bulkhead.AuthorizationInvalid, bulkhead.NewFault(bulkhead.KindUnauthorized, "no")
			}
			return s.UpdateAuthorization(ctx, a, was, nil)
		}
	case 4, 5:
		return func() error {
			o, err := s.Order(ctx, id)
			if err != nil {
				return err
			}
			o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, []byte{byte(n)}, at(n)
			checks := []bulkhead.CAACheck{{OrderID: id, Identifier: name("x"), At: at(n), ValidUntil: at(n + 1), Result: bulkhead.CAAPermitted, Detail: "d"}}
			return s.ProcessOrder(ctx, o, checks, nil, leaf("x"))
		}
	case 6:
		return func() error {
			o, err := s.Order(ctx, id)
			if err != nil {
				return err
			}
			o.State, o.Certificate = bulkhead.OrderValid, bulkhead.CertificateRef{Issuer: "i", Serial: serial(n)}
			return s.EndOrder(ctx, o)
		}
	case 7:
		return func() error {
			o, err := s.Order(ctx, id)
			if err != nil {
				return err
			}
			was := o.State
			o.State, o.Problem = bulkhead.OrderInvalid, bulkhead.NewFault(bulkhead.KindMalformed, "bad")
			return s.UpdateOrder(ctx, o, was)
		}
	case 8:
		return func() error {
			_, err := s.RevokeAuthorizations(ctx, []string{authz}, []bulkhead.Evidence{leaf("x")})
			return err
		}
	case 9:
		return func() error {
			return s.PutCAAChecks(ctx, []bulkhead.CAACheck{{OrderID: id, Identifier: name("y"), At: at(n), Result: bulkhead.CAADenied, Detail: "e"}})
		}
	case 10:
		ref := bulkhead.CertificateRef{Issuer: "i", Serial: serial(1 + len(r.serials))}
		r.serials = append(r.serials, ref)
		return func() error {
			_, _, err := s.Reserve(ctx, []bulkhead.Reservation{{Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, OrderID: id,
				Names: []bulkhead.Identifier{name("z")}, KeyHash: bulkhead.Digest([]byte{1}), NotBefore: at(1), NotAfter: at(n), ReservedAt: at(2)}, Intent: intent(ref)}})
			return err
		}
	default:
		if len(r.serials) == 0 {
			return r.create(s)
		}
		ref := r.serials[max(0, len(r.serials)-1-r.rng.IntN(4))]
		if n%5 == 0 {
			return func() error { return s.Abandon(ctx, []bulkhead.CertificateRef{ref}, []bulkhead.Evidence{leaf("x")}) }
		}
		return func() error {
			_, _, err := s.Complete(ctx, []bulkhead.Completion{{CertificateRef: ref, DER: []byte{byte(n), 1}, Outcome: intent(ref)}})
			return err
		}
	}
}

func serial(n int) bulkhead.Serial {
	s, err := bulkhead.SerialFromBytes([]byte{1, byte(n >> 8), byte(n)})
	if err != nil {
		panic(err)
	}
	return s
}

func intent(ref bulkhead.CertificateRef) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: time.Unix(1, 0), Actor: "test", Authority: ref.Issuer, Serial: ref.Serial}
}

// agree compares what the store says of the newest rows with what is in the record.
func (r *recalling) agree(when string) {
	r.t.Helper()
	ctx := r.t.Context()
	same := func(what string, ask func(s *sqlite.Store) (any, error)) {
		r.t.Helper()
		got, err := ask(r.ours)
		want, wrong := ask(r.all)
		if bulkhead.KindOf(err) != bulkhead.KindOf(wrong) || !reflect.DeepEqual(got, want) {
			r.t.Fatalf("%s: %s:\n%+v %v; the record has\n%+v %v", when, what, got, err, want, wrong)
		}
	}
	recent := r.orders[max(0, len(r.orders)-7):]
	for _, id := range recent {
		for range 2 { // what the first read took in the second gives
			same("order "+id, func(s *sqlite.Store) (any, error) { return s.Order(ctx, id) })
			same("authorisation of "+id, func(s *sqlite.Store) (any, error) { return s.Authorization(ctx, id+"-0") })
		}
		same("authorisations of "+id, func(s *sqlite.Store) (any, error) {
			o, err := s.Order(ctx, id)
			if err != nil {
				return nil, err
			}
			return s.Authorizations(ctx, o.Authorizations...)
		})
		same("evidence of "+id, func(s *sqlite.Store) (any, error) {
			e, err := s.OrdersEvidence(ctx, id)
			return e[id], err
		})
	}
	for _, ref := range r.serials[max(0, len(r.serials)-7):] {
		same("certificate "+ref.String(), func(s *sqlite.Store) (any, error) {
			c, der, err := s.Certificate(ctx, ref)
			return []any{c, der}, err
		})
	}
}

// TestRecalled: whatever is written, by whom, alone or together with others, refused, lost or only reported lost, a read gives what is in the record.
func TestRecalled(t *testing.T) {
	lose := func(string, func() error) error { return errors.New("lost") }
	kept := func(_ string, commit func() error) error { return errors.Join(commit(), errors.New("reported lost")) }
	seeds := uint64(2)
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		seeds = 40
	}
	for seed := range seeds {
		r := newRecalling(t, seed)
		did := map[bulkhead.Kind]int{}
		for n := range 200 {
			var todo []func() error
			who := "us"
			switch r.rng.IntN(10) {
			case 0:
				todo, who = []func() error{r.step(r.other)}, "somebody else"
			case 1:
				todo, who = []func() error{r.step(r.ours)}, "us, lost"
				r.hook.Store(&lose)
			case 2:
				todo, who = []func() error{r.step(r.ours)}, "us, reported lost"
				r.hook.Store(&kept)
			default:
				for range 1 + r.rng.IntN(3)*r.rng.IntN(2) {
					todo = append(todo, r.step(r.ours))
				}
			}
			var wg sync.WaitGroup
			errs := make([]error, len(todo))
			for i, f := range todo {
				wg.Go(func() { errs[i] = f() })
			}
			wg.Wait()
			r.hook.Store(nil)
			for _, err := range errs {
				did[bulkhead.KindOf(err)]++
			}
			if len(r.orders) > 0 {
				r.agree(fmt.Sprintf("seed %d, step %d by %s", seed, n, who))
			}
		}
		t.Logf("seed %d: %v, %d reads from memory", seed, did, r.ours.Remembered())
		if did[""] < 40 || did[bulkhead.KindConflict] < 5 || r.ours.Remembered() < 500 {
			t.Errorf("seed %d: %v, %d reads from memory", seed, did, r.ours.Remembered())
		}
	}
}

// TestRecalledNever: while an order's row moves on, by this store and by another one, nobody who asks sees less than was settled before
// he asked.
func TestRecalledNever(t *testing.T) {
	r := newRecalling(t, 9)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := r.create(r.ours)(); err != nil {
		t.Fatal(err)
	}
	id := r.orders[0]
	var settled atomic.Int64
	settled.Store(at(1001).Unix())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				least := settled.Load()
				o, err := r.ours.Order(context.WithoutCancel(ctx), id)
				if err != nil || o.ExpiresAt.Unix() < least {
					t.Errorf("%s after %d was settled: %v", o.ExpiresAt, least, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := r.ours.AppendEvidence(context.WithoutCancel(ctx), leaf("x")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range 120 {
		s := r.ours
		if n%4 == 3 {
			s = r.other
		}
		o, err := s.Order(t.Context(), id)
		if err == nil {
			o.ExpiresAt = at(2000 + n)
			err = s.UpdateOrder(t.Context(), o, bulkhead.OrderPending)
		}
		if err != nil {
			t.Fatal(err)
		}
		settled.Store(o.ExpiresAt.Unix())
		time.Sleep(time.Millisecond) // so that rows are remembered in between
	}
	cancel()
	wg.Wait()
	if r.ours.Remembered() == 0 {
		t.Error("nothing was ever remembered")
	}
}

// TestRecalledCopies: what a reader does to a row is its own affair.
func TestRecalledCopies(t *testing.T) {
	r := newRecalling(t, 3)
	settle(t, r.ours)
	if err := r.create(r.ours)(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		o, err := r.ours.Order(t.Context(), "o1")
		if err != nil || !strings.HasPrefix(o.Identifiers[0].Value, "n1") || o.Authorizations[0] != "o1-0" {
			t.Fatalf("%+v %v", o, err)
		}
		a, err := r.ours.Authorization(t.Context(), "o1-0")
		if err != nil || a.Challenges[0].State != bulkhead.ChallengePending {
			t.Fatalf("%+v %v", a, err)
		}
		o.Identifiers[0].Value, o.Authorizations[0], a.Challenges[0].State = "x", "x", bulkhead.ChallengeInvalid
	}
}

// TestRecalledBound: rows are forgotten before they weigh more than is allowed.
func TestRecalledBound(t *testing.T) {
	r := newRecalling(t, 4)
	settle(t, r.ours)
	o := bulkhead.Order{AccountID: "a", State: bulkhead.OrderPending, CSR: make([]byte, 1<<20), CreatedAt: at(1), ExpiresAt: at(2)}
	for n := range 40 {
		o.ID = fmt.Sprint(n)
		if err := r.ours.CreateOrder(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		if rows, octets := rel.Recent(r.ours.Store); rows > 16 || octets > 16<<20 || rows == 0 {
			t.Fatalf("%d rows of %d octets", rows, octets)
		}
	}
}

// together runs writes in one transaction, in this order: they wait while another one is committed. On a machine that is too busy for
// that they come to the same in several.
func (r *recalling) together(todo ...func() error) []error {
	r.t.Helper()
	going, proceed := make(chan bool), make(chan bool)
	var once sync.Once
	hold := func(_ string, commit func() error) error {
		once.Do(func() { close(going); <-proceed })
		return commit()
	}
	r.hook.Store(&hold)
	defer r.hook.Store(nil)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = r.ours.AppendEvidence(r.t.Context(), leaf("x")) })
	<-going
	errs := make([]error, len(todo))
	for i, f := range todo {
		wg.Go(func() { errs[i] = f() })
		for end := time.Now().Add(time.Minute); rel.Waiting(r.ours.Store) <= i; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				r.t.Fatal("a write does not come")
			}
		}
	}
	close(proceed)
	wg.Wait()
	return errs
}

// TestRecalledTogether: writes of one transaction see what those before them left, and nothing of what was undone alone or written over by a
// statement that names no rows.
func TestRecalledTogether(t *testing.T) {
	r := newRecalling(t, 5)
	ctx := t.Context()
	settle(t, r.ours)
	ref := bulkhead.CertificateRef{Issuer: "i", Serial: serial(1)}
	reserve := func() error {
		_, errs, err := r.ours.Reserve(ctx, []bulkhead.Reservation{{Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved}, Intent: intent(ref)}})
		return errors.Join(err, errs[0])
	}
	abandon := func() error {
		return r.ours.Abandon(ctx, []bulkhead.CertificateRef{ref}, []bulkhead.Evidence{leaf("x")})
	}
	complete := func() error {
		_, errs, err := r.ours.Complete(ctx, []bulkhead.Completion{{CertificateRef: ref, DER: []byte{1}, Outcome: intent(ref)}})
		return errors.Join(err, errs[0])
	}
	r.serials = append(r.serials, ref)
	if errs := r.together(reserve, abandon, complete); errs[0] != nil || errs[1] != nil || errs[2] == nil {
		t.Errorf("a certificate that was abandoned a statement before: %v", errs)
	}
	ref.Serial = serial(2)
	r.serials = append(r.serials, ref)
	if errs := r.together(reserve, complete, complete); errors.Join(errs...) != nil {
		t.Errorf("a certificate that was reserved a statement before: %v", errs)
	}
	create := r.create(r.ours)
	if err := create(); err != nil {
		t.Fatal(err)
	}
	a, err := r.ours.Authorization(ctx, "o1-0")
	if err != nil {
		t.Fatal(err)
	}
	a.State, a.ExpiresAt = bulkhead.AuthorizationValid, at(3000)
	conclude := func() error {
		return r.ours.ConcludeAuthorization(ctx, a, bulkhead.Validation{ID: "v", AuthorizationID: a.ID, AccountID: "a", Identifier: a.Identifier, Method: bulkhead.HTTP01, At: at(1)}, "t", leaf("x"))
	}
	revoke := func() error {
		_, err := r.ours.RevokeAuthorizations(ctx, []string{a.ID}, []bulkhead.Evidence{leaf("x")})
		return err
	}
	if errs := r.together(conclude, create, conclude, revoke); errs[0] != nil || errs[1] == nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("an authorisation that was made valid and revoked: %v", errs)
	}
	r.agree("together")
}

// TestRecalledOvertaken: what somebody else writes right behind a commit of ours is not written over by what we remember.
func TestRecalledOvertaken(t *testing.T) {
	r := newRecalling(t, 6)
	settle(t, r.ours)
	if err := r.create(r.ours)(); err != nil {
		t.Fatal(err)
	}
	o, err := r.ours.Order(t.Context(), "o1")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	rel.BetweenCommitAndLook(r.ours.Store, func() {
		if n++; n == 1 {
			o.ExpiresAt = at(9)
			if err := r.other.UpdateOrder(t.Context(), o, bulkhead.OrderPending); err != nil {
				t.Error(err)
			}
		}
	})
	mine := o
	mine.ExpiresAt = at(8)
	if err := r.ours.UpdateOrder(t.Context(), mine, bulkhead.OrderPending); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.agree("overtaken")
		settle(t, r.ours)
	}
}

// TestRecalledLooks: a look at CAA that was there before its order is not forgotten by what is remembered of the order.
func TestRecalledLooks(t *testing.T) {
	r := newRecalling(t, 7)
	settle(t, r.ours)
	err := r.ours.PutCAAChecks(t.Context(), []bulkhead.CAACheck{{OrderID: "o1", Identifier: name("y"), At: at(1), Result: bulkhead.CAADenied}})
	if err == nil {
		err = r.create(r.ours)()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.agree("looked at before")
}
