package enroll_test

import (
	"context"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/pki/policy"
)

func TestIssueAndRows(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	before := h.leaves()
	c := h.issued(acct, newKey(t), "www.site.test", "*.site.test")
	x, err := x509.ParseCertificate(c.DER)
	ok(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(h.root)
	inter := x509.NewCertPool()
	issuer, err := x509.ParseCertificate(c.Chain[0])
	ok(t, err)
	inter.AddCert(issuer)
	if _, err := x.Verify(x509.VerifyOptions{Roots: pool, Intermediates: inter, DNSName: "a.site.test"}); err != nil {
		t.Fatal(err)
	}
	validations, checks, err := h.store.OrderEvidence(t.Context(), c.Certificate.OrderID)
	ok(t, err)
	if len(validations) != 2 || len(checks) != 2 {
		t.Fatalf("%d validations and %d CAA checks are kept", len(validations), len(checks))
	}
	for _, v := range validations {
		if v.Wildcard && v.Method != bulkhead.DNS01 || v.Detail != "seen by the test" || !v.ReuseUntil.After(v.At) {
			t.Errorf("the validation is %+v", v)
		}
	}
	if got := h.leaves() - before; got != 2+2+2 { // validations, CAA, intent and outcome
		t.Errorf("%d leaves of evidence, want 6", got)
	}
}

func TestValidationIsReused(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	h.issued(acct, newKey(t), "www.site.test")
	looks := h.script.looks.Load()
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	if o.State != bulkhead.OrderReady || h.script.looks.Load() != looks {
		t.Fatalf("the order is %s after %d looks", o.State, h.script.looks.Load()-looks)
	}
	o, err = h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "*.www.site.test")})
	ok(t, err)
	if o.State != bulkhead.OrderPending {
		t.Fatal("a plain validation served for a wildcard")
	}
	other, _ := h.account()
	o, err = h.svc.NewOrder(t.Context(), other, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	if o.State != bulkhead.OrderPending {
		t.Fatal("one account's validation served another")
	}
	h.shift.Store(int64(11 * 24 * time.Hour))
	o, err = h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	if o.State != bulkhead.OrderPending {
		t.Fatal("a validation served after its time")
	}
}

func TestRefusedValidation(t *testing.T) {
	h := newHouse(t)
	h.script.validate = func(id bulkhead.Identifier, _ bulkhead.Method) (string, error) {
		return "", bulkhead.Faultf(bulkhead.KindConnection, "nobody at %s", id.Value)
	}
	acct, _ := h.account()
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	h.respond(acct, o)
	for o.State == bulkhead.OrderPending {
		o, err = h.svc.Order(t.Context(), acct, o.ID)
		ok(t, err)
	}
	if o.State != bulkhead.OrderInvalid || o.Problem == nil || o.Problem.Kind != bulkhead.KindConnection || len(o.Problem.Subs) != 1 {
		t.Fatalf("the order is %s with %+v", o.State, o.Problem)
	}
	_, err = h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "www.site.test"))
	wantKind(t, err, bulkhead.KindOrderNotReady)
}

func TestRespondIsIdempotent(t *testing.T) {
	h := newHouse(t)
	release := make(chan struct{})
	h.script.validate = func(bulkhead.Identifier, bulkhead.Method) (string, error) { <-release; return "seen", nil }
	acct, _ := h.account()
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	a, err := h.svc.Authorization(t.Context(), acct, o.Authorizations[0])
	ok(t, err)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			got, err := h.svc.Respond(context.Background(), acct, a.ID, a.Challenges[0].ID)
			if err != nil || got.Challenges[0].State != bulkhead.ChallengeProcessing {
				t.Errorf("%v, %+v", err, got)
			}
		})
	}
	wg.Wait()
	close(release)
	h.until(acct, o.ID, bulkhead.OrderReady)
	if n := h.script.looks.Load(); n != 1 {
		t.Errorf("looked %d times", n)
	}
}

func TestRespondShowsAnOutcomeThatComesSoon(t *testing.T) {
	h := newHouse(t, func(c *enroll.Config) { c.Limits.RespondWait = 10 * time.Second })
	acct, _ := h.account()
	o, err := h.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "www.site.test")})
	ok(t, err)
	a, err := h.svc.Authorization(t.Context(), acct, o.Authorizations[0])
	ok(t, err)
	a, err = h.svc.Respond(t.Context(), acct, a.ID, a.Challenges[0].ID)
	ok(t, err)
	if a.State != bulkhead.AuthorizationValid || a.Challenges[0].State != bulkhead.ChallengeValid {
		t.Errorf("%+v", a)
	}
	// The order must not lag behind what its client was told.
	if o, err = h.svc.Order(t.Context(), acct, o.ID); err != nil || o.State != bulkhead.OrderReady {
		t.Errorf("the order is %s, %v", o.State, err)
	}
}

