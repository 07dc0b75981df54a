package console_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/console"
)

// newPartner makes a partner by two operators, and somebody at it.
func (h *house) newPartner(t testing.TB, id, names string, people ...string) map[string]string {
	t.Helper()
	q := call[console.ApprovalView](t, h, 200, "POST", "/api/v1/partners", fmt.Sprintf(`{"id":%q,"title":"T","scope":{"names":[%q],"profiles":["tls-server"],"per_hour":5,"per_day":9},"reason":"contract"}`, id, names))
	h.approve(t, 200, 0, q.ID)
	if v := h.approve(t, 200, 1, q.ID); v.State != bulkhead.RequestExecuted {
		t.Fatalf("%+v", v)
	}
	tokens := map[string]string{}
	for _, p := range people {
		tokens[p] = call[console.PersonResponse](t, h, 200, "POST", "/api/v1/partners/"+id+"/people", fmt.Sprintf(`{"name":%q}`, p)).Token
	}
	return tokens
}

func (h *house) as(t testing.TB, token string, status int, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := h.request(t, token, method, path, body)
	if w.Code != status {
		t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	return w
}

// TestPartnersSeeTheirOwn: two partners at one house; neither sees, revokes or approves anything of the other, or of the
// house, and neither may do what an operator or an account may.
func TestPartnersSeeTheirOwn(t *testing.T) {
	h := openHouse(t)
	north, south := h.newPartner(t, "north", "north.test", "yuki"), h.newPartner(t, "south", "south.test", "ken")
	own := call[console.IssueResponse](t, h, 200, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "house.test")}))
	var acct console.NewAccountResponse
	decodeInto(t, h.as(t, north["yuki"], 200, "POST", "/api/v1/partner/accounts", ""), &acct)
	// A customer of a partner vouches for no name of the house, and validates as everybody else.
	w := h.request(t, acct.Token, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "a.north.test")}))
	if w.Code != 401 || !strings.Contains(w.Body.String(), "no valid authorization") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var list console.AccountList
	decodeInto(t, h.as(t, north["yuki"], 200, "GET", "/api/v1/partner/accounts", ""), &list)
	if len(list.Accounts) != 1 || list.Accounts[0].ID != acct.ID || list.Accounts[0].Creator != "partner:north/yuki" || list.Accounts[0].OwnNames {
		t.Fatalf("%+v", list)
	}
	decodeInto(t, h.as(t, south["ken"], 200, "GET", "/api/v1/partner/accounts", ""), &list)
	if len(list.Accounts) != 0 {
		t.Errorf("south sees %+v", list)
	}
	for _, token := range []string{north["yuki"], south["ken"]} {
		var certs console.CertificateList
		decodeInto(t, h.as(t, token, 200, "GET", "/api/v1/certificates", ""), &certs)
		if len(certs.Certificates) != 0 {
			t.Errorf("a partner sees %d certificates of others", len(certs.Certificates))
		}
		h.as(t, token, 404, "GET", "/api/v1/certificates/"+own.Certificate.Serial.String(), "")
		h.as(t, token, 404, "POST", "/api/v1/certificates/"+own.Certificate.Serial.String()+"/revoke", `{"reason":"superseded"}`)
		for _, path := range []string{"/api/v1/partners", "/api/v1/partners/north", "/api/v1/partners/south/log", "/api/v1/operators", "/api/v1/eab", "/api/v1/issuance", "/api/v1/accounts/" + acct.ID, "/api/v1/changes"} {
			h.as(t, token, 403, "GET", path, "")
		}
		h.as(t, token, 403, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "x.north.test")}))
		h.as(t, token, 403, "POST", "/api/v1/issuance/stops", `{"all":true,"reason":"x"}`)
	}
	h.as(t, acct.Token, 403, "GET", "/api/v1/partner/accounts", "")
	h.as(t, south["ken"], 404, "POST", "/api/v1/partner/orders/none/approval", "")

	// The kill switch: every credential is dead at once, and two people bring the partner back, without its old tokens.
	v := call[console.SuspendedView](t, h, 200, "POST", "/api/v1/partners/north/suspension", `{"reason":"orders for famous names"}`)
	if v.Partner.State != bulkhead.PartnerSuspended || v.Partner.People[0].RevokedAt == nil {
		t.Fatalf("%+v", v)
	}
	h.as(t, north["yuki"], 401, "GET", "/api/v1/partner", "")
	h.as(t, acct.Token, 503, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "a.north.test")}))
	h.as(t, south["ken"], 200, "GET", "/api/v1/partner", "")
	call[problem](t, h, 409, "POST", "/api/v1/partners/north/people", `{"name":"yuki"}`)
	q := call[console.ApprovalView](t, h, 200, "POST", "/api/v1/partners/north/resumption", `{"reason":"found and mended"}`)
	h.approve(t, 200, 0, q.ID)
	h.approve(t, 200, 1, q.ID)
	if v := call[console.IssuanceView](t, h, 200, "GET", "/api/v1/issuance", ""); v.Stopped {
		t.Errorf("%+v", v)
	}
	h.as(t, north["yuki"], 401, "GET", "/api/v1/partner", "")

	// Narrower at once, wider by two.
	narrow := call[console.ScopeResponse](t, h, 200, "POST", "/api/v1/partners/south/scope", `{"scope":{"names":["a.south.test"],"profiles":["tls-server"],"per_hour":1,"per_day":2,"hours":"09:00-17:00"},"reason":"less"}`)
	if narrow.Approval != nil || narrow.Partner.Scope.Hours != "09:00-17:00" {
		t.Fatalf("%+v", narrow)
	}
	wide := call[console.ScopeResponse](t, h, 200, "POST", "/api/v1/partners/south/scope", `{"scope":{"names":["a.south.test"],"profiles":["tls-server"],"per_hour":2,"per_day":2,"hours":"09:00-17:00"},"reason":"more"}`)
	if wide.Approval == nil || wide.Partner.Scope.PerHour != 1 {
		t.Fatalf("%+v", wide)
	}
}

