package enroll_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// lose plants a fault: the first commit of op after skip others is lost, or kept and only reported lost.
// fired tells whether it came to that.
func (h *house) lose(op string, skip int, kept bool) (fired func() bool) {
	var mu sync.Mutex
	f := func(did string, commit func() error) error {
		mu.Lock()
		if did == op {
			skip--
		}
		spared := did != op || skip != -1
		mu.Unlock() // the commit may be that of another write, too, with a call of its own
		if spared {
			return commit()
		}
		if kept {
			ok(h.t, commit())
		}
		return errors.New("the connection broke")
	}
	h.hook.Store(&f)
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return skip < 0
	}
}

// TestResume loses each write after the challenge in both ways, lets another process take over, and finds the order
// valid with exactly one certificate.
func TestResume(t *testing.T) {
	for _, op := range []string{"PutCAAChecks", "ProcessOrder", "Reserve", "Complete", "MarkReplaced", "EndOrder", "ConcludeAuthorization"} {
		for _, kept := range []bool{false, true} {
			name := op + " lost"
			if kept {
				name = op + " kept but reported lost"
			}
			t.Run(name, func(t *testing.T) { resumeAfter(t, op, kept) })
		}
	}
}

func resumeAfter(t *testing.T, op string, kept bool) {
	h := newHouse(t, func(c *enroll.Config) { c.Limits.FinalizeWait = 5 * time.Second })
	acct, _ := h.account()
	first := h.issued(acct, newKey(t), "www.site.test")
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test", "b.site.test"), Replaces: first.Certificate.CertificateRef})
	ok(t, err)
	moving := op == "ProcessOrder" || op == "Reserve" // one commit, as a rule
	finalize := func() error {
		now, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test", "b.site.test"))
		if err == nil {
			o = now
		}
		return err
	}
	var fired func() bool
	validating := op == "ConcludeAuthorization"
	if validating {
		gate := make(chan struct{})
		h.script.validate = func(bulkhead.Identifier, bulkhead.Method) (string, error) { <-gate; return "seen", nil }
		h.respond(acct, o)
		fired = h.lose(op, 0, kept)
		close(gate)
	} else {
		h.respond(acct, o)
		h.until(acct, o.ID, bulkhead.OrderReady)
		if op == "PutCAAChecks" {
			h.script.slowCAA(bulkhead.KindUnavailable)
		}
		fired = h.lose(op, 0, kept)
		if err := finalize(); err != nil && !moving {
			t.Fatal(err)
		}
	}
	ok(t, h.svc.Close(t.Context()))
	if !fired() {
		t.Fatalf("%s was never asked for: nothing was planted", op)
	}
	h.hook.Store(nil)
	h.svc = h.service()
	ok(t, h.svc.Resume(t.Context()))
	if validating {
		h.until(acct, o.ID, bulkhead.OrderReady)
		ok(t, finalize())
	}
	if now, err := h.store.Order(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	} else if now.State == bulkhead.OrderReady && moving && !kept {
		ok(t, finalize()) // nothing was stored, and the client was told so
	}
	o = h.until(acct, o.ID, bulkhead.OrderValid)
	list, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{OrderID: o.ID, State: bulkhead.Issued})
	ok(t, err)
	if len(list) != 1 || list[0].CertificateRef != o.Certificate {
		t.Fatalf("%d certificates for one order", len(list))
	}
	old, _, err := h.store.Certificate(t.Context(), first.Certificate.CertificateRef)
	ok(t, err)
	if old.ReplacedBy != o.Certificate {
		t.Errorf("the predecessor is replaced by %v", old.ReplacedBy)
	}
}

// failing is an issuer that is away.
type failing struct{ err error }

func (f failing) IssueAfter(ctx context.Context, _ bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error) {
	if stored != nil {
		_ = stored(ctx)
	}
	return bulkhead.IssuedCertificate{}, f.err
}

// TestSignerAway: the order waits for a signer that is away, and fails at once when the signer says no.
func TestSignerAway(t *testing.T) {
	for kind, want := range map[bulkhead.Kind]bulkhead.OrderState{
		bulkhead.KindUnavailable: bulkhead.OrderProcessing, bulkhead.KindInternal: bulkhead.OrderProcessing,
		bulkhead.KindStopped: bulkhead.OrderProcessing, bulkhead.KindBadPublicKey: bulkhead.OrderInvalid,
	} {
		t.Run(string(kind), func(t *testing.T) {
			h := newHouse(t)
			real := h.cfg.Issuer
			h.cfg.Issuer = failing{bulkhead.NewFault(kind, "planted")}
			h.svc = h.service()
			acct, _ := h.account()
			o := h.ready(acct, "www.site.test")
			o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test"))
			ok(t, err)
			if o.State != want {
				t.Fatalf("the order is %s", o.State)
			}
			if want == bulkhead.OrderInvalid {
				if o.Problem.Kind != kind {
					t.Errorf("the problem is %v", o.Problem)
				}
				return
			}
			if kind == bulkhead.KindInternal { // for ever: the order comes to an end all the same
				h.shift.Store(int64(2 * time.Hour))
				ok(t, h.svc.Resume(t.Context()))
				for o.State == bulkhead.OrderProcessing {
					o, err = h.svc.Order(t.Context(), acct, o.ID)
					ok(t, err)
				}
				if o.State != bulkhead.OrderInvalid || o.Problem.Kind != bulkhead.KindUnavailable {
					t.Errorf("the order is %s with %v", o.State, o.Problem)
				}
				return
			}
			h.cfg.Issuer = real
			h.svc = h.service()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = h.svc.Run(ctx, 10*time.Millisecond) }()
			h.until(acct, o.ID, bulkhead.OrderValid)
		})
	}
}

