package apart

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ended: two people destroy the key of a revoked authority. The console asks, the signer's process does it, on the token; the
// status of what the authority issued is served on.
func ended(t *testing.T, h *house) {
	h.t = t
	const id = "issuing-rsa2048"
	if out, err := h.bulkhead("issue", "doomed.example.test", "--issuer", id, "--out", h.dir); err != nil {
		t.Fatalf("issue: %v: %s", err, out)
	}
	stem := filepath.Join(h.dir, "doomed.example.test")
	h.wait("good", func() bool { return strings.Contains(h.ocsp(stem), stem+".crt: good") })
	if out, err := h.bulkhead("hierarchy", "destroy-key", id, "--reason", "the end"); err == nil || !strings.Contains(out, "revoke it first") {
		t.Errorf("the key of an active authority: %v: %s", err, out)
	}
	// Its own certificate's end takes a ceremony, which other tests hold.
	ok(t, h.sql("owner", "UPDATE authorities SET state = 'revoked' WHERE id = '"+id+"'"))
	if out, err := h.bulkhead("hierarchy", "destroy-key", id, "--reason", "the end"); err == nil || !strings.Contains(out, "--accept-good") {
		t.Errorf("with a certificate in force: %v: %s", err, out)
	}
	out, _ := h.bulkhead("hierarchy", "destroy-key", id, "--reason", "the end", "--accept-good")
	request := regexp.MustCompile(`request (\S+) waits`).FindStringSubmatch(out)
	if len(request) != 2 {
		t.Fatalf("destroy-key: %s", out)
	}
	onToken := func() string {
		return h.must(exec.Command("pkcs11-tool", "--module", library, "--token-label", "house", "--login", "--pin", "user-secret", "--list-objects", "--type", "privkey"))
	}
	if got := onToken(); !strings.Contains(got, id) {
		t.Errorf("on the token before: %s", got)
	}
	if out, err := h.bulkhead("approve", request[1], "--key", filepath.Join(h.dir, "operator.key")); err != nil {
		t.Fatalf("approve: %v: %s", err, out)
	}
	// The second approval stands; the console has no key to destroy and says who does it.
	if out, _ := h.bulkhead("approve", request[1], "--key", filepath.Join(h.data("signer")+"-root", "operator-2.key")); !strings.Contains(out, "signer's process") {
		t.Errorf("approve: %s", out)
	}
	h.wait("the end of the key", func() bool {
		out, _ := h.bulkhead("hierarchy", "show")
		return strings.Contains(out, id+"  issuing, destroyed, key destroyed")
	})
	if got := onToken(); strings.Contains(got, "-"+id+"\n") || !strings.Contains(got, "issuing-p256") {
		t.Errorf("on the token afterwards: %s", got)
	}
	if out, err := h.bulkhead("issue", "late.example.test", "--issuer", id, "--out", h.dir); err == nil {
		t.Errorf("a certificate of an authority without a key: %s", out)
	}
	if got := h.ocsp(stem); !strings.Contains(got, stem+".crt: good") {
		t.Errorf("afterwards the edge says: %s", got)
	}
}