func TestOneFinalizeWins(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	o := h.ready(acct, "www.site.test")
	var mu sync.Mutex
	kinds := map[bulkhead.Kind]int{}
	var wg sync.WaitGroup
	for range 8 {
		request := csr(t, newKey(t), "www.site.test")
		wg.Go(func() {
			_, err := h.svc.Finalize(context.Background(), acct, o.ID, request)
			mu.Lock()
			defer mu.Unlock()
			kinds[bulkhead.KindOf(err)]++
		})
	}
	wg.Wait()
	if kinds[""] != 1 || kinds[bulkhead.KindOrderNotReady] != 7 {
		t.Fatalf("outcomes: %v", kinds)
	}
	h.until(acct, o.ID, bulkhead.OrderValid)
	list, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{OrderID: o.ID})
	ok(t, err)
	if len(list) != 1 {
		t.Fatalf("%d certificates for one order", len(list))
	}
}

func TestCAADenial(t *testing.T) {
	h := newHouse(t)
	h.script.caa = func(id bulkhead.Identifier) (bulkhead.CAACheck, error) {
		c := bulkhead.CAACheck{Identifier: id, At: time.Now(), ValidUntil: time.Now().Add(time.Hour), Result: bulkhead.CAAPermitted, Detail: "fine"}
		if id.Value == "no.site.test" {
			c.Result, c.Detail = bulkhead.CAADenied, "0 issue \"somebody.example\""
		}
		return c, nil
	}
	acct, _ := h.account()
	o := h.ready(acct, "yes.site.test", "no.site.test")
	o, err := h.svc.Finalize(t.Context(), acct, o.ID, csr(t, newKey(t), "yes.site.test", "no.site.test"))
	ok(t, err)
	if o.State != bulkhead.OrderInvalid || o.Problem.Kind != bulkhead.KindCAA || len(o.Problem.Subs) != 1 || o.Problem.Subs[0].Identifier.Value != "no.site.test" {
		t.Fatalf("the order is %s with %+v", o.State, o.Problem)
	}
	_, checks, err := h.store.OrderEvidence(t.Context(), o.ID)
	ok(t, err)
	if len(checks) != 2 {
		t.Errorf("%d CAA rows, want one for each name, denials too", len(checks))
	}
}

func TestRevocation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	owner, _ := h.account()
	other, _ := h.account()
	key := newKey(t)
	c := h.issued(owner, key, "www.site.test")

	_, err := h.svc.RevokeByAccount(ctx, owner, c.DER, bulkhead.CertificateHold)
	wantKind(t, err, bulkhead.KindBadRevocationReason)
	_, err = h.svc.RevokeByAccount(ctx, other, c.DER, bulkhead.Unspecified)
	wantKind(t, err, bulkhead.KindForbidden)
	_, err = h.svc.RevokeByAccount(ctx, owner, []byte("no certificate"), bulkhead.Unspecified)
	wantKind(t, err, bulkhead.KindMalformed)
	_, err = h.svc.RevokeByAccount(ctx, owner, h.root.Raw, bulkhead.Unspecified)
	wantKind(t, err, bulkhead.KindNotFound)
	spki, err := x509.MarshalPKIXPublicKey(newKey(t).Public())
	ok(t, err)
	_, err = h.svc.RevokeByKey(ctx, spki, c.DER, bulkhead.Unspecified)
	wantKind(t, err, bulkhead.KindForbidden)
	if row := h.row(c); row.State != bulkhead.Issued {
		t.Fatal("a refused revocation changed the certificate")
	}

	h.ready(other, "www.site.test") // other holds the names now
	_, err = h.svc.RevokeByAccount(ctx, other, c.DER, bulkhead.KeyCompromise)
	ok(t, err)
	if row := h.row(c); row.State != bulkhead.Revoked || row.Reason != bulkhead.CessationOfOperation {
		t.Fatalf("%s for %s", row.State, row.Reason)
	}
	_, err = h.svc.RevokeByAccount(ctx, owner, c.DER, bulkhead.Superseded)
	wantKind(t, err, bulkhead.KindAlreadyRevoked)

	// The key still blocks and upgrades the reason.
	spki, err = x509.MarshalPKIXPublicKey(key.Public())
	ok(t, err)
	_, err = h.svc.RevokeByKey(ctx, spki, c.DER, bulkhead.Superseded)
	ok(t, err)
	if row := h.row(c); row.Reason != bulkhead.KeyCompromise {
		t.Fatalf("revoked for %s", row.Reason)
	}
	_, err = h.svc.RevokeByKey(ctx, spki, c.DER, bulkhead.Superseded)
	wantKind(t, err, bulkhead.KindAlreadyRevoked)

	// P10: on no path again.
	o := h.ready(owner, "www.site.test")
	_, err = h.svc.Finalize(ctx, owner, o.ID, csr(t, key, "www.site.test"))
	wantKind(t, err, bulkhead.KindBadPublicKey)
	_, _, err = h.svc.NewAccount(ctx, accountRequest(t, key.Public()))
	wantKind(t, err, bulkhead.KindBadPublicKey)
	_, err = h.svc.ChangeKey(ctx, owner, accountRequest(t, key.Public()))
	wantKind(t, err, bulkhead.KindBadPublicKey)
	house, _, err := h.svc.NewTokenAccount(ctx, "operator:alice", true)
	ok(t, err)
	_, err = h.svc.OperatorOrder(ctx, "operator:alice", house, enroll.Upload{CSR: csr(t, key, "localhost")})
	wantKind(t, err, bulkhead.KindBadPublicKey)
}

