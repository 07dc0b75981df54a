package probe_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
	"bulkhead/scan/probe"
	"bulkhead/scan/probe/probetest"
)

// TestAgreesWithSSLScan holds verdicts against Debian's sslscan. Where the two differ the row says so, and doc/checker.md
// says why.
func TestAgreesWithSSLScan(t *testing.T) {
	want := map[string]struct{ theirs, ours string }{
		"nginx-1.0.1f":             {"vulnerable", "vulnerable"},
		"vulnerable-sserver":       {"vulnerable", "vulnerable"},
		"vulnerable-ecdhe":         {"vulnerable", "vulnerable"},
		"nginx-1.0.1g":             {"not vulnerable", "patched"},
		"no-heartbeat":             {"not vulnerable", "not_supported"},
		"alert-on-heartbeat":       {"not vulnerable", "patched"},
		"heartbeat-silence":        {"not vulnerable", "inconclusive"}, // differs: silence is no proof
		"vulnerable-ssl3-only":     {"", "vulnerable"},                 // differs: it finds no version that its library speaks
		"vulnerable-on-ssl3-alone": {"vulnerable", "vulnerable"},
	}
	p := prober(t, func(c *probe.Config) { c.Timeout = 4 * time.Second })
	seen := 0
	var wg sync.WaitGroup
	for _, b := range probetest.Behaviours() {
		w, ok := want[b.Name]
		if !ok {
			continue
		}
		seen++
		ep := serve(t, b)
		wg.Go(func() {
			if ours := p.Verdict(context.Background(), ep); string(ours.Verdict) != w.ours {
				t.Errorf("%s: we say %s, want %s", b.Name, ours.Verdict, w.ours)
			}
			if theirs := sslscan(t, ep); theirs != w.theirs {
				t.Errorf("%s: sslscan says %q, want %q", b.Name, theirs, w.theirs)
			}
		})
	}
	wg.Wait()
	if seen != len(want) {
		t.Errorf("%d of %d behaviours are there", seen, len(want))
	}
}

func sslscan(t *testing.T, ep bulkhead.Endpoint) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sslscan", "--no-cipher-details", "--no-ciphersuites", "--no-compression", "--no-fallback",
		"--no-renegotiation", "--no-groups", "--no-check-certificate", "--no-colour", ep.AddrPort().String()).CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Errorf("%v: run scripts/test-tools.sh", err)
	}
	verdict := ""
	for _, line := range strings.Split(string(out), "\n") {
		switch {
		case strings.Contains(line, "not vulnerable to heartbleed"):
			if verdict == "" {
				verdict = "not vulnerable"
			}
		case strings.Contains(line, "vulnerable to heartbleed"):
			verdict = "vulnerable"
		}
	}
	return verdict
}

// TestAgreesOnGenuineServers holds verdicts on genuine servers against sslscan and, with BULKHEAD_TORTURE, against testssl.sh,
// which takes up to half a minute for each. It shakes hands before it looks, so that the conformance server is not for it.
func TestAgreesOnGenuineServers(t *testing.T) {
	dir := relatives().files(t)
	for _, c := range []struct {
		program string
		args    func(at netip.AddrPort) []string
		reason  bulkhead.LookReason
	}{
		{"gnutls-serv", func(at netip.AddrPort) []string {
			return []string{"--heartbeat", "--http", "-q", "--port", fmt.Sprint(at.Port()), "--x509certfile", filepath.Join(dir, "chain.pem"), "--x509keyfile", filepath.Join(dir, "key.pem")}
		}, bulkhead.ReasonAlerted},
		{"openssl", func(at netip.AddrPort) []string {
			return []string{"s_server", "-accept", at.String(), "-www", "-quiet", "-cert", filepath.Join(dir, "chain.pem"), "-key", filepath.Join(dir, "key.pem")}
		}, bulkhead.ReasonNotNegotiated},
	} {
		at := heldport.For(t)
		run(t, []netip.AddrPort{at}, c.program, c.args(at)...)
		if got := prober(t, nil).Verdict(context.Background(), local(at)); got.Reason != c.reason {
			t.Errorf("%s: %s (%s)", c.program, got.Reason, got.Detail)
		}
		if theirs := sslscan(t, local(at)); theirs != "not vulnerable" {
			t.Errorf("%s: sslscan says %q", c.program, theirs)
		}
		if os.Getenv("BULKHEAD_TORTURE") == "" {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		out, err := exec.CommandContext(ctx, "testssl", "--color", "0", "--quiet", "--warnings", "off", "-H", at.String()).CombinedOutput()
		cancel()
		if !strings.Contains(string(out), "not vulnerable (OK)") {
			t.Errorf("%s: testssl: %v\n%s", c.program, err, out)
		}
	}
}
