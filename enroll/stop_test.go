package enroll_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

func (h *house) stop(kind bulkhead.StopKind, value string) bulkhead.Stop {
	h.t.Helper()
	x, err := h.svc.Stop(context.Background(), "operator:a", bulkhead.Stop{Kind: kind, Value: value, Reason: "somebody says that he is inside"})
	ok(h.t, err)
	return x
}

func (h *house) resume(x bulkhead.Stop) {
	h.t.Helper()
	ok(h.t, h.svc.EndStop(context.Background(), x.ID, "request-"+x.ID, bulkhead.Digest([]byte("approved")), "looked, and nobody is"))
}

// wantStopped wants the typed refusal: kind, when to ask again, what to do, and nothing of the reason.
func wantStopped(t testing.TB, err error) {
	t.Helper()
	wantKind(t, err, bulkhead.KindStopped)
	if f := bulkhead.AsFault(err); f.RetryAfter <= 0 || f.Hint == "" {
		t.Fatalf("%+v does not say when to ask again", f)
	}
}

// TestStopEntryPoints: what is stopped is refused on every way in, each time with nothing changed, and works again after
// the stop. A stop that covers something else refuses nothing.
func TestStopEntryPoints(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	api, _, err := h.svc.NewTokenAccount(t.Context(), "operator:a", false)
	ok(t, err)
	own, _, err := h.svc.NewTokenAccount(t.Context(), "operator:a", true)
	ok(t, err)
	old := h.issued(acct, newKey(t), "old.site.test")
	held, err := h.svc.OperatorOrder(t.Context(), "operator:a", own, enroll.Upload{CSR: csr(t, newKey(t), "own.test")})
	ok(t, err)
	heldDER := held.DER
	h.ready(api, "api.site.test")
	ready := h.ready(acct, "ready.site.test")
	pending, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "pending.site.test")})
	ok(t, err)
	authz, err := h.svc.Authorization(t.Context(), acct, pending.Authorizations[0])
	ok(t, err)
	holder, err := h.svc.CertificateHolder(t.Context(), heldDER)
	ok(t, err)
	entries := map[string]func() error{
		"acme newOrder": func() error {
			_, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "new.site.test")})
			return err
		},
		"acme finalize": func() error {
			_, err := h.svc.Finalize(t.Context(), acct, ready.ID, csr(t, newKey(t), "ready.site.test"))
			return err
		},
		"acme challenge": func() error {
			_, err := h.svc.Respond(t.Context(), acct, authz.ID, authz.Challenges[0].ID)
			return err
		},
		"acme renewal": func() error {
			_, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "old.site.test"), Replaces: old.Certificate.CertificateRef})
			return err
		},
		"api issue for an account": func() error {
			_, err := h.svc.Enroll(t.Context(), api, enroll.Upload{CSR: csr(t, newKey(t), "api.site.test")})
			return err
		},
		"issue on an operator's word": func() error {
			_, err := h.svc.OperatorOrder(t.Context(), "operator:a", own, enroll.Upload{CSR: csr(t, newKey(t), "more.test")})
			return err
		},
		"est simplereenroll by certificate": func() error {
			_, err := h.svc.ReenrollWithCertificate(t.Context(), holder, enroll.Upload{CSR: csr(t, newKey(t), "own.test")})
			return err
		},
	}
	x := h.stop(bulkhead.StopAll, "")
	before := h.rowsOf()
	for name, enter := range entries {
		t.Run(name, func(t *testing.T) { wantStopped(t, enter()) })
	}
	if after := h.rowsOf(); after != before {
		t.Errorf("refusals changed the record: %s, then %s", before, after)
	}
	// Status, revocation and evidence go on.
	_, err = h.status.RevokeCertificates(t.Context(), "operator:a", "drill", []bulkhead.ChangeItem{{CertificateRef: old.Certificate.CertificateRef, Reason: bulkhead.Superseded}})
	ok(t, err)
	h.resume(x)
	h.stop(bulkhead.StopIssuer, "another")
	h.stop(bulkhead.StopMethod, string(bulkhead.TLSALPN01))
	for _, name := range []string{"acme newOrder", "acme finalize", "acme challenge", "api issue for an account", "issue on an operator's word", "est simplereenroll by certificate"} {
		if err := entries[name](); err != nil {
			t.Errorf("%s after the stop: %v", name, err)
		}
	}
}