// TestOwnerReportsCompromise: the owner's word is enough to block the key.
func TestOwnerReportsCompromise(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	key := newKey(t)
	c := h.issued(acct, key, "www.site.test")
	_, err := h.svc.RevokeByAccount(t.Context(), acct, c.DER, bulkhead.KeyCompromise)
	ok(t, err)
	blocked, err := h.store.BlockedKeys(t.Context(), c.Certificate.KeyHash)
	ok(t, err)
	if len(blocked) != 1 {
		t.Fatal("the key is not blocked")
	}
}

func (h *house) row(c bulkhead.IssuedCertificate) bulkhead.Certificate {
	h.t.Helper()
	row, _, err := h.store.Certificate(h.t.Context(), c.Certificate.CertificateRef)
	ok(h.t, err)
	return row
}

func TestOperatorOrder(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	house, token, err := h.svc.NewTokenAccount(ctx, "operator:alice", true)
	ok(t, err)
	if found, err := h.svc.AccountByToken(ctx, token); err != nil || found.ID != house.ID {
		t.Fatalf("%v, %+v", err, found)
	}
	_, err = h.svc.AccountByToken(ctx, token+"x")
	wantKind(t, err, bulkhead.KindUnauthorized)

	c, err := h.svc.OperatorOrder(ctx, "operator:alice", house, enroll.Upload{CSR: csr(t, newKey(t), "localhost", "db.internal", "10.1.2.3")})
	ok(t, err)
	validations, checks, err := h.store.OrderEvidence(ctx, c.Certificate.OrderID)
	ok(t, err)
	if len(validations) != 3 || len(checks) != 3 || h.script.looks.Load() != 0 {
		t.Fatalf("%d validations, %d CAA checks, %d looks", len(validations), len(checks), h.script.looks.Load())
	}
	for _, v := range validations {
		if v.Method != bulkhead.OperatorApproval || !strings.Contains(v.Detail, "operator:alice") {
			t.Errorf("the validation is %+v", v)
		}
	}

	_, err = h.svc.OperatorOrder(ctx, "operator:alice", house, enroll.Upload{CSR: csr(t, newKey(t), "localhost", "www.example.org")})
	wantKind(t, err, bulkhead.KindRejectedIdentifier)
	acct, _ := h.account()
	_, err = h.svc.OperatorOrder(ctx, "operator:alice", acct, enroll.Upload{CSR: csr(t, newKey(t), "localhost")})
	wantKind(t, err, bulkhead.KindForbidden)
	o, err := h.svc.NewOrder(ctx, house, enroll.OrderRequest{Identifiers: ids(t, "localhost")})
	ok(t, err)
	if o.State != bulkhead.OrderPending {
		t.Error("a person's word for one order served another")
	}
}

func TestSubmitCSR(t *testing.T) {
	h := newHouse(t)
	acct, _, err := h.svc.NewTokenAccount(t.Context(), "operator:alice", false)
	ok(t, err)
	_, err = h.svc.SubmitCSR(t.Context(), acct, enroll.Upload{CSR: csr(t, newKey(t), "www.site.test")})
	wantKind(t, err, bulkhead.KindUnauthorized)
	h.ready(acct, "www.site.test")
	c, err := h.svc.SubmitCSR(t.Context(), acct, enroll.Upload{CSR: csr(t, newKey(t), "www.site.test"), Profile: "tls-server-short"})
	ok(t, err)
	if c.Certificate.Profile != "tls-server-short" || c.Certificate.AccountID != acct.ID {
		t.Errorf("the certificate is %+v", c.Certificate)
	}
}

