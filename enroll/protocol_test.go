package enroll_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/pki/keycheck"
)

// TestProtocolTable: each line of the ACME checklist names tests, and they exist.
func TestProtocolTable(t *testing.T) {
	text, err := os.ReadFile("../doc/reference/protocols-acme.md")
	ok(t, err)
	files, err := filepath.Glob("*_test.go")
	ok(t, err)
	for _, dir := range []string{"acme", "dcv"} {
		more, err := filepath.Glob(dir + "/*_test.go")
		ok(t, err)
		files = append(files, more...)
	}
	var source strings.Builder
	for _, f := range files {
		body, err := os.ReadFile(f)
		ok(t, err)
		source.Write(body)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| line") {
			continue
		}
		found := named.FindAllStringSubmatch(line, -1)
		if len(found) == 0 && !strings.Contains(line, "not built") {
			t.Errorf("no test: %s", line)
		}
		for _, m := range found {
			if !strings.Contains(source.String(), "func "+m[1]+"(") {
				t.Errorf("there is no %s: %s", m[1], line)
			}
		}
	}
}

// link finds the target of a relation.
func link(resp *http.Response, rel string) (targets []string) {
	for _, l := range resp.Header.Values("Link") {
		if target, rest, ok := strings.Cut(strings.TrimPrefix(l, "<"), ">"); ok && strings.Contains(rest, `rel="`+rel+`"`) {
			targets = append(targets, target)
		}
	}
	return targets
}

// TestOrdersListPages follows Link next through more orders than a page has (RFC 8555 section 7.1.2.1).
func TestOrdersListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	acct, err := w.svc.Account(t.Context(), r.id())
	ok(t, err)
	const n = 103
	for range n {
		_, err := w.svc.NewOrder(t.Context(), acct, enroll.OrderRequest{Identifiers: ids(t, "localhost")})
		ok(t, err)
	}
	seen := map[string]bool{}
	pages := 0
	for path := r.path(r.kid) + "/orders"; path != ""; pages++ {
		resp, doc := r.send(path, nil, nil)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v", path, doc)
		}
		for _, u := range doc["orders"].([]any) {
			seen[u.(string)] = true
		}
		path = ""
		if next := link(resp, "next"); len(next) == 1 {
			path = r.path(next[0])
		}
	}
	if len(seen) != n || pages != 2 {
		t.Errorf("%d orders on %d pages", len(seen), pages)
	}
}

// TestKeyChangeRefusals: every way to get a key change wrong (RFC 8555 section 7.3.5), and what stays.
func TestKeyChangeRefusals(t *testing.T) {
	w := newWorld(t)
	r, other := newRaw(t, w.base, newKey(t)).register(), newRaw(t, w.base, newKey(t)).register()
	blocked := newKey(t)
	spki, err := keycheck.SPKI(blocked.Public())
	ok(t, err)
	ok(t, w.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: bulkhead.Digest(spki), BlockedAt: w.now(), Reason: "stolen", Actor: "operator:a"}))
	type inner struct {
		key     crypto.Signer
		old     crypto.PublicKey
		account string
		header  map[jose.HeaderKey]any
		embed   bool
	}
	sign := func(change func(*inner)) string {
		i := inner{key: newKey(t), old: r.key.Public(), account: r.kid, embed: true, header: map[jose.HeaderKey]any{"url": r.base + "/acme/key-change"}}
		if change != nil {
			change(&i)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, &jose.SignerOptions{EmbedJWK: i.embed, ExtraHeaders: i.header})
		ok(t, err)
		payload, err := json.Marshal(map[string]any{"account": i.account, "oldKey": jose.JSONWebKey{Key: i.old}})
		ok(t, err)
		jws, err := signer.Sign(payload)
		ok(t, err)
		return jws.FullSerialize()
	}
	for _, tt := range []struct {
		name   string
		change func(*inner)
		status int
		kind   string
	}{
		{"another url", func(i *inner) { i.header["url"] = r.base + "/acme/new-order" }, 400, "malformed"},
		{"a nonce inside", func(i *inner) { i.header["nonce"] = "x" }, 400, "malformed"},
		{"kid inside", func(i *inner) { i.embed = false; i.header["kid"] = r.kid }, 400, "malformed"},
		{"another account", func(i *inner) { i.account = other.kid }, 400, "malformed"},
		{"another old key", func(i *inner) { i.old = newKey(t).Public() }, 400, "malformed"},
		{"a blocked key", func(i *inner) { i.key = blocked }, 400, "badPublicKey"},
		{"a key in use", func(i *inner) { i.key = other.key }, 409, "malformed"},
		{"the same key", func(i *inner) { i.key = r.key }, 409, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, doc := r.send("/acme/key-change", sign(tt.change), nil)
			if resp.StatusCode != tt.status || doc["type"] != "urn:ietf:params:acme:error:"+tt.kind {
				t.Fatalf("%s %v", resp.Status, doc)
			}
			if tt.name == "a key in use" && resp.Header.Get("Location") != other.kid {
				t.Errorf("Location %q, want %q", resp.Header.Get("Location"), other.kid)
			}
		})
	}
	next := newKey(t)
	if resp, doc := r.send("/acme/key-change", sign(func(i *inner) { i.key = next }), nil); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %v", resp.Status, doc)
	}
	if resp, _ := r.send("/acme/new-order", dnsOrder("localhost"), nil); resp.StatusCode == http.StatusCreated {
		t.Error("the old key still orders")
	}
	r.key = next
	if resp, doc := r.send(r.path(r.kid), map[string]any{"contact": []string{"mailto:new@site.test"}}, nil); resp.StatusCode != http.StatusOK || !slices.Equal(doc["contact"].([]any), []any{"mailto:new@site.test"}) {
		t.Errorf("updating contacts with the new key: %s %v", resp.Status, doc)
	}
}

