package enroll_test

import (
	"net/http"
	"strings"
	"testing"

	"bulkhead"
)

// TestStoppedOverACME: an ACME client is refused with a problem that it can read and a time to come back, its order stays
// ready, and the same finalize works after the stop.
func TestStoppedOverACME(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	path := w.readyByHand(r, "localhost")
	finalize := map[string]string{"csr": b64(csr(t, newKey(t), "localhost"))}
	x := w.stop(bulkhead.StopAll, "")
	for what, ask := range map[string]func() (*http.Response, map[string]any){
		"newOrder": func() (*http.Response, map[string]any) { return r.send("/acme/new-order", dnsOrder("localhost"), nil) },
		"finalize": func() (*http.Response, map[string]any) { return r.send(path, finalize, nil) },
	} {
		resp, doc := ask()
		detail, _ := doc["detail"].(string)
		if resp.StatusCode != http.StatusServiceUnavailable || doc["type"] != "urn:ietf:params:acme:error:serverInternal" || resp.Header.Get("Retry-After") == "" ||
			resp.Header.Get("Replay-Nonce") == "" || !strings.Contains(detail, "issuance is stopped since") {
			t.Errorf("%s: %s %v, Retry-After %q", what, resp.Status, doc, resp.Header.Get("Retry-After"))
		}
	}
	if _, doc := r.send(strings.TrimSuffix(path, "/finalize"), nil, nil); doc["status"] != "ready" {
		t.Errorf("the order is %v", doc["status"])
	}
	w.resume(x)
	if resp, doc := r.send(path, finalize, nil); resp.StatusCode != http.StatusOK || doc["status"] != "valid" && doc["status"] != "processing" {
		t.Errorf("after the stop: %s %v", resp.Status, doc)
	}
}
