package console_test

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
)

// approve signs a request with the key of one of the two operators.
func (h *house) approve(t testing.TB, status, operator int, id string) console.ApprovalView {
	t.Helper()
	v := call[console.ApprovalView](t, h, 200, "GET", "/api/v1/approvals/"+id, "")
	key := h.keys[operator]
	in := console.ApproveRequest{KeySHA256: bulkhead.Digest(key.Public().(ed25519.PublicKey)),
		Signature: quorum.SignApproval(key, bulkhead.ApprovalRequest{ID: v.ID, Action: v.Action, Payload: v.Payload})}
	return call[console.ApprovalView](t, h, status, "POST", "/api/v1/approvals/"+id, doc(t, in))
}

// TestStopAndResume: one operator stops, the same one alone does not resume, two do; meanwhile revocation goes through.
func TestStopAndResume(t *testing.T) {
	h := openHouse(t)
	issue := func(status int) problem {
		t.Helper()
		return call[problem](t, h, status, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "www.example.test")}))
	}
	got := call[console.IssueResponse](t, h, 200, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "a.test")}))
	for body, status := range map[string]int{`{}`: 400, `{"all":true}`: 400, `{"all":true,"issuer":"x","reason":"r"}`: 400, `{"method":"mail","reason":"r"}`: 400} {
		call[problem](t, h, status, "POST", "/api/v1/issuance/stops", body)
	}
	plan := call[console.Plan](t, h, 200, "POST", "/api/v1/issuance/stops", `{"all":true,"reason":"drill","dry_run":true}`)
	if len(plan.Would) == 0 || call[console.IssuanceView](t, h, 200, "GET", "/api/v1/issuance", "").Stopped {
		t.Fatalf("%+v", plan)
	}
	x := call[console.StopView](t, h, 200, "POST", "/api/v1/issuance/stops", `{"all":true,"reason":"a claim on a paste site"}`)
	if v := call[console.IssuanceView](t, h, 200, "GET", "/api/v1/issuance", ""); !v.All || v.Stops[0].ID != x.ID || v.Stops[0].Actor != "operator:operator-1" {
		t.Fatalf("%+v", v)
	}
	w := h.request(t, "", "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "www.example.test")}))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "urn:bulkhead:problem:stopped") || strings.Contains(w.Body.String(), "paste") {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	call[console.RevokeResponse](t, h, 200, "POST", "/api/v1/certificates/"+got.Certificate.Serial.String()+"/revoke", `{"reason":"superseded"}`)
	path := "/api/v1/issuance/stops/" + x.ID + "/resumption"
	call[problem](t, h, 400, "POST", path, `{}`)
	call[problem](t, h, 404, "POST", "/api/v1/issuance/stops/none/resumption", `{"reason":"x"}`)
	call[console.Plan](t, h, 200, "POST", path, `{"reason":"looked","dry_run":true}`)
	q := call[console.ApprovalView](t, h, 200, "POST", path, `{"reason":"looked"}`)
	h.approve(t, 200, 0, q.ID)
	h.approve(t, 409, 0, q.ID) // one person counts once
	issue(503)
	if v := h.approve(t, 200, 1, q.ID); v.State != bulkhead.RequestExecuted {
		t.Fatalf("%+v", v)
	}
	issue(200)
	call[problem](t, h, 409, "POST", path, `{"reason":"again"}`)
	v := call[console.IssuanceView](t, h, 200, "GET", "/api/v1/issuance", "")
	if v.Stopped || v.Ended[0].EndedBy != q.ID || v.Ended[0].EndedAt == nil || v.Ended[0].Ending != "looked" {
		t.Fatalf("%+v", v)
	}
}
