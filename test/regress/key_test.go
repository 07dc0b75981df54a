package regress

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/run"
)

// subscriber is an account that holds a key, as ACME clients do.
func (h *house) subscriber(key *ecdsa.PrivateKey) (bulkhead.Account, error) {
	h.t.Helper()
	jwk := jose.JSONWebKey{Key: key.Public()}
	body, err := jwk.MarshalJSON()
	ok(h.t, err)
	sum, err := jwk.Thumbprint(crypto.SHA256)
	ok(h.t, err)
	acct, _, err := h.Enroll.NewAccount(h.t.Context(), enroll.AccountRequest{JWK: body, Thumbprint: base64.RawURLEncoding.EncodeToString(sum), Key: key.Public(), TermsAgreed: true})
	return acct, err
}

// ready opens an order and has its one name validated over http-01.
func (h *house) ready(acct bulkhead.Account, name string, replaces bulkhead.CertificateRef) (bulkhead.Order, error) {
	ctx, s := context.Background(), h.Enroll
	o, err := s.NewOrder(ctx, acct, enroll.OrderRequest{Identifiers: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}, Replaces: replaces})
	if err != nil || o.State == bulkhead.OrderReady {
		return o, err
	}
	a, err := s.Authorization(ctx, acct, o.Authorizations[0])
	if err != nil {
		return o, err
	}
	for _, c := range a.Challenges {
		if c.Method == bulkhead.HTTP01 {
			if _, err := s.Respond(ctx, acct, a.ID, c.ID); err != nil {
				return o, err
			}
		}
	}
	for end := time.Now().Add(time.Minute); o.State == bulkhead.OrderPending && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if o, err = s.Order(ctx, acct, o.ID); err != nil {
			return o, err
		}
	}
	if o.State != bulkhead.OrderReady {
		return o, errors.Join(o.Problem, errors.New("the order is "+string(o.State)))
	}
	return o, nil
}

// byACME walks an order to its certificate.
func (h *house) byACME(acct bulkhead.Account, name string, key *ecdsa.PrivateKey, replaces bulkhead.CertificateRef) (paper, error) {
	h.t.Helper()
	o, err := h.ready(acct, name, replaces)
	if err != nil {
		return paper{}, err
	}
	return h.finalize(acct, o, name, key)
}

func (h *house) finalize(acct bulkhead.Account, o bulkhead.Order, name string, key *ecdsa.PrivateKey) (paper, error) {
	h.t.Helper()
	o, err := h.Enroll.Finalize(h.t.Context(), acct, o.ID, csrFor(h.t, key, name))
	if err != nil {
		return paper{}, err
	}
	for end := time.Now().Add(time.Minute); o.State == bulkhead.OrderProcessing && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		o, err = h.Enroll.Order(h.t.Context(), acct, o.ID)
		ok(h.t, err)
	}
	if o.State != bulkhead.OrderValid {
		return paper{}, o.Problem
	}
	got, err := h.Enroll.Certificate(h.t.Context(), acct, o.Certificate)
	ok(h.t, err)
	return h.paper(got, key), nil
}

// newSubscribedHouse is a house in an internet where every name is this machine, with one account.
func newSubscribedHouse(t *testing.T) (*house, bulkhead.Account) {
	t.Helper()
	in := newInternet(t)
	h := newHouse(t, func(c *run.Config) { c.Resolver, c.ValidateHTTPPort = in.resolver, in.port })
	acct, err := h.subscriber(newKey(t))
	ok(t, err)
	in.account.Store(&acct)
	return h, acct
}

