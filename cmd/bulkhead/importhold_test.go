package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
	"bulkhead/pki/tlog"
	"bulkhead/proof"
	"bulkhead/run"
	"bulkhead/store/sqlite"
)

// TestImportHold: what the old CA held is good again by its newer CRL, for whoever asks here as well, with a leaf that names the CRL;
// an older CRL, an index without a CRL, and the certificates again release nothing; a hold that became a revocation stays one. A CRL
// of before the release, given after it, is named and holds nothing again: what is public, the record and the log agree.
func TestImportHold(t *testing.T) {
	listen := heldport.For(t).String()
	url := "http://" + listen
	c, old := houseAt(t, listen, url), oldCA(t)
	in := func(name string) string { return filepath.Join(old, name) }
	ca := func(args ...string) {
		t.Helper()
		openssl(t, append([]string{"ca", "-config", in("openssl.cnf")}, args...)...)
	}
	base := []string{"import", "--name", "old-ca", "--ca", in("ca.pem")}
	take := func(args ...string) run.ImportReport {
		t.Helper()
		return asJSON[run.ImportReport](t, c, append(base[:len(base):len(base)], args...)...)
	}
	csr := filepath.Join(c.work, "delegate.csr")
	c.run(t, exitDone, "import", "--name", "old-ca", "--ocsp-request", csr)
	ca("-batch", "-in", csr, "-notext", "-extensions", "v3_ocsp", "-out", in("delegate.pem"))

	for _, n := range []string{"old0", "old3"} {
		ca("-revoke", in(n+".example.test.pem"), "-crl_reason", "certificateHold")
	}
	before := in("crl.pem") // of the time before the hold
	ca("-gencrl", "-out", in("held.pem"))
	if r := take("--ocsp-delegate", in("delegate.pem"), in("newcerts"), in("held.pem")); r.Revoked != 4 || r.Released != 0 || r.CRL != 2 {
		t.Fatalf("%+v", r)
	}
	said := func(name, want string) {
		t.Helper()
		until(t, name+" is "+want, func() (string, bool) {
			out := askOld(t, old, url, name)
			return out, strings.Contains(out, name+".example.test.pem: "+want)
		})
	}
	said("old0", "revoked")
	said("old3", "revoked")
	release(t, in("index.txt"), in("old0.example.test.pem"))
	for what, args := range map[string][]string{"an older CRL": {before}, "the certificates": {in("newcerts")}, "the same CRL": {in("held.pem")}} {
		if r := take(args...); r.Released+r.Restated != 0 {
			t.Errorf("%s released: %+v", what, r)
		}
	}
	if r := take("--index", in("index.txt")); r.Released != 0 {
		t.Errorf("the index released: %+v", r)
	}
	time.Sleep(1100 * time.Millisecond) // times of a CRL have seconds: it has to be younger than the hold
	release(t, in("index.txt"), in("old3.example.test.pem"))
	ca("-revoke", in("old3.example.test.pem"), "-crl_reason", "superseded")
	ca("-gencrl", "-out", in("after.pem"))
	if r := take("--dry-run", in("after.pem")); r.Released != 1 || r.Restated != 1 {
		t.Errorf("dry: %+v", r)
	}
	if r := take(in("after.pem")); r.Released != 1 || r.Restated != 1 || r.CRL != 3 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	said("old0", "good")
	said("old3", "revoked")
	if r := take(in("after.pem")); r.Released+r.Restated != 0 {
		t.Errorf("again: %+v", r)
	}
	out, _ := c.run(t, exitPartly, append(base[:len(base):len(base)], in("held.pem"), "--json")...)
	var late run.ImportReport
	if err := json.Unmarshal([]byte(out), &late); err != nil || late.NewlyRevoked+late.Restated != 0 || len(late.Problems) != 1 || !strings.Contains(late.Problems[0].Reason, "that hold is over") {
		t.Errorf("a CRL of before the release: %v, %s", err, out)
	}
	said("old0", "good")
	releases := leavesOf(t, c, bulkhead.EvImportedRelease)
	if len(releases) != 1 || releases[0].Count != 3 || releases[0].Authority != "old-ca" || !strings.Contains(releases[0].Detail, "holds it no more") {
		t.Errorf("%+v", releases)
	}
	if r := asJSON[proof.Report](t, c, "audit", "prove", "--issuer", "old-ca"); !r.OK {
		t.Error(r.Text())
	}
	if found, _ := c.run(t, exitDone, "fsck"); strings.Contains(found, "failure") {
		t.Error(found)
	}
}

