package enroll_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
	"bulkhead/enroll"
	front "bulkhead/enroll/acme"
)

// raw is an ACME client that can do everything wrong.
type raw struct {
	t     testing.TB
	base  string
	key   crypto.Signer
	alg   jose.SignatureAlgorithm
	kid   string
	nonce string
}

// sending is one request before it is sent.
type sending struct {
	path, signedURL   string // signedURL "" means base + path
	header            map[jose.HeaderKey]any
	embed             bool
	kid, nonce, media string
	payload           []byte
	body              func([]byte) []byte // tampers
	alg               jose.SignatureAlgorithm
	key               any
}

func newRaw(t testing.TB, base string, key crypto.Signer) *raw {
	return &raw{t: t, base: base, key: key, alg: jose.ES256}
}

func (r *raw) freshNonce() string {
	if n := r.nonce; n != "" {
		r.nonce = ""
		return n
	}
	resp, err := http.Head(r.base + "/acme/new-nonce")
	ok(r.t, err)
	_ = resp.Body.Close()
	return resp.Header.Get("Replay-Nonce")
}

// send signs and posts; change may spoil the request.
func (r *raw) send(path string, payload any, change func(*sending)) (*http.Response, map[string]any) {
	r.t.Helper()
	s := sending{path: path, kid: r.kid, embed: r.kid == "", nonce: r.freshNonce(), media: "application/jose+json", alg: r.alg, key: r.key, header: map[jose.HeaderKey]any{}}
	switch p := payload.(type) {
	case nil:
		s.payload = []byte{} // a member, and empty
	case string:
		s.payload = []byte(p)
	default:
		s.payload, _ = json.Marshal(p)
	}
	if change != nil {
		change(&s)
	}
	if s.signedURL == "" {
		s.signedURL = r.base + s.path
	}
	body := r.sign(s)
	if s.body != nil {
		body = s.body(body)
	}
	resp, err := http.Post(r.base+s.path, s.media, bytes.NewReader(body))
	ok(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	ok(r.t, err)
	if r.nonce = resp.Header.Get("Replay-Nonce"); r.nonce == "" {
		r.t.Errorf("POST %s: no Replay-Nonce on %s", path, resp.Status)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		r.t.Errorf("POST %s: Cache-Control %q", path, resp.Header.Get("Cache-Control"))
	}
	var doc map[string]any
	_ = json.Unmarshal(text, &doc)
	return resp, doc
}

func (r *raw) sign(s sending) []byte {
	r.t.Helper()
	opts := &jose.SignerOptions{EmbedJWK: s.embed, ExtraHeaders: s.header}
	opts.WithHeader("url", s.signedURL)
	if s.nonce != "" {
		opts.WithHeader("nonce", s.nonce)
	}
	if s.kid != "" {
		opts.WithHeader("kid", s.kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.key}, opts)
	ok(r.t, err)
	jws, err := signer.Sign(s.payload)
	ok(r.t, err)
	return []byte(jws.FullSerialize())
}

func (r *raw) register() *raw {
	r.t.Helper()
	resp, _ := r.send("/acme/new-account", map[string]any{"termsOfServiceAgreed": true}, nil)
	if resp.StatusCode != http.StatusCreated {
		r.t.Fatalf("newAccount: %s", resp.Status)
	}
	r.kid = resp.Header.Get("Location")
	return r
}

func (r *raw) id() string { return r.kid[strings.LastIndexByte(r.kid, '/')+1:] }

// path of an address that the server gave.
func (r *raw) path(u any) string {
	text, _ := u.(string)
	return strings.TrimPrefix(text, r.base)
}

func dnsOrder(names ...string) map[string]any {
	var list []map[string]string
	for _, n := range names {
		list = append(list, map[string]string{"type": "dns", "value": n})
	}
	return map[string]any{"identifiers": list}
}

// footprint is what a refused request must leave as it was.
func (w *world) footprint(accounts ...string) [3]int64 {
	w.t.Helper()
	var orders int64
	for _, a := range accounts {
		list, err := w.store.OrdersByAccount(w.t.Context(), a, "", 1000)
		ok(w.t, err)
		orders += int64(len(list))
	}
	certs, _, err := w.store.Certificates(w.t.Context(), bulkhead.CertificateFilter{Limit: 1000})
	ok(w.t, err)
	return [3]int64{orders, int64(len(certs)), w.leaves()}
}

func b64(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

// TestBadInput: each bad request gets its typed error, and nothing changes. A refusal that BR 5.4.1 wants recorded
// leaves exactly one leaf of evidence.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	me, them := newRaw(t, w.base, newKey(t)).register(), newRaw(t, w.base, newKey(t)).register()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	ok(t, err)
	_, pending := me.send("/acme/new-order", dnsOrder("localhost"), nil)
	pendingAuthz := me.path(pending["authorizations"].([]any)[0])
	_, theirs := them.send("/acme/new-order", dnsOrder("localhost"), nil)
	readyOrder := w.readyByHand(me, "a.localhost")
	cert := w.issueByHand(me, newKey(t), "b.localhost")
	stranger := w.root.Raw
	wrongKey := newKey(t)
	long := strings.Repeat("a.", 130) + "localhost"

	type change = func(*sending)
	tests := []struct {
		name    string
		path    string
		payload any
		change  change
		status  int
		kind    string
		leaves  int64
	}{
		// The envelope.
		{"content type", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.media = "application/json" }, 415, "malformed", 0},
		{"not JSON", "/acme/new-order", nil, func(s *sending) { s.body = func([]byte) []byte { return []byte("x") } }, 400, "malformed", 0},
		{"empty body", "/acme/new-order", nil, func(s *sending) { s.body = func([]byte) []byte { return nil } }, 400, "malformed", 0},
		{"too large", "/acme/new-order", strings.Repeat("x", front.MaxBody), nil, 413, "malformed", 0},
		{"compact", "/acme/new-order", dnsOrder("localhost"), func(s *sending) {
			s.body = func(b []byte) []byte {
				var e map[string]string
				ok(t, json.Unmarshal(b, &e))
				return []byte(e["protected"] + "." + e["payload"] + "." + e["signature"])
			}
		}, 400, "malformed", 0},
		{"general form", "/acme/new-order", dnsOrder("localhost"), func(s *sending) {
			s.body = func(b []byte) []byte {
				var e map[string]string
				ok(t, json.Unmarshal(b, &e))
				out, _ := json.Marshal(map[string]any{"payload": e["payload"], "signatures": []map[string]string{{"protected": e["protected"], "signature": e["signature"]}}})
				return out
			}
		}, 400, "malformed", 0},
		{"unprotected header", "/acme/new-order", dnsOrder("localhost"), func(s *sending) {
			s.body = func(b []byte) []byte { return append(b[:len(b)-1], []byte(`,"header":{"x":1}}`)...) }
		}, 400, "malformed", 0},
		{"two values", "/acme/new-order", dnsOrder("localhost"), func(s *sending) {
			s.body = func(b []byte) []byte { return append(b, b...) }
		}, 400, "malformed", 0},
		{"critical header", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.header["crit"] = []string{"exp"} }, 400, "malformed", 0},
		{"signature of another key", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.key = wrongKey }, 400, "malformed", 0},
		{"HMAC", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.alg, s.key = jose.HS256, bytes.Repeat([]byte("x"), 32) }, 400, "badSignatureAlgorithm", 0},
		{"RSA-PSS", "/acme/new-account", map[string]any{}, func(s *sending) { s.kid, s.embed, s.alg, s.key = "", true, jose.PS256, rsaKey(t) }, 400, "badSignatureAlgorithm", 0},
		{"kid and jwk", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.embed = true }, 400, "malformed", 0},
		{"neither kid nor jwk", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.kid = "" }, 400, "malformed", 0},
		{"jwk where kid belongs", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.kid, s.embed = "", true }, 400, "malformed", 0},
		{"kid where jwk belongs", "/acme/new-account", map[string]any{}, nil, 400, "malformed", 0},
		{"kid of nobody", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.kid = w.base + "/acme/account/nobody" }, 400, "accountDoesNotExist", 0},
		{"kid elsewhere", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.kid = "https://elsewhere.test/acme/account/" + me.id() }, 400, "accountDoesNotExist", 0},
		{"kid of another", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.kid = them.kid }, 400, "malformed", 0},
		{"no nonce", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.nonce = "" }, 400, "badNonce", 0},
		{"invented nonce", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.nonce = b64(bytes.Repeat([]byte{7}, 24)) }, 400, "badNonce", 0},
		{"url of another resource", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.signedURL = w.base + "/acme/new-account" }, 401, "unauthorized", 0},
		{"no url", "/acme/new-order", dnsOrder("localhost"), func(s *sending) { s.signedURL = "none" }, 401, "unauthorized", 0},
		{"unknown resource", "/acme/nothing", nil, nil, 404, "malformed", 0},

		// Accounts.
		{"weak account key", "/acme/new-account", map[string]any{}, func(s *sending) { s.kid, s.embed, s.alg, s.key = "", true, jose.RS256, weak }, 400, "badPublicKey", 0},
		{"only existing", "/acme/new-account", map[string]any{"onlyReturnExisting": true}, func(s *sending) { s.kid, s.embed, s.key = "", true, newKey(t) }, 400, "accountDoesNotExist", 0},
		{"contact scheme", "/acme/new-account", map[string]any{"contact": []string{"tel:+49"}}, func(s *sending) { s.kid, s.embed, s.key = "", true, newKey(t) }, 400, "unsupportedContact", 0},
		{"contact with two addresses", "/acme/new-account", map[string]any{"contact": []string{"mailto:a@b.test,c@d.test"}}, func(s *sending) { s.kid, s.embed, s.key = "", true, newKey(t) }, 400, "invalidContact", 0},
		{"contact with fields", "/acme/new-account", map[string]any{"contact": []string{"mailto:a@b.test?bcc=x@y.test"}}, func(s *sending) { s.kid, s.embed, s.key = "", true, newKey(t) }, 400, "invalidContact", 0},
		{"contact that is none", "/acme/new-account", map[string]any{"contact": []string{"mailto:nobody"}}, func(s *sending) { s.kid, s.embed, s.alg, s.key = "", true, jose.EdDSA, ed }, 400, "invalidContact", 0},
		{"account payload that is a list", "/acme/new-account", "[]", func(s *sending) { s.kid, s.embed, s.key = "", true, newKey(t) }, 400, "malformed", 0},
		{"another's account", me.path(them.kid), nil, nil, 403, "unauthorized", 0},
		{"another's orders", me.path(them.kid) + "/orders", nil, nil, 403, "unauthorized", 0},
		{"account state", me.path(me.kid), map[string]string{"status": "revoked"}, nil, 400, "malformed", 0},
		{"key change without inner signature", "/acme/key-change", "{}", nil, 400, "malformed", 0},

		// Orders.
		{"order of nothing", "/acme/new-order", map[string]any{}, nil, 400, "malformed", 0},
		{"order payload empty", "/acme/new-order", nil, nil, 400, "malformed", 0},
		{"order with dates", "/acme/new-order", map[string]any{"identifiers": dnsOrder("localhost")["identifiers"], "notAfter": "2027-01-01T00:00:00Z"}, nil, 400, "malformed", 0},
		{"order of an unknown profile", "/acme/new-order", map[string]any{"identifiers": dnsOrder("localhost")["identifiers"], "profile": "classic"}, nil, 400, "invalidProfile", 0},
		{"order of another profile than its directory's", "/acme/tls-server/new-order", map[string]any{"identifiers": dnsOrder("localhost")["identifiers"], "profile": "tls-server-short"}, nil, 400, "invalidProfile", 0},
		{"order at a directory that is not there", "/acme/nothing/new-order", dnsOrder("localhost"), nil, 404, "malformed", 0},
		{"order of mail", "/acme/new-order", map[string]any{"identifiers": []map[string]string{{"type": "email", "value": "a@b.test"}}}, nil, 400, "unsupportedIdentifier", 0},
		{"order of a bad name", "/acme/new-order", dnsOrder("under_score.test"), nil, 400, "malformed", 0},
		{"order of a long name", "/acme/new-order", dnsOrder(long), nil, 400, "malformed", 0},
		{"order of an address as a name", "/acme/new-order", dnsOrder("10.0.0.1"), nil, 400, "malformed", 0},
		{"order of an address that is none", "/acme/new-order", map[string]any{"identifiers": []map[string]string{{"type": "ip", "value": "010.0.0.1"}}}, nil, 400, "malformed", 0},
		{"order of a wildcard in the middle", "/acme/new-order", dnsOrder("a.*.test"), nil, 400, "malformed", 0},
		{"order of everything", "/acme/new-order", dnsOrder("*.test"), nil, 400, "rejectedIdentifier", 1},
		{"order of a public suffix", "/acme/new-order", dnsOrder("co.jp"), nil, 400, "rejectedIdentifier", 1},
		{"order of all below a public suffix", "/acme/new-order", dnsOrder("*.com"), nil, 400, "rejectedIdentifier", 1},
		{"order of many kinds of wrong", "/acme/new-order", dnsOrder("*.test", "under_score.test"), nil, 400, "compound", 1},
		{"order of too many", "/acme/new-order", dnsOrder(strings.Split(strings.Repeat("a.test,", 100)+"a.test", ",")...), nil, 400, "malformed", 0},
		{"replaces nonsense", "/acme/new-order", map[string]any{"identifiers": dnsOrder("localhost")["identifiers"], "replaces": "nonsense"}, nil, 400, "malformed", 0},
		{"replaces unknown", "/acme/new-order", map[string]any{"identifiers": dnsOrder("localhost")["identifiers"], "replaces": "AAAA.AQ"}, nil, 400, "malformed", 0},
		{"replaces another name's", "/acme/new-order", map[string]any{"identifiers": dnsOrder("localhost")["identifiers"], "replaces": w.certID(cert)}, nil, 400, "malformed", 0},
		{"another's order", me.path(theirs["finalize"]), map[string]string{"csr": b64(csr(t, newKey(t), "localhost"))}, nil, 403, "unauthorized", 0},
		{"order that is not there", "/acme/order/nothing", nil, nil, 404, "malformed", 0},
		{"order read with a payload", strings.TrimSuffix(me.path(pending["finalize"]), "/finalize"), "{}", nil, 400, "malformed", 0},
		{"authorization state", pendingAuthz, map[string]string{"status": "valid"}, nil, 400, "malformed", 0},
		{"another's authorization", me.path(theirs["authorizations"].([]any)[0]), nil, nil, 403, "unauthorized", 0},
		{"challenge that is not there", strings.Replace(pendingAuthz, "authz", "challenge", 1) + "/nothing", map[string]any{}, nil, 404, "malformed", 0},

		// Finalize.
		{"finalize a pending order", me.path(pending["finalize"]), map[string]string{"csr": b64(csr(t, newKey(t), "localhost"))}, nil, 403, "orderNotReady", 0},
		{"finalize without a request", readyOrder, map[string]string{}, nil, 400, "badCSR", 0},
		{"finalize with padding", readyOrder, map[string]string{"csr": "AA=="}, nil, 400, "badCSR", 0},
		{"finalize with nonsense", readyOrder, map[string]string{"csr": b64([]byte("nonsense"))}, nil, 400, "badCSR", 0},
		{"finalize with a broken signature", readyOrder, map[string]string{"csr": b64(spoil(csr(t, newKey(t), "a.localhost")))}, nil, 400, "badCSR", 0},
		{"finalize other names", readyOrder, map[string]string{"csr": b64(csr(t, newKey(t), "b.localhost"))}, nil, 400, "badCSR", 0},
		{"finalize more names", readyOrder, map[string]string{"csr": b64(csr(t, newKey(t), "a.localhost", "b.localhost"))}, nil, 400, "badCSR", 0},
		{"finalize no names", readyOrder, map[string]string{"csr": b64(csr(t, newKey(t)))}, nil, 400, "badCSR", 0},
		{"finalize mail", readyOrder, map[string]string{"csr": b64(csr(t, newKey(t), "a.localhost", "x@a.localhost"))}, nil, 400, "badCSR", 0},
		{"finalize the account's key", readyOrder, map[string]string{"csr": b64(csr(t, me.key, "a.localhost"))}, nil, 400, "badCSR", 0},
		{"finalize a weak key", readyOrder, map[string]string{"csr": b64(csr(t, weak, "a.localhost"))}, nil, 400, "badPublicKey", 1},
		{"finalize an odd curve", readyOrder, map[string]string{"csr": b64(csr(t, p224(t), "a.localhost"))}, nil, 400, "badPublicKey", 1},

		// Certificates.
		{"certificate that is not there", "/acme/certificate/issuing-p256/01", nil, nil, 404, "malformed", 0},
		{"certificate with a bad serial", "/acme/certificate/issuing-p256/xyz", nil, nil, 400, "malformed", 0},
		{"revoke nothing", "/acme/revoke-cert", map[string]any{}, nil, 400, "malformed", 0},
		{"revoke nonsense", "/acme/revoke-cert", map[string]any{"certificate": "AAAA"}, nil, 400, "malformed", 0},
		{"revoke a stranger", "/acme/revoke-cert", map[string]any{"certificate": b64(stranger)}, nil, 404, "malformed", 0},
		{"revoke for a bad reason", "/acme/revoke-cert", map[string]any{"certificate": b64(cert.DER), "reason": 7}, nil, 400, "badRevocationReason", 0},
		{"revoke for hold", "/acme/revoke-cert", map[string]any{"certificate": b64(cert.DER), "reason": 6}, nil, 400, "badRevocationReason", 0},
		{"revoke by another key", "/acme/revoke-cert", map[string]any{"certificate": b64(cert.DER)}, func(s *sending) { s.kid, s.embed, s.key = "", true, newKey(t) }, 403, "unauthorized", 0},
		{"revoke altered bytes", "/acme/revoke-cert", map[string]any{"certificate": b64(spoil(cert.DER))}, nil, 404, "malformed", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			me.t, w.t = t, t
			before := w.footprint(me.id(), them.id())
			resp, doc := me.send(tt.path, tt.payload, tt.change)
			if resp.StatusCode != tt.status || doc["type"] != "urn:ietf:params:acme:error:"+tt.kind {
				t.Fatalf("got %d %v", resp.StatusCode, doc)
			}
			if resp.Header.Get("Content-Type") != "application/problem+json" || doc["detail"] == "" {
				t.Errorf("%s: %v", resp.Header.Get("Content-Type"), doc)
			}
			before[2] += tt.leaves
			if after := w.footprint(me.id(), them.id()); after != before {
				t.Errorf("orders, certificates and leaves went from %v to %v", before, after)
			}
		})
	}
	me.t, w.t = t, t
	resp, doc := me.send(readyOrder, map[string]string{"csr": b64(csr(t, newKey(t), "a.localhost"))}, nil)
	if resp.StatusCode != http.StatusOK || doc["status"] != "valid" {
		t.Fatalf("after all the refusals: %d %v", resp.StatusCode, doc)
	}
}

