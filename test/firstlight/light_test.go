package firstlight

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestReadyFile: every key of the contract, and addresses that answer.
func TestReadyFile(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	body, err := os.ReadFile(filepath.Join(h.dir, "run", "ready.json"))
	ok(t, err)
	var all map[string]any
	ok(t, json.Unmarshal(body, &all))
	for _, k := range []string{"acme_directory", "api", "console", "ocsp", "crl_base", "trust_anchor", "pid"} {
		if _, there := all[k]; !there {
			t.Errorf("ready.json has no %s: %s", k, body)
		}
	}
	if !filepath.IsAbs(h.ready.TrustAnchor) || all["console"] != "" {
		t.Errorf("trust_anchor %q, console %q", h.ready.TrustAnchor, all["console"])
	}
	res, err := h.client.Get(h.ready.ACMEDirectory)
	ok(t, err)
	defer res.Body.Close()
	var directory struct {
		NewOrder, RenewalInfo string
		Meta                  struct{ Profiles map[string]string }
	}
	ok(t, json.NewDecoder(res.Body).Decode(&directory))
	if directory.NewOrder == "" || directory.RenewalInfo == "" || len(directory.Meta.Profiles) < 3 {
		t.Errorf("directory %+v", directory)
	}
}

// TestFirstLight is the day of a newcomer: the printed line gets a certificate that validators accept, and that they
// refuse once it is revoked. With either issuing authority.
func TestFirstLight(t *testing.T) {
	for issuer, keyType := range map[string]string{"issuing-p256": "p256", "issuing-rsa2048": "rsa2048"} {
		t.Run(issuer, func(t *testing.T) {
			t.Parallel()
			h, _ := shared(t)
			coreOfFirstLight(t, h, "www."+issuer+".test", "--issuer", issuer, "--key-type", keyType)
		})
	}
}

// coreOfFirstLight is what must hold on every store.
func coreOfFirstLight(t *testing.T, h *house, name string, more ...string) paper {
	t.Helper()
	got := h.issue(name, more...)
	for what, path := range map[string]string{"key": got.Files.Key, "cert": got.Files.Cert, "chain": got.Files.Chain, "fullchain": got.Files.FullChain, "root": got.Files.Root} {
		if _, err := os.Stat(path); err != nil || !filepath.IsAbs(path) {
			t.Errorf("%s is %q: %v", what, path, err)
		}
	}
	if info, err := os.Stat(got.Files.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info.Mode(), err)
	}
	p := got.paper(t)
	if _, err := p.leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: h.roots, Intermediates: poolOf(p.issuer)}); err != nil {
		t.Errorf("Go: %v", err)
	}
	if out, err := h.opensslVerify(p); err != nil || !strings.Contains(out, ": OK") {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
	p.awaitGood(t)
	for _, hash := range []string{"sha1", "sha256"} {
		if s := h.opensslOCSP(p, hash); s != "good" {
			t.Errorf("openssl ocsp, %s: %s", hash, s)
		}
	}
	h.must("cert", "revoke", got.Files.Cert, "--reason", "superseded")
	p.awaitRevoked(t)
	for _, hash := range []string{"sha1", "sha256"} {
		if s := h.opensslOCSP(p, hash); s != "revoked" {
			t.Errorf("openssl ocsp after the revocation, %s: %s", hash, s)
		}
	}
	if out, err := h.opensslVerify(p); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("openssl verify after the revocation: %v\n%s", err, out)
	}
	return p
}

func poolOf(all ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, x := range all {
		pool.AddCert(x)
	}
	return pool
}

// TestPrintedLine runs the line that `up` prints, as it is printed.
func TestPrintedLine(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	_, line, found := strings.Cut(h.process.out.String(), "A first certificate:\n")
	if !found {
		t.Fatalf("up prints no line: %s", h.process.out.String())
	}
	words := strings.Fields(line)
	p, err := launch(words[0], h.environment(), append(words[1:], "--out", t.TempDir())...)
	ok(t, err)
	if p.code() != 0 {
		t.Errorf("%s: %d\n%s", line, p.code(), p.log.String())
	}
	if !strings.Contains(h.process.out.String(), h.ready.TrustAnchor) {
		t.Errorf("up does not print the trust anchor's path: %s", h.process.out.String())
	}
}

// TestGoAcceptsOCSP: GET and POST, SHA-1 and SHA-256, judged by golang.org/x/crypto/ocsp with the issuer at hand.
func TestGoAcceptsOCSP(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	p := h.issue("ocsp.go.test").paper(t)
	p.awaitGood(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			r, der, err := ask(t, method, p.leaf.SerialNumber, p, hash)
			ok(t, err)
			if _, err := ocsp.ParseResponse(der, p.issuer); err != nil {
				t.Errorf("%s %s: %v", method, hash, err)
			}
			if r.Status != ocsp.Good || !r.NextUpdate.After(time.Now()) || r.ThisUpdate.After(time.Now()) {
				t.Errorf("%s %s: %+v", method, hash, r)
			}
		}
	}
}

