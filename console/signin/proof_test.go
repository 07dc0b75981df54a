package signin_test

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/pki/approval"
	"bulkhead/quorum"
)

// proven verifies a request's signatures away from the house, with the program that auditors use and public keys alone.
func proven(t *testing.T, h *house, id string, people ...string) {
	t.Helper()
	code, proof := h.operator(h.keys[0], http.MethodGet, "/api/v1/approvals/"+id+"/proof", nil)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, proof)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "proof.json")
	ok(t, os.WriteFile(file, proof, 0o600))
	args := []string{"run", "bulkhead/cmd/bulkhead-verify", "approval", file, "--json", "--needed", "2", "--origin", h.site, "--rp-id", "localhost"}
	for i, k := range h.keys {
		text, err := quorum.MarshalPublicKey(k.Public().(ed25519.PublicKey))
		ok(t, err)
		path := filepath.Join(dir, string(rune('a'+i))+".pub")
		ok(t, os.WriteFile(path, text, 0o600))
		args = append(args, "--operator-key", path)
	}
	keys := must[console.SecurityKeyList](h, &http.Client{Transport: signed{h}}, http.MethodGet, "/api/v1/security-keys", nil).Keys
	for _, k := range keys {
		path := filepath.Join(dir, k.Operator+".pub")
		ok(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.PublicKey}), 0o600))
		args = append(args, "--operator-key", path)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	out, err := cmd.Output()
	var v struct {
		OK       bool     `json:"ok"`
		Counted  []string `json:"counted"`
		Findings []any    `json:"findings"`
	}
	if err != nil || json.Unmarshal(out, &v) != nil || !v.OK {
		t.Fatalf("bulkhead-verify: %v: %s", err, out)
	}
	for _, p := range people {
		if !slices.Contains(v.Counted, p) {
			t.Errorf("the signature of %s is not among %v", p, v.Counted)
		}
	}
}

// signed signs requests as operator 1.
type signed struct{ h *house }

func (s signed) RoundTrip(r *http.Request) (*http.Response, error) {
	sig, err := quorum.SignRequest(s.h.keys[0], r.Method, r.URL.RequestURI(), nil, s.h.now(), "nonce-of-the-test-"+r.URL.Path)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", sig)
	return s.h.browser().Transport.RoundTrip(r)
}

// TestApproveByKey: a security key's signature counts like a key file's, over exactly what is approved, once, and an auditor
// verifies it with its public key.
func TestApproveByKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	k := h.bound("carol", "issuer-admin")
	c, proof := h.signedIn(k)
	propose := func() bulkhead.ApprovalRequest {
		stop, err := h.Enroll.Stop(t.Context(), "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "a test"})
		ok(t, err)
		r, err := h.Quorum.Propose(t.Context(), "issuance.resume", map[string]string{"stop": stop.ID, "scope": "all", "why": "w"}, "operator:operator-1", "mended")
		ok(t, err)
		return r
	}
	approve := func(r bulkhead.ApprovalRequest, a approval.Assertion) (int, []byte) {
		return h.call(c, http.MethodPost, "/api/v1/approvals/"+r.ID, map[string]any{"assertion": a}, "X-Bulkhead-Session", proof)
	}
	challenge := func(r bulkhead.ApprovalRequest) string { return b64(approval.Challenge(r)) }
	r, other := propose(), propose()
	for says, spoil := range map[string]func(*touch){
		"something else": func(x *touch) { x.challenge = challenge(other) },
		"evil.example":   func(x *touch) { x.origin = "https://evil.example" },
		"not verified":   func(x *touch) { x.flags = 0x01 },
		"relying party":  func(x *touch) { x.rpID = "evil.example" },
	} {
		code, body := approve(r, k.assert(challenge(r), spoil))
		h.refused(code, body, bulkhead.KindUnauthorized, says)
	}
	// Being signed in approves nothing by itself.
	code, body := h.call(c, http.MethodPost, "/api/v1/approvals/"+r.ID, map[string]any{}, "X-Bulkhead-Session", proof)
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office")
	copied := *k
	if code, body := approve(r, k.assert(challenge(r))); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	code, body = approve(r, k.assert(challenge(r)))
	h.refused(code, body, bulkhead.KindGate, "approved request")
	code, body = approve(other, copied.assert(challenge(other)))
	h.refused(code, body, bulkhead.KindForbidden, "counts backwards")
	if got := h.sign(r.ID, h.keys[0]); got.State != bulkhead.RequestExecuted {
		t.Errorf("the request is %s", got.State)
	}
	proven(t, h, r.ID, "carol", "operator-1")

	// Taken away by one person, it counts no more, neither for what she signed before nor for signing in.
	last := propose()
	if code, body := approve(last, k.assert(challenge(last))); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	list := must[console.SecurityKeyList](h, c, http.MethodGet, "/api/v1/security-keys", nil).Keys
	path := "/api/v1/security-keys/" + list[0].KeySHA256.String()
	code, body = h.operator(h.keys[1], http.MethodDelete, path, nil)
	h.refused(code, body, bulkhead.KindMalformed, "needs a reason")
	if code, body = h.operator(h.keys[1], http.MethodDelete, path+"?reason=lost", nil); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	if got := h.sign(last.ID, h.keys[0]); got.State != bulkhead.RequestOpen {
		t.Errorf("with the signature of a key that was taken away the request is %s", got.State)
	}
	code, body = h.signIn(h.browser(), k)
	h.refused(code, body, bulkhead.KindForbidden, "no operator in office")
}
