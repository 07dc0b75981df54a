package apart

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestApart is one house: it works, its web tier cannot do what it must not, and each of its roles may die.
func TestApart(t *testing.T) {
	h := start(t)
	t.Run("an ordinary day", func(t *testing.T) { ordinary(t, h) })
	t.Run("the web tier is taken over", func(t *testing.T) { takenOver(t, h) })
	t.Run("the watch sees", func(t *testing.T) { watched(t, h) })
	t.Run("a row says approved", func(t *testing.T) { marked(t, h) })
	t.Run("rows and files are forged", func(t *testing.T) { forged(t, h) })
	t.Run("the token is pulled out", func(t *testing.T) { pulledOut(t, h) })
	t.Run("a key is destroyed", func(t *testing.T) { ended(t, h) })
	t.Run("each role dies", func(t *testing.T) { deaths(t, h) })
	t.Run("the signer is shut in", func(t *testing.T) { shutIn(t, h) })
}

// ordinary: issue, good, revoke, revoked, seen at the edge through the bucket.
func ordinary(t *testing.T, h *house) {
	h.t = t
	stem := h.issue("first.example.test")
	h.wait("good", func() bool { return strings.Contains(h.ocsp(stem), stem+".crt: good") })
	if out, err := h.bulkhead("cert", "revoke", h.serial(stem), "--reason", "superseded"); err != nil {
		t.Fatalf("revoke: %v: %s", err, out)
	}
	h.wait("revoked", func() bool { return strings.Contains(h.ocsp(stem), stem+".crt: revoked") })
	if out, _ := h.bulkhead("doctor"); !strings.Contains(out, "the store answers") || strings.Contains(out, "failure") {
		t.Errorf("doctor: %s", out)
	}
}

// takenOver: whoever has the enrolling role's user, certificate and database password tries what is not its work.
func takenOver(t *testing.T, h *house) {
	h.t = t
	refusedBy := func(what, want, got string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v: %s; want it refused with %q", what, err, got, want)
		}
	}
	run := func(name string, args ...string) (string, error) {
		out, err := as(users["enroll"], true, name, args...).CombinedOutput()
		return string(out), err
	}
	// Files of the others.
	out, err := run("cat", filepath.Join(h.hsm(), "pin"))
	refusedBy("reading the PIN", "Permission denied", out, err)
	out, err = run("ls", filepath.Join(h.hsm(), "tokens"))
	refusedBy("looking at the token", "Permission denied", out, err)
	for _, path := range []string{"signer/keys.identity", "signer/keys", "evidence/evidence.key", "status/store.dsn", "status/identity.pem", "console/identity.pem"} {
		out, err := run("cat", filepath.Join(h.dir, "roles", path))
		refusedBy("reading "+path, "Permission denied", out, err)
	}
	out, err = run("touch", filepath.Join(h.dir, "roles", "evidence", "evidence", "x"))
	refusedBy("writing into the log", "Permission denied", out, err)

	// The signer's door: nothing but its own methods, no name but its own.
	identity := filepath.Join(h.data("enroll"), "identity.pem")
	call := func(method, body string) (string, error) {
		return run("curl", "-sS", "--fail-with-body", "--unix-socket", strings.TrimPrefix(h.socket(), "unix:"), "--cacert", filepath.Join(h.data("enroll"), "trust", "root.pem"),
			"--cert", identity, "--key", identity, "-d", body, "https://signer.role.internal/signer/v1/"+method)
	}
	for _, method := range []string{"answers", "crl", "head"} {
		out, err := call(method, "{}")
		refusedBy("calling "+method, "role enroll may not call "+method, out, err)
	}
	csr := filepath.Join(h.dir, "intruder.csr")
	h.must(exec.Command("sh", "-c", "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj / -outform DER 2>/dev/null | base64 -w0 > "+csr))
	request, err := os.ReadFile(csr)
	ok(t, err)
	for _, name := range []string{"status.role.internal", "signer.role.internal", "www.example.test"} {
		out, err := call("listener", fmt.Sprintf(`{"names":[{"type":"dns","value":%q}],"csr":%q}`, name, request))
		refusedBy("a listener's certificate for "+name, "certifies no listener called", out, err)
	}
	out, err = call("issue", fmt.Sprintf(`{"Authority":"issuing-p256","Profile":"tls-server","CSR":%q,"Names":[{"type":"dns","value":"bank.example.test"}],"AccountID":"none","OrderID":"none"}`, request))
	if err == nil {
		t.Errorf("a certificate without evidence of validation: %s", out)
	}
	out, err = run("curl", "-sS", "--fail-with-body", "--unix-socket", strings.TrimPrefix(h.socket(), "unix:"), "--cacert", filepath.Join(h.data("enroll"), "trust", "root.pem"), "https://signer.role.internal/signer/v1/issue")
	if err == nil {
		t.Errorf("the door without a certificate: %s", out)
	}

	// The database: not another role's tables, and no evidence rewritten by anybody.
	for what, statement := range map[string]string{
		"a certificate row":         "INSERT INTO certificates SELECT * FROM certificates LIMIT 1",
		"a status":                  "UPDATE certificates SET state = 'issued', revoked_at = 0",
		"an authority":              "UPDATE authorities SET key_uri = ''",
		"an operator":               "INSERT INTO operators SELECT * FROM operators LIMIT 1",
		"an approval":               "INSERT INTO approvals SELECT * FROM approvals LIMIT 1",
		"a head":                    "INSERT INTO heads SELECT * FROM heads LIMIT 1",
		"what a partner is held to": "UPDATE held_scopes SET signed = signed",
		"and forgotten":             "DELETE FROM held_scopes",
		"evidence rewritten":        "UPDATE evidence SET leaf = leaf",
		"evidence deleted":          "DELETE FROM evidence",
		"a block lifted":            "DELETE FROM blocked_keys",
		"a validation rewritten":    "UPDATE validations SET name = name",
		"a table":                   "CREATE TABLE intruder (x int)",
		"a right":                   "GRANT bulkhead_signer TO u_enroll",
		"the signer's serial":       "DELETE FROM certificate_ders",
	} {
		err := h.sql("enroll", statement)
		if err == nil || !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must have admin option") {
			t.Errorf("%s by the enrolling role: %v", what, err)
		}
	}
	for _, r := range []string{"signer", "status", "console", "evidence", "watch"} {
		if err := h.sql(r, "DELETE FROM evidence"); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("evidence deleted by %s: %v", r, err)
		}
	}

	// The network: the signer and the log have none.
	for r := range offline {
		pid := fmt.Sprint(h.process[r].Process.Pid)
		links := h.must(exec.Command("nsenter", "--net=/proc/"+pid+"/ns/net", "ip", "-o", "link"))
		if n := strings.Count(strings.TrimSpace(links), "\n") + 1; n != 1 || !strings.Contains(links, "lo:") {
			t.Errorf("%s has interfaces: %s", r, links)
		}
	}
}

