package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
)

// openssl runs the foreign verifier; its absence is a failure with the reason.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed to verify what the ceremony signs: install the package openssl")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func writePEM(t *testing.T, dir, file, label string, ders ...[]byte) {
	t.Helper()
	var out bytes.Buffer
	for _, der := range ders {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
	}
	if err := os.WriteFile(filepath.Join(dir, file), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpenSSLAccepts lets OpenSSL verify the chain, the purpose of the delegates and every CRL.
func TestOpenSSLAccepts(t *testing.T) {
	for _, alg := range []keys.Algorithm{keys.P384, keys.RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			r := execute(t, config(newRing(t)), firstPlan(t, alg))
			dir := t.TempDir()
			writePEM(t, dir, "root.pem", "CERTIFICATE", r.Authorities[0].Certificate)
			at := "1795262400" // 2026-11-21T12:00:00Z, testNow
			crls := 0
			for _, p := range r.Prepared {
				switch p.Kind {
				case bulkhead.PreparedCRL:
					writePEM(t, dir, "crl.pem", "X509 CRL", p.DER)
					out, err := openssl(t, dir, "crl", "-in", "crl.pem", "-CAfile", "root.pem", "-noout", "-verify")
					if err != nil || !strings.Contains(out, "verify OK") {
						t.Errorf("CRL %d: %v %s", p.CRLNumber, err, out)
					}
					if crls == 0 {
						writePEM(t, dir, "current.pem", "X509 CRL", p.DER)
					}
					crls++
				case bulkhead.PreparedDelegate:
					writePEM(t, dir, "delegate.pem", "CERTIFICATE", p.DER)
					out, err := openssl(t, dir, "verify", "-x509_strict", "-purpose", "ocsphelper", "-attime", at, "-CAfile", "root.pem", "delegate.pem")
					if err != nil {
						t.Errorf("delegate: %v %s", err, out)
					}
				}
			}
			for _, a := range r.Authorities[1:] {
				writePEM(t, dir, "issuing.pem", "CERTIFICATE", a.Certificate)
				out, err := openssl(t, dir, "verify", "-x509_strict", "-crl_check_all", "-attime", at, "-CAfile", "root.pem", "-CRLfile", "current.pem", "issuing.pem")
				if err != nil {
					t.Errorf("%s: %v %s", a.ID, err, out)
				}
			}
		})
	}
}

// TestOpenSSLSeesRevocation: a child revoked in a later ceremony is refused by its CRL, its sibling is not.
func TestOpenSSLSeesRevocation(t *testing.T) {
	ring := newRing(t)
	first := execute(t, config(ring), firstPlan(t, keys.P256))
	victim := first.Certificates[0].Certificate
	later := config(ring)
	later.PreviousTranscript = first.Transcript
	r := execute(t, later, emergencyPlan(first, RevokedChild{Serial: victim.Serial, At: testNow, Reason: "keyCompromise"}))
	dir := t.TempDir()
	writePEM(t, dir, "root.pem", "CERTIFICATE", first.Authorities[0].Certificate)
	writePEM(t, dir, "crl.pem", "X509 CRL", r.Prepared[0].DER)
	for i, a := range first.Authorities[1:] {
		writePEM(t, dir, "issuing.pem", "CERTIFICATE", a.Certificate)
		out, err := openssl(t, dir, "verify", "-crl_check_all", "-attime", "1795262400", "-CAfile", "root.pem", "-CRLfile", "crl.pem", "issuing.pem")
		if revoked := strings.Contains(out, "certificate revoked"); revoked != (i == 0) || (err != nil) != (i == 0) {
			t.Errorf("%s: %v %s", a.ID, err, out)
		}
	}
}

// TestForeignRoot: OpenSSL is the existing enterprise root. CSR out, certificate in, and an issuing authority of ours
// below a chain that is not ours.
func TestForeignRoot(t *testing.T) {
	ctx := context.Background()
	r, err := NewCSR(ctx, newRing(t), "issuing", name("Issuing Below Foreign"), keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	pending, err := Pending("issuing-foreign", r, 4, now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writePEM(t, dir, "issuing.csr", "CERTIFICATE REQUEST", r.CSR)
	extensions := "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
	if err := os.WriteFile(filepath.Join(dir, "sub.cnf"), []byte(extensions), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-keyout", "root.key", "-out", "root.pem", "-subj", "/C=CH/O=Enterprise/CN=Enterprise Root", "-days", "3650",
			"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"},
		{"x509", "-req", "-in", "issuing.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-sha256", "-days", "365", "-extfile", "sub.cnf", "-out", "issuing.pem"},
	} {
		if out, err := openssl(t, dir, args...); err != nil {
			t.Fatalf("openssl %v: %v %s", args, err, out)
		}
	}
	root, cert := readPEM(t, dir, "root.pem"), readPEM(t, dir, "issuing.pem")
	a, err := AcceptCertificate(pending, cert, [][]byte{root}, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if a.State != bulkhead.AuthorityActive || !a.CanIssue() || a.KeyURI != r.KeyURI || a.CSR != nil || a.Parent != "" || a.Shards != 4 {
		t.Errorf("accepted %+v", a)
	}
	parsed, err := x509.ParseCertificate(a.Certificate)
	if err != nil || !bytes.Equal(parsed.RawSubject, a.Subject) {
		t.Errorf("subject differs: %v", err)
	}
}

// TestForeignRootUnderOurs cross-signs a root of OpenSSL's, whose key identifier is SHA-1, under a root of ours: what it
// signed before verifies through the cross-certificate.
func TestForeignRootUnderOurs(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-keyout", "foreign.key", "-out", "foreign.pem", "-subj", "/C=CH/O=Enterprise/CN=Enterprise Root", "-days", "36500",
			"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"},
		{"req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf.test"},
		{"x509", "-req", "-in", "leaf.csr", "-CA", "foreign.pem", "-CAkey", "foreign.key", "-CAcreateserial", "-sha256", "-days", "36500", "-extfile", "leaf.cnf", "-out", "leaf.pem"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "leaf.cnf"), []byte("authorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := openssl(t, dir, args...); err != nil {
			t.Fatalf("openssl %v: %v %s", args, err, out)
		}
	}
	now := time.Now().Add(time.Minute)
	c, p := config(newRing(t)), firstPlan(t, keys.P256)
	c.Now = func() time.Time { return now }
	p.Existing = []Existing{{ID: "foreign", Kind: bulkhead.RootAuthority, Certificate: readPEM(t, dir, "foreign.pem")}}
	p.Steps = append(p.Steps, Step{Cross: &CrossStep{Subject: "foreign", Parent: "root", Days: 1000, PathLen: 1}})
	r := execute(t, c, p)
	writePEM(t, dir, "root.pem", "CERTIFICATE", r.Authorities[0].Certificate)
	writePEM(t, dir, "cross.pem", "CERTIFICATE", r.Certificates[len(r.Certificates)-1].DER)
	out, err := openssl(t, dir, "verify", "-x509_strict", "-attime", strconv.FormatInt(now.Add(time.Minute).Unix(), 10), "-CAfile", "root.pem", "-untrusted", "cross.pem", "leaf.pem")
	if err != nil {
		t.Errorf("leaf of the foreign root through the cross-certificate: %v %s", err, out)
	}
}

func readPEM(t *testing.T, dir, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is not PEM", file)
	}
	return block.Bytes
}
