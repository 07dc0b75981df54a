package firstlight

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAuditor: the auditor's program proves from a copy of the log what the house did; a certificate that the house did
// not make is not in it.
func TestAuditor(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	log, vkey, old := filepath.Join(h.dir, "evidence"), filepath.Join(h.dir, "evidence.key.pub"), filepath.Join(t.TempDir(), "checkpoint")
	verify := func(args ...string) (string, int) {
		t.Helper()
		p, err := launch(program(t, "bulkhead-verify"), os.Environ(), append(args, "--log", log, "--key", vkey)...)
		ok(t, err)
		code := p.code()
		return p.out.String() + p.log.String(), code
	}
	body, err := os.ReadFile(filepath.Join(log, "checkpoint"))
	ok(t, err)
	ok(t, os.WriteFile(old, body, 0o600))
	got := h.issue("auditor.test")
	eventually(t, time.Minute, func() string { // covered by a checkpoint within 2 s, on a busy machine later
		if text, code := verify("certificate", got.Files.Cert); code != 0 {
			return text
		}
		return ""
	})
	if text, code := verify("consistency", "--old", old); code != 0 {
		t.Errorf("consistency: %d %s", code, text)
	}
	if text, code := verify("log"); code != 0 {
		t.Errorf("log: %d %s", code, text)
	}
	if text, code := verify("certificate", newEnterprise(t).cert); code == 0 {
		t.Errorf("a stranger's certificate is in the log: %s", text)
	}
}

// TestSecretsStayInside: what opens anything is readable by its owner only, and no log line has a token or a key.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	token := h.token()
	if code, _ := h.post("/certificates", token, `{"csr":"x"}`); code != 400 {
		t.Errorf("the token is answered with %d", code)
	}
	for _, path := range []string{"keys.identity", "evidence.key", "operator/operator-1.key", "seed.json", "run/listener.key", "bulkhead.db"} {
		info, err := os.Stat(filepath.Join(h.dir, path))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			if path == "bulkhead.db" && err == nil {
				continue // nobody passes the folder, see below
			}
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	for _, dir := range []string{h.dir, h.dir + "-root"} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v", dir, err)
		}
	}
	sealed, err := filepath.Glob(filepath.Join(h.dir, "keys", "*"))
	ok(t, err)
	for _, path := range sealed {
		body, err := os.ReadFile(path)
		ok(t, err)
		if !strings.HasPrefix(string(body), "age-encryption.org/") && !strings.HasPrefix(string(body), "-----BEGIN AGE") {
			t.Errorf("%s is not sealed", path)
		}
	}
	said := h.process.log.String() + h.process.out.String()
	for _, secret := range []string{token, "PRIVATE KEY", "AGE-SECRET-KEY"} {
		if strings.Contains(said, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// TestPassphrases: the root's key under a passphrase in place of an identity file. Under torture the signing keys as
// well, at a second of scrypt for each.
func TestPassphrases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rootPass, wrong := write(t, dir, "root.pass", []byte("correct horse\n")), write(t, dir, "wrong.pass", []byte("guess\n"))
	flags := []string{"--root-passphrase-file", rootPass}
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		flags = append(flags, "--key-passphrase-file", write(t, dir, "key.pass", []byte("battery staple\n")))
	}
	ok(t, os.Chmod(rootPass, 0o644))
	h := prepare(t, options{flags: flags})
	h.attempt(2, "chmod 600", h.flags...)
	wantNothing(t, h.dir)
	ok(t, os.Chmod(rootPass, 0o600))
	h.up()
	if _, err := os.Stat(filepath.Join(h.dir+"-root", "root.identity")); err == nil {
		t.Error("the root has a passphrase and an identity file")
	}
	h.refused(1, "next: ", "hierarchy", "rotate", "issuing-p256", "--root-dir", h.dir+"-root", "--root-passphrase-file", wrong)
	h.must("hierarchy", "rotate", "issuing-p256", "--root-dir", h.dir+"-root", "--root-passphrase-file", rootPass)
	if got := h.issue("passphrase.test"); got.Certificate.Issuer != "issuing-p256-g2" {
		t.Errorf("%s issues", got.Certificate.Issuer)
	}
}

// TestCommandLineHabits: flags before and after names, the environment in place of flags, files named after the first
// name, nothing overwritten, several names, addresses and key types.
func TestCommandLineHabits(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	dir := t.TempDir()
	got := h.issue("*.habits.test", "habits.test", "127.0.0.1", "10.1.2.3", "--key-type", "rsa3072", "--profile", "tls-server-short")
	leaf := got.paper(t).leaf
	if filepath.Base(got.Files.Cert) != "_wildcard.habits.test.crt" || len(leaf.DNSNames) != 2 || len(leaf.IPAddresses) != 2 || leaf.NotAfter.Sub(leaf.NotBefore) > 7*24*time.Hour {
		t.Errorf("%s: %v %v until %s", got.Files.Cert, leaf.DNSNames, leaf.IPAddresses, leaf.NotAfter)
	}
	h.must("issue", "--out", dir, "twice.test")
	h.refused(2, "exists", "issue", "twice.test", "--out", dir)
	before, err := os.ReadFile(filepath.Join(dir, "twice.test.key"))
	ok(t, err)
	h.must("issue", "twice.test", "--out", dir, "--force")
	if after, err := os.ReadFile(filepath.Join(dir, "twice.test.key")); err != nil || string(after) == string(before) {
		t.Errorf("--force left the old key: %v", err)
	}
	p, err := launch(h.bin, append(os.Environ(), "BULKHEAD_DATA="+h.dir), "cert", "list", "--name", "twice.test")
	ok(t, err)
	if code := p.code(); code != 0 || !strings.Contains(p.out.String(), "twice.test") || strings.Contains(p.out.String(), "\x1b[") {
		t.Errorf("BULKHEAD_DATA: %d %s%s", code, p.out.String(), p.log.String())
	}
	p, err = launch(h.bin, append(os.Environ(), "BULKHEAD_DATA="+filepath.Join(dir, "nowhere"), "BULKHEAD_TOKEN="+h.token(), "BULKHEAD_CACERT="+h.ready.TrustAnchor,
		"BULKHEAD_ADDR="+strings.TrimSuffix(h.ready.API, "/api/v1")), "cert", "list", "--json")
	ok(t, err)
	var v struct{ Certificates []any }
	if code := p.code(); code != 0 {
		t.Fatalf("from elsewhere: %d %s", code, p.log.String())
	}
	decode(t, p.out.String(), &v)
	if len(v.Certificates) != 0 {
		t.Errorf("a new account sees %d certificates of others", len(v.Certificates))
	}
	h.must("version", "--json")
	h.must("config", "check", "--json")
	h.must("config", "check", "--explain", "--json")
}
