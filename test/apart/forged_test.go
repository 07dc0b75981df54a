package apart

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// people approve a request with the keys of both operators, or of the first.
func (h *house) people(id string, n int) {
	h.t.Helper()
	for _, key := range []string{filepath.Join(h.dir, "operator.key"), filepath.Join(h.data("signer")+"-root", "operator-2.key")}[:n] {
		if out, err := h.bulkhead("approve", id, "--key", key); err != nil {
			h.t.Fatalf("approve: %v: %s", err, out)
		}
	}
}

// document reads the JSON document in what a command printed.
func document(t testing.TB, out string, v any) {
	t.Helper()
	i := strings.Index(out, "{")
	if i < 0 {
		t.Fatalf("no document in %s", out)
	}
	ok(t, json.NewDecoder(strings.NewReader(out[i:])).Decode(v))
}

// forged: the console is taken over with its database user, the enrolling role with its identity. Neither makes the signer
// issue under a profile that nobody approved, nor for a name of the high-value list on a word that nobody signed.
func forged(t *testing.T, h *house) {
	h.t = t
	for what, statement := range map[string]string{
		"a second approval":   "INSERT INTO second_approvals (order_id, actor, at) VALUES ('x', 'request:x', 1)",
		"a partner's scope":   "UPDATE partners SET scope = '{}'",
		"a partner's volume":  "DELETE FROM partner_use",
		"a version":           "INSERT INTO profile_versions (name, version, request, activated_at) VALUES ('x', 1, 'x', 1)",
		"a request":           "INSERT INTO requests (id, action, payload, digest, needed, state, actor, reason, created_at, expires_at) VALUES ('x', 'x', '', sha256('x'), 1, 'open', 'x', 'x', 1, 1)",
		"a person's token":    "UPDATE partner_people SET revoked_at = 0",
		"a stop that is over": "UPDATE stops SET ended_at = 1",
	} {
		if err := h.sql("enroll", statement); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s by the enrolling role: %v", what, err)
		}
	}
	for what, statement := range map[string]string{
		"a request rewritten":         "UPDATE requests SET payload = payload",
		"a signature rewritten":       "UPDATE approvals SET at = 1",
		"a version rewritten":         "UPDATE profile_versions SET request = 'x'",
		"a version deleted":           "DELETE FROM profile_versions",
		"a second approval rewritten": "UPDATE second_approvals SET actor = 'x'",
	} {
		if err := h.sql("console", statement); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s by the console: %v", what, err)
		}
	}
	h.forgedProfile()
	h.forgedWord()
}

// days is the life of a certificate.
func (h *house) days(stem string) string {
	h.t.Helper()
	out := h.must(exec.Command("sh", "-c", `for d in startdate enddate; do date -d "$(openssl x509 -in `+stem+`.crt -noout -$d | cut -d= -f2)" +%s; done`))
	var from, to int64
	_, err := fmt.Sscan(out, &from, &to)
	ok(h.t, err)
	return fmt.Sprint((to - from + 3600) / 86400)
}

