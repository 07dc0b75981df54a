package console_test

import (
	"testing"

	"bulkhead"
	"bulkhead/console"
)

// TestLargeChange plans a change in parts, and one by a query: dry runs change nothing, the preview stands at the end.
func TestLargeChange(t *testing.T) {
	h := openHouse(t)
	var serials []bulkhead.Serial
	var issuer bulkhead.AuthorityID
	for _, name := range []string{"a.example.test", "b.example.test"} {
		c := call[console.IssueResponse](t, h, 200, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, name)})).Certificate
		serials, issuer = append(serials, c.Serial), c.Issuer
	}
	call[console.Plan](t, h, 200, "POST", "/api/v1/open-changes?dry_run=true", doc(t, console.OpenChangeRequest{Why: "a list"}))
	if h.request(t, "", "POST", "/api/v1/open-changes", "{}").Code != 400 {
		t.Error("a change was opened without a reason for the record")
	}
	open := call[console.ChangeView](t, h, 200, "POST", "/api/v1/open-changes", doc(t, console.OpenChangeRequest{Why: "a list"}))
	path := "/api/v1/changes/" + open.ID
	part := doc(t, console.ChangePart{Issuer: issuer, Serials: serials, Reason: "superseded"})
	call[console.Plan](t, h, 200, "POST", path+"/items?dry_run=true", part)
	for range 2 { // sent again it adds nothing
		if n := call[console.ChangeCount](t, h, 200, "POST", path+"/items", part); n.Count != 2 || n.ID != open.ID {
			t.Fatalf("%+v", n)
		}
	}
	for in, code := range map[string]int{
		doc(t, console.ChangePart{Issuer: issuer, Reason: "superseded"}):                                           400,
		doc(t, console.ChangePart{Issuer: issuer, Serials: serials, Reason: "bored"}):                              400,
		doc(t, console.ChangePart{Issuer: issuer, Serials: serials, Reason: "keyCompromise"}):                      409,
		doc(t, console.ChangePart{Issuer: "nobody", Serials: serials, Reason: "superseded"}):                       404,
		doc(t, console.ChangePart{Issuer: issuer, Serials: make([]bulkhead.Serial, 20_001), Reason: "superseded"}): 400,
	} {
		if w := h.request(t, "", "POST", path+"/items", in); w.Code != code {
			t.Errorf("%d, want %d: %s", w.Code, code, w.Body)
		}
	}
	call[console.Plan](t, h, 200, "POST", path+"/preview?dry_run=true", "")
	if v := call[console.ChangeView](t, h, 200, "POST", path+"/preview", ""); v.State != bulkhead.ChangePreviewed || v.Count != 2 || v.PreviewHash.IsZero() {
		t.Fatalf("%+v", v)
	}
	if w := h.request(t, "", "POST", path+"/items", part); w.Code != 409 {
		t.Errorf("added after the preview: %d", w.Code)
	}

	scope := console.ScopeChangeRequest{Scope: bulkhead.Scope{Names: []string{"a.example.test"}}, Reason: "superseded", Why: "a query"}
	if p := call[console.Plan](t, h, 200, "POST", "/api/v1/scope-changes?dry_run=true", doc(t, scope)); len(p.Would) != 1 {
		t.Errorf("%+v", p)
	}
	if v := call[console.ChangeView](t, h, 200, "POST", "/api/v1/scope-changes", doc(t, scope)); v.State != bulkhead.ChangePreviewed || v.Count != 1 {
		t.Errorf("%+v", v)
	}
	scope.Scope = bulkhead.Scope{Names: []string{"nobody.example.test"}}
	if w := h.request(t, "", "POST", "/api/v1/scope-changes", doc(t, scope)); w.Code != 404 {
		t.Errorf("an empty selection: %d", w.Code)
	}
	scope.Scope = bulkhead.Scope{}
	if w := h.request(t, "", "POST", "/api/v1/scope-changes", doc(t, scope)); w.Code != 400 {
		t.Errorf("no selection: %d", w.Code)
	}
}
