package signer_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/signer"
)

// partner makes a registration partner that brought accountA.
func (h *house) partner(scope bulkhead.PartnerScope) {
	h.t.Helper()
	ok(h.t, h.store.CreatePartner(context.Background(), bulkhead.Partner{ID: "north", State: bulkhead.PartnerActive, Scope: scope, CreatedAt: h.now()}))
}

// customer is a request by an account of the partner, with evidence for every name.
func (h *house) customer(id string, r bulkhead.CertificateRequest) bulkhead.CertificateRequest {
	h.t.Helper()
	ok(h.t, h.store.CreateAccount(context.Background(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: "t-" + id, Partner: "north", Creator: "partner:north/yuki", CreatedAt: h.now()}))
	r.AccountID = id
	r.OrderID = h.order(r.Names, func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.AccountID = id })
	return r
}

// TestTakenOverEnroll: whoever holds the identity of enrolment may call the signer with whatever he likes. He gets no
// certificate without evidence in the record, none beyond a partner's bounds, none that is stopped, none for an account
// that is out, none for a high-value name on one person's word; and he chooses no serial, no date and no extension.
func TestTakenOverEnroll(t *testing.T) {
	h := newHouse(t, func(c *signer.Config) { c.HighValue = []string{"bank.test"} })
	ctx := context.Background()
	h.partner(bulkhead.PartnerScope{Names: []string{"north.test"}, Profiles: []string{"tls-server"}, PerHour: 100, PerDay: 100})
	h.account("suspended")
	out, err := h.store.Account(ctx, "suspended")
	ok(t, err)
	out.State = bulkhead.AccountSuspended
	ok(t, h.store.UpdateAccount(ctx, out, bulkhead.AccountValid))
	h.account("rolled")
	due, err := h.store.Account(ctx, "rolled")
	ok(t, err)
	due.RollDue = h.now()
	ok(t, h.store.UpdateAccount(ctx, due, bulkhead.AccountValid))
	lie := func(change func(*bulkhead.CertificateRequest)) bulkhead.CertificateRequest {
		r := h.request("a.site.test")
		change(&r)
		return r
	}
	named := func(id string) func(*bulkhead.CertificateRequest) {
		return func(r *bulkhead.CertificateRequest) {
			r.AccountID = id
			r.OrderID = h.order(r.Names, func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.AccountID = id })
		}
	}
	profiled := h.customer("c-profile", h.request("a.north.test"))
	profiled.Profile = "tls-server-short"
	for name, c := range map[string]struct {
		asks bulkhead.CertificateRequest
		kind bulkhead.Kind
	}{
		"an order that was never placed": {lie(func(r *bulkhead.CertificateRequest) { r.OrderID = "made-up" }), bulkhead.KindNotFound},
		"no validation":                  {lie(func(r *bulkhead.CertificateRequest) { r.OrderID = h.order(r.Names, noValidation) }), bulkhead.KindUnauthorized},
		"another's validation":           {lie(func(r *bulkhead.CertificateRequest) { h.account("thief"); r.AccountID = "thief" }), bulkhead.KindUnauthorized},
		"an account of fancy":            {lie(named("nobody")), bulkhead.KindUnauthorized},
		"a suspended account":            {lie(named("suspended")), bulkhead.KindUnauthorized},
		"an account with a dead key":     {lie(named("rolled")), bulkhead.KindUserActionRequired},
		"more names than validated": {lie(func(r *bulkhead.CertificateRequest) {
			r.Names = ids(t, "a.site.test", "www.google.com")
			r.CSR = csr(t, newKey(t), r.Names)
		}), bulkhead.KindUnauthorized},
		"no account":                   {lie(func(r *bulkhead.CertificateRequest) { r.AccountID = "" }), bulkhead.KindMalformed},
		"the root":                     {lie(func(r *bulkhead.CertificateRequest) { r.Authority = rootCA }), bulkhead.KindForbidden},
		"the house's own issuer":       {lie(func(r *bulkhead.CertificateRequest) { r.Authority = infraCA }), bulkhead.KindForbidden},
		"beyond a partner's names":     {h.customer("c-names", h.request("www.google.test")), bulkhead.KindRejectedIdentifier},
		"beyond a partner's profiles":  {profiled, bulkhead.KindForbidden},
		"a high-value name":            {h.request("login.bank.test"), bulkhead.KindGate},
		"a request to be an authority": {lie(func(r *bulkhead.CertificateRequest) { r.CSR = csr(t, newKey(t), r.Names, asAuthority) }), bulkhead.KindBadCSR},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.signer.Issue(ctx, c.asks)
			wantKind(t, err, c.kind, "")
		})
	}
	// A high-value name on the word of who made the account is no second word; on another's it is.
	r := h.customer("c-bank", h.request("x.north.test"))
	ok(t, h.store.PutSecondApproval(ctx, bulkhead.SecondApproval{OrderID: r.OrderID, Actor: "partner:north/yuki", At: h.now()}))
	bank := h.request("pay.bank.test")
	ok(t, h.store.PutSecondApproval(ctx, bulkhead.SecondApproval{OrderID: bank.OrderID, Actor: "account:" + accountA, At: h.now()}))
	_, err = h.signer.Issue(ctx, bank)
	wantKind(t, err, bulkhead.KindGate, "second")
	ok(t, h.store.PutSecondApproval(ctx, bulkhead.SecondApproval{OrderID: bank.OrderID, Actor: "request:r-1", At: h.now()}))
	_, err = h.signer.Issue(ctx, bank)
	ok(t, err)
	if n := h.rows()[bulkhead.Issued]; n != 1 {
		t.Errorf("%d certificates", n)
	}
	h.audit()
}

