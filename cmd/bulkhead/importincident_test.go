package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/console"
)

// TestImportIncident is a bad day of the CA beside ours, as its operator types it: previewed here, counted as an incident and
// planned as a campaign that says who revokes; nothing of it is revoked here. The old CA revokes, its CRL is imported, and the
// campaign and the incident see it and can be closed.
func TestImportIncident(t *testing.T) {
	t.Parallel()
	c, old := houseUp(t), oldCA(t)
	in := func(name string) string { return filepath.Join(old, name) }
	c.run(t, exitDone, "import", "--name", "old-ca", "--ca", in("ca.pem"), "--index", in("index.txt"), in("newcerts"), in("crl.pem"))
	c.run(t, exitDone, "issue", "ours.example.test", "--out", c.work)

	out, _ := c.run(t, exitRefused, "change", "preview", "--revoke-cert", in("old0.example.test.pem"))
	for _, want := range []string{"BLOCKED", "its key is elsewhere", "old0.example.test (serial 1000 of old-ca)", "touches 1 answer"} {
		if !strings.Contains(out, want) {
			t.Errorf("the preview does not say %q:\n%s", want, out)
		}
	}

	i := asJSON[console.IncidentView](t, c, "incident", "open", "--playbook", "mass-revocation", "--issuer", "old-ca", "--title", "the old CA's keys may be known")
	if out, _ = c.run(t, exitDone, "incident", "show", i.ID); !strings.Contains(out, "4 certificates: 2 live, 2 revoked") {
		t.Errorf("what is concerned:\n%s", out)
	}
	for _, args := range [][]string{{"campaign", "plan", "--incident", i.ID}, {"campaign", "plan", "--incident", i.ID, "--keep"}} {
		out, _ = c.run(t, exitDone, args...)
		if !strings.Contains(out, "revoked by a ceremony, or by another authority: 2") || strings.Contains(out, "revoke what is left") {
			t.Errorf("%v does not say who revokes:\n%s", args, out)
		}
	}
	all := asJSON[map[string][]console.CampaignView](t, c, "campaign", "list")["campaigns"]
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	id := all[0].ID
	c.run(t, exitDone, "campaign", "start", id)
	if _, errOut := c.run(t, exitRefused, "campaign", "close", id, "--why", "it is over"); !strings.Contains(errOut, "2 certificates") {
		t.Error(errOut)
	}

	for _, name := range []string{"old0", "old3"} {
		openssl(t, "ca", "-config", in("openssl.cnf"), "-revoke", in(name+".example.test.pem"), "-crl_reason", "superseded")
	}
	openssl(t, "ca", "-config", in("openssl.cnf"), "-gencrl", "-out", in("crl.pem"))
	c.run(t, exitDone, "import", "--name", "old-ca", "--ca", in("ca.pem"), in("crl.pem"))
	until(t, "the campaign", func() (string, bool) {
		out, _ := c.run(t, exitDone, "campaign", "items", id)
		return out, strings.Count(out, "by its authority") == 2
	})
	c.run(t, exitDone, "campaign", "close", id, "--why", "the old CA revoked them")
	c.run(t, exitDone, "incident", "close", i.ID, "--why", "the old CA revoked them")
	out, _ = c.run(t, exitDone, "incident", "timeline", i.ID)
	for _, want := range []string{"incident-opened", "campaign-started", "campaign-closed", "imported from old-ca: 0 new, 2 newly revoked", "incident-closed"} {
		if !strings.Contains(out, want) {
			t.Errorf("the timeline has no %s:\n%s", want, out)
		}
	}
	if list := asJSON[console.CertificateList](t, c, "cert", "list", "--q", "ours.example.test"); len(list.Certificates) != 1 || list.Certificates[0].State != "issued" {
		t.Errorf("ours: %+v", list.Certificates)
	}

	// A stranger who is handed all of it finds each imported certificate with the leaf that names it, revoked ones too.
	bundle, verify := filepath.Join(c.work, "house.bundle"), verifier(t, c.work)
	c.run(t, exitDone, "audit", "bundle", "--out", bundle)
	said, err := exec.Command(verify, "bundle", bundle, "--key", filepath.Join(c.dir, "evidence.key.pub")).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(said), "\nverified\n") || !strings.Contains(string(said), "4 certificates of other authorities were imported") {
		t.Errorf("%v: %s", err, said)
	}
}

// verifier builds the auditor's tool.
func verifier(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "bulkhead-verify")
	build := exec.Command("go", "build", "-o", path, "bulkhead/cmd/bulkhead-verify")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return path
}
