package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"bulkhead"
)

// race runs f n times at once and returns the errors.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			errs[i] = f(i)
		})
	}
	close(gate)
	wg.Wait()
	return errs
}

// oneWins checks that exactly one succeeded and that the others lost for the one reason.
func oneWins(t testing.TB, errs []error, lost bulkhead.Kind) {
	t.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		wantKind(t, err, lost)
	}
	if won != 1 {
		t.Fatalf("%d of %d won, want one", won, len(errs))
	}
}

// testRaceReserve lets two processes reserve the same serials.
func testRaceReserve(t *testing.T, open Open) {
	stores := []Store{open(t, nil), open(t, nil)}
	const rounds = 10
	for round := range rounds {
		errs := race(2, func(i int) error {
			_, errs, err := stores[i].Reserve(t.Context(), each([]int{round}, reservation))
			return errors.Join(err, errs[0])
		})
		oneWins(t, errs, bulkhead.KindConflict)
		seqs := make([]int64, 2)
		for _, err := range race(2, func(i int) error {
			got, errs, err := stores[i].Complete(t.Context(), each([]int{round}, completion))
			seqs[i] = got[0]
			return errors.Join(err, errs[0])
		}) {
			ok(t, err)
		}
		equal(t, seqs[0], seqs[1])
	}
	equal(t, len(checkEvidence(t, stores[0])), 2*rounds)
}

// testRaceBlock checks that no key is reserved after its block has committed.
func testRaceBlock(t *testing.T, open Open) {
	a, b := open(t, nil), open(t, nil)
	for round := range 10 {
		k := bulkhead.BlockedKey{KeyHash: digest("key", round), BlockedAt: at(1)}
		var refused error
		for _, err := range race(2, func(i int) error {
			if i == 0 {
				return a.BlockKey(t.Context(), k, event(fmt.Sprint("block ", round)))
			}
			_, errs, err := b.Reserve(t.Context(), each([]int{round}, reservation))
			refused = errs[0]
			return err
		}) {
			ok(t, err)
		}
		var blockSeq, intentSeq int
		for i, e := range checkEvidence(t, a) {
			if e.Detail == fmt.Sprint("block ", round) {
				blockSeq = i
			}
			if e.Kind == bulkhead.EvCertificateIntent && e.Serial == serial(round) {
				intentSeq = i
			}
		}
		if refused == nil && intentSeq > blockSeq {
			t.Fatalf("round %d: reserved at %d after the block at %d", round, intentSeq, blockSeq)
		}
		if refused != nil {
			wantKind(t, refused, bulkhead.KindBadPublicKey)
		}
	}
}

// testRaceActivate lets two processes activate: the same change, and two changes with the same head.
func testRaceActivate(t *testing.T, open Open) {
	stores := []Store{open(t, nil), open(t, nil)}
	s, ctx := stores[0], t.Context()
	issue(t, s, numbers(0, 40)...)
	one := stage(t, s, "one", items(bulkhead.Superseded, at(5), numbers(0, 20)...))
	head := nextHead(t, s)
	errs := race(2, func(i int) error {
		return stores[i].Activate(ctx, one, head, []bulkhead.CRLRecord{crl(0, 1)}, event("activated"))
	})
	oneWins(t, errs, bulkhead.KindConflict)

	two := []bulkhead.Change{stage(t, s, "two", items(bulkhead.Superseded, at(5), numbers(10, 30)...)),
		stage(t, s, "three", items(bulkhead.KeyCompromise, at(4), numbers(15, 40)...))}
	head = nextHead(t, s)
	errs = race(2, func(i int) error {
		return stores[i].Activate(ctx, two[i], head, []bulkhead.CRLRecord{crl(0, 2), crl(1, 2)}, event("activated"))
	})
	oneWins(t, errs, bulkhead.KindConflict)
	equal(t, value(s.Head(ctx))(t).Sequence, 2)
	head = nextHead(t, s)
	oneWins(t, race(6, func(i int) error {
		return stores[i%2].PutHead(ctx, head, []bulkhead.CRLRecord{crl(i%2, 3), crl(1-i%2, 3)})
	}), bulkhead.KindConflict)
	counts := value(s.Counts(ctx))(t)[issuer]
	want := int64(30)
	if errs[1] == nil {
		want = 40
	}
	equal(t, counts[bulkhead.Revoked], want)
	checkEvidence(t, s)
}

func testRaceCRLNumber(t *testing.T, open Open) {
	stores := []Store{open(t, nil), open(t, nil)}
	const writers, each = 8, 10
	got := make([][]int64, writers)
	for _, err := range race(writers, func(i int) error {
		for range each {
			n, err := stores[i%2].NextCRLNumber(t.Context(), issuer, 3)
			if err != nil {
				return err
			}
			got[i] = append(got[i], n)
		}
		return nil
	}) {
		ok(t, err)
	}
	var all []int64
	for _, list := range got {
		if !slices.IsSorted(list) {
			t.Fatalf("numbers went backwards: %v", list)
		}
		all = append(all, list...)
	}
	slices.Sort(all)
	for i, n := range all {
		equal(t, n, int64(i+1))
	}
}

