package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/run"
)

// auditHouse writes six authorities to a directory: B and D carry OCSPSigning. It gives their hashes by name.
func auditHouse(t *testing.T, dir string, dangerous bool) map[string]string {
	t.Helper()
	keys, sums := map[string]*ecdsa.PrivateKey{}, map[string]string{}
	for i, c := range []struct{ name, issuer, file string }{
		{"Root", "Root", "root.pem"}, {"A", "Root", "sub/ab.pem"}, {"B", "Root", "sub/ab.pem"}, {"Other Root", "Root", "sub/cross.cer"}, {"C", "A", "c.crt"}, {"D", "A", "d.pem"},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[c.name] = key
		x := &x509.Certificate{Subject: pkix.Name{CommonName: c.name}, SerialNumber: new(big.Int).Lsh(big.NewInt(int64(i+1)), 100), IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
		if dangerous && (c.name == "B" || c.name == "D") {
			x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: c.issuer}}
		if c.issuer == c.name {
			parent = x
		} else {
			x.NotAfter = x.NotAfter.Add(-time.Hour)
		}
		der, err := x509.CreateCertificate(rand.Reader, x, parent, key.Public(), keys[c.issuer])
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(der)
		sums[c.name] = hex.EncodeToString(sum[:])
		if filepath.Ext(c.file) != ".cer" {
			der = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		path := filepath.Join(dir, c.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(der); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return sums
}

// audit runs the command without a server or a data directory.
func audit(t *testing.T, in string, code int, args ...string) (string, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	if got := execute(t.Context(), append([]string{"hierarchy", "audit", "--data", filepath.Join(t.TempDir(), "none")}, args...), strings.NewReader(in), &out, &errOut); got != code {
		t.Errorf("audit %v: exit %d, want %d: %s%s", args, got, code, errOut.String(), out.String())
	}
	return out.String(), errOut.String()
}

func auditJSON(t *testing.T, in string, code int, args ...string) run.AuditReport {
	t.Helper()
	out, _ := audit(t, in, code, append(args, "--json")...)
	var r run.AuditReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// TestHierarchyAudit names exactly the two dangerous authorities of six and their victims, in both forms of output.
func TestHierarchyAudit(t *testing.T) {
	dir := t.TempDir()
	sums := auditHouse(t, dir, true)
	r := auditJSON(t, "", exitRefused, dir)
	if len(r.Certificates) != 6 || len(r.Unparsed) != 0 || len(r.Findings) != 2 {
		t.Fatalf("%+v", r)
	}
	want := map[string][]string{sums["B"]: {sums["A"], sums["Other Root"]}, sums["D"]: {sums["C"]}}
	for _, f := range r.Findings {
		if f.Rule != "ca-with-ocsp-signing" || f.Severity != "error" || !slices.Equal(f.Victims, want[f.SHA256]) || f.VictimsTotal != len(f.Victims) || f.Subject == "" || f.Message == "" {
			t.Errorf("%+v", f)
		}
	}
	text, _ := audit(t, "", exitRefused, dir)
	for name, sum := range sums {
		text = strings.ReplaceAll(text, sum, "<"+name+">")
	}
	text = strings.ReplaceAll(text, dir, "DIR")
	const wantText = `2 certificates are dangerous: each can forge the status of its siblings.

error  ca-with-ocsp-signing: CN=B
  is an authority with the extended key usage OCSPSigning: whoever holds its key can answer for 2 other certificates of its issuer "CN=Root", and "good" for itself after its own revocation; id-pkix-ocsp-nocheck is absent
  sha256 <B>, DIR/sub/ab.pem #1
  could forge the status of:
    itself
    CN=A  (sha256 <A>)
    CN=Other Root  (sha256 <Other Root>)

error  ca-with-ocsp-signing: CN=D
  is an authority with the extended key usage OCSPSigning: whoever holds its key can answer for 1 other certificate of its issuer "CN=A", and "good" for itself after its own revocation; id-pkix-ocsp-nocheck is absent
  sha256 <D>, DIR/d.pem #0
  could forge the status of:
    itself
    CN=C  (sha256 <C>)

6 certificates read, 0 inputs not read, 2 findings
`
	if text != wantText {
		t.Errorf("got:\n%s\nwant:\n%s", text, wantText)
	}
}

// TestHierarchyAuditExits: sound, partly read, nothing read, not there, usage.
func TestHierarchyAuditExits(t *testing.T) {
	dir := t.TempDir()
	auditHouse(t, dir, false)
	if r := auditJSON(t, "", exitDone, dir); len(r.Certificates) != 6 || r.Findings == nil || len(r.Findings) != 0 || r.Unparsed == nil {
		t.Errorf("a sound house: %+v", r)
	}
	audit(t, "", exitDone, dir)
	root, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if r := auditJSON(t, string(root), exitDone, "-"); len(r.Certificates) != 1 || r.Certificates[0].File != "-" {
		t.Errorf("standard input: %+v", r)
	}
	if r := auditJSON(t, string(root)+string(root[:100]), exitPartly, "-"); len(r.Certificates) != 1 || len(r.Unparsed) != 1 || r.Unparsed[0].Index != 1 {
		t.Errorf("half a certificate: %+v", r)
	}
	if r := auditJSON(t, "nothing", exitFailed, "-"); len(r.Certificates) != 0 || len(r.Unparsed) != 1 {
		t.Errorf("no certificate: %+v", r)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "circle")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("root.pem", filepath.Join(dir, "again.pem")); err != nil {
		t.Fatal(err)
	}
	r := auditJSON(t, "", exitPartly, dir)
	if len(r.Certificates) != 7 || len(r.Unparsed) != 2 || r.Certificates[0].Duplicate == r.Certificates[len(r.Certificates)-1].Duplicate && !slices.ContainsFunc(r.Certificates, func(c run.AuditCertificate) bool { return c.Duplicate }) {
		t.Errorf("links: %+v", r)
	}
	if _, errOut := audit(t, "", exitFailed, filepath.Join(dir, "missing.pem")); !strings.Contains(errOut, "missing.pem") || !strings.Contains(errOut, "next: ") {
		t.Errorf("missing: %s", errOut)
	}
	audit(t, "", exitUsage)
	audit(t, "", exitUsage, "--nonsense", dir)
}

// TestHierarchyAuditSystem reads the roots of this system, where there are any: real certificates, all of them
// readable.
func TestHierarchyAuditSystem(t *testing.T) {
	const dir = "/etc/ssl/certs"
	list, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Logf("%s has no roots", dir)
		return
	}
	var out, errOut bytes.Buffer
	code := execute(t.Context(), append([]string{"hierarchy", "audit", "--json"}, list...), strings.NewReader(""), &out, &errOut)
	var r run.AuditReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("exit %d: %v: %s", code, err, errOut.String())
	}
	if len(r.Certificates) < len(list) || len(r.Unparsed) != 0 {
		t.Errorf("%d files, %d certificates, unparsed %v", len(list), len(r.Certificates), r.Unparsed)
	}
	for _, f := range r.Findings {
		if f.Rule == "bad-signature" || f.Rule == "malformed" {
			t.Errorf("a root of the system: %+v", f)
		}
	}
}
