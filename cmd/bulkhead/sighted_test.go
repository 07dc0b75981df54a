package main

import (
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/console"
)

// TestSightedAndAdvice: a certificate of the house that somebody found is known; the steps of its holder are said in both
// languages; nothing is found in a file without certificates.
func TestSightedAndAdvice(t *testing.T) {
	c := houseUp(t)
	c.run(t, exitDone, "issue", "localhost", "--out", c.work)
	cert := filepath.Join(c.work, "localhost.crt")
	if found, err := filepath.Glob(filepath.Join(c.work, "localhost*")); err == nil {
		for _, f := range found {
			if strings.HasSuffix(f, ".pem") || strings.HasSuffix(f, ".crt") {
				if !strings.Contains(f, "key") && !strings.Contains(f, "chain") {
					cert = f
				}
			}
		}
	}
	got := asJSON[console.SightingsResponse](t, c, "alarms", "sighted", "--source", "ct: test", cert)
	if len(got.Certificates) == 0 || got.Certificates[0].Verdict != "known" || got.Certificates[0].Blocked {
		t.Fatalf("%+v", got)
	}
	c.run(t, exitUsage, "alarms", "sighted", cert) // where it was found is not said
	serial := got.Certificates[0].Serial.String()
	advice := asJSON[console.AdviceView](t, c, "cert", "advice", serial, "--lang", "ja")
	if advice.Language != "ja" || len(advice.Steps) != 5 || advice.Seen {
		t.Errorf("%+v", advice)
	}
	out, _ := c.run(t, exitDone, "cert", "advice", serial)
	if !strings.Contains(out, "Make a new private key") || !strings.Contains(out, "--record") {
		t.Error(out)
	}
	c.run(t, exitUsage, "cert", "advice", serial, "--lang", "de")
}