// TestOrderObject: profile, wildcard and address as clients see them, and a refusal per identifier.
func TestOrderObject(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	payload := map[string]any{"profile": "tls-server", "identifiers": []map[string]string{{"type": "dns", "value": "*.a.test"}, {"type": "ip", "value": "127.0.0.1"}, {"type": "ip", "value": "::1"}, {"type": "dns", "value": "a.test"}}}
	resp, doc := r.send("/acme/new-order", payload, nil)
	if resp.StatusCode != http.StatusCreated || doc["profile"] != "tls-server" || doc["status"] != "pending" || resp.Header.Get("Location") == "" {
		t.Fatalf("%s %v", resp.Status, doc)
	}
	offered := map[string]string{}
	for _, u := range doc["authorizations"].([]any) {
		_, z := r.send(r.path(u), nil, nil)
		var types []string
		for _, c := range z["challenges"].([]any) {
			types = append(types, c.(map[string]any)["type"].(string))
		}
		name := z["identifier"].(map[string]any)["value"].(string)
		if z["wildcard"] == true {
			name = "*." + name
		}
		offered[name] = strings.Join(types, " ")
	}
	want := map[string]string{"*.a.test": "dns-01", "a.test": "http-01 dns-01 tls-alpn-01", "127.0.0.1": "http-01 tls-alpn-01", "::1": "http-01 tls-alpn-01"}
	for name, types := range want {
		if offered[name] != types {
			t.Errorf("%s is offered %q, want %q", name, offered[name], types)
		}
	}
	_, doc = r.send("/acme/new-order", dnsOrder("*.test", "*.localhost", "a.test"), nil)
	subs, _ := doc["subproblems"].([]any)
	if doc["type"] != "urn:ietf:params:acme:error:rejectedIdentifier" || len(subs) != 2 || subs[0].(map[string]any)["identifier"].(map[string]any)["value"] != "*.test" {
		t.Errorf("refused by identifier: %v", doc)
	}
	cert := w.issueByHand(r, newKey(t), "localhost")
	replace := dnsOrder("localhost")
	replace["replaces"] = w.certID(cert)
	if resp, doc := r.send("/acme/new-order", replace, nil); resp.StatusCode != http.StatusCreated || doc["replaces"] != w.certID(cert) {
		t.Errorf("%s %v", resp.Status, doc)
	}
	if resp, doc := r.send("/acme/new-order", replace, nil); resp.StatusCode != http.StatusConflict || doc["type"] != "urn:ietf:params:acme:error:alreadyReplaced" {
		t.Errorf("%s %v", resp.Status, doc)
	}
}

// TestAuthorizationStates shows each of the six states of RFC 8555 section 7.1.6 to a client.
func TestAuthorizationStates(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	place := func(name string) string {
		_, o := r.send("/acme/new-order", dnsOrder(name), nil)
		return r.path(o["authorizations"].([]any)[0])
	}
	shown := func(path string) any {
		_, z := r.send(path, nil, nil)
		return z["status"]
	}
	is := func(path, want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if shown(path) == want {
				return
			}
		}
		t.Fatalf("%s is %v, want %s", path, shown(path), want)
	}
	pending := place("p.localhost")
	is(pending, "pending")
	wrong := place("i.localhost")
	_, z := r.send(wrong, nil, nil)
	resp, c := r.send(r.path(z["challenges"].([]any)[0].(map[string]any)["url"]), map[string]any{}, nil)
	if resp.StatusCode != http.StatusOK || c["status"] == "pending" || len(link(resp, "up")) != 1 {
		t.Errorf("the challenge answers %s %v", resp.Status, c)
	}
	is(wrong, "invalid")
	_, z = r.send(wrong, nil, nil)
	if problem, _ := z["challenges"].([]any)[0].(map[string]any)["error"].(map[string]any); problem["type"] != "urn:ietf:params:acme:error:unauthorized" {
		t.Errorf("the failed challenge says %v", z)
	}
	given := place("d.localhost")
	r.send(given, map[string]string{"status": "deactivated"}, nil)
	is(given, "deactivated")
	w.readyByHand(r, "v.localhost")
	valid := place("v.localhost")
	is(valid, "valid")
	_, err := w.svc.RevokeAuthorizations(t.Context(), "operator:a", "test", bulkhead.AuthorizationFilter{Name: "v.localhost"})
	ok(t, err)
	is(valid, "revoked")
	w.shift.Store(int64(8 * 24 * time.Hour))
	is(pending, "expired")
}

