package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/heldport"
	"bulkhead/proof"
	"bulkhead/run"
)

// servedWithin bounds how long what was imported may take until it is public.
const servedWithin = 2 * time.Minute

// askOld has openssl ask for certificates of the old CA; the answer must verify under the old CA alone.
func askOld(t *testing.T, old, url string, names ...string) string {
	t.Helper()
	args := []string{"ocsp", "-issuer", filepath.Join(old, "ca.pem"), "-CAfile", filepath.Join(old, "ca.pem"), "-url", url + "/ocsp/", "-timeout", "10", "-no_nonce"}
	for _, n := range names {
		args = append(args, "-cert", filepath.Join(old, n+".example.test.pem"))
	}
	out, _ := exec.Command("openssl", args...).CombinedOutput() // before it is public it is an error, and asked again
	return string(out)
}

// until looks again until it is there.
func until(t *testing.T, what string, look func() (said string, there bool)) {
	t.Helper()
	said := ""
	for end := time.Now().Add(servedWithin); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var there bool
		if said, there = look(); there {
			return
		}
	}
	t.Fatalf("%s: %s", what, said)
}

func fetched(url string) []byte {
	c := http.Client{Timeout: 10 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	return body
}

// TestImportServed: the old CA signs a delegate for a key of this house. From then on its certificates are answered here, its
// own CRL is published here bit for bit, and what it revokes is revoked here as soon as its new CRL is imported. Nothing of it
// can be revoked here, and nobody who is not its delegate is believed.
func TestImportServed(t *testing.T) {
	listen := heldport.For(t).String()
	url := "http://" + listen
	c, old := houseAt(t, listen, url), oldCA(t)
	in := func(name string) string { return filepath.Join(old, name) }
	csr := filepath.Join(c.work, "delegate.csr")
	all := []string{"import", "--name", "old-ca", "--ca", in("ca.pem"), "--index", in("index.txt"), in("newcerts"), in("crl.pem")}
	if r := asJSON[run.ImportReport](t, c, all...); r.Served || r.CRL != 0 {
		t.Errorf("%+v", r)
	}
	if out := askOld(t, old, url, "old0"); strings.Contains(out, "good") {
		t.Fatalf("answered without a delegate: %s", out)
	}
	c.run(t, exitDone, "import", "--name", "old-ca", "--ocsp-request", csr)
	sign := func(out string, extensions string) {
		t.Helper()
		openssl(t, "ca", "-batch", "-config", in("openssl.cnf"), "-in", csr, "-notext", "-extensions", extensions, "-out", out)
	}
	sign(in("plain.pem"), "v3_crl")
	sign(in("delegate.pem"), "v3_ocsp")
	serve := []string{"import", "--name", "old-ca", "--ca", in("ca.pem"), "--ocsp-delegate"}
	for what, file := range map[string]string{"no delegate's purpose": in("plain.pem"), "a key of nobody here": in("old0.example.test.pem")} {
		if _, errOut := c.run(t, exitRefused, append(serve, file)...); !strings.Contains(errOut, "next: ") {
			t.Errorf("%s: %s", what, errOut)
		}
	}
	if r := asJSON[run.ImportReport](t, c, append(serve, in("delegate.pem"), in("crl.pem"), "--dry-run")...); !r.Served || !r.DryRun {
		t.Errorf("%+v", r)
	}
	if r := asJSON[run.ImportReport](t, c, append(serve, in("delegate.pem"), in("crl.pem"))...); !r.Served || r.CRL != 1 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	if out, _ := c.run(t, exitDone, "hierarchy", "show"); !strings.Contains(out, "answered here too") {
		t.Error(out)
	}
	said := func(good, revoked []string) {
		t.Helper()
		until(t, "answers", func() (string, bool) {
			out := askOld(t, old, url, append(good, revoked...)...)
			there := strings.Contains(out, "Response verify OK")
			for _, n := range good {
				there = there && strings.Contains(out, n+".example.test.pem: good")
			}
			for _, n := range revoked {
				there = there && strings.Contains(out, n+".example.test.pem: revoked")
			}
			return out, there
		})
		text, err := os.ReadFile(in("crl.pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		until(t, "its own CRL", func() (string, bool) { return "another", bytes.Equal(fetched(url+"/crl/old-ca/0.crl"), block.Bytes) })
	}
	for _, n := range []string{"old0", "old3"} {
		said([]string{n}, nil)
	}
	for _, n := range []string{"old1", "old2"} {
		said(nil, []string{n})
	}

	// It revokes one more: a day's work for it, a moment for whoever asks here.
	openssl(t, "ca", "-config", in("openssl.cnf"), "-revoke", in("old3.example.test.pem"), "-crl_reason", "superseded")
	openssl(t, "ca", "-config", in("openssl.cnf"), "-gencrl", "-out", in("crl.pem"))
	if r := asJSON[run.ImportReport](t, c, "import", "--name", "old-ca", "--ca", in("ca.pem"), in("crl.pem")); !r.Served || r.NewlyRevoked != 1 || r.CRL != 2 {
		t.Fatalf("%+v", r)
	}
	said([]string{"old0"}, nil)
	said(nil, []string{"old3"})

	// Here nothing of it can be revoked; its preview says so, and what the proof says stays true.
	if _, errOut := c.run(t, exitRefused, "cert", "revoke", in("old0.example.test.pem"), "--reason", "superseded"); !strings.Contains(errOut, "its key is elsewhere") {
		t.Error(errOut)
	}
	if r := asJSON[proof.Report](t, c, "audit", "prove", "--issuer", "old-ca"); !r.OK {
		t.Error(r.Text())
	}
	if found, _ := c.run(t, exitDone, "fsck"); strings.Contains(found, "failure") {
		t.Error(found)
	}
	c.run(t, exitUsage, "import", "--name", "old-ca", "--ocsp-request", csr)
}
