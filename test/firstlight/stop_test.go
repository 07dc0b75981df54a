package firstlight

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStopFromTheShell is the evening of 2011-09-07: one person stops, every way in is shut with a clear word, status and
// revocation go on, one person cannot resume, two can. Then the web tier's own key is compromised.
func TestStopFromTheShell(t *testing.T) {
	t.Parallel()
	h := start(t, options{})
	first := h.issue("first.test")
	h.refused(2, "--all", "issuance", "stop", "--reason", "x")
	h.refused(2, "reason", "issuance", "stop", "--all")
	var stop struct {
		ID string
		At time.Time
	}
	h.query(&stop, "issuance", "stop", "--all", "--reason", "somebody says that he is inside")
	h.refused(3, "issuance is stopped", "issue", "second.test", "--out", t.TempDir())
	h.refused(3, "issuance is stopped", "cert", "renew", first.Certificate.Serial, "--out", t.TempDir())
	inUse := func() string {
		key, err := os.ReadFile(first.Files.Key)
		ok(t, err)
		crt, err := os.ReadFile(first.Files.Cert)
		ok(t, err)
		return string(key) + string(crt)
	}
	before, dir := inUse(), filepath.Dir(first.Files.Key)
	h.refused(2, " --out="+dir+" --force   (", "cert", "renew", first.Files.Cert, "--out", dir)
	h.refused(3, "issuance is stopped", "cert", "renew", first.Files.Cert, "--out", dir, "--force")
	if inUse() != before {
		t.Error("a renewal that was refused took the key or the certificate that is in use")
	}
	h.must("cert", "revoke", first.Certificate.Serial, "--reason", "superseded")
	res, err := h.client.Get(strings.TrimSuffix(h.ready.API, "/api/v1") + "/readyz")
	ok(t, err)
	var body bytes.Buffer
	_, err = body.ReadFrom(res.Body)
	ok(t, err)
	res.Body.Close()
	if res.StatusCode != 200 || !strings.Contains(body.String(), "stopped: all") {
		t.Errorf("readyz: %d %s", res.StatusCode, &body)
	}
	var asked struct{ ID string }
	r := h.run("issuance", "resume", stop.ID, "--reason", "looked everywhere", "--json")
	if r.code != 3 {
		t.Fatalf("resume by one person ends with %d: %s%s", r.code, r.stdout, r.stderr)
	}
	decode(t, r.stdout, &asked)
	one, two := filepath.Join(h.dir, "operator", "operator-1.key"), filepath.Join(h.dir+"-root", "operator-2.key")
	h.must("approve", asked.ID, "--key", one)
	h.refused(3, "one person counts once", "approve", asked.ID, "--key", one)
	h.refused(3, "issuance is stopped", "issue", "second.test", "--out", t.TempDir())
	h.must("approve", asked.ID, "--key", two)
	h.issue("second.test")
	h.must("cert", "renew", first.Files.Cert, "--out", dir, "--force")
	if _, err := tls.LoadX509KeyPair(first.Files.Cert, first.Files.Key); err != nil || inUse() == before {
		t.Errorf("the renewal did not take the places of what it renewed: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("files that wait were left: %v", left)
	}
	if text := h.must("cert", "show", first.Certificate.Serial); !strings.Contains(text, "replaced by  issuing-") {
		t.Error(text)
	}
	if text := h.must("issuance", "status"); !strings.HasPrefix(text, "nothing is stopped") || !strings.Contains(text, "somebody says") {
		t.Error(text)
	}

	// The listener's own key: revoked, blocked, and replaced while it serves.
	u, err := url.Parse(h.ready.API)
	ok(t, err)
	shown := func() *x509.Certificate {
		c, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: h.roots, ServerName: "localhost"})
		ok(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	old := shown()
	file := write(t, t.TempDir(), "listener.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: old.Raw}))
	var done struct {
		Revoked, Left int
		Changes       []string
	}
	h.query(&done, "compromise", "key", "--cert", file, "--reason", "the shop's server was broken into")
	if done.Revoked != 1 || done.Left != 0 || len(done.Changes) != 1 {
		t.Errorf("%+v", done)
	}
	eventually(t, time.Minute, func() string {
		if bytes.Equal(shown().RawSubjectPublicKeyInfo, old.RawSubjectPublicKeyInfo) {
			return "the listener still shows the compromised key"
		}
		return ""
	})
	var row struct {
		State, Reason string
	}
	h.query(&row, "cert", "show", hex.EncodeToString(old.SerialNumber.Bytes()))
	if row.State != "revoked" || row.Reason != "keyCompromise" {
		t.Errorf("the old listener certificate is %+v", row)
	}
	// A subscriber's private key: only its public half is used, and a request with it is refused on every path.
	got := h.issue("leak.test")
	h.query(&done, "compromise", "key", "--key", got.Files.Key, "--reason", "found in a repository")
	if done.Revoked != 1 {
		t.Errorf("%+v", done)
	}
	csr := filepath.Join(t.TempDir(), "leak.csr")
	if out, err := openssl(t, "req", "-new", "-key", got.Files.Key, "-subj", "/", "-addext", "subjectAltName=DNS:leak.test", "-out", csr); err != nil {
		t.Fatal(out)
	}
	h.refused(3, "blocked", "issue", "--csr", csr, "--out", t.TempDir())
	private, err := os.ReadFile(got.Files.Key)
	ok(t, err)
	sum := sha256.Sum256(got.paper(t).leaf.RawSubjectPublicKeyInfo)
	if said := h.process.log.String(); strings.Contains(said, strings.Split(string(private), "\n")[1]) {
		t.Error("the log holds a private key")
	}
	if text := h.must("compromise", "list"); !strings.Contains(text, hex.EncodeToString(sum[:])) {
		t.Error(text)
	}
	h.refused(2, "takes one of", "compromise", "key", "--reason", "x")
	h.refused(1, "never", "cert", "show", "01")
}
