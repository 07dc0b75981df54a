package est_test

import (
	"testing"

	"bulkhead"
)

// TestStopped: both enrolments are refused with 503 and a time to come back while issuance is stopped, and work after it.
func TestStopped(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	x, err := h.svc.Stop(t.Context(), "operator:a", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "drill"})
	ok(t, err)
	before := h.issuedRows()
	send := h.request("new", "one.internal")
	for operation, as := range map[string][]string{"simpleenroll": user, "simplereenroll": with("one")} {
		a := h.curl(operation, join(as, send)...)
		a.want(t, 503, "issuance is stopped")
		if a.header["retry-after"] == "" {
			t.Errorf("%s: %v", operation, a.header)
		}
	}
	if h.issuedRows() != before {
		t.Error("something was issued")
	}
	if a := curl(t, h.dir, "--cacert", "tls.pem", h.base+"/cacerts"); a.status != 200 {
		t.Errorf("cacerts: %d", a.status)
	}
	ok(t, h.svc.EndStop(t.Context(), x.ID, "r-1", bulkhead.Hash{}, "over"))
	h.enrolled("simpleenroll", "new", join(user, send)...)
}