func TestRenewalInfo(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	c := h.issued(acct, newKey(t), "www.site.test")
	id, err := h.svc.CertIDOf(t.Context(), c.Certificate.CertificateRef)
	ok(t, err)
	info, err := h.svc.RenewalInfo(t.Context(), id)
	ok(t, err)
	life := c.Certificate.NotAfter.Sub(c.Certificate.NotBefore)
	if at := info.Start.Sub(c.Certificate.NotBefore); at < life/2 || info.End.Sub(c.Certificate.NotBefore) > life*3/4 || !info.Start.Before(info.End) || info.RetryAfter != 6*time.Hour {
		t.Errorf("the window is %+v", info)
	}
	_, err = h.svc.RevokeByAccount(t.Context(), acct, c.DER, bulkhead.Superseded)
	ok(t, err)
	info, err = h.svc.RenewalInfo(t.Context(), id)
	ok(t, err)
	if info.End.After(h.now()) || !info.Start.Before(info.End) {
		t.Errorf("revoked, and the window is %+v", info)
	}
	aki, _, _ := strings.Cut(id, ".")
	for text, kind := range map[string]bulkhead.Kind{
		"": bulkhead.KindMalformed, "x": bulkhead.KindMalformed, "!!.AQ": bulkhead.KindMalformed, aki + ".": bulkhead.KindMalformed,
		aki + ".AAE": bulkhead.KindMalformed /* a needless zero */, aki + ".gQ": bulkhead.KindMalformed, /* negative */
		aki + ".AQ": bulkhead.KindNotFound, "AAAA.AQ": bulkhead.KindNotFound,
	} {
		_, err := h.svc.RenewalInfo(t.Context(), text)
		if bulkhead.KindOf(err) != kind {
			t.Errorf("%q: %v, want %s", text, err, kind)
		}
	}
}

func TestDeactivation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	acct, _ := h.account()
	o := h.ready(acct, "www.site.test")
	a, err := h.svc.DeactivateAuthorization(ctx, acct, o.Authorizations[0])
	ok(t, err)
	if a.State != bulkhead.AuthorizationDeactivated {
		t.Fatal(a.State)
	}
	o, err = h.svc.Order(ctx, acct, o.ID)
	ok(t, err)
	if o.State != bulkhead.OrderInvalid {
		t.Fatalf("the order is %s", o.State)
	}
	_, err = h.svc.DeactivateAccount(ctx, acct)
	ok(t, err)
	_, err = h.svc.Account(ctx, acct.ID)
	wantKind(t, err, bulkhead.KindUnauthorized)
}

// TestStaleAccountRequest: a request that was verified before a key change does not bring the old key back.
func TestStaleAccountRequest(t *testing.T) {
	h := newHouse(t)
	acct, _ := h.account()
	changed, err := h.svc.ChangeKey(t.Context(), acct, accountRequest(t, newKey(t).Public()))
	ok(t, err)
	_, err = h.svc.UpdateAccount(t.Context(), acct, []string{"mailto:a@site.test"}, false)
	wantKind(t, err, bulkhead.KindUnauthorized)
	now, err := h.svc.Account(t.Context(), acct.ID)
	ok(t, err)
	if now.Thumbprint != changed.Thumbprint || len(now.Contacts) != 0 {
		t.Errorf("the account is %+v", now)
	}
}

// TestReuseFollowsPolicy: configuration can shorten the reuse of a validation and never stretch it beyond the policy
// row of the day (BR 4.2.1).
func TestReuseFollowsPolicy(t *testing.T) {
	for _, asked := range []time.Duration{time.Hour, 10_000 * 24 * time.Hour} {
		h := newHouse(t, func(c *enroll.Config) { c.Limits.ValidationReuse = asked })
		acct, _ := h.account()
		o := h.ready(acct, "www.site.test")
		a, err := h.svc.Authorization(t.Context(), acct, o.Authorizations[0])
		ok(t, err)
		want := min(asked, policy.DCVReuse(h.now()))
		if got := a.ExpiresAt.Sub(h.now()); got > want || got < want-time.Minute {
			t.Errorf("asked for %s, got %s, want %s", asked, got, want)
		}
	}
}
