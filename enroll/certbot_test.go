package enroll_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll/dcv"
)

// TestCertbot obtains, renews and revokes with Debian's certbot over http-01.
func TestCertbot(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("certbot")
	if err != nil {
		t.Fatal("certbot is needed for this test: apt-get install certbot")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	ok(t, ln.Close())
	w := newWorld(t)
	w.cfg.Validator, err = dcv.New(dcv.Config{AllowPrivate: true, HTTPPort: port, CAAIdentities: []string{"ca.test"}, Timeout: 20 * time.Second, Now: time.Now})
	ok(t, err)
	w.svc = w.service()
	w.serve()
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		args = append(args, "--non-interactive", "--server", w.base+"/acme/directory", "--config-dir", dir, "--work-dir", filepath.Join(dir, "work"),
			"--logs-dir", filepath.Join(dir, "logs"))
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "logs", "letsencrypt.log"))
			t.Fatalf("certbot %v: %v\n%s\n%s", args, err, out, log)
		}
	}
	live := filepath.Join(dir, "live", "localhost", "cert.pem")
	run("certonly", "--standalone", "--http-01-address", "127.0.0.1", "--http-01-port", strconv.Itoa(port), "--agree-tos", "--register-unsafely-without-email",
		"-d", "localhost", "-d", "www.localhost")
	first := readCertificate(t, live)
	run("renew", "--force-renewal", "--no-random-sleep-on-renew")
	second := readCertificate(t, live)
	if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Fatal("the renewal gave the same certificate")
	}
	run("revoke", "--cert-path", live, "--reason", "superseded", "--no-delete-after-revoke")
	for x, want := range map[*x509.Certificate]bulkhead.CertificateState{first: bulkhead.Issued, second: bulkhead.Revoked} {
		serial, err := bulkhead.SerialFromBig(x.SerialNumber)
		ok(t, err)
		row, _, err := w.store.Certificate(t.Context(), bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial})
		ok(t, err)
		if row.State != want {
			t.Errorf("%s is %s, want %s", serial, row.State, want)
		}
	}
}

func readCertificate(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	ok(t, err)
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	x, err := x509.ParseCertificate(block.Bytes)
	ok(t, err)
	return x
}
