package est_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/heldport"
	"bulkhead/run"
)

// TestDocumentedCommands walks doc/est.md on the real house and its listener: a first certificate on an operator's
// word, then renewal with the certificate alone.
func TestDocumentedCommands(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "house")
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan run.Ready, 1), make(chan error, 1)
	var out, log bytes.Buffer
	set := map[string]string{"listen": heldport.For(t).String(), "status_listen": heldport.For(t).String(), "metrics_listen": heldport.For(t).String()}
	go func() {
		ended <- run.Up(ctx, run.UpOptions{Dir: data, Out: &out, LogTo: &log, Version: "test", Announce: func(r run.Ready) { ready <- r }, Set: set})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
		findings, err := run.Fsck(context.WithoutCancel(ctx), data)
		ok(t, err)
		for _, f := range findings {
			if f.Level != "ok" {
				t.Errorf("fsck: %+v", f)
			}
		}
	}()
	var r run.Ready
	select {
	case r = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("%v\n%s", err, log.String())
	case <-time.After(2 * time.Minute):
		t.Fatal("not ready")
	}
	base := r.ACMEDirectory[:len(r.ACMEDirectory)-len("/acme/directory")] + "/.well-known/est"
	at := func(operation string, args ...string) []string {
		return append([]string{"--cacert", r.TrustAnchor, base + "/" + operation}, args...)
	}

	got := certificates(t, dir, curl(t, dir, at("cacerts")...))
	if len(got) < 3 { // the root and two issuing authorities
		t.Errorf("%d authority certificates", len(got))
	}
	// TLS asks for certificates of the issuing authorities and of nobody else, so that browsers offer no other.
	address := strings.TrimSuffix(strings.TrimPrefix(base, "https://"), "/.well-known/est")
	text := string(tool(t, dir, nil, "openssl", "s_client", "-connect", address, "-CAfile", r.TrustAnchor))
	_, names, _ := strings.Cut(text, "Acceptable client certificate CA names\n")
	if names, _, _ = strings.Cut(names, "\nRequested"); strings.Count(names, "\n") != 1 || strings.Contains(names, "oot") {
		t.Errorf("TLS asks for certificates of\n%s", names)
	}
	program := filepath.Join(dir, "bulkhead")
	tool(t, ".", nil, "go", "build", "-o", program, "bulkhead/cmd/bulkhead")
	issue := exec.CommandContext(ctx, program, "issue", "device.example.test", "--data", data)
	issue.Dir = dir
	if text, err := issue.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	tool(t, dir, nil, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "new.key", "-subj", "/",
		"-addext", "subjectAltName=DNS:device.example.test", "-outform", "DER", "-out", "new.der")
	tool(t, dir, nil, "openssl", "base64", "-in", "new.der", "-out", "new.b64")
	send := []string{"--header", "Content-Type: application/pkcs10", "--data-binary", "@new.b64"}
	curl(t, dir, at("simplereenroll", send...)...).want(t, 401, "takes the certificate being renewed")
	cert, key := issued(t, dir)
	got = certificates(t, dir, curl(t, dir, at("simplereenroll", append(send, "--cert", cert, "--key", key)...)...))
	if len(got) != 1 || got[0].VerifyHostname("device.example.test") != nil {
		t.Fatalf("%d certificates", len(got))
	}
	// HTTP/2 as well: the client certificate is asked for in the first handshake, never later.
	tool(t, dir, nil, "curl", append([]string{"--silent", "--show-error", "--fail", "--http2"}, at("simplereenroll", append(send, "--cert", cert, "--key", key)...)...)...)
}

// issued finds what `bulkhead issue` wrote.
func issued(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == "device.example.test.key":
			key = path
		case d.Name() == "device.example.test.pem" || d.Name() == "device.example.test.crt":
			cert = path
		}
		return nil
	})
	if cert == "" || key == "" {
		t.Fatalf("certificate %q, key %q", cert, key)
	}
	return cert, key
}
