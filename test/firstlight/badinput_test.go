package firstlight

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// snapshot is all that a command could change.
func (h *house) snapshot() string {
	h.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"cert", "list", "--limit", "1000", "--kind", "leaf"}, {"cert", "list", "--kind", "ca"}, {"hierarchy", "show"}, {"operator", "list"}, {"approve", "--list"}, {"change", "list"}} {
		b.WriteString(h.must(append(args, "--json")...))
	}
	return b.String()
}

// TestBadInput: every wrong command gets its exit code, says what is wrong and what to type next, prints exactly one
// JSON document for programs, and changes nothing.
func TestBadInput(t *testing.T) {
	h, _ := shared(t)
	dir := t.TempDir()
	revoked := h.issue("revoked.badinput.test")
	h.must("cert", "revoke", revoked.Files.Cert)
	live := h.issue("live.badinput.test")
	key, pub := newOperatorKey(t)
	firstPub := filepath.Join(dir, "first.pub")
	if out, err := openssl(t, "pkey", "-in", h.firstKey(), "-pubout", "-out", firstPub); err != nil {
		t.Fatal(out)
	}
	foreign := newEnterprise(t)
	garbage := write(t, dir, "garbage", []byte("not PEM, not YAML: ["))
	unknownKey := write(t, dir, "unknown.yaml", []byte("surprise: 1\n"))
	missing := filepath.Join(dir, "missing")
	many := []string{"issue", "--out", dir}
	for i := range 101 {
		many = append(many, fmt.Sprintf("n%d.test", i))
	}
	before := h.snapshot()
	for _, c := range []struct {
		code int
		args []string
	}{
		{2, []string{"bogus"}}, {2, []string{"cert", "bogus"}}, {2, []string{"cert", "list", "--bogus"}}, {2, []string{"cert", "list", "more"}}, {2, []string{"cert"}},
		{2, []string{"version", "more"}}, {2, []string{"doctor", "more"}}, {2, []string{"fsck", "more"}}, {2, []string{"alarms", "more"}}, {2, []string{"up", "more"}},
		{2, []string{"issue"}}, {2, []string{"issue", "under_score!.test"}}, {2, []string{"issue", "a..test"}}, {2, []string{"issue", "x.test", "--key-type", "dsa"}},
		{3, []string{"issue", "www.example.com"}}, {3, []string{"issue", "8.8.8.8"}}, {3, []string{"issue", "ok.test", "www.example.com"}},
		{1, []string{"issue", "x.test", "--profile", "nothing"}}, {1, []string{"issue", "x.test", "--issuer", "nothing"}}, {1, []string{"issue", "x.test", "--issuer", "root"}},
		{1, []string{"issue", "x.test", "--issuer", "infrastructure"}}, {2, []string{"issue", "--csr", missing}}, {1, []string{"issue", "--csr", garbage}}, {2, many},
		{2, []string{"cert", "show"}}, {2, []string{"cert", "show", "zz"}}, {2, []string{"cert", "show", "0"}}, {1, []string{"cert", "show", "deadbeef"}},
		{2, []string{"cert", "show", strings.Repeat("ab", 21)}}, {1, []string{"cert", "show", foreign.cert}}, {2, []string{"cert", "show", garbage}},
		{1, []string{"cert", "show", live.Certificate.Serial, "--issuer", "issuing-rsa2048"}},
		{1, []string{"cert", "revoke", "deadbeef"}}, {1, []string{"cert", "revoke", foreign.cert}}, {1, []string{"cert", "revoke", revoked.Files.Cert}},
		{1, []string{"cert", "revoke", live.Files.Cert, "--reason", "certificateHold"}}, {1, []string{"cert", "revoke", live.Files.Cert, "--reason", "nonsense"}},
		{1, []string{"cert", "renew", "deadbeef"}}, {2, []string{"cert", "renew", live.Files.Cert, "--key-type", "dsa"}},
		{2, []string{"cert", "list", "--limit", "0"}}, {2, []string{"cert", "list", "--limit", "many"}}, {2, []string{"cert", "list", "--expires-by", "soon"}},
		{2, []string{"cert", "list", "--key", "xyz"}}, {2, []string{"cert", "list", "--state", "lost"}}, {2, []string{"cert", "list", "--kind", "strange"}}, {2, []string{"cert", "list", "--after", "nowhere"}},
		{2, []string{"hierarchy", "add", "BAD NAME"}}, {1, []string{"hierarchy", "add", "issuing-p256"}}, {1, []string{"hierarchy", "add", "tls-server"}},
		{2, []string{"hierarchy", "add", "new", "--key-type", "dsa"}}, {2, []string{"hierarchy", "add", "new", "--root-dir", missing}}, {1, []string{"hierarchy", "rotate", "nothing"}},
		{1, []string{"hierarchy", "rotate", "root"}}, {1, []string{"hierarchy", "rotate", "infrastructure"}}, {2, []string{"hierarchy", "accept", "new", missing}},
		{2, []string{"hierarchy", "accept", "new", garbage}}, {1, []string{"hierarchy", "accept", "nothing", foreign.cert}}, {1, []string{"hierarchy", "accept", "issuing-p256", foreign.cert}},
		{2, []string{"operator", "add", "erin", "--reason", "x"}}, {2, []string{"operator", "add", "erin", "--public-key", garbage, "--reason", "x"}},
		{2, []string{"operator", "add", "Erin Smith", "--public-key", pub, "--reason", "x"}}, {2, []string{"operator", "add", "erin", "--public-key", pub}},
		{1, []string{"operator", "add", "operator-1", "--public-key", pub, "--reason", "x"}}, {1, []string{"operator", "add", "erin", "--public-key", firstPub, "--reason", "x"}},
		{1, []string{"operator", "remove", "nobody", "--reason", "x"}}, {3, []string{"operator", "remove", "operator-2", "--reason", "x"}},
		{1, []string{"approve", "nothing", "--key", h.firstKey()}}, {2, []string{"approve", "nothing"}}, {2, []string{"approve", "nothing", "--key", garbage}},
		{2, []string{"approve", "nothing", "--key", missing}}, {2, []string{"approve", "one", "two"}},
		{1, []string{"change", "show", "nothing"}}, {1, []string{"change", "approve", "nothing"}},
		{2, []string{"config", "check", missing}}, {2, []string{"config", "check", garbage}}, {2, []string{"config", "check", unknownKey}}, {2, []string{"config", "check", "a", "b"}},
		{5, []string{"cert", "list", "--addr", "https://127.0.0.1:1"}}, {2, []string{"cert", "list", "--cacert", missing}}, {5, []string{"cert", "list", "--cacert", foreign.cert}},
		{2, []string{"cert", "list", "--operator-key", missing}}, {1, []string{"cert", "list", "--operator-key", key}}, {2, []string{"cert", "list", "--operator-key", garbage}},
	} {
		what := strings.Join(c.args, " ")
		if len(what) > 80 {
			what = what[:80] + "…"
		}
		if c.args[0] == "issue" || len(c.args) > 1 && c.args[1] == "renew" {
			c.args = append(c.args, "--out", filepath.Join(dir, "out"))
		}
		r := h.run(append(c.args, "--json")...)
		if r.code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", what, r.code, c.code, r.stderr)
		}
		if !strings.HasPrefix(r.stderr, "bulkhead: ") || !strings.Contains(r.stderr, "\nnext: ") {
			t.Errorf("%s: stderr is %q", what, r.stderr)
		}
		var v struct {
			Error struct{ Kind, Detail, Hint string }
		}
		decode(t, r.stdout, &v)
		if v.Error.Kind == "" || v.Error.Detail == "" || v.Error.Hint == "" || v.Error.Kind == "internal" {
			t.Errorf("%s: stdout is %s", what, r.stdout)
		}
	}
	if after := h.snapshot(); after != before {
		t.Errorf("bad input changed something: %s", differing(before, after))
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "out")); len(left) > 0 {
		t.Errorf("bad input left %v", left)
	}
}

