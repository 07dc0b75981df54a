package signin_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"testing"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/console/signin"
	"bulkhead/pki/approval"
)

// TestLeaver: who left gets in by no means, at once: not by key file, security key, session, identity provider, or the token
// that orders on his word; what he had approved and what he invited to count no more.
func TestLeaver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	pub, file, err := ed25519.GenerateKey(nil)
	ok(t, err)
	add, err := h.Quorum.Propose(t.Context(), approval.AddOperator, approval.OperatorPayload{Name: "carol", PublicKey: pub}, "operator:operator-1", "a test")
	ok(t, err)
	h.sign(add.ID, h.keys[:]...)
	key := h.bound("carol")
	c, _ := h.signedIn(key)
	var token struct{ Token string }
	code, body := h.operator(file, http.MethodPost, "/api/v1/accounts", map[string]any{"own_names": true})
	if code != http.StatusOK || json.Unmarshal(body, &token) != nil {
		t.Fatalf("%d %s", code, body)
	}
	var plain struct{ Token string }
	if code, body = h.operator(file, http.MethodPost, "/api/v1/accounts", map[string]any{}); code != http.StatusOK || json.Unmarshal(body, &plain) != nil {
		t.Fatalf("%d %s", code, body)
	}
	var link console.InvitationResponse
	if code, body = h.operator(file, http.MethodPost, "/api/v1/operators/dora/invitation", map[string]any{}); code != http.StatusOK || json.Unmarshal(body, &link) != nil {
		t.Fatalf("%d %s", code, body)
	}
	u, err := url.Parse(link.Link)
	ok(t, err)
	stop, err := h.Enroll.Stop(t.Context(), "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "a test"})
	ok(t, err)
	pending := func() bulkhead.ApprovalRequest {
		r, err := h.Quorum.Propose(t.Context(), "issuance.resume", map[string]string{"stop": stop.ID}, "operator:operator-1", "mended")
		ok(t, err)
		return r
	}
	byFile, byKey := pending(), pending()
	h.sign(byFile.ID, file)
	_, err = h.Quorum.Approve(t.Context(), byKey.ID, keyHash(t, key), key.assert(b64(approval.Challenge(byKey))).Encode())
	ok(t, err)
	provider, err := signin.New(signin.Config{Store: h.Store, Quorum: h.Quorum, Base: func() string { return h.site }, Now: h.now, Log: slog.New(slog.DiscardHandler),
		OIDC: &signin.OIDC{Issuer: "https://provider.example", ClientID: "web", People: map[string]string{"carol@example.com": "carol"}}})
	ok(t, err)
	vouched := func() error {
		_, _, err := provider.Admit(t.Context(), "carol@example.com")
		return err
	}
	ok(t, vouched())
	bearer := func(token string) int {
		code, _ := h.call(h.browser(), http.MethodGet, "/api/v1/certificates", nil, "Authorization", "Bearer "+token)
		return code
	}
	for name, got := range map[string]int{"key file": first(h.operator(file, http.MethodGet, "/api/v1/operators", nil)), "session": first(h.call(c, http.MethodGet, "/api/v1/operators", nil)), "own-names token": bearer(token.Token), "token": bearer(plain.Token)} {
		if got != http.StatusOK {
			t.Fatalf("before she left, by %s: %d", name, got)
		}
	}

	leave, err := h.Quorum.Propose(t.Context(), approval.RemoveOperator, approval.OperatorPayload{Name: "carol"}, "operator:operator-1", "she leaves")
	ok(t, err)
	if r := h.sign(leave.ID, h.keys[:]...); r.State != bulkhead.RequestExecuted {
		t.Fatal(r.State)
	}
	code, body = h.operator(file, http.MethodGet, "/api/v1/operators", nil)
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office")
	code, body = h.signIn(h.browser(), key)
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office")
	code, body = h.call(c, http.MethodGet, "/api/v1/operators", nil)
	h.refused(code, body, bulkhead.KindUnauthorized, "not in office any more")
	code, body = h.call(h.browser(), http.MethodGet, "/api/v1/certificates", nil, "Authorization", "Bearer "+token.Token)
	h.refused(code, body, bulkhead.KindUnauthorized, "not in office any more")
	if got := bearer(plain.Token); got != http.StatusOK { // a subscriber's token has no word of hers in it
		t.Errorf("a subscriber's token: %d", got)
	}
	if err := vouched(); bulkhead.KindOf(err) != bulkhead.KindForbidden {
		t.Errorf("by the identity provider: %v", err)
	}
	code, body = h.call(h.browser(), http.MethodPost, "/signin/register/begin", map[string]string{"token": u.Fragment})
	h.refused(code, body, bulkhead.KindForbidden, "not in office any more")
	for _, r := range []bulkhead.ApprovalRequest{byFile, byKey} {
		if got := h.sign(r.ID, h.keys[0]); got.State != bulkhead.RequestOpen {
			t.Errorf("with the approval of somebody who left the request is %s", got.State)
		}
	}
	_, err = h.Quorum.Approve(t.Context(), byFile.ID, keyHash(t, key), key.assert(b64(approval.Challenge(byFile))).Encode())
	if bulkhead.KindOf(err) != bulkhead.KindForbidden {
		t.Errorf("an approval by somebody who left: %v", err)
	}
}

// keyHash is how approvals name a security key.
func keyHash(t testing.TB, k *securityKey) bulkhead.Hash {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&k.key.PublicKey)
	ok(t, err)
	return bulkhead.Digest(der)
}

func first(code int, _ []byte) int { return code }
