package firstlight

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRotation: the successor issues; the old issuer's answers and lists go on, and go on changing.
func TestRotation(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	h := start(t, options{flags: n.flags()})
	kept, gone := h.issue("kept.rotation.test"), h.issue("gone.rotation.test")
	k, g := kept.paper(t), gone.paper(t)
	k.awaitGood(t)
	h.must("cert", "revoke", gone.Files.Cert)
	g.awaitRevoked(t)
	h.refused(2, "next: ", "hierarchy", "rotate", "issuing-p256", "--root-dir", filepath.Join(t.TempDir(), "nowhere"))
	before := h.must("hierarchy", "show", "--json")
	if strings.Contains(before, "issuing-p256-g2") {
		t.Errorf("a rotation that could not be signed left an authority behind: %s", before)
	}
	h.must("hierarchy", "rotate", "issuing-p256", "--root-dir", h.dir+"-root")

	next := h.issue("next.rotation.test")
	if next.Certificate.Issuer != "issuing-p256-g2" {
		t.Errorf("after the rotation %s issues", next.Certificate.Issuer)
	}
	h.refused(1, "next: ", "issue", "old.rotation.test", "--issuer", "issuing-p256", "--out", t.TempDir())
	n.host(t, "127.0.0.1", "acme.rotation.example.com")
	byACME, err := h.subscriber(n, "http-01", ecKey(t)).obtain(ecKey(t), nil, "acme.rotation.example.com")
	ok(t, err)
	if byACME.issuer.Subject.CommonName != next.paper(t).issuer.Subject.CommonName {
		t.Errorf("ACME still issues from %s", byACME.issuer.Subject)
	}
	if g.status(t) != "revoked" || !g.onCRL(t) || k.status(t) != "good" || k.onCRL(t) {
		t.Errorf("the old issuer's answers: %s, %s", g.status(t), k.status(t))
	}
	h.must("cert", "revoke", kept.Files.Cert, "--reason", "superseded")
	k.awaitRevoked(t)
	g.awaitRevoked(t)
	if s := h.opensslOCSP(k, "sha256"); s != "revoked" {
		t.Errorf("openssl says %s of the old issuer's certificate", s)
	}
	coreOfFirstLight(t, h, "core.rotation.test")
	h.refused(1, "next: ", "hierarchy", "rotate", "issuing-p256", "--root-dir", h.dir+"-root") // retired already
	h.must("hierarchy", "rotate", "issuing-p256-g2", "--root-dir", h.dir+"-root", "--key-type", "p384")
	if got := h.issue("third.rotation.test"); got.Certificate.Issuer != "issuing-p256-g3" {
		t.Errorf("after the second rotation %s issues", got.Certificate.Issuer)
	}
	h.stop()
	h.up()
	if k.status(t) != "revoked" || !g.onCRL(t) {
		t.Error("the old issuer's answers did not outlive a restart")
	}
	if got := h.issue("fourth.rotation.test"); got.Certificate.Issuer != "issuing-p256-g3" {
		t.Errorf("after the restart %s issues", got.Certificate.Issuer)
	}
}

// enterprise is a root that existed before the house, kept with openssl.
type enterprise struct {
	t         testing.TB
	dir       string
	key, cert string
}

func newEnterprise(t testing.TB) *enterprise {
	t.Helper()
	dir := t.TempDir()
	e := &enterprise{t: t, dir: dir, key: filepath.Join(dir, "root.key"), cert: filepath.Join(dir, "root.pem")}
	e.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", e.key, "-out", e.cert, "-days", "3650", "-subj", "/C=JP/O=Enterprise/CN=Enterprise Root",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign")
	return e
}

