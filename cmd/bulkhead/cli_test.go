package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/console"
	"bulkhead/internal/heldport"
)

// cli is a house that runs in this process, and its command line.
type cli struct {
	dir, work string
}

// houseUp starts a house on free ports of loopback; it stops with the test.
func houseUp(t *testing.T) *cli {
	t.Helper()
	return houseAt(t, "127.0.0.1:0", "http://127.0.0.1:9")
}

// houseAt is houseUp with a status listener that is known, and more flags.
func houseAt(t *testing.T, statusListen, statusURL string, flags ...string) *cli {
	t.Helper()
	c := &cli{dir: filepath.Join(t.TempDir(), "data"), work: t.TempDir()}
	ctx, stop := context.WithCancel(context.Background())
	var out, errOut syncBuffer
	done := make(chan int, 1)
	go func() {
		done <- execute(ctx, append([]string{"up", "--data", c.dir, "--listen", "127.0.0.1:0", "--status-listen", statusListen, "--metrics-listen", "127.0.0.1:0",
			"--status-url", statusURL, "--resolver", heldport.For(t).String(), "--log-level", "error"}, flags...), nil, &out, &errOut)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != exitDone {
			t.Errorf("up ended with %d: %s", code, errOut.String())
		}
	})
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(c.dir, "run", "ready.json")); err == nil {
			return c
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("up ended with %d: %s", code, errOut.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("not ready: %s", errOut.String())
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// run runs a command and wants an exit code. It returns what is on standard output and standard error.
func (c *cli) run(t testing.TB, code int, args ...string) (out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	if got := execute(t.Context(), append([]string{"--data", c.dir}, args...), strings.NewReader(""), &o, &e); got != code {
		t.Fatalf("bulkhead %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, o.String(), e.String())
	}
	return o.String(), e.String()
}

func asJSON[T any](t testing.TB, c *cli, args ...string) T {
	t.Helper()
	out, _ := c.run(t, exitDone, append(args, "--json")...)
	var v T
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("bulkhead %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return v
}

func (c *cli) file(t testing.TB, name, body string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(c.work, name)
	if err := os.WriteFile(path, []byte(body), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func openssl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestPKCS12 writes bundles and has openssl open them.
func TestPKCS12(t *testing.T) {
	c := houseUp(t)
	password := c.file(t, "password", "correct horse\nsecond line\n", 0o600)
	p12 := filepath.Join(c.work, "a.p12")
	got := asJSON[issued](t, c, "issue", "a.example.test", "--out", c.work, "--p12", p12, "--p12-password-file", password)
	if got.Files.PKCS12 != p12 {
		t.Fatalf("%+v", got.Files)
	}
	if info, err := os.Stat(p12); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	check := func(path string, certificates int, legacy bool) {
		t.Helper()
		more := []string{}
		if legacy {
			more = append(more, "-legacy")
		}
		out := openssl(t, append([]string{"pkcs12", "-in", path, "-passin", "file:" + password, "-nodes"}, more...)...)
		if strings.Count(out, "BEGIN CERTIFICATE") != certificates || strings.Count(out, "BEGIN PRIVATE KEY") != 1 {
			t.Fatalf("%s holds %s", path, out)
		}
		pem := filepath.Join(c.work, "opened.pem")
		if err := os.WriteFile(pem, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, b := openssl(t, "pkey", "-in", pem, "-pubout"), openssl(t, "x509", "-in", got.Files.Cert, "-pubkey", "-noout"); a != b {
			t.Fatalf("the key in %s is another one", path)
		}
	}
	check(p12, 2, false)
	wrong := c.file(t, "wrong", "wrong\n", 0o600)
	if out, err := exec.Command("openssl", "pkcs12", "-in", p12, "-passin", "file:"+wrong, "-nodes").CombinedOutput(); err == nil {
		t.Fatalf("a wrong password opens it: %s", out)
	}
	again, legacy, pem := filepath.Join(c.work, "b.p12"), filepath.Join(c.work, "c.p12"), filepath.Join(c.work, "b.pem")
	serial := got.Certificate.Serial.String()
	c.run(t, exitDone, "cert", "export", serial, "--key", got.Files.Key, "--p12", again, "--p12-password-file", password, "--root", "--out", pem)
	check(again, 3, false)
	c.run(t, exitDone, "cert", "export", got.Files.Cert, "--key", got.Files.Key, "--p12", legacy, "--p12-password-file", password, "--p12-legacy")
	check(legacy, 2, true)
	openssl(t, "verify", "-CAfile", got.Files.Root, "-untrusted", pem, pem)
	if out, _ := c.run(t, exitDone, "cert", "export", serial); strings.Count(out, "BEGIN CERTIFICATE") != 2 {
		t.Fatal(out)
	}

	other := asJSON[issued](t, c, "issue", "b.example.test", "--out", c.work)
	loose := c.file(t, "loose", "x\n", 0o644)
	for what, args := range map[string][]string{
		"another key":          {"cert", "export", serial, "--key", other.Files.Key, "--p12", again, "--p12-password-file", password, "--force"},
		"a file that exists":   {"cert", "export", serial, "--key", got.Files.Key, "--p12", again, "--p12-password-file", password},
		"no password":          {"cert", "export", serial, "--key", got.Files.Key, "--p12", again, "--force"},
		"no key":               {"cert", "export", serial, "--p12", again, "--p12-password-file", password, "--force"},
		"a password for all":   {"issue", "c.example.test", "--out", c.work, "--p12", "x", "--p12-password-file", loose},
		"a password for none":  {"issue", "c.example.test", "--out", c.work, "--p12-password-file", password},
		"a certificate as key": {"cert", "export", serial, "--key", got.Files.Cert, "--p12", again, "--p12-password-file", password, "--force"},
	} {
		if _, errOut := c.run(t, exitUsage, args...); !strings.Contains(errOut, "next: ") {
			t.Errorf("%s: %s", what, errOut)
		}
	}
	if _, err := os.Stat(filepath.Join(c.work, "c.example.test.key")); err == nil {
		t.Error("a key was made for an order that was never sent")
	}
}

// TestListAndDryRun searches with flags and rehearses commands.
func TestListAndDryRun(t *testing.T) {
	c := houseUp(t)
	for i := range 3 {
		c.run(t, exitDone, "issue", fmt.Sprintf("n%d.example.test", i), "--out", c.work)
	}
	list := func(args ...string) console.CertificateList {
		return asJSON[console.CertificateList](t, c, append([]string{"cert", "list"}, args...)...)
	}
	if n := len(list("--q", "EXAMPLE").Certificates); n != 3 {
		t.Errorf("%d rows", n)
	}
	if p := list("--q", "example", "--limit", "2"); len(p.Certificates) != 2 || p.Next == "" {
		t.Errorf("%+v", p)
	}
	if p := list("--q", "example", "--limit", "1", "--all"); len(p.Certificates) != 3 || p.Next != "" {
		t.Errorf("%+v", p)
	}
	if n := len(list("--name", "n1.example.test", "--state", "valid", "--expires-after", "2020-01-01").Certificates); n != 1 {
		t.Errorf("%d rows", n)
	}
	if _, errOut := c.run(t, exitUsage, "cert", "list", "--state", "fine"); !strings.Contains(errOut, "next: ") {
		t.Error(errOut)
	}
	before := len(list("--all", "--kind", "leaf").Certificates) // an OCSP delegate may come meanwhile
	serial := list("--name", "n0.example.test").Certificates[0].Serial.String()
	empty := t.TempDir()
	for _, args := range [][]string{
		{"issue", "new.example.test", "--out", empty}, {"cert", "renew", serial, "--out", empty}, {"cert", "revoke", serial}, {"hierarchy", "add", "third"},
		{"hierarchy", "rotate", "issuing-p256"}, {"account", "add"},
	} {
		p := asJSON[console.Plan](t, c, append(args, "--dry-run")...)
		if !p.DryRun || len(p.Would) == 0 {
			t.Errorf("%v: %+v", args, p)
		}
		if out, _ := c.run(t, exitDone, append(args, "--dry-run")...); !strings.Contains(out, "would ") || !strings.Contains(out, "nothing was changed") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if files, err := os.ReadDir(empty); err != nil || len(files) != 0 {
		t.Errorf("a dry run wrote %v, %v", files, err)
	}
	if n := len(list("--all", "--kind", "leaf").Certificates); n != before {
		t.Errorf("%d certificates, then %d", before, n)
	}
	c.run(t, exitRefused, "issue", "www.example.com", "--dry-run")
}

// TestProfileDiff compares files, and files with the running house.
func TestProfileDiff(t *testing.T) {
	c := houseUp(t)
	shown := asJSON[console.Profile](t, c, "profile", "show", "tls-server")
	same := c.file(t, "same.yaml", shown.YAML, 0o644)
	more := c.file(t, "more.yaml", strings.Replace(shown.YAML, "validity: 47d", "validity: 90d", 1), 0o644)
	evil := c.file(t, "evil.yaml", strings.Replace(shown.YAML, "[server-auth", "[ocsp-signing, server-auth", 1), 0o644)
	if out, _ := c.run(t, exitDone, "profile", "diff", same); !strings.Contains(out, "no difference") {
		t.Error(out)
	}
	for _, args := range [][]string{{more}, {"tls-server", more}, {same, more}} {
		if out, _ := c.run(t, exitRefused, append([]string{"profile", "diff"}, args...)...); !strings.Contains(out, "longer life: 90 days, before 47 days") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if out, _ := c.run(t, exitDone, "profile", "diff", more, "tls-server"); !strings.Contains(out, "shorter life") || !strings.Contains(out, "no new power") {
		t.Error(out)
	}
	if _, errOut := c.run(t, exitRefused, "profile", "diff", evil); !strings.Contains(errOut, "OCSP signing") {
		t.Error(errOut)
	}
	c.run(t, exitFailed, "profile", "diff", "gold", more)
	c.run(t, exitUsage, "profile", "diff", "./absent.yaml", more)
	c.run(t, exitUsage, "profile", "diff")
	if out, _ := c.run(t, exitRefused, "profile", "diff", same, more, "--json"); !json.Valid([]byte(out)) {
		t.Error(out)
	}
}