// deaths: each role is killed under load; status is answered throughout, and what was asked for comes when it is back.
func deaths(t *testing.T, h *house) {
	h.t = t
	stem := h.issue("watched.example.test")
	h.wait("good", func() bool { return strings.Contains(h.ocsp(stem), stem+".crt: good") })
	for i, role := range roles {
		h.kill(role)
		if role != "edge" {
			if got := h.ocsp(stem); !strings.Contains(got, stem+".crt: good") {
				t.Errorf("with %s dead the edge says: %s", role, got)
			}
		}
		name := fmt.Sprintf("after%d.example.test", i)
		if role == "signer" || role == "console" {
			if out, err := h.bulkhead("issue", name, "--out", h.dir); err == nil {
				t.Errorf("a certificate was issued without %s: %s", role, out)
			}
		}
		h.up(role)
		again := h.issue(fmt.Sprintf("again%d.example.test", i))
		h.wait("good after "+role+" came back", func() bool { return strings.Contains(h.ocsp(again), again+".crt: good") })
	}
	client := http.Client{Timeout: time.Minute}
	res, err := client.Get("http://" + h.http + "/readyz")
	ok(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the edge is not ready: %s", res.Status)
	}
}

// shutIn: the signer cannot read a file that its user could, unless it is named.
func shutIn(t *testing.T, h *house) {
	h.t = t
	outside := filepath.Join(h.dir, "weak.txt")
	ok(t, os.WriteFile(outside, []byte("# nothing\n"), 0o644))
	h.edit("signer", func(text string) string { return text + "weak_key_lists: [" + outside + "]\n" })
	h.kill("signer")
	cmd := as(users["signer"], false, filepath.Join(h.bin, "bulkhead-signer"), h.signerArgs()...)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot be read") {
		t.Errorf("a file outside was read: %v: %s", err, out)
	}
	cmd = as(users["signer"], false, filepath.Join(h.bin, "bulkhead-signer"), append(h.signerArgs(), "--allow-read", outside)...)
	ready := filepath.Join(h.data("signer"), "run", "ready.json")
	_ = os.Remove(ready) // of the one that was killed
	ok(t, cmd.Start())
	h.process["signer"] = cmd
	h.wait("the signer with the file named", func() bool { _, err := os.Stat(ready); return err == nil })
	h.issue("last.example.test")
}