// rowsOf counts orders and certificates.
func (h *house) rowsOf() string {
	h.t.Helper()
	all, _, err := h.store.Certificates(h.t.Context(), bulkhead.CertificateFilter{Limit: 1000})
	ok(h.t, err)
	open := 0
	for _, s := range []bulkhead.OrderState{bulkhead.OrderPending, bulkhead.OrderReady, bulkhead.OrderProcessing, bulkhead.OrderValid, bulkhead.OrderInvalid} {
		rows, err := h.store.OrdersInState(h.t.Context(), s, 1000)
		ok(h.t, err)
		open = open*100 + len(rows)
	}
	return fmt.Sprintf("%d certificates, orders %d", len(all), open)
}

// TestStopScopes: each kind of stop refuses what it names and leaves the rest alone.
func TestStopScopes(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	other, _ := h.account()
	order := func(a bulkhead.Account, profile string) error {
		_, err := h.svc.NewOrder(t.Context(), a, enroll.OrderRequest{Identifiers: ids(t, "www.site.test"), Profile: profile})
		return err
	}
	for _, c := range []struct {
		kind  bulkhead.StopKind
		value string
		acct  bulkhead.Account
		pass  func() error
	}{
		{bulkhead.StopIssuer, string(issuingCA), acct, nil},
		{bulkhead.StopProfile, "tls-server", acct, func() error { return order(acct, "tls-server-short") }},
		{bulkhead.StopAccount, acct.ID, acct, func() error { return order(other, "") }},
	} {
		x := h.stop(c.kind, c.value)
		wantStopped(t, order(c.acct, ""))
		if c.pass != nil {
			ok(t, c.pass())
		}
		h.resume(x)
		ok(t, order(c.acct, ""))
	}
	// A method: names validated by it are validated anew in another way, orders that rest on it are refused.
	rests := h.ready(acct, "rests.site.test") // by the first method offered
	authz, err := h.svc.Authorization(t.Context(), acct, rests.Authorizations[0])
	ok(t, err)
	m := authz.Challenges[0].Method
	h.stop(bulkhead.StopMethod, string(m))
	_, err = h.svc.Finalize(t.Context(), acct, rests.ID, csr(t, newKey(t), "rests.site.test"))
	wantStopped(t, err)
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "rests.site.test")})
	ok(t, err)
	fresh, err := h.svc.Authorization(t.Context(), acct, o.Authorizations[0])
	ok(t, err)
	if fresh.ID == authz.ID || slices.ContainsFunc(fresh.Challenges, func(c bulkhead.Challenge) bool { return c.Method == m }) {
		t.Errorf("the new order rests on %+v", fresh)
	}
	for _, left := range []bulkhead.Method{bulkhead.HTTP01, bulkhead.DNS01, bulkhead.TLSALPN01} {
		if left != m {
			h.stop(bulkhead.StopMethod, string(left))
		}
	}
	wantStopped(t, order(acct, "")) // none is left
}

// holding is an issuer that waits until a test lets it go on.
type holding struct {
	enroll.Issuer
	reached, free chan struct{}
}

func (x holding) IssueAfter(ctx context.Context, req bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error) {
	x.reached <- struct{}{}
	<-x.free
	return x.Issuer.IssueAfter(ctx, req, stored)
}

// TestStopInFlight: a finalize that was accepted before the stop and had not been signed is not signed: the signer reads
// the stop itself. Its order waits in processing, however long the stop lasts, and the client that polls gets its
// certificate after it.
func TestStopInFlight(t *testing.T) {
	h := newHouse(t)
	h.script.caa = func(id bulkhead.Identifier) (bulkhead.CAACheck, error) {
		return bulkhead.CAACheck{Identifier: id, At: h.now(), ValidUntil: h.now().Add(time.Hour), Result: bulkhead.CAAPermitted}, nil
	}
	hold := holding{h.cfg.Issuer, make(chan struct{}), make(chan struct{})}
	h.cfg.Issuer, h.cfg.Limits.FinalizeWait = hold, time.Millisecond
	h.svc = h.service()
	acct, _ := h.account()
	o := h.ready(acct, "flight.site.test")
	o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "flight.site.test"))
	ok(t, err)
	<-hold.reached
	x := h.stop(bulkhead.StopAll, "")
	close(hold.free)
	ok(t, h.svc.Resume(t.Context()))
	time.Sleep(50 * time.Millisecond)
	h.shift.Store(int64(3 * time.Hour)) // longer than orders are tried
	ok(t, h.svc.Resume(t.Context()))
	if o = h.until(acct, o.ID, bulkhead.OrderProcessing); o.Certificate.Serial != (bulkhead.Serial{}) {
		t.Fatalf("%+v", o)
	}
	if d := h.svc.RetryAfter(t.Context(), o, time.Second); d != time.Minute {
		t.Errorf("the client is to ask again after %s", d)
	}
	if n := h.rowsOf()[:1]; n != "0" {
		t.Errorf("%s certificates were reserved", n)
	}
	go func() {
		for range hold.reached { // the stop is over: nobody is held any more
		}
	}()
	h.resume(x)
	h.until(acct, o.ID, bulkhead.OrderValid)
	// An order that runs out of time meanwhile ends as any other.
	late := h.ready(acct, "late.site.test")
	x = h.stop(bulkhead.StopAll, "")
	_, err = h.svc.Finalize(t.Context(), acct, late.ID, csr(t, newKey(t), "late.site.test"))
	wantStopped(t, err)
	h.resume(x)
}

