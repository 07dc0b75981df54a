package enroll_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/mholt/acmez/v3/acme"

	"bulkhead"
	"bulkhead/enroll"
)

// newExternalWorld wants an external account key from every new account.
func newExternalWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.cfg.ExternalSecret, w.cfg.ExternalRequired = bytes.Repeat([]byte{9}, 32), true
	w.svc = w.service()
	w.serve()
	return w
}

func (w *world) externalKey(life time.Duration) (bulkhead.ExternalKey, []byte) {
	w.t.Helper()
	k, mac, err := w.svc.AddExternalKey(w.t.Context(), "operator:a", "for the test", life)
	ok(w.t, err)
	return k, mac
}

// binding makes an external account binding; change may spoil it.
func (r *raw) binding(kid string, mac []byte, change func(*bindingParts)) json.RawMessage {
	r.t.Helper()
	jwk, err := json.Marshal(jose.JSONWebKey{Key: r.key.Public()})
	ok(r.t, err)
	p := bindingParts{alg: jose.HS256, mac: mac, payload: jwk, header: map[jose.HeaderKey]any{"kid": kid, "url": r.base + "/acme/new-account"}}
	if change != nil {
		change(&p)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: p.alg, Key: p.mac}, &jose.SignerOptions{ExtraHeaders: p.header})
	ok(r.t, err)
	jws, err := signer.Sign(p.payload)
	ok(r.t, err)
	text := []byte(jws.FullSerialize())
	if p.body != nil {
		text = p.body(text)
	}
	return text
}

type bindingParts struct {
	alg     jose.SignatureAlgorithm
	mac     any
	payload []byte
	header  map[jose.HeaderKey]any
	body    func([]byte) []byte
}

// TestExternalAccountBinding: each wrong binding is refused and makes nothing; the right one makes one account.
func TestExternalAccountBinding(t *testing.T) {
	w := newExternalWorld(t)
	k, mac := w.externalKey(0)
	old, oldMAC := w.externalKey(time.Hour)
	w.shift.Store(int64(2 * time.Hour))
	gone, goneMAC := w.externalKey(0)
	_, err := w.svc.RevokeExternalKey(t.Context(), "operator:a", gone.ID, false)
	ok(t, err)
	other, err := json.Marshal(jose.JSONWebKey{Key: newKey(t).Public()})
	ok(t, err)
	r := newRaw(t, w.base, newKey(t))
	for _, tt := range []struct {
		name   string
		kid    string
		mac    []byte
		change func(*bindingParts)
		status int
		kind   string
	}{
		{"wrong MAC", k.ID, oldMAC, nil, 401, "unauthorized"},
		{"unknown key", "nobody", mac, nil, 401, "unauthorized"},
		{"expired key", old.ID, oldMAC, nil, 401, "unauthorized"},
		{"revoked key", gone.ID, goneMAC, nil, 401, "unauthorized"},
		{"other url", k.ID, mac, func(p *bindingParts) { p.header["url"] = w.base + "/acme/new-order" }, 400, "malformed"},
		{"no url", k.ID, mac, func(p *bindingParts) { delete(p.header, "url") }, 400, "malformed"},
		{"a nonce", k.ID, mac, func(p *bindingParts) { p.header["nonce"] = "x" }, 400, "malformed"},
		{"no kid", k.ID, mac, func(p *bindingParts) { delete(p.header, "kid") }, 400, "malformed"},
		{"signature in place of a MAC", k.ID, mac, func(p *bindingParts) { p.alg, p.mac = jose.ES256, newKey(t) }, 400, "malformed"},
		{"another account's key", k.ID, mac, func(p *bindingParts) { p.payload = other }, 400, "malformed"},
		{"no key", k.ID, mac, func(p *bindingParts) { p.payload = []byte(`{}`) }, 400, "malformed"},
		{"no JSON", k.ID, mac, func(p *bindingParts) { p.payload = []byte(`x`) }, 400, "malformed"},
		{"not a JWS", k.ID, mac, func(p *bindingParts) { p.body = func([]byte) []byte { return []byte(`{"x":1}`) } }, 400, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.t = t
			before := w.leaves()
			resp, doc := r.send("/acme/new-account", map[string]any{"externalAccountBinding": r.binding(tt.kid, tt.mac, tt.change)}, nil)
			if resp.StatusCode != tt.status || doc["type"] != "urn:ietf:params:acme:error:"+tt.kind {
				t.Fatalf("got %d %v", resp.StatusCode, doc)
			}
			if w.leaves() != before {
				t.Error("a refused binding left evidence of an account")
			}
		})
	}
	r.t = t
	for _, none := range []map[string]any{{}, {"externalAccountBinding": nil}} {
		resp, doc := r.send("/acme/new-account", none, nil)
		if resp.StatusCode != 401 || doc["type"] != "urn:ietf:params:acme:error:externalAccountRequired" {
			t.Fatalf("without a binding: %d %v", resp.StatusCode, doc)
		}
	}
	bound := map[string]any{"externalAccountBinding": r.binding(k.ID, mac, func(p *bindingParts) { p.alg = jose.HS512 })}
	if resp, doc := r.send("/acme/new-account", bound, nil); resp.StatusCode != http.StatusCreated {
		t.Fatalf("the right binding: %d %v", resp.StatusCode, doc)
	}
	if resp, _ := r.send("/acme/new-account", map[string]any{}, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("an account that exists needs no binding: %s", resp.Status)
	}
	second := newRaw(t, w.base, newKey(t))
	if resp, doc := second.send("/acme/new-account", map[string]any{"externalAccountBinding": second.binding(k.ID, mac, nil)}, nil); resp.StatusCode != 401 {
		t.Fatalf("one key made two accounts: %d %v", resp.StatusCode, doc)
	}
	resp, err := http.Get(w.base + "/acme/directory")
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	var doc struct {
		Meta struct{ ExternalAccountRequired bool }
	}
	ok(t, json.NewDecoder(resp.Body).Decode(&doc))
	if !doc.Meta.ExternalAccountRequired {
		t.Error("the directory does not say that an external account is required")
	}
}