func decodeInto(t testing.TB, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatal(err)
	}
}

// TestResetCredentials: every token and external key is dead after one call, and the next use is refused.
func TestResetCredentials(t *testing.T) {
	h := openHouse(t)
	people := h.newPartner(t, "north", "north.test", "yuki")
	a := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "")
	b := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", `{"own_names":true}`)
	key := call[console.ExternalKeyResponse](t, h, 200, "POST", "/api/v1/eab", `{}`)
	const path = "/api/v1/credentials/reset"
	call[problem](t, h, 400, "POST", path, `{"reason":"x"}`)
	call[problem](t, h, 400, "POST", path, `{"all":true}`)
	call[console.Plan](t, h, 200, "POST", path, `{"all":true,"reason":"drill","dry_run":true}`)
	h.as(t, a.Token, 200, "GET", "/api/v1/certificates", "")
	before := h.evidence(t)
	got := call[console.ResetResponse](t, h, 200, "POST", path, `{"all":true,"reason":"the shop was broken into"}`)
	if got.Tokens != 2 || got.ExternalKeys != 1 || got.PartnerTokens != 1 || h.evidence(t) != before+4 {
		t.Fatalf("%+v, %d leaves", got, h.evidence(t)-before)
	}
	for _, token := range []string{a.Token, b.Token, people["yuki"]} {
		h.as(t, token, 401, "GET", "/api/v1/certificates", "")
	}
	if keys := call[console.ExternalKeyList](t, h, 200, "GET", "/api/v1/eab", "").Keys; keys[0].KID != key.Key.KID || keys[0].State != "revoked" {
		t.Errorf("%+v", keys)
	}
	if again := call[console.ResetResponse](t, h, 200, "POST", path, `{"all":true,"reason":"again"}`); again != (console.ResetResponse{}) {
		t.Errorf("%+v", again)
	}
	fresh := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts/"+a.ID+"/token", "")
	h.as(t, fresh.Token, 200, "GET", "/api/v1/certificates", "")
	h.as(t, a.Token, 401, "GET", "/api/v1/certificates", "")

	// One account: out at once by one person, in again by two.
	if v := call[console.AccountView](t, h, 200, "POST", "/api/v1/accounts/"+a.ID+"/suspension", `{"reason":"strange orders"}`); v.State != bulkhead.AccountSuspended {
		t.Errorf("%+v", v)
	}
	h.as(t, fresh.Token, 401, "GET", "/api/v1/certificates", "")
	call[problem](t, h, 409, "POST", "/api/v1/accounts/"+a.ID+"/suspension", `{"reason":"again"}`)
	q := call[console.ApprovalView](t, h, 200, "POST", "/api/v1/accounts/"+a.ID+"/resumption", `{"reason":"explained"}`)
	h.approve(t, 200, 0, q.ID)
	h.as(t, fresh.Token, 401, "GET", "/api/v1/certificates", "")
	h.approve(t, 200, 1, q.ID)
	h.as(t, fresh.Token, 200, "GET", "/api/v1/certificates", "")
	call[problem](t, h, 404, "POST", "/api/v1/accounts/none/suspension", `{"reason":"x"}`)
}