// TestAnotherAccountsCertificate: the certificate is its owner's to fetch and to revoke.
func TestAnotherAccountsCertificate(t *testing.T) {
	w := newWorld(t)
	me, them := newRaw(t, w.base, newKey(t)).register(), newRaw(t, w.base, newKey(t)).register()
	cert := w.issueByHand(me, newKey(t), "b.localhost")
	path := "/acme/certificate/" + string(cert.Certificate.Issuer) + "/" + cert.Certificate.Serial.String()
	for _, tt := range []struct {
		path    string
		payload any
	}{{path, nil}, {"/acme/revoke-cert", map[string]any{"certificate": b64(cert.DER)}}} {
		if resp, doc := them.send(tt.path, tt.payload, nil); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v", tt.path, doc)
		}
	}
	if resp, _ := me.send(path, nil, nil); resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/pem-certificate-chain" {
		t.Errorf("%s as %s", resp.Status, resp.Header.Get("Content-Type"))
	}
}

// readyByHand brings an order to ready and returns the path of its finalize.
func (w *world) readyByHand(r *raw, name string) string {
	w.t.Helper()
	acct, err := w.svc.Account(w.t.Context(), r.id())
	ok(w.t, err)
	o, err := w.svc.NewOrder(w.t.Context(), acct, enroll.OrderRequest{Identifiers: ids(w.t, name)})
	ok(w.t, err)
	a, err := w.svc.Authorization(w.t.Context(), acct, o.Authorizations[0])
	ok(w.t, err)
	w.put("/.well-known/acme-challenge/"+a.Challenges[0].Token, enroll.KeyAuthorization(acct, a.Challenges[0].Token))
	w.respond(acct, o)
	w.until(acct, o.ID, bulkhead.OrderReady)
	return "/acme/order/" + o.ID + "/finalize"
}

