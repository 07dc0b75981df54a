package signin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/console/signin"
)

// TestKey goes the whole way: an operator invites somebody new, who registers a key; a quorum approves it; she signs in, reads,
// asks for a change from the page, and signs out.
func TestKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	k := newSecurityKey(t, h.site)
	k.handle = handleOf("carol")
	token := h.invite("carol", "revoker")
	request := h.register(token, k)
	code, body := h.signIn(h.browser(), k)
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office") // registered, and not approved
	if r := h.sign(request, h.keys[:]...); r.State != bulkhead.RequestExecuted {
		t.Fatalf("the request is %s", r.State)
	}
	c, proof := h.signedIn(k)
	v := must[signin.SessionView](h, c, http.MethodGet, "/signin/session", nil)
	if v.Operator != "carol" || v.Method != signin.MethodKey || len(v.Roles) != 1 || v.Roles[0] != "revoker" {
		t.Errorf("%+v", v)
	}
	must[console.OperatorList](h, c, http.MethodGet, "/api/v1/operators", nil)
	stop := map[string]any{"all": true, "reason": "a test"}
	code, body = h.call(c, http.MethodPost, "/api/v1/issuance/stops", stop)
	h.refused(code, body, bulkhead.KindForbidden, "proof of its page")
	code, body = h.call(c, http.MethodPost, "/api/v1/issuance/stops", stop, signin.CSRFHeader, proof, "Origin", "https://evil.example")
	h.refused(code, body, bulkhead.KindForbidden, "evil.example")
	code, body = h.call(c, http.MethodPost, "/api/v1/issuance/stops", stop, signin.CSRFHeader, proof, "Sec-Fetch-Site", "cross-site")
	h.refused(code, body, bulkhead.KindForbidden, "comes from")
	if code, body = h.call(c, http.MethodPost, "/api/v1/issuance/stops", stop, signin.CSRFHeader, proof); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	code, body = h.call(c, http.MethodPost, "/api/v1/accounts", map[string]any{}, signin.CSRFHeader, proof)
	h.refused(code, body, bulkhead.KindForbidden, "roles") // a revoker makes no accounts
	code, body = h.call(c, http.MethodPost, "/signin/out", map[string]any{})
	h.refused(code, body, bulkhead.KindForbidden, "proof")
	kept := *c // somebody who copied the cookie
	must[map[string]bool](h, &kept, http.MethodPost, "/signin/out", map[string]any{}, signin.CSRFHeader, proof)
	code, body = h.call(c, http.MethodGet, "/api/v1/operators", nil)
	if code != http.StatusUnauthorized {
		t.Errorf("after signing out: %d %s", code, body)
	}
}

// TestSession: a session ends by itself, and dies with the operator's office at once.
func TestSession(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	k := h.bound("operator-1")
	c, proof := h.signedIn(k)
	if code, _ := h.call(c, http.MethodGet, "/api/v1/operators", nil); code != http.StatusOK {
		t.Fatal(code)
	}
	// The cookie value goes on after the browser forgot it.
	cookies := c.Jar.Cookies(parse(t, h.site))
	h.shift.Store(int64(time.Hour + time.Second))
	again := h.browser()
	again.Jar.SetCookies(parse(t, h.site), cookies)
	code, body := h.call(again, http.MethodGet, "/api/v1/operators", nil, "Cookie", cookies[0].Name+"="+cookies[0].Value)
	h.refused(code, body, bulkhead.KindUnauthorized, "session ended at")
	code, body = h.call(h.browser(), http.MethodGet, "/signin/session", nil, "Cookie", cookies[0].Name+"=guess")
	h.refused(code, body, bulkhead.KindUnauthorized, "no such session")
	_ = proof
}

