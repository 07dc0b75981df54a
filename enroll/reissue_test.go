package enroll_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// methods are the methods of an authorisation's challenges.
func methods(a bulkhead.Authorization) (out []bulkhead.Method) {
	for _, c := range a.Challenges {
		out = append(out, c.Method)
	}
	return out
}

// waiting is the account's one open order.
func (h *house) waiting(acct bulkhead.Account) bulkhead.Order {
	h.t.Helper()
	open, err := h.store.OpenOrdersByAccount(h.t.Context(), acct.ID, 10)
	ok(h.t, err)
	if len(open) != 1 {
		h.t.Fatalf("%d open orders, want 1", len(open))
	}
	return open[0]
}

// TestReissueByAnotherMethod: the method may change at a reissue, and then the validation there is is given up and a new one
// is asked for, by that method and no other; the same request later finishes the same order (S4-5).
func TestReissueByAnotherMethod(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	old := h.issued(acct, newKey(t), "www.site.test", "site.test").Certificate
	seen, _, err := h.store.OrderEvidence(t.Context(), old.OrderID)
	ok(t, err)
	was := seen[0].Method
	other := bulkhead.DNS01
	if was == other {
		other = bulkhead.HTTP01
	}
	request := csr(t, newKey(t), "www.site.test", "site.test")
	looks := h.script.looks.Load()

	for range 2 { // asked twice, it is the same order that waits
		_, err = h.svc.Reissue(t.Context(), acct.ID, old, request, other)
		wantKind(t, err, bulkhead.KindUserActionRequired)
	}
	o := h.waiting(acct)
	if o.State != bulkhead.OrderPending || o.Replaces != old.CertificateRef || len(o.Authorizations) != 2 || h.script.looks.Load() != looks {
		t.Fatalf("%+v after %d looks", o, h.script.looks.Load()-looks)
	}
	for _, id := range o.Authorizations {
		a, err := h.svc.Authorization(t.Context(), acct, id)
		ok(t, err)
		if a.State != bulkhead.AuthorizationPending || !slices.Equal(methods(a), []bulkhead.Method{other}) {
			t.Fatalf("%s by %v", a.State, methods(a))
		}
	}
	held, err := h.store.ReusableAuthorizations(t.Context(), acct.ID, ids(t, "www.site.test", "site.test"), h.now())
	ok(t, err)
	if len(held) != 0 {
		t.Fatalf("the old validation can still be used: %+v", held)
	}

	h.respond(acct, o)
	h.until(acct, o.ID, bulkhead.OrderReady)
	got, err := h.svc.Reissue(t.Context(), acct.ID, old, request, other)
	ok(t, err)
	if got.Certificate.OrderID != o.ID || got.Certificate.Replaces != old.CertificateRef {
		t.Fatalf("%+v", got.Certificate)
	}
	now, _, err := h.store.OrderEvidence(t.Context(), o.ID)
	ok(t, err)
	for _, v := range now {
		if v.Method != other {
			t.Errorf("%s rests on %s", v.Identifier.Value, v.Method)
		}
	}
	again, err := h.svc.Reissue(t.Context(), acct.ID, old, request, other)
	ok(t, err)
	if again.Certificate.CertificateRef != got.Certificate.CertificateRef {
		t.Error("the same request got another certificate")
	}
}