// TestExternalAccountOff: without the requirement no binding is needed, and one that is offered is still verified.
func TestExternalAccountOff(t *testing.T) {
	w := newWorld(t)
	newRaw(t, w.base, newKey(t)).register()
	r := newRaw(t, w.base, newKey(t))
	if resp, doc := r.send("/acme/new-account", map[string]any{"externalAccountBinding": r.binding("nobody", make([]byte, 32), nil)}, nil); resp.StatusCode != 401 {
		t.Fatalf("got %d %v", resp.StatusCode, doc)
	}
	_, _, err := w.svc.AddExternalKey(t.Context(), "operator:a", "", 0)
	wantKind(t, err, bulkhead.KindUsage)
	w.cfg.ExternalRequired = true
	if _, err := enroll.New(w.cfg); err == nil {
		t.Error("required external accounts without a secret were accepted")
	}
}

// TestExternalKeyIsNoOption: the text of a key can be given to a program behind an option.
func TestExternalKeyIsNoOption(t *testing.T) {
	w := newExternalWorld(t)
	for range 500 {
		if k, mac := w.externalKey(0); k.ID[0] == '-' || base64.RawURLEncoding.EncodeToString(mac)[0] == '-' {
			t.Fatalf("%s begins with a hyphen", k.ID)
		}
	}
}

// TestRevokeExternalKeyWithAccount ends the account with its open orders.
func TestRevokeExternalKeyWithAccount(t *testing.T) {
	w := newExternalWorld(t)
	k, mac := w.externalKey(0)
	r := newRaw(t, w.base, newKey(t))
	resp, _ := r.send("/acme/new-account", map[string]any{"externalAccountBinding": r.binding(k.ID, mac, nil)}, nil)
	r.kid = resp.Header.Get("Location")
	_, order := r.send("/acme/new-order", dnsOrder("localhost"), nil)
	for range 2 { // repeating it is no error
		_, err := w.svc.RevokeExternalKey(t.Context(), "operator:a", k.ID, true)
		ok(t, err)
	}
	if resp, doc := r.send("/acme/new-order", dnsOrder("localhost"), nil); resp.StatusCode != 401 {
		t.Errorf("a revoked account: %d %v", resp.StatusCode, doc)
	}
	path := r.path(order["finalize"])
	o, err := w.store.Order(t.Context(), path[len("/acme/order/"):len(path)-len("/finalize")])
	ok(t, err)
	if o.State != bulkhead.OrderInvalid {
		t.Errorf("its order is %s", o.State)
	}
}

// TestExternalAccountClients binds with certbot and acmez.
func TestExternalAccountClients(t *testing.T) {
	t.Parallel()
	w := newExternalWorld(t)
	c := w.acmez("http-01", "/acme/directory")
	k, mac := w.externalKey(0)
	a := acme.Account{PrivateKey: newKey(t), TermsOfServiceAgreed: true}
	ok(t, a.SetExternalAccountBinding(t.Context(), c.Client, acme.EAB{KeyID: k.ID, MACKey: base64.RawURLEncoding.EncodeToString(mac)}))
	a, err := c.NewAccount(t.Context(), a)
	ok(t, err)
	w.obtain(c, a, newKey(t), nil, "localhost")
	_, err = c.NewAccount(t.Context(), acme.Account{PrivateKey: newKey(t), TermsOfServiceAgreed: true})
	wantProblem(t, err, "externalAccountRequired", 401)

	program, err := exec.LookPath("certbot")
	if err != nil {
		t.Fatal("certbot is needed for this test: apt-get install certbot")
	}
	k, mac = w.externalKey(0)
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), program, "register", "--non-interactive", "--agree-tos", "--register-unsafely-without-email",
		"--server", w.base+"/acme/directory", "--config-dir", dir, "--work-dir", dir+"/work", "--logs-dir", dir+"/logs",
		"--eab-kid", k.ID, "--eab-hmac-key", base64.RawURLEncoding.EncodeToString(mac)).CombinedOutput()
	if err != nil {
		t.Fatalf("certbot register: %v\n%s", err, out)
	}
	k, err = w.store.ExternalKey(t.Context(), k.ID)
	ok(t, err)
	if k.AccountID == "" {
		t.Error("certbot's account is not bound")
	}
}
