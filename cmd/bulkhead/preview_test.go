package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
)

// TestPreviewCommand previews a subscriber's certificate and an authority by name: words first, exit 3 while something
// stands in the way, and nothing is public afterwards.
func TestPreviewCommand(t *testing.T) {
	c := houseUp(t)
	c.run(t, exitDone, "issue", "www.preview.test", "--out", c.work)
	certs := asJSON[console.CertificateList](t, c, "cert", "list", "--name", "www.preview.test").Certificates
	if len(certs) != 1 {
		t.Fatalf("issued: %v", certs)
	}
	serials := c.file(t, "serials", string(certs[0].Issuer)+","+certs[0].Serial.String()+"\n", 0o600)
	out, next := c.run(t, exitDone, "change", "preview", "--revoke-serials", serials, "--reason", "superseded")
	for _, want := range []string{"Revoking www.preview.test (serial", "touches 1 answer.", "Nobody loses a path", "Unaffected under root:", "only those of the change differ"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if !strings.Contains(next, "bulkhead change activate") {
		t.Errorf("next: %s", next)
	}

	// An authority: without a reason the preview shows everything and is blocked.
	blocked := func(args ...string) (p preview) {
		t.Helper()
		out, _ := c.run(t, exitRefused, append([]string{"change", "preview", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := blocked("--revoke-ca", "issuing-p256")
	if len(p.PathsLost) != 1 || p.PathsLost[0].Leaves != 1 || p.PathsLost[0].Products[0].Samples[0] != "www.preview.test" || p.Authorities != 1 || p.Hash.IsZero() {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(strings.Join(p.Blocked, " "), "needs a reason") {
		t.Errorf("blocked %v", p.Blocked)
	}
	if _, is := p.Unaffected["issuing-rsa2048"]; !is || p.Unaffected["infrastructure"].Roots[0] != "root" {
		t.Errorf("unaffected %v", p.Unaffected)
	}
	c.run(t, exitFailed, "change", "preview", "--revoke-ca", "nobody", "--reason", "superseded")
	c.run(t, exitFailed, "change", "preview", "--revoke-ca", "root", "--reason", "superseded")
	c.run(t, exitUsage, "change", "preview")
	if v := asJSON[console.CertificateList](t, c, "cert", "list", "--state", "revoked"); len(v.Certificates) != 0 {
		t.Errorf("a preview revoked %v", v.Certificates)
	}
	// By file: exactly that certificate.
	list := asJSON[console.CertificateList](t, c, "cert", "list", "--kind", "ca")
	for _, x := range list.Certificates[:1] {
		one := asJSON[console.CertificateView](t, c, "cert", "show", x.Serial.String())
		q := blocked("--revoke-ca", c.file(t, "ca.pem", one.PEM, 0o600))
		if len(q.Direct) != 1 || q.Direct[0].Serial != x.Serial || q.Direct[0].Kind != bulkhead.CACertificate {
			t.Errorf("%+v", q.Direct)
		}
	}
	// Shown again later, in the same words.
	shown, _ := c.run(t, exitDone, "change", "show", p.Change)
	if !strings.Contains(shown, "BLOCKED: ") || !strings.Contains(shown, "Everybody loses the last path") {
		t.Errorf("shown:\n%s", shown)
	}
}

// TestEffectOnFiles says what a revocation would do to files, with no server.
func TestEffectOnFiles(t *testing.T) {
	dir := t.TempDir()
	sums := auditHouse(t, dir, false)
	c := &cli{dir: t.TempDir(), work: t.TempDir()}
	out, _ := c.run(t, exitRefused, "hierarchy", "effect", dir, "--revoke", filepath.Join(dir, "sub/ab.pem"), "--json")
	var r run.EffectReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Answers) != 2 || len(r.Sets) != 1 || len(r.Sets[0].Lost) != 2 || r.Sets[0].Lost[0].SHA256 != sums["C"] || r.Sets[0].Lost[1].SHA256 != sums["D"] || len(r.Sets[0].Reduced) != 0 {
		t.Errorf("%+v", r)
	}
	if len(r.Misread) != 3 || r.Misread[0].Certificates[0].Subject != "CN=C" {
		t.Errorf("misread %+v", r.Misread)
	}
	out, _ = c.run(t, exitDone, "hierarchy", "effect", dir, "--revoke", filepath.Join(dir, "c.crt"), "--trust", filepath.Join(dir, "root.pem"), "--trust", filepath.Join(dir, "sub/cross.cer"))
	if !strings.HasPrefix(out, "1 answer changes\n") || !strings.Contains(out, "root.pem: nothing else loses its last chain") {
		t.Errorf("%s", out)
	}
	c.run(t, exitUsage, "hierarchy", "effect", dir)
	c.run(t, exitUsage, "hierarchy", "effect", dir, "--revoke", filepath.Join(dir, "c.crt"), "--at", "yesterday")
	c.run(t, exitUsage, "hierarchy", "effect", dir, "--revoke", c.file(t, "x", "no certificate", 0o600))
}

// TestPreviewLong: a list of any length goes in parts, each certificate once; one with a mistake leaves nothing to approve;
// and a query needs no list.
func TestPreviewLong(t *testing.T) {
	c := houseUp(t)
	c.run(t, exitDone, "issue", "www.long.test", "--out", c.work)
	x := asJSON[console.CertificateList](t, c, "cert", "list", "--name", "www.long.test").Certificates[0]
	line := string(x.Issuer) + "," + x.Serial.String() + "\n"
	long := c.file(t, "long", strings.Repeat(line, inOnePart+1), 0o600)
	if p := asJSON[preview](t, c, "change", "preview", "--revoke-serials", long, "--reason", "superseded"); p.Count != 1 || p.Hash.IsZero() {
		t.Errorf("%+v", p)
	}
	broken := c.file(t, "broken", strings.Repeat(line, inOnePart+1)+"issuing-p256,03\n", 0o600)
	c.run(t, exitFailed, "change", "preview", "--revoke-serials", broken, "--reason", "superseded")
	list := asJSON[map[string][]console.ChangeView](t, c, "change", "list")["changes"]
	if list[0].State != bulkhead.ChangeRefused {
		t.Errorf("the newest change is %s", list[0].State)
	}
	if p := asJSON[preview](t, c, "change", "preview", "--name", "www.long.test", "--issuer", string(x.Issuer), "--reason", "superseded"); p.Count != 1 {
		t.Errorf("%+v", p)
	}
	c.run(t, exitUsage, "change", "preview", "--issuer", "issuing-p256", "--revoke-serials", long)
}