func noValidation(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Method = "" }

func asAuthority(r *x509.CertificateRequest) {
	r.ExtraExtensions = append(r.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}})
}

// TestTakenOverChoosesNothing: a request has no field for serial, dates or extensions, and what a CSR asks for beyond its
// names comes to nothing.
func TestTakenOverChoosesNothing(t *testing.T) {
	want := map[string]bool{"Authority": true, "Profile": true, "CSR": true, "Names": true, "AccountID": true, "OrderID": true, "Replaces": true}
	for i := range reflect.TypeFor[bulkhead.CertificateRequest]().NumField() {
		if f := reflect.TypeFor[bulkhead.CertificateRequest]().Field(i).Name; !want[f] {
			t.Errorf("a caller may choose %s: say in this test why that is harmless", f)
		}
	}
	h := newHouse(t)
	r := h.request("a.site.test")
	r.CSR = csr(t, newKey(t), r.Names, func(q *x509.CertificateRequest) {
		q.Subject = pkix.Name{Organization: []string{"Google LLC"}}
		q.ExtraExtensions = append(q.ExtraExtensions,
			pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 9}}, // id-kp-OCSPSigning
			pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}})                             // nocheck
	})
	got, err := h.signer.Issue(context.Background(), r)
	ok(t, err)
	c, err := x509.ParseCertificate(got.DER)
	ok(t, err)
	plain, err := x509.ParseCertificate(h.issue("b.site.test").DER)
	ok(t, err)
	if len(c.Extensions) != len(plain.Extensions) || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(c.Subject.Organization) != 0 {
		t.Errorf("%d extensions, usages %v, subject %s", len(c.Extensions), c.ExtKeyUsage, c.Subject)
	}
}

// TestTakenOverVolume: however many calls at once, no more certificates than the partner's volume are signed.
func TestTakenOverVolume(t *testing.T) {
	h := newHouse(t)
	h.partner(bulkhead.PartnerScope{Names: []string{"*"}, Profiles: []string{"tls-server"}, PerHour: 3, PerDay: 3})
	requests := make([]bulkhead.CertificateRequest, 12)
	requests[0] = h.customer("c", h.request("n.test"))
	for i := range requests {
		requests[i] = requests[0]
		requests[i].CSR = csr(t, newKey(t), requests[0].Names)
	}
	var signed, limited atomic.Int64
	together(len(requests), func(i int) {
		switch _, err := h.signer.Issue(context.Background(), requests[i]); bulkhead.KindOf(err) {
		case "":
			signed.Add(1)
		case bulkhead.KindRateLimited:
			limited.Add(1)
		default:
			t.Error(err)
		}
	})
	if signed.Load() != 3 || limited.Load() != 9 {
		t.Errorf("%d signed, %d refused", signed.Load(), limited.Load())
	}
	h.audit()
}

// TestStopBetweenPrepareAndSign: every kind of stop holds at both steps, for the caller that lies and for the token that
// was made before the stop; afterwards the same request is signed. What the house signs for itself goes on.
func TestStopBetweenPrepareAndSign(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	h.partner(bulkhead.PartnerScope{Names: []string{"*"}, Profiles: []string{"tls-server"}, PerHour: 50, PerDay: 50})
	r := h.customer("c", h.request("n.test"))
	for kind, value := range map[bulkhead.StopKind]string{bulkhead.StopAll: "", bulkhead.StopIssuer: string(ecdsaCA), bulkhead.StopProfile: "tls-server",
		bulkhead.StopPartner: "north", bulkhead.StopAccount: "c", bulkhead.StopMethod: string(bulkhead.DNS01)} {
		t.Run(string(kind), func(t *testing.T) {
			early, err := h.signer.Prepare(ctx, r)
			ok(t, err)
			x := bulkhead.Stop{ID: "s-" + string(kind), Kind: kind, Value: value, Reason: "drill", Actor: "test", At: h.now()}
			ok(t, h.store.PutStop(ctx, x))
			_, err = h.signer.Prepare(ctx, r)
			wantKind(t, err, bulkhead.KindStopped, "stopped")
			_, err = h.signer.Sign(ctx, early)
			wantKind(t, err, bulkhead.KindStopped, "stopped")
			names := ids(t, "localhost")
			if _, err := h.signer.IssueInfrastructure(ctx, names, csr(t, newKey(t), names)); err != nil {
				t.Errorf("the house's own listener: %v", err)
			}
			if _, err := h.signer.EnsureDelegate(ctx, ecdsaCA); err != nil {
				t.Errorf("the delegate for OCSP: %v", err)
			}
			x.EndedAt = h.now().Add(time.Second)
			ok(t, h.store.EndStop(ctx, x))
			_, err = h.signer.Issue(ctx, r)
			ok(t, err)
		})
	}
	ok(t, h.store.PutStop(ctx, bulkhead.Stop{ID: "infra", Kind: bulkhead.StopIssuer, Value: string(infraCA), Reason: "drill", Actor: "test", At: h.now()}))
	names := ids(t, "localhost")
	_, err := h.signer.IssueInfrastructure(ctx, names, csr(t, newKey(t), names))
	wantKind(t, err, bulkhead.KindStopped, string(infraCA))
	h.audit()
}