// testRaceEvidence mixes every kind of writer; the record of evidence stays whole.
func testRaceEvidence(t *testing.T, open Open) {
	stores := []Store{open(t, nil), open(t, nil)}
	ctx := t.Context()
	for _, err := range race(6, func(i int) error {
		s := stores[i%2]
		for n := range 10 {
			id := 100*i + n
			_, errs, err := s.Reserve(ctx, each([]int{id, id + 50}, reservation))
			if err = errors.Join(append(errs, err)...); err != nil {
				return err
			}
			if _, err = s.AppendEvidence(ctx, event("between")); err != nil {
				return err
			}
			_, errs, err = s.Complete(ctx, each([]int{id + 50, id}, completion))
			if err = errors.Join(append(errs, err)...); err != nil {
				return err
			}
			if err = s.PutOperator(ctx, bulkhead.Operator{Name: fmt.Sprint(n)}, event("operator")); err != nil {
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	leaves := checkEvidence(t, stores[0])
	equal(t, len(leaves), 6*10*6)
	intents := map[bulkhead.Hash]bool{}
	for _, e := range leaves {
		switch e.Kind {
		case bulkhead.EvCertificateIntent:
			intents[e.Digest] = true
		case bulkhead.EvCertificateOutcome:
			if !intents[e.Link] {
				t.Fatal("an outcome stands before its intent")
			}
		}
	}
}

func testReopen(t *testing.T, open Open) {
	s := open(t, nil)
	issue(t, s, 1, 2)
	revoke(t, s, "c", bulkhead.KeyCompromise, at(5), 2)
	ok(t, s.PutAuthority(t.Context(), bulkhead.Authority{ID: "root"}, event("root")))
	before := checkEvidence(t, s)
	number := value(s.NextCRLNumber(t.Context(), issuer, 0))(t)
	ok(t, s.Close())

	s = open(t, nil)
	equal(t, checkEvidence(t, s), before)
	equal(t, state(t, s, 1), bulkhead.Issued)
	equal(t, state(t, s, 2), bulkhead.Revoked)
	equal(t, value(s.Head(t.Context()))(t).Sequence, 1)
	equal(t, value(s.NextCRLNumber(t.Context(), issuer, 0))(t), number+1)
	equal(t, complete(t, s, 1), []int64{3})
	issue(t, s, 3)
	checkEvidence(t, s)
}

var errLost = errors.New("the line went dead")

// testCommitLost loses the commit of every kind of write that the critical path makes: nothing of it stays.
func testCommitLost(t *testing.T, open Open) {
	lose := ""
	s := open(t, func(op string, commit func() error) error {
		if op == lose {
			return errLost
		}
		return commit()
	})
	steps := criticalPath(t, s)
	for i, step := range steps {
		lose = step.op
		before := len(checkEvidence(t, s))
		err := step.do()
		if !errors.Is(err, errLost) {
			t.Fatalf("%s lost its commit and said %v", step.op, err)
		}
		equal(t, len(checkEvidence(t, s)), before)
		lose = ""
		if err := step.do(); err != nil { // the ordinary path, run again
			t.Fatalf("step %d, %s again: %v", i, step.op, err)
		}
	}
	equal(t, state(t, s, 1), bulkhead.Revoked)
}

// testAcknowledgementLost keeps each write and reports it lost: running it again succeeds without a second effect, or
// says what is there.
func testAcknowledgementLost(t *testing.T, open Open) {
	lose := ""
	s := open(t, func(op string, commit func() error) error {
		err := commit()
		if op == lose {
			return errors.Join(errLost, err)
		}
		return err
	})
	for _, step := range criticalPath(t, s) {
		lose = step.op
		if err := step.do(); !errors.Is(err, errLost) {
			t.Fatalf("%s lost its acknowledgement and said %v", step.op, err)
		}
		lose = ""
		after := len(checkEvidence(t, s))
		if err := step.do(); bulkhead.KindOf(err) != step.again {
			t.Fatalf("%s again: %v, want kind %q", step.op, err, step.again)
		}
		equal(t, len(checkEvidence(t, s)), after)
	}
	equal(t, state(t, s, 1), bulkhead.Revoked)
}

type step struct {
	op    string
	do    func() error
	again bulkhead.Kind // of a second run after the first was kept
}

// criticalPath is an order's way to a revoked certificate.
func criticalPath(t *testing.T, s Store) []step {
	ctx := t.Context()
	o, z := order("o", "z"), authorization("z", "www.example.com")
	ready := o
	ready.State = bulkhead.OrderReady
	change := bulkhead.Change{ID: "c", State: bulkhead.ChangePlanned, CreatedAt: at(1)}
	staged := change
	staged.State = bulkhead.ChangeStaged
	head := bulkhead.HeadRecord{Sequence: 1, Body: []byte("h"), At: at(1)}
	single := func(_ []int64, errs []error, err error) error { return errors.Join(append(errs, err)...) }
	valid := z
	valid.State = bulkhead.AuthorizationValid
	return []step{
		{"CreateAccount", func() error { return s.CreateAccount(ctx, account("a", "t"), event("account")) }, bulkhead.KindConflict},
		{"CreateOrder", func() error { return s.CreateOrder(ctx, o, []bulkhead.Authorization{z}) }, bulkhead.KindConflict},
		{"UpdateAuthorization", func() error {
			v := &bulkhead.Validation{ID: "v", AuthorizationID: "z"}
			return s.UpdateAuthorization(ctx, valid, bulkhead.AuthorizationPending, v, event("validated"))
		}, bulkhead.KindConflict},
		{"UpdateOrder", func() error { return s.UpdateOrder(ctx, ready, bulkhead.OrderPending, event("ready")) }, bulkhead.KindConflict},
		{"Reserve", func() error { return single(s.Reserve(ctx, each([]int{1}, reservation))) }, bulkhead.KindConflict},
		{"Complete", func() error { return single(s.Complete(ctx, each([]int{1}, completion))) }, ""},
		{"BlockKey", func() error { return s.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: digest("key", 1)}, event("block")) }, ""},
		{"CreateChange", func() error {
			return s.CreateChange(ctx, change, items(bulkhead.KeyCompromise, at(3), 1), event("planned"))
		}, bulkhead.KindConflict},
		{"MoveChange", func() error { return s.MoveChange(ctx, staged, bulkhead.ChangePlanned, event("staged")) }, bulkhead.KindConflict},
		{"Activate", func() error { return s.Activate(ctx, staged, head, nil, event("activated")) }, bulkhead.KindConflict},
	}
}

// testClosed checks that a database that is away is told as such.
func testClosed(t *testing.T, open Open) {
	s := open(t, nil)
	ok(t, s.Close())
	wantKind(t, s.Ping(t.Context()), bulkhead.KindUnavailable)
	_, err := s.Order(t.Context(), "o")
	wantKind(t, err, bulkhead.KindUnavailable)
	_, err = s.AppendEvidence(t.Context(), event("x"))
	wantKind(t, err, bulkhead.KindUnavailable)
	for _, err := range s.Revoked(t.Context(), issuer, 0, at(0)) {
		wantKind(t, err, bulkhead.KindUnavailable)
	}
}

func testCancelled(t *testing.T, open Open) {
	s := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.AppendEvidence(ctx, event("x"))
	wantKind(t, err, bulkhead.KindUnavailable)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the cause is lost: %v", err)
	}
	_, err = s.Order(ctx, "o")
	wantKind(t, err, bulkhead.KindUnavailable)
	equal(t, len(checkEvidence(t, s)), 0)
}

// testStrangeText checks that text from strangers neither keeps a row out nor breaks a look-up.
func testStrangeText(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	strange := "a\x00b\xffc'; DROP TABLE orders; --"
	a := bulkhead.Alarm{Detector: "D1", Key: "k", Message: strange, FirstAt: at(1), LastAt: at(1)}
	equal(t, value(s.RaiseAlarm(ctx, a, event("alarm")))(t), true)
	equal(t, value(s.Alarms(ctx, 1))(t)[0].Message, "a\uFFFDb\uFFFDc'; DROP TABLE orders; --")

	o := order("o", "z")
	ok(t, s.CreateOrder(ctx, o, []bulkhead.Authorization{authorization("z", "a.test")}))
	z := authorization("z", "a.test")
	z.State = bulkhead.AuthorizationInvalid
	z.Challenges[0].Problem = bulkhead.NewFault(bulkhead.KindIncorrectResponse, strange)
	v := &bulkhead.Validation{ID: "v", AuthorizationID: "z", Detail: strange}
	ok(t, s.UpdateAuthorization(ctx, z, bulkhead.AuthorizationPending, v))
	ok(t, s.PutCAAChecks(ctx, []bulkhead.CAACheck{{OrderID: "o", Detail: strange}}))
	_ = value(s.Authorization(ctx, "z"))(t)

	_, err := s.Order(ctx, strange)
	if k := bulkhead.KindOf(err); k != bulkhead.KindNotFound && k != bulkhead.KindMalformed {
		t.Fatalf("a strange id gives kind %q: %v", k, err)
	}
}