// TestGnuTLSAccepts: certtool verifies chain and lists, ocsptool the answer.
func TestGnuTLSAccepts(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	got := h.issue("gnutls.test")
	p := got.paper(t)
	p.awaitGood(t)
	out, err := tool(t, "gnutls-bin", "certtool", "--verify", "--load-ca-certificate", h.ready.TrustAnchor, "--infile", got.Files.FullChain)
	if err != nil || !strings.Contains(out, "Chain verification output: Verified") {
		t.Errorf("certtool: %v\n%s", err, out)
	}
	_, der := p.crl(t)
	out, err = tool(t, "gnutls-bin", "certtool", "--verify-crl", "--load-ca-certificate", p.issuerFile,
		"--infile", write(t, t.TempDir(), "crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
	if err != nil || !strings.Contains(out, "Verified") {
		t.Errorf("certtool --verify-crl: %v\n%s", err, out)
	}
	out, err = tool(t, "gnutls-bin", "ocsptool", "--no-nonce", "--ask="+p.leaf.OCSPServer[0], "--load-cert", p.leafFile, "--load-issuer", p.issuerFile, "--load-trust", p.issuerFile)
	if err != nil || !strings.Contains(out, "Certificate Status: good") || !strings.Contains(out, "Verifying OCSP Response: Success") {
		t.Errorf("ocsptool: %v\n%s", err, out)
	}
}

// TestUnassignedSerial: never good, and D1 says so; for an issued serial D1 is silent.
func TestUnassignedSerial(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	p := h.issue("d1.test").paper(t)
	_, _, _ = ask(t, http.MethodGet, p.leaf.SerialNumber, p, crypto.SHA1) // perhaps before the answer is published
	ghost := randomSerial(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			r, _, err := ask(t, method, ghost, p, hash)
			if err == nil && r.Status == ocsp.Good {
				t.Fatalf("%s: good for serial %x, which nobody assigned", method, ghost)
			}
			if refused, is := err.(ocsp.ResponseError); !is || refused.Status != ocsp.Unauthorized {
				t.Errorf("%s: got %v, want the unsigned unauthorized", method, err)
			}
		}
	}
	alarmed := func(serial *big.Int) bool {
		var v struct {
			Alarms []struct{ Detector, Key, Severity, Message string }
		}
		h.query(&v, "alarms")
		for _, a := range v.Alarms {
			if a.Detector == "D1" && strings.Contains(a.Key, fmt.Sprintf("%x", serial)) {
				return true
			}
		}
		return false
	}
	eventually(t, time.Minute, func() string {
		if !alarmed(ghost) {
			return "no alarm for the unassigned serial"
		}
		return ""
	})
	p.awaitGood(t)
	if alarmed(p.leaf.SerialNumber) {
		t.Error("D1 alarms for a serial that was issued")
	}
}

// TestRootAnswersForItsChildren: every authority's certificate has a good answer and a list.
func TestRootAnswersForItsChildren(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	root := certificates(t, h.ready.TrustAnchor)[0]
	var v struct {
		Authorities []struct{ ID, Kind, PEM string }
	}
	h.query(&v, "hierarchy", "show")
	n := 0
	for _, a := range v.Authorities {
		x := parse(t, []byte(a.PEM))[0]
		if a.Kind == "root" || x.CheckSignatureFrom(root) != nil {
			continue
		}
		n++
		p := newPaper(t, x, root)
		if s := h.opensslOCSP(p, "sha1"); s != "good" {
			t.Errorf("%s is %s", a.ID, s)
		}
		if p.onCRL(t) {
			t.Errorf("%s is on the root's list", a.ID)
		}
		if der := fetch(t, strings.Replace(p.leaf.OCSPServer[0], "/ocsp/", "/ca/"+a.ID+".cer", 1)); !bytes.Equal(der, x.Raw) {
			t.Errorf("/ca/%s.cer is another certificate", a.ID)
		}
	}
	if n < 3 {
		t.Errorf("the root has %d children", n)
	}
}

// TestRenewedIsReplaced: a renewal from the shell is the successor of what it renews, so that nobody is told that it expires; once
// only, and a second renewal is issued all the same.
func TestRenewedIsReplaced(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	first := h.issue("renewed.house.test")
	var second, old struct {
		Certificate struct{ Issuer, Serial string }
		ReplacedBy  string `json:"replaced_by"`
	}
	h.query(&second, "cert", "renew", first.Files.Cert, "--out", t.TempDir())
	h.query(&old, "cert", "show", first.Certificate.Serial)
	if want := second.Certificate.Issuer + "," + second.Certificate.Serial; old.ReplacedBy != want {
		t.Errorf("replaced by %q, want %q", old.ReplacedBy, want)
	}
	r := h.run("cert", "renew", first.Files.Cert, "--out", t.TempDir())
	if r.code != 0 || !strings.Contains(r.stderr, "not recorded as the successor") {
		t.Errorf("a second renewal ends with %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