// TestKeyRefused: whatever is not exactly the answer of a bound key to a fresh challenge lets nobody in.
func TestKeyRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	k := h.bound("operator-1")
	k.handle = handleOf("operator-1")
	c := h.browser()
	for says, spoil := range map[string]func(*touch){
		"origin":    func(x *touch) { x.origin = "https://localhost.evil.example" },
		"RP":        func(x *touch) { x.rpID = "evil.example" },
		"verif":     func(x *touch) { x.flags = 0x01 }, // the person was not verified
		"presen":    func(x *touch) { x.flags = 0x04 },
		"hallenge":  func(x *touch) { x.challenge = b64([]byte("an older challenge, of 32 octets")) },
		"ype":       func(x *touch) { x.kind = "webauthn.create" },
		"ackup":     func(x *touch) { x.flags = 0x0d }, // it can be copied by now
		"not count": func(x *touch) { x.origin = strings.Replace(x.origin, "https", "http", 1) },
	} {
		code, body := h.signIn(c, k, spoil)
		h.refused(code, body, bulkhead.KindUnauthorized, says)
	}
	// One challenge, twice.
	b := must[begun](h, c, http.MethodPost, "/signin/key/begin", map[string]string{})
	answer := map[string]any{"id": b.ID, "response": k.get(b.PublicKey.Challenge)}
	if code, body := h.call(c, http.MethodPost, "/signin/key/finish", answer); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	code, body := h.call(c, http.MethodPost, "/signin/key/finish", answer)
	h.refused(code, body, bulkhead.KindUnauthorized, "finished before")
	// Too late.
	b = must[begun](h, c, http.MethodPost, "/signin/key/begin", map[string]string{})
	late := map[string]any{"id": b.ID, "response": k.get(b.PublicKey.Challenge)}
	h.shift.Add(int64(6 * time.Minute))
	code, body = h.call(c, http.MethodPost, "/signin/key/finish", late)
	h.refused(code, body, bulkhead.KindUnauthorized, "took too long")
	// Another site's page.
	code, body = h.call(c, http.MethodPost, "/signin/key/begin", map[string]string{}, "Origin", "https://evil.example")
	h.refused(code, body, bulkhead.KindForbidden, "evil.example")
	// A key that nobody knows, and one that was signed by another key than the one it names.
	code, body = h.signIn(c, newSecurityKey(t, h.site))
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office")
	thief := newSecurityKey(t, h.site)
	thief.id, thief.handle, thief.count = k.id, k.handle, k.count
	code, body = h.signIn(c, thief)
	h.refused(code, body, bulkhead.KindUnauthorized, "not count")
	// The copy of a key counts from where it was taken: one of the two is found out, and there is an alarm.
	if h.alarmed("copy") {
		t.Error("an alarm before there is a copy")
	}
	copied := *k
	if code, body := h.signIn(c, k); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	code, body = h.signIn(c, &copied)
	h.refused(code, body, bulkhead.KindForbidden, "counts backwards")
	if !h.alarmed("copy") {
		t.Error("no alarm for a copy of a key")
	}
}

// TestRegisterRefused: an invitation is good once, for a day, while who invited is in office; a key that can be copied or that
// was made elsewhere is not taken.
func TestRegisterRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token := h.invite("operator-2")
	c := h.browser()
	for says, spoil := range map[string]func(*touch){
		"origin": func(x *touch) { x.origin = "https://evil.example" },
		"copied": func(x *touch) { x.flags |= 0x08 },
		"verif":  func(x *touch) { x.flags = 0x41 },
	} {
		b := must[begun](h, c, http.MethodPost, "/signin/register/begin", map[string]string{"token": token})
		if b.Operator != "operator-2" || b.New {
			t.Errorf("%+v", b)
		}
		k := newSecurityKey(t, h.site)
		code, body := h.call(c, http.MethodPost, "/signin/register/finish", map[string]any{"token": token, "id": b.ID, "label": "x", "response": k.create(b.PublicKey.Challenge, spoil)})
		h.refused(code, body, bulkhead.KindUnauthorized, says)
	}
	k := newSecurityKey(t, h.site)
	h.register(token, k)
	code, body := h.call(c, http.MethodPost, "/signin/register/begin", map[string]string{"token": token})
	h.refused(code, body, bulkhead.KindForbidden, "not any more")
	code, body = h.call(c, http.MethodPost, "/signin/register/begin", map[string]string{"token": "guess"})
	h.refused(code, body, bulkhead.KindForbidden, "not good")
	late := h.invite("dora")
	h.shift.Add(int64(25 * time.Hour))
	code, body = h.call(c, http.MethodPost, "/signin/register/begin", map[string]string{"token": late})
	h.refused(code, body, bulkhead.KindForbidden, "not any more")
}