// TestLostOutcomeIsLookedForAgain: without a restart, too.
func TestLostOutcomeIsLookedForAgain(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	var once sync.Once
	h.script.validate = func(bulkhead.Identifier, bulkhead.Method) (string, error) {
		f := func(op string, commit func() error) error {
			err := error(nil)
			if op == "ConcludeAuthorization" {
				once.Do(func() { err = errors.New("planted") })
			}
			if err != nil {
				return err
			}
			return commit()
		}
		h.hook.Store(&f)
		return "seen", nil
	}
	h.respond(acct, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = h.svc.Run(ctx, 10*time.Millisecond) }()
	h.until(acct, o.ID, bulkhead.OrderReady)
	if n := h.script.looks.Load(); n < 2 {
		t.Errorf("looked %d times", n)
	}
}

// TestClose: what is turned away is not lost, and Close ends in time although a validation hangs.
func TestClose(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	h.script.hang = true
	h.respond(acct, o)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := h.svc.Close(ctx); err == nil {
		t.Error("a close that cut work off said nothing")
	}
	a, err := h.svc.Authorization(t.Context(), acct, o.Authorizations[0])
	ok(t, err)
	if a.Challenges[0].State != bulkhead.ChallengeProcessing {
		t.Fatalf("what was seen while closing was believed: %s", a.Challenges[0].State)
	}
	h.script.hang = false
	h.svc = h.service()
	ok(t, h.svc.Resume(t.Context()))
	h.until(acct, o.ID, bulkhead.OrderReady)
}

// moody is an issuer that can be away, or hold back what it is asked.
type moody struct {
	enroll.Issuer
	away  atomic.Bool
	held  atomic.Pointer[chan struct{}]
	asked atomic.Int64
}

func (x *moody) IssueAfter(ctx context.Context, r bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error) {
	x.asked.Add(1)
	if x.away.Load() {
		return failing{bulkhead.NewFault(bulkhead.KindUnavailable, "planted")}.IssueAfter(ctx, r, stored)
	}
	if on := x.held.Load(); on != nil {
		<-*on
	}
	return x.Issuer.IssueAfter(ctx, r, stored)
}

// TestOneProcessSigns: an order that one process is at is nobody else's, however slow the signer is: two that sign make two
// certificates. What is left behind is taken up at the start, by its own process at each step, and by another when nobody can be at
// it any more.
func TestOneProcessSigns(t *testing.T) {
	h := newHouse(t)
	x := &moody{Issuer: h.cfg.Issuer}
	h.cfg.Issuer = x
	h.svc = h.service()
	acct, _ := h.account()
	processing := func(name string) bulkhead.Order {
		t.Helper()
		o := h.ready(acct, name)
		x.away.Store(true)
		o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), name))
		ok(t, err)
		if x.away.Store(false); o.State != bulkhead.OrderProcessing {
			t.Fatalf("%s is %s", name, o.State)
		}
		return o
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run := func(f func(context.Context, time.Duration) error) { go func() { _ = f(ctx, time.Millisecond) }() }

	left := processing("left.site.test")
	run(h.service().Run)
	h.until(acct, left.ID, bulkhead.OrderValid)

	on := make(chan struct{})
	x.held.Store(&on)
	o, before := h.ready(acct, "slow.site.test"), x.asked.Load()
	done := make(chan error)
	go func() {
		_, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "slow.site.test"))
		done <- err
	}()
	time.Sleep(100 * time.Millisecond) // many steps of the other
	close(on)
	ok(t, <-done)
	x.held.Store(nil)
	h.until(acct, o.ID, bulkhead.OrderValid)
	if n := x.asked.Load() - before; n != 1 {
		t.Errorf("the signer was asked %d times for one order", n)
	}

	dead := processing("dead.site.test")
	time.Sleep(20 * time.Millisecond)
	if o, err := h.svc.Order(t.Context(), acct, dead.ID); err != nil || o.State != bulkhead.OrderProcessing {
		t.Errorf("the order of a process that may be at it is %s, %v", o.State, err)
	}
	h.shift.Store(int64(2 * time.Minute))
	h.until(acct, dead.ID, bulkhead.OrderValid)

	run(h.svc.RunOwn)
	h.until(acct, processing("own.site.test").ID, bulkhead.OrderValid)
}