// leavesOf are the leaves of a kind in the record of a house.
func leavesOf(t *testing.T, c *cli, kind bulkhead.EvidenceKind) (out []bulkhead.Evidence) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(c.dir, "bulkhead.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for row, err := range s.EvidenceRange(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := tlog.Parse(row.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// release takes a certificate's revocation out of openssl's index, for which openssl has no command.
func release(t *testing.T, index, cert string) {
	t.Helper()
	serial := strings.TrimPrefix(strings.TrimSpace(openssl(t, "x509", "-in", cert, "-noout", "-serial")), "serial=")
	body, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	lines, found := strings.Split(string(body), "\n"), false
	for i, l := range lines {
		if f := strings.Split(l, "\t"); len(f) == 6 && f[3] == serial {
			f[0], f[2], found = "V", "", true
			lines[i] = strings.Join(f, "\t")
		}
	}
	if !found {
		t.Fatalf("%s is not in the index", serial)
	}
	if err := os.WriteFile(index, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestImportBlocks: a key that the old CA revoked for keyCompromise is certified here no more, whoever asks; a certificate of this house
// that holds it is named and stays in force until somebody here decides; other reasons block nothing.
func TestImportBlocks(t *testing.T) {
	c, old := houseUp(t), oldCA(t)
	in := func(name string) string { return filepath.Join(old, name) }
	// A key of which both houses have a certificate.
	openssl(t, "req", "-new", "-config", in("openssl.cnf"), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", in("shared.key"), "-out", in("shared.csr"), "-subj", "/CN=shared.example.test", "-addext", "subjectAltName=DNS:shared.example.test")
	openssl(t, "ca", "-batch", "-config", in("openssl.cnf"), "-in", in("shared.csr"), "-notext", "-out", in("shared.example.test.pem"))
	issue := func(code int) (string, string) {
		t.Helper()
		return c.run(t, code, "issue", "--csr", in("shared.csr"), "--out", t.TempDir())
	}
	issue(exitDone)
	openssl(t, "ca", "-config", in("openssl.cnf"), "-revoke", in("shared.example.test.pem"), "-crl_reason", "keyCompromise")
	openssl(t, "ca", "-config", in("openssl.cnf"), "-gencrl", "-out", in("crl.pem"))
	args := []string{"import", "--name", "old-ca", "--ca", in("ca.pem"), in("newcerts"), in("crl.pem")}
	if r := asJSON[run.ImportReport](t, c, append(args, "--dry-run")...); r.Blocked != 2 {
		t.Errorf("dry: %+v", r)
	}
	if r := asJSON[run.ImportReport](t, c, args...); r.Blocked != 2 || len(r.Exposed) != 1 || r.Exposed[0].Certificates != 1 { // old2 and shared; old1 was superseded
		t.Fatalf("%+v", r)
	}
	if _, said := issue(exitRefused); !strings.Contains(said, "blocked") {
		t.Error(said)
	}
	if out, _ := c.run(t, exitDone, "cert", "list", "--name", "shared.example.test"); strings.Count(out, "issued") != 1 {
		t.Error(out) // ours stays until somebody decides
	}
	if r := asJSON[run.ImportReport](t, c, args...); r.Blocked != 0 || len(r.Exposed) != 0 {
		t.Errorf("again: %+v", r)
	}
}
