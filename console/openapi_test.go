package console_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"bulkhead/console"
)

var update = flag.Bool("update", false, "write doc/reference/openapi.json")

const committed = "../doc/reference/openapi.json"

// TestOpenAPI holds the committed description against the one that the routes make, and against OpenAPI's own rules.
func TestOpenAPI(t *testing.T) {
	made, err := console.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(committed, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, made) {
		t.Errorf("%s is not what the routes make: go generate ./console", committed)
	}
	for _, fault := range structural(t, made) {
		t.Error(fault)
	}
}

// structural checks what every reader of the document relies on: references resolve, path parameters are declared,
// operation ids are there and unlike each other, schemas have types that exist.
func structural(t *testing.T, document []byte) (faults []string) {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok && !resolves(doc, ref) {
				faults = append(faults, at+": "+ref+" does not resolve")
			}
			if kind, ok := v["type"].(string); ok && strings.Contains(at, "schema") && !strings.HasSuffix(at, "/properties") &&
				!strings.Contains("string boolean integer array object", kind) {
				faults = append(faults, at+": there is no type "+kind)
			}
			for k, x := range v {
				walk(at+"/"+k, x)
			}
		case []any:
			for _, x := range v {
				walk(at+"/[]", x)
			}
		}
	}
	walk("", doc)
	ids := map[string]string{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, x := range item.(map[string]any) {
			op, where := x.(map[string]any), method+" "+path
			id, _ := op["operationId"].(string)
			if ids[id] != "" || id == "" {
				faults = append(faults, where+": operation id "+id+" is that of "+ids[id])
			}
			ids[id] = where
			if op["summary"] == "" || op["responses"].(map[string]any)["200"] == nil {
				faults = append(faults, where+": no summary or no good answer")
			}
			declared := map[string]bool{}
			list, _ := op["parameters"].([]any)
			for _, p := range list {
				p := p.(map[string]any)
				if p["in"] == "path" {
					declared[p["name"].(string)] = p["required"] == true
				}
				if ref, ok := p["$ref"].(string); ok {
					declared[ref] = true
				}
			}
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				if !declared[m[1]] {
					faults = append(faults, where+": path parameter "+m[1]+" is not declared")
				}
			}
			if method != "get" && !public(op) && (!declared["#/components/parameters/DryRun"] || !declared["#/components/parameters/IdempotencyKey"]) {
				faults = append(faults, where+": a call that changes something takes neither dry_run nor an idempotency key")
			}
		}
	}
	return faults
}

func resolves(doc any, ref string) bool {
	rest, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return false
	}
	for _, part := range strings.Split(rest, "/") {
		m, ok := doc.(map[string]any)
		if !ok {
			return false
		}
		if doc, ok = m[part]; !ok {
			return false
		}
	}
	return true
}

// TestOpenAPIFaultsAreFound plants what the structural check is for.
func TestOpenAPIFaultsAreFound(t *testing.T) {
	made, err := console.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`"#/components/schemas/Plan"`, `"#/components/schemas/Plans"`}, {`"operationId": "issue"`, `"operationId": "revoke"`},
		{`"name": "serial",`, `"name": "seriall",`}, {`#/components/parameters/DryRun`, `#/components/parameters/IdempotencyKey`}, {`"type": "integer"`, `"type": "number"`},
	} {
		planted := bytes.Replace(made, []byte(c[0]), []byte(c[1]), -1)
		if bytes.Equal(planted, made) || len(structural(t, planted)) == 0 {
			t.Errorf("%s for %s is not found", c[1], c[0])
		}
	}
}

// public reports whether an operation takes no login.
func public(op map[string]any) bool {
	security, ok := op["security"].([]any)
	return ok && len(security) == 0
}