func (h *house) forgedProfile() {
	t := h.t
	var shown struct {
		YAML string `json:"yaml"`
	}
	out, err := h.bulkhead("profile", "show", "tls-server", "--json")
	ok(t, err)
	document(t, out, &shown)
	life := regexp.MustCompile(`(?m)^validity:.*$`)
	text := func(days string) string { return life.ReplaceAllString(shown.YAML, "validity: "+days) }
	body, err := json.Marshal(map[string]any{"name": "tls-server", "version": 1, "grants": []string{}, "withdraws": []string{}, "other": []string{}, "before": shown.YAML, "after": text("90d")})
	ok(t, err)
	ok(t, h.sql("console", fmt.Sprintf(`INSERT INTO requests (id, action, payload, digest, needed, state, actor, reason, created_at, expires_at) VALUES ('forged', 'profile.change', '\x%x', sha256('x'), 1, 'executed', 'x', 'x', 1, 1);
		INSERT INTO profile_versions (name, version, request, activated_at) VALUES ('tls-server', 1, 'forged', 1)`, body)))
	if days := h.days(h.issue("forged.example.test")); days != "47" {
		t.Errorf("under a forged version a certificate lives %s days", days)
	}
	h.wait("the alarm at its receiver", func() bool { return h.receiver.has("quorum", "profile,tls-server,1,forged") })

	// The file of the enrolling role is its own, and decides nothing; the signer's own file was not approved either.
	path := func(role string) string { return filepath.Join(h.data(role), "profiles", "tls-server.yaml") }
	for _, role := range []string{"console", "signer"} {
		ok(t, os.WriteFile(path(role), []byte(text("90d")), 0o644))
		h.kill(role)
		h.up(role)
		out, err := h.bulkhead("issue", role+".changed.example.test", "--out", h.dir)
		if err == nil || !strings.Contains(out, "nobody approved") || !strings.Contains(out, "bulkhead profile propose") {
			t.Errorf("a file that nobody approved, at the %s: %v: %s", role, err, out)
		}
		ok(t, os.WriteFile(path(role), []byte(shown.YAML), 0o644))
		h.kill(role)
		h.up(role)
	}
	// Less power: one person. Afterwards it is in force everywhere, without a restart.
	file := filepath.Join(h.dir, "narrow.yaml")
	for _, step := range []struct {
		days   string
		people int
	}{{"40d", 1}, {"60d", 2}} {
		ok(t, os.WriteFile(file, []byte(text(step.days)), 0o644))
		out, err := h.bulkhead("profile", "propose", file, "--reason", "test", "--json")
		ok(t, err)
		var p struct {
			Approval struct {
				ID     string `json:"id"`
				Needed int    `json:"needed"`
			} `json:"approval"`
		}
		document(t, out, &p)
		if p.Approval.Needed != step.people {
			t.Fatalf("%s takes %d people", step.days, p.Approval.Needed)
		}
		h.people(p.Approval.ID, step.people)
		n := 0
		h.wait(step.days+" in force", func() bool {
			n++
			return h.days(h.issue(fmt.Sprintf("n%d.%s.example.test", n, step.days)))+"d" == step.days
		})
	}
}

func (h *house) forgedWord() {
	t := h.t
	const name = "pay.bank.example.test"
	out, err := h.bulkhead("issue", name, "--out", h.dir)
	found := regexp.MustCompile(`order (\S+) has a name of the high-value list`).FindStringSubmatch(out)
	if err == nil || found == nil {
		t.Fatalf("a name of the high-value list: %v: %s", err, out)
	}
	order := found[1]
	account := h.query("SELECT account_id FROM orders WHERE id = '" + order + "'")
	csr := h.must(exec.Command("sh", "-c", "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj / -addext subjectAltName=DNS:"+name+" -outform DER 2>/dev/null | base64 -w0"))
	ask := func() string {
		identity := filepath.Join(h.data("enroll"), "identity.pem")
		out, _ := as(users["enroll"], true, "curl", "-sS", "-m", "30", "--unix-socket", strings.TrimPrefix(h.socket(), "unix:"), "--cacert", filepath.Join(h.data("enroll"), "trust", "root.pem"), "--cert", identity, "--key", identity,
			"-d", fmt.Sprintf(`{"Authority":"issuing-p256","Profile":"tls-server","CSR":%q,"Names":[{"type":"dns","value":%q}],"AccountID":%q,"OrderID":%q}`, strings.TrimSpace(csr), name, account, order), "https://signer.role.internal/signer/v1/issue").CombinedOutput()
		return string(out)
	}
	ok(t, h.sql("console", "INSERT INTO second_approvals (order_id, actor, at) VALUES ('"+order+"', 'request:forged', 1), ('"+order+"', 'partner:north/ken', 1)"))
	if got := ask(); !strings.Contains(got, "no second approval") {
		t.Errorf("on a forged word the signer said: %s", got)
	}
	h.wait("the alarm at its receiver", func() bool { return h.receiver.has("quorum", "order,"+order) })
	out, _ = h.bulkhead("partner", "approve", order, "--reason", "test", "--json") // exit 3: it waits for people
	var r struct {
		ID string `json:"id"`
	}
	document(t, out, &r)
	h.people(r.ID, 2)
	if got := ask(); strings.Contains(got, "second approval") {
		t.Errorf("with the signatures of two people the signer said: %s", got)
	}
}