func (w *world) issueByHand(r *raw, key crypto.Signer, name string) bulkhead.IssuedCertificate {
	w.t.Helper()
	path := w.readyByHand(r, name)
	acct, err := w.svc.Account(w.t.Context(), r.id())
	ok(w.t, err)
	id := strings.Split(path, "/")[3]
	_, err = w.svc.Finalize(w.t.Context(), acct, id, csr(w.t, key, name))
	ok(w.t, err)
	o := w.until(acct, id, bulkhead.OrderValid)
	c, err := w.svc.Certificate(w.t.Context(), acct, o.Certificate)
	ok(w.t, err)
	return c
}

func (w *world) certID(c bulkhead.IssuedCertificate) string {
	id, err := w.svc.CertIDOf(w.t.Context(), c.Certificate.CertificateRef)
	ok(w.t, err)
	return id
}

// spoil flips a bit near the end, inside the signature.
func spoil(der []byte) []byte {
	out := bytes.Clone(der)
	out[len(out)-3] ^= 1
	return out
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	return k
}

func p224(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	ok(t, err)
	return k
}

// TestUnsignedResources: methods, nonces, directory and headers.
func TestUnsignedResources(t *testing.T) {
	w := newWorld(t)
	do := func(method, path string) (*http.Response, map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), method, w.base+path, nil)
		ok(t, err)
		resp, err := http.DefaultClient.Do(req)
		ok(t, err)
		defer func() { _ = resp.Body.Close() }()
		var doc map[string]any
		_ = json.NewDecoder(resp.Body).Decode(&doc)
		return resp, doc
	}
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/acme/directory", 200, ""}, {"HEAD", "/acme/directory", 200, ""}, {"GET", "/acme/tls-server/directory", 200, ""},
		{"HEAD", "/acme/new-nonce", 200, ""}, {"GET", "/acme/new-nonce", 204, ""},
		{"POST", "/acme/directory", 405, "GET, HEAD"}, {"PUT", "/acme/new-nonce", 405, "GET, HEAD"}, {"GET", "/acme/new-order", 405, "POST"},
		{"GET", "/acme/order/x", 405, "POST"}, {"GET", "/acme/certificate/issuing-p256/01", 405, "POST"}, {"DELETE", "/acme/account/x", 405, "POST"},
		{"GET", "/acme/renewal-info/nonsense", 400, ""}, {"GET", "/acme/renewal-info/AAAA.AQ", 404, ""},
		{"GET", "/acme/", 404, ""}, {"GET", "/acme/order/", 404, ""}, {"GET", "/", 404, ""}, {"GET", "/acme/order/x/y/z", 404, ""},
	} {
		resp, _ := do(tt.method, tt.path)
		if resp.StatusCode != tt.status || resp.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: %s, Allow %q", tt.method, tt.path, resp.Status, resp.Header.Get("Allow"))
		}
		if nonce := resp.Header.Get("Replay-Nonce"); (nonce != "") != (tt.path == "/acme/new-nonce" && tt.status < 300 || tt.method == "POST") {
			t.Errorf("%s %s: Replay-Nonce %q", tt.method, tt.path, nonce)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: Cache-Control %q", tt.method, tt.path, resp.Header.Get("Cache-Control"))
		}
		if link := resp.Header.Get("Link"); tt.status == 405 && tt.path != "/acme/directory" && !strings.Contains(link, `/acme/directory>;rel="index"`) {
			t.Errorf("%s %s: Link %q", tt.method, tt.path, link)
		}
	}
	_, doc := do("GET", "/acme/directory")
	meta, _ := doc["meta"].(map[string]any)
	profiles, _ := meta["profiles"].(map[string]any)
	if profiles["tls-server"] == "" || profiles["tls-server-short"] == "" || meta["website"] != "https://ca.test/" || len(doc) != 8 {
		t.Errorf("the directory is %v", doc)
	}
}

// TestTerms: with terms of service, an account must agree.
func TestTerms(t *testing.T) {
	w := newWorld(t, func(c *front.Config) { c.TermsOfService = "https://ca.test/terms" })
	r := newRaw(t, w.base, newKey(t))
	resp, doc := r.send("/acme/new-account", map[string]any{}, nil)
	if resp.StatusCode != 403 || doc["type"] != "urn:ietf:params:acme:error:userActionRequired" || !strings.Contains(strings.Join(resp.Header.Values("Link"), " "), `terms-of-service`) {
		t.Fatalf("%s %v", resp.Status, doc)
	}
	r.register()
}