// TestReissueAgainByAnotherMethod: a certificate that was replaced is not replaced by another validation once more. The refusal
// names what is to be replaced now, gives up no validation, and the reissue by the validation there is goes on.
func TestReissueAgainByAnotherMethod(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	old := h.issued(acct, newKey(t), "www.site.test").Certificate
	seen, _, err := h.store.OrderEvidence(t.Context(), old.OrderID)
	ok(t, err)
	other := bulkhead.DNS01
	if seen[0].Method == other {
		other = bulkhead.HTTP01
	}
	got, err := h.svc.Reissue(t.Context(), acct.ID, old, csr(t, newKey(t), "www.site.test"), "")
	ok(t, err)
	request := csr(t, newKey(t), "www.site.test")
	refused := func(words ...string) {
		t.Helper()
		_, err := h.svc.Reissue(t.Context(), acct.ID, old, request, other)
		wantKind(t, err, bulkhead.KindAlreadyReplaced)
		f := bulkhead.AsFault(err)
		for _, w := range words {
			if !strings.Contains(f.Detail+" "+f.Hint, w) {
				t.Errorf("%q is not in %q, %q", w, f.Detail, f.Hint)
			}
		}
		held, err := h.store.ReusableAuthorizations(t.Context(), acct.ID, ids(t, "www.site.test"), h.now())
		ok(t, err)
		if len(held) != 1 {
			t.Errorf("a refusal gave up a validation: %+v", held)
		}
	}
	refused(got.Certificate.Serial.String(), "bulkhead ticket issue "+got.Certificate.OrderID)
	_, err = h.svc.Reissue(t.Context(), acct.ID, old, request, "")
	ok(t, err)
}

// TestReissueByTheSameMethod: where the method stays, the validation is used as long as policy lets it be, and no longer.
func TestReissueByTheSameMethod(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	old := h.issued(acct, newKey(t), "www.site.test").Certificate
	seen, _, err := h.store.OrderEvidence(t.Context(), old.OrderID)
	ok(t, err)
	looks := h.script.looks.Load()
	for _, m := range []bulkhead.Method{"", seen[0].Method} {
		got, err := h.svc.Reissue(t.Context(), acct.ID, old, csr(t, newKey(t), "www.site.test"), m)
		ok(t, err)
		if got.Certificate.CertificateRef == old.CertificateRef || h.script.looks.Load() != looks {
			t.Fatalf("by %q: %+v after %d looks", m, got.Certificate.CertificateRef, h.script.looks.Load()-looks)
		}
		old = got.Certificate
	}
	h.shift.Store(int64(time.Until(seen[0].ReuseUntil) + time.Minute)) // beyond the reuse of policy
	if _, err := h.svc.Reissue(t.Context(), acct.ID, old, csr(t, newKey(t), "www.site.test"), ""); err == nil {
		t.Fatal("a validation was used beyond what policy allows")
	}
	_, err = h.svc.Reissue(t.Context(), acct.ID, old, csr(t, newKey(t), "www.site.test"), seen[0].Method)
	wantKind(t, err, bulkhead.KindUserActionRequired)
	h.waiting(acct)
}

// TestReissueRefusals: other names than the old certificate's, a method that cannot show them, somebody else's certificate,
// and an account that cannot answer challenges.
func TestReissueRefusals(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	old := h.issued(acct, newKey(t), "*.site.test", "site.test").Certificate
	_, err := h.svc.Reissue(t.Context(), acct.ID, old, csr(t, newKey(t), "site.test"), "")
	wantKind(t, err, bulkhead.KindBadCSR)
	_, err = h.svc.Reissue(t.Context(), acct.ID, old, csr(t, newKey(t), "*.site.test", "site.test"), bulkhead.HTTP01)
	wantKind(t, err, bulkhead.KindRejectedIdentifier)
	token, _, err := h.svc.NewTokenAccount(t.Context(), "operator:a", false)
	ok(t, err)
	_, err = h.svc.Reissue(t.Context(), token.ID, old, csr(t, newKey(t), "*.site.test", "site.test"), bulkhead.DNS01)
	wantKind(t, err, bulkhead.KindUserActionRequired)
	stranger, _ := h.account()
	if _, err := h.svc.Reissue(t.Context(), stranger.ID, old, csr(t, newKey(t), "*.site.test", "site.test"), ""); err == nil {
		t.Error("a stranger replaced a certificate")
	}
	if open, err := h.store.OpenOrdersByAccount(t.Context(), acct.ID, 10); err != nil || len(open) != 0 {
		t.Errorf("refusals left %d orders: %v", len(open), err)
	}
}
