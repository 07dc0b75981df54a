package console_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
)

// operator puts somebody with a role into office, by two others.
func (h *house) operator(t testing.TB, name, role string) ed25519.PrivateKey {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	q := call[console.ApprovalView](t, h, 200, "POST", "/api/v1/operators", doc(t, console.OperatorRequest{Name: name, PublicKey: pub, Roles: []string{role}, Reason: "new"}))
	h.approve(t, 200, 0, q.ID)
	h.approve(t, 200, 1, q.ID)
	return key
}

func (h *house) signed(t testing.TB, key ed25519.PrivateKey, status int, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader([]byte(body)))
	sig, err := quorum.SignRequest(key, method, path, []byte(body), time.Now(), rand.Text())
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", sig)
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	if w.Code != status {
		t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	return w
}

// TestRoles: an auditor reads and changes nothing, a revoker revokes and stops, an issuer's administrator resumes; nobody's
// signature counts for what his roles do not cover.
func TestRoles(t *testing.T) {
	h := openHouse(t)
	call[problem](t, h, 400, "POST", "/api/v1/operators", doc(t, console.OperatorRequest{Name: "x", PublicKey: h.keys[0].Public().(ed25519.PublicKey), Roles: []string{"king"}, Reason: "new"}))
	auditor, revoker, issuer := h.operator(t, "aki", "auditor"), h.operator(t, "rei", "revoker"), h.operator(t, "iku", "issuer-admin")
	for _, key := range []ed25519.PrivateKey{auditor, revoker, issuer} {
		for _, path := range []string{"/api/v1/certificates", "/api/v1/issuance", "/api/v1/partners", "/api/v1/approvals", "/api/v1/alarms"} {
			h.signed(t, key, 200, "GET", path, "")
		}
	}
	const stop = `{"profile":"tls-client","reason":"drill"}`
	h.signed(t, auditor, 403, "POST", "/api/v1/issuance/stops", stop)
	h.signed(t, auditor, 403, "POST", "/api/v1/issuance/stops?dry_run=true", stop)
	var x console.StopView
	decodeInto(t, h.signed(t, revoker, 200, "POST", "/api/v1/issuance/stops", stop), &x)
	h.signed(t, revoker, 403, "POST", "/api/v1/accounts", "")
	h.signed(t, issuer, 200, "POST", "/api/v1/accounts", "")
	h.signed(t, issuer, 403, "POST", "/api/v1/changes", `{}`)
	h.signed(t, issuer, 403, "POST", "/api/v1/operators", `{}`) // administrators alone
	var q console.ApprovalView
	decodeInto(t, h.signed(t, revoker, 200, "POST", "/api/v1/issuance/stops/"+x.ID+"/resumption", `{"reason":"over"}`), &q)
	approve := func(key ed25519.PrivateKey, status int) {
		t.Helper()
		in := console.ApproveRequest{KeySHA256: bulkhead.Digest(key.Public().(ed25519.PublicKey)),
			Signature: quorum.SignApproval(key, bulkhead.ApprovalRequest{ID: q.ID, Action: q.Action, Payload: q.Payload})}
		call[map[string]any](t, h, status, "POST", "/api/v1/approvals/"+q.ID, doc(t, in))
	}
	approve(auditor, 403)
	approve(revoker, 403)
	approve(issuer, 200)
	h.approve(t, 200, 1, q.ID)
	if v := call[console.IssuanceView](t, h, 200, "GET", "/api/v1/issuance", ""); v.Stopped {
		t.Errorf("%+v", v)
	}
	var proof console.ApprovalProof
	decodeInto(t, h.signed(t, auditor, 200, "GET", "/api/v1/approvals/"+q.ID+"/proof", ""), &proof)
	if len(proof.Approvals) != 2 || len(proof.Approvals[0].Signature) != ed25519.SignatureSize {
		t.Errorf("%+v", proof)
	}
	// Access reviews: by somebody else, and in evidence.
	before := h.evidence(t)
	call[problem](t, h, 409, "POST", "/api/v1/operators/operator-1/review", "")
	call[problem](t, h, 404, "POST", "/api/v1/operators/nobody/review", "")
	call[console.OperatorList](t, h, 200, "POST", "/api/v1/operators/aki/review", "")
	if h.evidence(t) != before+1 {
		t.Error("the review is not in evidence")
	}
	var findings console.Findings
	decodeInto(t, h.signed(t, auditor, 200, "GET", "/api/v1/doctor", ""), &findings)
	if text := doc(t, findings); !strings.Contains(text, "confirmed within three months") {
		t.Error(text)
	}
}

// TestRolesNameOperations: the table of roles speaks of operations that exist.
func TestRolesNameOperations(t *testing.T) {
	text, err := console.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, methods := range document.Paths {
		for _, op := range methods {
			ids[op.OperationID] = true
		}
	}
	for id := range console.Permitted {
		if !ids[id] {
			t.Errorf("there is no operation %s", id)
		}
	}
}
