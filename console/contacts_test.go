package console_test

import (
	"encoding/json"
	"testing"

	"bulkhead/console"
)

// TestContacts: holders of API accounts can be reached on a bad day; operators, the account itself and the partner that
// brought it say where, and nobody else.
func TestContacts(t *testing.T) {
	h := openHouse(t)
	north, south := h.newPartner(t, "north", "north.test", "yuki"), h.newPartner(t, "south", "south.test", "ken")
	mine := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", `{"contacts":["ops@mine.test"]}`)
	theirs := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "")
	w := h.request(t, north["yuki"], "POST", "/api/v1/partner/accounts", `{"contacts":["ops@shop.test","night@shop.test"]}`)
	var shop console.NewAccountResponse
	if err := json.Unmarshal(w.Body.Bytes(), &shop); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	path := func(id string) string { return "/api/v1/accounts/" + id + "/contacts" }
	before := h.evidence(t)
	for _, c := range []struct {
		what, token, id, body string
		status                int
	}{
		{"another account", mine.Token, theirs.ID, `{"contacts":["thief@mine.test"]}`, 404},
		{"another partner", south["ken"], shop.ID, `{"contacts":["thief@south.test"]}`, 404},
		{"a partner, for a customer of the house", north["yuki"], mine.ID, `{"contacts":["thief@north.test"]}`, 404},
		{"no address", "", mine.ID, `{"contacts":["nobody"]}`, 400},
		{"two addresses in one", "", mine.ID, `{"contacts":["a@mine.test,b@mine.test"]}`, 400},
		{"header fields", "", mine.ID, `{"contacts":["a@mine.test?bcc=thief@north.test"]}`, 400},
		{"an account that is not there", "", "none", `{"contacts":["a@mine.test"]}`, 404},
		{"only for show", mine.Token, mine.ID, `{"contacts":["a@mine.test"],"dry_run":true}`, 200},
	} {
		if w := h.request(t, c.token, "POST", path(c.id), c.body); w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.what, w.Code, c.status, w.Body)
		}
	}
	if after := h.evidence(t); after != before {
		t.Errorf("refused and rehearsed calls left evidence: %d rows, then %d", before, after)
	}
	for id, want := range map[string]int{mine.ID: 1, theirs.ID: 0, shop.ID: 2} {
		if v := call[console.AccountView](t, h, 200, "GET", "/api/v1/accounts/"+id, ""); len(v.Contacts) != want {
			t.Errorf("%s is told at %v", id, v.Contacts)
		}
	}
	for token, id := range map[string]string{mine.Token: mine.ID, "": theirs.ID, north["yuki"]: shop.ID} {
		if w := h.request(t, token, "POST", path(id), `{"contacts":["new@new.test"]}`); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if v := call[console.AccountView](t, h, 200, "GET", "/api/v1/accounts/"+id, ""); len(v.Contacts) != 1 || v.Contacts[0] != "mailto:new@new.test" {
			t.Errorf("%s is told at %v", id, v.Contacts)
		}
	}
	if w := h.request(t, mine.Token, "POST", path(mine.ID), `{}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if v := call[console.AccountView](t, h, 200, "GET", "/api/v1/accounts/"+mine.ID, ""); len(v.Contacts) != 0 {
		t.Errorf("told at %v after all contacts were taken away", v.Contacts)
	}
}