// TestCompromisedKeyIsRefusedEverywhere: one peer certified a key again right after its revocation for keyCompromise.
func TestCompromisedKeyIsRefusedEverywhere(t *testing.T) {
	h, acct := newSubscribedHouse(t)
	key := newKey(t)
	p, err := h.byACME(acct, "burnt.example.com", key, bulkhead.CertificateRef{})
	ok(t, err)
	early, err := h.ready(acct, "burnt.example.com", bulkhead.CertificateRef{}) // waits for its request since before
	ok(t, err)
	h.look()
	h.want(p, "good")
	_, err = h.Enroll.RevokeByKey(t.Context(), p.leaf.RawSubjectPublicKeyInfo, p.leaf.Raw, bulkhead.KeyCompromise)
	ok(t, err)
	ok(t, h.Edge.Refresh(t.Context()))
	h.want(p, "revoked")

	token, _, err := h.Enroll.NewTokenAccount(t.Context(), "operator:test", false)
	ok(t, err)
	fresh := newKey(t)
	doors := map[string]func(*ecdsa.PrivateKey) error{
		"finalize": func(k *ecdsa.PrivateKey) error {
			_, err := h.Enroll.Finalize(t.Context(), acct, early.ID, csrFor(t, k, "burnt.example.com"))
			return err
		},
		"a new order": func(k *ecdsa.PrivateKey) error {
			_, err := h.byACME(acct, "burnt.example.com", k, bulkhead.CertificateRef{})
			return err
		},
		"a renewal that replaces": func(k *ecdsa.PrivateKey) error {
			_, err := h.byACME(acct, "burnt.example.com", k, p.CertificateRef)
			return err
		},
		"a request by API": func(k *ecdsa.PrivateKey) error {
			_, err := h.Enroll.SubmitCSR(t.Context(), acct, enroll.Upload{CSR: csrFor(t, k, "burnt.example.com")})
			return err
		},
		"an operator's word": func(k *ecdsa.PrivateKey) error {
			_, err := h.order("burnt.regress.test", k, issuing, bulkhead.CertificateRef{})
			return err
		},
		"another issuer": func(k *ecdsa.PrivateKey) error {
			_, err := h.order("burnt.regress.test", k, other, bulkhead.CertificateRef{})
			return err
		},
		"the house's own listener": func(k *ecdsa.PrivateKey) error {
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
			ok(t, err)
			_, err = h.Signer.IssueInfrastructure(t.Context(), []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "localhost"}}, der)
			return err
		},
		"an account": func(k *ecdsa.PrivateKey) error { _, err := h.subscriber(k); return err },
	}
	refused := func() {
		t.Helper()
		for what, door := range doors {
			if err := door(key); bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
				t.Errorf("%s with the compromised key: %v", what, err)
			}
		}
	}
	refused()
	h.restart()
	h.pass(40 * 24 * time.Hour) // also when the certificate has long expired
	if early, err = h.ready(acct, "burnt.example.com", bulkhead.CertificateRef{}); err != nil {
		t.Fatal(err)
	}
	refused()
	for what, door := range doors { // and the doors are open to other keys
		if err := door(fresh); err != nil && bulkhead.KindOf(err) != bulkhead.KindAlreadyReplaced {
			t.Errorf("%s with a fresh key: %v", what, err)
		}
	}
	if _, err := h.Enroll.SubmitCSR(t.Context(), token, enroll.Upload{CSR: csrFor(t, fresh, "burnt.example.com")}); bulkhead.KindOf(err) != bulkhead.KindUnauthorized {
		t.Errorf("an account without authorisations: %v", err)
	}
}

// TestRevokedLineageDoesNotRenew: with one peer a renewed copy of a certificate goes on being renewed with the same key
// after the original was revoked as compromised.
func TestRevokedLineageDoesNotRenew(t *testing.T) {
	h, acct := newSubscribedHouse(t)
	key := newKey(t)
	original, err := h.byACME(acct, "line.example.com", key, bulkhead.CertificateRef{})
	ok(t, err)
	copied, err := h.byACME(acct, "line.example.com", key, original.CertificateRef) // as many clients renew
	ok(t, err)
	again, err := h.order("line.regress.test", key, issuing, bulkhead.CertificateRef{})
	ok(t, err)
	h.look()
	_, err = h.Enroll.RevokeByAccount(t.Context(), acct, original.leaf.Raw, bulkhead.KeyCompromise)
	ok(t, err)

	renewal, err := h.ready(acct, "line.example.com", copied.CertificateRef)
	ok(t, err)
	if _, err := h.Enroll.Finalize(t.Context(), acct, renewal.ID, csrFor(t, key, "line.example.com")); bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
		t.Errorf("a renewal that replaces the copy with the compromised key: %v", err)
	}
	if _, err := h.byACME(acct, "line.example.com", key, bulkhead.CertificateRef{}); bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
		t.Errorf("a new order with the compromised key: %v", err)
	}
	if _, err := h.order("line.regress.test", key, issuing, again.CertificateRef); bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
		t.Errorf("the operator's renewal with the compromised key: %v", err)
	}
	// Whoever cleans up is told what else stands on the key, also on another account and name.
	rows, err := h.Store.CertificatesByKey(t.Context(), original.KeyHash, h.now())
	ok(t, err)
	found := map[bulkhead.CertificateRef]bool{}
	for _, r := range rows {
		found[r.CertificateRef] = true
	}
	if len(rows) != 3 || !found[original.CertificateRef] || !found[copied.CertificateRef] || !found[again.CertificateRef] {
		t.Errorf("on the compromised key stand %v", rows)
	}
	h.revoke(bulkhead.KeyCompromise, copied.CertificateRef, again.CertificateRef)
	for _, p := range []paper{original, copied, again} {
		h.want(p, "revoked")
	}
	// The name is not punished: a new key renews the line.
	renewed, err := h.finalize(acct, renewal, "line.example.com", newKey(t))
	ok(t, err)
	h.look()
	h.want(renewed, "good")
}