// differing is the lines of after that before does not have.
func differing(before, after string) string {
	had := map[string]bool{}
	for _, l := range strings.Split(before, "\n") {
		had[l] = true
	}
	var out []string
	for _, l := range strings.Split(after, "\n") {
		if !had[l] {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// TestBadRequests: the API names what is wrong with a request in a problem document.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	token := h.token()
	for _, c := range []struct {
		what, path, token, body string
		code                    int
	}{
		{"no token", "/certificates", "", "{}", 401},
		{"a wrong token", "/certificates", "x" + token, "{}", 401},
		{"not JSON", "/certificates", token, "{", 400},
		{"two documents", "/certificates", token, "{}{}", 400},
		{"an unknown field", "/certificates", token, `{"csr":"","serial":"1"}`, 400},
		{"no CSR", "/certificates", token, `{}`, 400},
		{"too long", "/certificates", token, `{"csr":"` + strings.Repeat("A", 2<<20) + `"}`, 400},
		{"not for accounts", "/authorities", token, `{"id":"x","algorithm":"p256"}`, 403},
		{"nowhere", "/nothing", token, `{}`, 404},
		{"another method", "/version", token, `{}`, 405},
		{"somebody else's certificate", "/certificates/deadbeef/revoke", token, `{}`, 404},
	} {
		if code, p := h.post(c.path, c.token, c.body); code != c.code || p["detail"] == "" {
			t.Errorf("%s: %d, want %d: %v", c.what, code, c.code, p)
		}
	}
}
