package enroll_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// TestSignatures: once an account has asked often, the requests of its orders are verified by a table of its key, without crypto/ecdsa. The
// table goes with the key: after a change of keys the old key opens nothing, and after the account's end none does.
func TestSignatures(t *testing.T) {
	w := newWorld(t)
	r := newRaw(t, w.base, newKey(t)).register()
	account := r.path(r.kid)
	read := func() (int, string) {
		t.Helper()
		resp, doc := r.send(account, nil, nil)
		kind, _ := doc["type"].(string)
		return resp.StatusCode, kind
	}
	warm := func() {
		t.Helper()
		before, _ := w.front.Signatures()
		for range 5000 { // the table is made beside the requests
			if status, kind := read(); status != http.StatusOK {
				t.Fatal(status, kind)
			}
			if after, _ := w.front.Signatures(); after > before {
				return
			}
		}
		t.Fatal("thousands of requests, and no table")
	}
	warm()
	if _, library := w.front.Signatures(); library < 100 {
		t.Errorf("a table after %d signatures", library)
	}
	for n := range 2 {
		table, library := w.front.Signatures()
		w.wholeOrder(t, r, fmt.Sprintf("www%d.localhost", n))
		byTable, byLibrary := w.front.Signatures()
		if byTable-table != 5 || byLibrary != library {
			t.Errorf("an order's requests: %d verified by the table and %d by crypto/ecdsa", byTable-table, byLibrary-library)
		}
	}
	old, next := r.key, newKey(t)
	if resp, doc := r.send(account, nil, func(s *sending) { s.key = next }); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("signed by a key that is not the account's yet: %s, %v", resp.Status, doc)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: next}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("url", w.base+"/acme/key-change"))
	ok(t, err)
	payload, err := json.Marshal(map[string]any{"account": r.kid, "oldKey": jose.JSONWebKey{Key: old.Public()}})
	ok(t, err)
	inner, err := signer.Sign(payload)
	ok(t, err)
	if resp, doc := r.send("/acme/key-change", inner.FullSerialize(), nil); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, doc)
	}
	table, _ := w.front.Signatures()
	if status, kind := read(); status != http.StatusBadRequest {
		t.Errorf("signed by the key before: %d, %s", status, kind)
	}
	r.key = next
	if status, kind := read(); status != http.StatusOK {
		t.Errorf("signed by the new key: %d, %s", status, kind)
	}
	if after, _ := w.front.Signatures(); after != table {
		t.Error("the table of the key before was asked after the change")
	}
	warm()
	if resp, doc := r.send(account, map[string]any{"status": "deactivated"}, nil); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, doc)
	}
	if status, kind := read(); status == http.StatusOK {
		t.Errorf("a deactivated account is served: %d, %s", status, kind)
	}
}