// TestStopUnderLoad has 32 callers issue while one person stops: nothing that was asked for after the commit of the stop is signed, and each
// is told. How long the last certificate took is printed (wanted are 5 seconds and ten signing latencies; see run.BenchmarkStopUnderLoad).
func TestStopUnderLoad(t *testing.T) {
	const callers = 32
	h := newHouse(t)
	accounts := make([]bulkhead.Account, callers)
	for i := range accounts {
		var err error
		accounts[i], _, err = h.svc.NewTokenAccount(t.Context(), "operator:a", true)
		ok(t, err)
	}
	keys := make([][]byte, callers)
	for i := range keys {
		keys[i] = csr(t, newKey(t), fmt.Sprintf("w%d.test", i))
	}
	var last, latency, youngest atomic.Int64 // unix nanoseconds of the newest certificate; the longest issue; when the one that was asked for last was
	var issued, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for {
				begun := time.Now()
				_, err := h.svc.OperatorOrder(context.Background(), "operator:a", accounts[i], enroll.Upload{CSR: keys[i]})
				if bulkhead.KindOf(err) == bulkhead.KindStopped {
					refused.Add(1)
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				issued.Add(1)
				now := time.Now()
				keep(&last, now.UnixNano())
				keep(&latency, int64(now.Sub(begun)))
				keep(&youngest, begun.UnixNano())
			}
		})
	}
	for end := time.Now().Add(time.Minute); issued.Load() < 2*callers && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	commanded := time.Now()
	h.stop(bulkhead.StopAll, "")
	committed := time.Now()
	wg.Wait()
	after, worst := time.Unix(0, last.Load()).Sub(commanded), time.Duration(latency.Load())
	t.Logf("%d certificates by %d callers, longest issue %s; stop committed after %s; last certificate handed out %s after the command", issued.Load(), callers, worst, committed.Sub(commanded), after)
	if asked := time.Unix(0, youngest.Load()); refused.Load() != callers || asked.After(committed) {
		t.Errorf("%d callers were refused; one was served who asked %s after the stop was committed", refused.Load(), asked.Sub(committed))
	}
	if n, err := h.store.OpenReservations(t.Context(), time.Now().Add(time.Hour), 100); err != nil || len(n) != 0 {
		t.Errorf("reservations left open: %d %v", len(n), err)
	}
}

func keep(to *atomic.Int64, v int64) {
	for old := to.Load(); v > old && !to.CompareAndSwap(old, v); old = to.Load() {
	}
}

// TestStopIsEvidence: stop and resume are leaves with their time, scope and reason.
func TestStopIsEvidence(t *testing.T) {
	h := newHouse(t)
	_, err := h.svc.Stop(t.Context(), "operator:a", bulkhead.Stop{Kind: bulkhead.StopAll})
	wantKind(t, err, bulkhead.KindUsage)
	for _, bad := range []bulkhead.Stop{{Reason: "x"}, {Kind: bulkhead.StopIssuer, Reason: "x"}, {Kind: bulkhead.StopAll, Value: "x", Reason: "x"},
		{Kind: "moon", Value: "x", Reason: "x"}, {Kind: bulkhead.StopMethod, Value: "mail", Reason: "x"}} {
		_, err := h.svc.Stop(t.Context(), "operator:a", bad)
		wantKind(t, err, bulkhead.KindUsage)
	}
	before := h.leaves()
	x := h.stop(bulkhead.StopIssuer, string(issuingCA))
	h.resume(x)
	ok(t, h.svc.EndStop(t.Context(), x.ID, "request-"+x.ID, bulkhead.Hash{}, "again after a crash"))
	wantKind(t, h.svc.EndStop(t.Context(), x.ID, "another", bulkhead.Hash{}, "late"), bulkhead.KindConflict)
	if n := h.leaves() - before; n != 2 {
		t.Errorf("%d leaves", n)
	}
	if x.At.Nanosecond() != 0 || x.At.Location() != time.UTC {
		t.Errorf("the stop is dated %v", x.At)
	}
}