func (e *enterprise) openssl(args ...string) {
	e.t.Helper()
	if out, err := openssl(e.t, args...); err != nil {
		e.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

// goodExtensions is what an enterprise root gives an issuing authority.
var goodExtensions = map[string]string{
	"basicConstraints": "critical,CA:TRUE,pathlen:0", "keyUsage": "critical,keyCertSign,cRLSign", "extendedKeyUsage": "serverAuth,clientAuth",
	"subjectKeyIdentifier": "hash", "authorityKeyIdentifier": "keyid", "certificatePolicies": "2.23.140.1.2.1",
	"crlDistributionPoints": "URI:http://pki.enterprise.example.com/root.crl", "authorityInfoAccess": "caIssuers;URI:http://pki.enterprise.example.com/root.cer",
}

// sign answers a request; change replaces extensions, "" takes one away.
func (e *enterprise) sign(csr string, days int, change map[string]string) string {
	e.t.Helper()
	var b strings.Builder
	for k, v := range goodExtensions {
		if other, changed := change[k]; changed {
			v = other
		}
		if v != "" {
			fmt.Fprintf(&b, "%s=%s\n", k, v)
		}
	}
	out := filepath.Join(e.t.TempDir(), "ca.pem")
	e.openssl("x509", "-req", "-in", csr, "-CA", e.cert, "-CAkey", e.key, "-set_serial", "0x"+randomSerial(e.t).Text(16), "-days", fmt.Sprint(days),
		"-sha256", "-extfile", write(e.t, e.dir, "ext", []byte(b.String())), "-out", out)
	return out
}

// TestEnterpriseRoot: an issuing authority under a root that was there before; wrong certificates for it are refused.
func TestEnterpriseRoot(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	e := newEnterprise(t)
	csr := filepath.Join(t.TempDir(), "ent.csr")
	h.must("hierarchy", "add", "ent", "--csr-out", csr)
	otherKey, otherCSR := filepath.Join(e.dir, "other.key"), filepath.Join(e.dir, "other.csr")
	e.openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", otherKey, "-out", otherCSR, "-subj", "/CN=Other")
	for what, file := range map[string]string{
		"another key":        e.sign(otherCSR, 1000, nil),
		"OCSP signing":       e.sign(csr, 1000, map[string]string{"extendedKeyUsage": "serverAuth,OCSPSigning"}),
		"outlives the root":  e.sign(csr, 5000, nil),
		"no authority":       e.sign(csr, 1000, map[string]string{"basicConstraints": "critical,CA:FALSE"}),
		"may not sign":       e.sign(csr, 1000, map[string]string{"keyUsage": "critical,cRLSign"}),
		"may not sign lists": e.sign(csr, 1000, map[string]string{"keyUsage": "critical,keyCertSign"}),
	} {
		r := h.run("hierarchy", "accept", "ent", file, "--chain", e.cert)
		if r.code != 3 || !strings.Contains(r.stderr, "next: ") {
			t.Errorf("%s: accept ends with %d\n%s", what, r.code, r.stderr)
		}
	}
	good := e.sign(csr, 1000, nil)
	stranger := newEnterprise(t)
	h.refused(3, "next: ", "hierarchy", "accept", "ent", good, "--chain", stranger.cert)
	if r := h.run("issue", "early.ent.test", "--issuer", "ent", "--out", t.TempDir()); r.code == 0 {
		t.Error("an authority without a certificate issues")
	}
	h.must("hierarchy", "accept", "ent", good, "--chain", e.cert)
	got := h.issue("www.ent.test", "--issuer", "ent")
	p := got.paper(t)
	if out, err := openssl(t, "verify", "-x509_strict", "-CAfile", e.cert, "-untrusted", p.issuerFile, p.leafFile); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
	if root := certificates(t, got.Files.Root)[0]; !root.Equal(certificates(t, e.cert)[0]) {
		t.Errorf("root.crt is %s", root.Subject)
	}
	p.awaitGood(t)
	h.must("cert", "revoke", p.leafFile)
	p.awaitRevoked(t)
	if out, err := openssl(t, "ocsp", "-no_nonce", "-issuer", p.issuerFile, "-cert", p.leafFile, "-url", p.leaf.OCSPServer[0], "-CAfile", e.cert); err != nil || !strings.Contains(out, ": revoked") {
		t.Errorf("openssl ocsp: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "keys", "ent.age")); err != nil {
		t.Errorf("the key of the authority: %v", err)
	}
}