// TestAlternateChains: when the issuer has a cross-certificate, both chains are named and served, and renewal
// information still finds the certificate.
func TestAlternateChains(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	cert := w.issueByHand(r, newKey(t), "localhost")
	path := "/acme/certificate/" + string(cert.Certificate.Issuer) + "/" + cert.Certificate.Serial.String()
	if resp, _ := r.send(path, nil, nil); len(link(resp, "alternate")) != 0 {
		t.Fatal("one chain has an alternate")
	}
	if resp, _ := r.send(path+"/1", nil, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a chain that is not there: %s", resp.Status)
	}
	w.crossSign()
	resp, _ := r.send(path, nil, nil)
	alternate := link(resp, "alternate")
	if len(alternate) != 1 {
		t.Fatalf("alternates %v", alternate)
	}
	body := w.fetch(r, r.path(alternate[0]))
	block, rest := pem.Decode(body)
	next, _ := pem.Decode(rest)
	if block == nil || next == nil || string(block.Bytes) != string(cert.DER) {
		t.Fatal("the alternate chain does not begin with the certificate")
	}
	x, err := x509.ParseCertificate(next.Bytes)
	ok(t, err)
	if x.Issuer.CommonName != "Foreign Root" {
		t.Errorf("the alternate issuer certificate is by %s", x.Issuer)
	}
	if _, err := w.svc.RenewalInfo(t.Context(), w.certID(cert)); err != nil {
		t.Errorf("renewal information: %v", err)
	}
}

// fetch reads a resource's body by POST-as-GET.
func (w *world) fetch(r *raw, path string) []byte {
	w.t.Helper()
	s := sending{path: path, signedURL: r.base + path, kid: r.kid, nonce: r.freshNonce(), alg: r.alg, key: r.key, header: map[jose.HeaderKey]any{}}
	resp, err := http.Post(r.base+path, "application/jose+json", strings.NewReader(string(r.sign(s))))
	ok(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	ok(w.t, err)
	return body
}

// crossSign records a certificate of a foreign root for the issuing authority's name and key.
func (w *world) crossSign() {
	w.t.Helper()
	a, err := w.store.Authority(w.t.Context(), issuingCA)
	ok(w.t, err)
	own, err := x509.ParseCertificate(a.Certificate)
	ok(w.t, err)
	foreign := x509.Certificate{Subject: pkix.Name{CommonName: "Foreign Root"}}
	tmpl := *own
	tmpl.SerialNumber = randomSerial(w.t).Big()
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &foreign, own.PublicKey, newKey(w.t))
	ok(w.t, err)
	// The identifier sorts before the issuer's own, so that whoever takes the first match takes the wrong one.
	ok(w.t, w.store.PutAuthority(w.t.Context(), bulkhead.Authority{ID: "cross-p256", Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityRetired,
		Subject: a.Subject, SPKI: a.SPKI, Certificate: der, Shards: 1, CreatedAt: w.now()}))
}

// TestProcessingHasRetryAfter: a slow signer makes the client come back, and nothing is issued twice.
func TestProcessingHasRetryAfter(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.FinalizeWait = time.Millisecond
	w.svc = w.service()
	w.serve()
	r := newRaw(t, w.base, newKey(t)).register()
	path := w.readyByHand(r, "localhost")
	release := make(chan struct{})
	slow := func(op string, commit func() error) error {
		if op == "Complete" {
			<-release
		}
		return commit()
	}
	w.hook.Store(&slow)
	resp, doc := r.send(path, map[string]string{"csr": b64(csr(t, newKey(t), "localhost"))}, nil)
	if resp.StatusCode != http.StatusOK || doc["status"] != "processing" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v, Retry-After %q", resp.Status, doc, resp.Header.Get("Retry-After"))
	}
	if resp, doc := r.send(path, map[string]string{"csr": b64(csr(t, newKey(t), "localhost"))}, nil); resp.StatusCode != http.StatusForbidden || doc["type"] != "urn:ietf:params:acme:error:orderNotReady" {
		t.Errorf("a second finalize: %s %v", resp.Status, doc)
	}
	close(release)
	acct, err := w.svc.Account(t.Context(), r.id())
	ok(t, err)
	w.until(acct, strings.Split(path, "/")[3], bulkhead.OrderValid)
}

// TestUnavailableHasRetryAfter: a server that is shutting down says so and when to come back.
func TestUnavailableHasRetryAfter(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	_, o := r.send("/acme/new-order", dnsOrder("localhost"), nil)
	_, z := r.send(r.path(o["authorizations"].([]any)[0]), nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ok(t, w.svc.Close(ctx))
	resp, doc := r.send(r.path(z["challenges"].([]any)[0].(map[string]any)["url"]), map[string]any{}, nil)
	if resp.StatusCode != http.StatusServiceUnavailable || doc["type"] != "urn:ietf:params:acme:error:serverInternal" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v, Retry-After %q", resp.Status, doc, resp.Header.Get("Retry-After"))
	}
}
