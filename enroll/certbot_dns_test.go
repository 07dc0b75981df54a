package enroll_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"

	"bulkhead"
)

// hookZone is the variable that turns this test binary into certbot's hook: the address of the zone to update.
const hookZone = "ENROLL_TEST_ZONE"

func TestMain(m *testing.M) {
	if zone := os.Getenv(hookZone); zone != "" && os.Getenv("CERTBOT_DOMAIN") != "" {
		if err := hook(zone); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// hook adds what certbot asks for, or removes it when certbot says that it is done, by dynamic update.
func hook(zone string) error {
	rr, err := dns.NewRR(fmt.Sprintf("_acme-challenge.%s. 1 IN TXT %q", os.Getenv("CERTBOT_DOMAIN"), os.Getenv("CERTBOT_VALIDATION")))
	if err != nil {
		return err
	}
	m := new(dns.Msg)
	m.SetUpdate(siteZone)
	if os.Getenv("CERTBOT_AUTH_OUTPUT") != "" {
		m.Remove([]dns.RR{rr})
	} else {
		m.Insert([]dns.RR{rr})
		fmt.Println("added")
	}
	_, _, err = new(dns.Client).Exchange(m, zone)
	return err
}

// TestCertbotDNS obtains a name and its wildcard over dns-01, renews and revokes with Debian's certbot.
func TestCertbotDNS(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("certbot")
	if err != nil {
		t.Fatal("certbot is needed for this test: apt-get install certbot")
	}
	self, err := os.Executable()
	ok(t, err)
	s := newSite(t)
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), clientTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append(args, "--non-interactive", "--server", s.base+"/acme/directory", "--config-dir", dir,
			"--work-dir", dir+"/work", "--logs-dir", dir+"/logs")...)
		cmd.Env = append(os.Environ(), hookZone+"="+s.zone.addr)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("certbot %v: %v\n%s", args, err, out)
		}
	}
	run("certonly", "--manual", "--preferred-challenges", "dns", "--manual-auth-hook", self, "--manual-cleanup-hook", self, "--agree-tos",
		"--register-unsafely-without-email", "-d", "c.site.example", "-d", "*.c.site.example")
	live := filepath.Join(dir, "live", "c.site.example", "cert.pem")
	first := readCertificate(t, live)
	run("renew", "--force-renewal", "--no-random-sleep-on-renew")
	second := readCertificate(t, live)
	if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Fatal("the renewal gave the same certificate")
	}
	run("revoke", "--cert-path", live, "--reason", "superseded", "--no-delete-after-revoke")
	s.wantState(t, first, bulkhead.Issued)
	s.wantState(t, second, bulkhead.Revoked)
}
