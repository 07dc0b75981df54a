package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/console"
)

// TestDryRunOfAToken: a dry run is of the opinion of the call itself, also for a token that orders the house's own names, and for a
// request that was answered before.
func TestDryRunOfAToken(t *testing.T) {
	c := houseUp(t)
	t.Setenv("BULKHEAD_TOKEN", asJSON[struct{ Token string }](t, c, "account", "add", "--own-names").Token)
	csr, _, _, err := order{keyType: "p256"}.request([]bulkhead.Identifier{{Type: bulkhead.DNS, Value: "own.example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.work, "own.csr")
	if err := os.WriteFile(file, []byte(csr), 0o600); err != nil {
		t.Fatal(err)
	}
	would := func(want string, args ...string) {
		t.Helper()
		if out, _ := c.run(t, exitDone, append(args, "--dry-run")...); !strings.Contains(out, want) {
			t.Errorf("%s: %s", args, out)
		}
	}
	would("issue a certificate of profile tls-server", "issue", "--csr", file)
	got := asJSON[issued](t, c, "issue", "--csr", file, "--out", filepath.Join(c.work, "own")).Certificate
	would("give certificate "+got.Serial.String()+" of "+string(got.Issuer)+" again", "issue", "--csr", file)
	if again := asJSON[issued](t, c, "issue", "--csr", file, "--out", filepath.Join(c.work, "again")).Certificate; again.Serial != got.Serial {
		t.Errorf("the same request got %s, then %s", got.Serial, again.Serial)
	}
	if n := len(asJSON[console.CertificateList](t, c, "cert", "list", "--name", "own.example.test").Certificates); n != 1 {
		t.Errorf("%d certificates", n)
	}
	c.run(t, exitDone, "audit", "prove", "--all") // the operator who made the token stands behind what it orders
}
