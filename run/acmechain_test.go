package run

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"path"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"bulkhead"
)

// acmeClient is somebody with an ACME account and a certificate of it, who asks over HTTP as Caddy's client does.
type acmeClient struct {
	*acme.Client
	w       *world
	account acme.Account
	url     string
}

// acmeClient registers at the house's own handler and lets the account have a certificate.
func (w *world) acmeClient() *acmeClient {
	w.Helper()
	web, err := (&front{h: w.h}).web()
	w.ok(err)
	server := httptest.NewTLSServer(web)
	w.Cleanup(server.Close)
	hc := server.Client()
	hc.Timeout = 30 * time.Second
	c := &acmeClient{Client: &acme.Client{Directory: server.URL + "/acme/directory", HTTPClient: hc}, w: w}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	c.account, err = c.NewAccount(w.Context(), acme.Account{PrivateKey: key, TermsOfServiceAgreed: true})
	w.ok(err)
	r := w.orderOf(path.Base(c.account.Location), "chain.test")
	got, err := w.h.signer.Issue(w.Context(), r)
	w.ok(err)
	c.url = server.URL + "/acme/certificate/" + string(got.Certificate.Issuer) + "/" + got.Certificate.Serial.String()
	return c
}

// chains are the authorities' certificates above the leaf, of the chain that is served and of each alternate (RFC 8555 section 7.4.2).
func (c *acmeClient) chains() (served []byte, alternates [][]byte) {
	c.w.Helper()
	all, err := c.GetCertificateChain(c.w.Context(), c.account, c.url)
	c.w.ok(err)
	for i, x := range all {
		leaf, rest := pem.Decode(x.ChainPEM)
		above, _ := pem.Decode(rest)
		if leaf == nil || above == nil {
			c.w.Fatalf("chain %d has no authority", i)
		}
		if i == 0 {
			served = above.Bytes
		} else {
			alternates = append(alternates, above.Bytes)
		}
	}
	return served, alternates
}

// wants asserts which chain the client gets, and whether the one of before is still an alternate.
func (c *acmeClient) wants(what string, want []byte, alternates ...[]byte) {
	c.w.Helper()
	served, others := c.chains()
	same := len(others) == len(alternates)
	for i := range alternates {
		same = same && bytes.Equal(others[i], alternates[i])
	}
	if !bytes.Equal(served, want) || !same {
		c.w.Errorf("%s: over ACME a client gets another chain, with %d alternates, want %d", what, len(others), len(alternates))
	}
}

// orderOf is an order of an account for a name, with everything that the signer looks at, planted past validation.
func (w *world) orderOf(account, name string) bulkhead.CertificateRequest {
	w.Helper()
	ctx, now := w.Context(), w.now()
	n, later := bulkhead.Identifier{Type: bulkhead.DNS, Value: name}, now.AddDate(0, 0, 1)
	a := bulkhead.Authorization{ID: "z-" + name, AccountID: account, Identifier: n, State: bulkhead.AuthorizationPending, CreatedAt: now, ExpiresAt: later}
	o := bulkhead.Order{ID: "o-" + name, AccountID: account, State: bulkhead.OrderReady, Identifiers: []bulkhead.Identifier{n}, Profile: "tls-server", Authority: p256ID, Authorizations: []string{a.ID}, CreatedAt: now, ExpiresAt: later}
	w.ok(w.h.store.CreateOrder(ctx, o, []bulkhead.Authorization{a}))
	a.State = bulkhead.AuthorizationValid
	w.ok(w.h.store.UpdateAuthorization(ctx, a, bulkhead.AuthorizationPending, &bulkhead.Validation{ID: "v-" + name, AuthorizationID: a.ID, AccountID: account, Identifier: n, Method: bulkhead.DNS01, At: now, ReuseUntil: later}))
	w.ok(w.h.store.PutCAAChecks(ctx, []bulkhead.CAACheck{{OrderID: o.ID, Identifier: n, At: now, ValidUntil: later, Result: bulkhead.CAAPermitted}}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	w.ok(err)
	return bulkhead.CertificateRequest{Profile: "tls-server", Authority: p256ID, CSR: csr, Names: o.Identifiers, AccountID: account, OrderID: o.ID}
}