// TestOpenAPIIsServed asks for the document without saying who asks, and then for every path in it: each is a route
// that wants to know who asks, and no other route answers.
func TestOpenAPIIsServed(t *testing.T) {
	h := openHouse(t)
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	w := ask("GET", "/api/v1/openapi.json")
	made, err := console.OpenAPI()
	if err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || !bytes.Equal(w.Body.Bytes(), made) {
		t.Fatalf("%d %v %v", w.Code, w.Header(), err)
	}
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(made, &doc); err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths {
		for _, method := range []string{"GET", "POST", "DELETE", "PUT"} {
			op, described := item[strings.ToLower(method)].(map[string]any)
			if public(op) || path == "/api/v1/check" {
				continue // the analyser serves it, without asking who asks: run.TestAnalyserReachesNothingPrivate
			}
			code := ask(method, strings.NewReplacer("{", "", "}", "").Replace(path)).Code
			if path != "/api/v1/openapi.json" && (code == 401) != described || !described && code != 405 {
				t.Errorf("%s %s: described is %v, the answer %d", method, path, described, code)
			}
		}
	}
	// Answers are what the document says: their members are those of the schema.
	list := call[map[string]any](t, h, 200, "GET", "/api/v1/authorities", "")
	if len(list) != 1 || list["authorities"] == nil {
		t.Errorf("%v", list)
	}
}

func TestInventorySearch(t *testing.T) {
	h := openHouse(t)
	acct := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "")
	var serials []string
	for _, name := range []string{"a.one.test", "b.one.test", "c.two.test"} {
		v := call[console.IssueResponse](t, h, 200, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, name)}))
		serials = append(serials, v.Certificate.Serial.String())
	}
	key := call[console.CertificateView](t, h, 200, "GET", "/api/v1/certificates/"+serials[0], "").KeySHA256.String()
	for query, want := range map[string]int{
		"name=a.one.test": 1, "name=A.One.Test": 1, "name=.one.test": 2, "name=.test": 3, "q=ONE": 2, "q=two": 1, "q=nothing": 0,
		"serial=" + serials[1]: 1, "key=" + key: 1, "kind=leaf": 3, "kind=leaf&state=valid": 3, "kind=leaf&state=expired": 0, "kind=leaf&state=revoked": 0,
		"profile=tls-server&kind=leaf": 3, "profile=tls-client": 0, "kind=leaf&issuer=issuing-rsa2048": 0,
		"kind=leaf&issued_after=2020-01-01": 3, "kind=leaf&issued_before=2020-01-01": 0, "kind=leaf&expires_after=2020-01-01T00:00:00Z": 3,
		"kind=leaf&expires_before=2020-01-01": 0, "kind=leaf&expires_by=2020-01-01": 0, "account=nobody": 0,
	} {
		got := call[console.CertificateList](t, h, 200, "GET", "/api/v1/certificates?"+query, "")
		if len(got.Certificates) != want {
			t.Errorf("%s finds %d, want %d", query, len(got.Certificates), want)
		}
	}
	page := call[console.CertificateList](t, h, 200, "GET", "/api/v1/certificates?q=test&kind=leaf&limit=2", "")
	rest := call[console.CertificateList](t, h, 200, "GET", "/api/v1/certificates?q=test&kind=leaf&limit=2&after="+page.Next, "")
	if len(page.Certificates) != 2 || len(rest.Certificates) != 1 || rest.Next != "" {
		t.Errorf("pages of %d and %d", len(page.Certificates), len(rest.Certificates))
	}
	for _, query := range []string{"nam=x", "state=good", "kind=tree", "limit=0", "limit=1001", "after=x", "issued_after=yesterday", "key=1", "serial=xyz", "name=a&name=b", "q=" + strings.Repeat("x", 254)} {
		if p := call[problem](t, h, 400, "GET", "/api/v1/certificates?"+query, ""); p.Title != "malformed" || p.Detail == "" {
			t.Errorf("%s: %+v", query, p)
		}
	}
	// An account sees its own, whatever it asks for.
	if w := h.request(t, acct.Token, "GET", "/api/v1/certificates?account=&kind=leaf", ""); w.Code != 200 || strings.Contains(w.Body.String(), "serial") {
		t.Errorf("an account sees %d %s", w.Code, w.Body)
	}
}
