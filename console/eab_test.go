package console_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"bulkhead/console"
)

func TestExternalKeys(t *testing.T) {
	h := openHouse(t)
	list := func() []console.ExternalKeyView {
		t.Helper()
		return call[console.ExternalKeyList](t, h, 200, "GET", "/api/v1/eab", "").Keys
	}
	plan := call[console.Plan](t, h, 200, "POST", "/api/v1/eab", `{"note":"site a","dry_run":true}`)
	if !plan.DryRun || len(list()) != 0 {
		t.Fatalf("a dry run made %v: %+v", list(), plan)
	}
	call[problem](t, h, 400, "POST", "/api/v1/eab", `{"expires_in":"soon"}`)
	got := call[console.ExternalKeyResponse](t, h, 200, "POST", "/api/v1/eab", `{"note":"site a","expires_in":"720h"}`)
	mac, err := base64.RawURLEncoding.DecodeString(got.HMACKey)
	if err != nil || len(mac) < 32 || got.Key.State != "unused" || got.Key.ExpiresAt == nil || got.Key.Actor != "operator:operator-1" {
		t.Fatalf("%v %+v", err, got)
	}
	second := call[console.ExternalKeyResponse](t, h, 200, "POST", "/api/v1/eab", "{}")
	if second.HMACKey == got.HMACKey {
		t.Fatal("two keys have one MAC key")
	}
	w := h.request(t, "", "GET", "/api/v1/eab", "")
	if len(list()) != 2 || strings.Contains(w.Body.String(), got.HMACKey) {
		t.Fatalf("the list is %s", w.Body)
	}
	path := "/api/v1/eab/" + got.Key.KID
	call[console.Plan](t, h, 200, "DELETE", path+"?dry_run=true", "")
	if list()[1].State != "unused" {
		t.Fatal("a dry run revoked the key")
	}
	if v := call[console.ExternalKeyView](t, h, 200, "DELETE", path, ""); v.State != "revoked" {
		t.Fatalf("%+v", v)
	}
	call[problem](t, h, 409, "DELETE", path, "")
	call[problem](t, h, 404, "DELETE", "/api/v1/eab/none", "")
	call[problem](t, h, 404, "DELETE", "/api/v1/eab/none?dry_run=true", "")
	acct := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "")
	if w := h.request(t, acct.Token, "GET", "/api/v1/eab", ""); w.Code != 403 {
		t.Errorf("an account reads the keys: %d", w.Code)
	}
}

func TestRevokeAuthorizationsCall(t *testing.T) {
	h := openHouse(t)
	const path = "/api/v1/authorizations/revoke"
	call[console.IssueResponse](t, h, 200, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "a.test", "b.a.test")}))
	for body, status := range map[string]int{`{}`: 400, `{"method":"dns"}`: 400, `{"since":"yesterday","reason":"x"}`: 400, `{"method":"operator-approval"}`: 400} {
		call[problem](t, h, status, "POST", path, body)
	}
	before := h.evidence(t)
	plan := call[console.Plan](t, h, 200, "POST", path, `{"method":"operator-approval","since":"2020-01-01T00:00:00Z","dry_run":true}`)
	if !strings.Contains(plan.Would[0], "revoke 2 valid") || !strings.Contains(plan.NotChecked[0], "1 certificates") || h.evidence(t) != before {
		t.Fatalf("%+v", plan)
	}
	for _, step := range []struct {
		body string
		want int
	}{{`{"name":"*.a.test","reason":"drill"}`, 1}, {`{"all":true,"reason":"drill"}`, 1}, {`{"all":true,"reason":"drill"}`, 0}} {
		if got := call[console.RevokeAuthorizationsResponse](t, h, 200, "POST", path, step.body); got.Revoked != step.want {
			t.Fatalf("%s revoked %d, want %d", step.body, got.Revoked, step.want)
		}
	}
	if n := h.evidence(t); n != before+2 {
		t.Errorf("%d leaves, want %d", n, before+2)
	}
}
