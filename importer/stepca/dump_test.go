package stepca_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
)

func file(t testing.TB, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump.sql")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDumps: genuine dumps of step-ca's tables, and MySQL's form with all rows on one line, give what step-ca did; one that was
// cut or garbled gives nothing.
func TestDumps(t *testing.T) {
	for _, c := range []struct{ what, dir, old, new string }{
		{"PostgreSQL", "testdata/postgresql/", "", ""},
		{"MariaDB", "testdata/mariadb/", "", ""},
		{"MySQL", "testdata/mariadb/", "\n(0x", " (0x"},
	} {
		t.Run(c.what, func(t *testing.T) {
			whole, err := os.ReadFile(c.dir + "step.sql")
			if err != nil {
				t.Fatal(err)
			}
			body := string(whole)
			if c.old != "" {
				body = strings.ReplaceAll(body, c.old, c.new)
			}
			s, err := takenOf(t, c.dir+"ca.pem", file(t, body), "")
			wantGenuine(t, s, err)
			half := strings.Index(body, "3037") // within a row of the first table
			for _, cut := range []string{body[:half], strings.ReplaceAll(body, "x3", "z3"), ""} {
				if s, err := takenOf(t, c.dir+"ca.pem", file(t, cut), ""); bulkhead.KindOf(err) != bulkhead.KindMalformed {
					t.Errorf("%d octets of %d: %d certificates, %v", len(cut), len(body), s.Size(), err)
				}
			}
		})
	}
}

// FuzzDump: no bytes make it panic, or give a certificate that the authority did not sign.
func FuzzDump(f *testing.F) {
	f.Add("COPY public.x509_certs (nkey, nvalue) FROM stdin;\n\\\\x3831\t\\\\x30\n\\.\n")
	f.Add("COPY public.revoked_x509_certs (nkey, nvalue) FROM stdin;\n\\\\x3831\t\\\\x7b7d\n\\.\nCOPY x509_certs (")
	f.Add("INSERT INTO `x509_certs` VALUES\n(0x3831,0x30),\n(0x3832,0x);\n")
	f.Add("INSERT INTO `x509_certs` VALUES (0x3831,0x30),(0x3832,0x);\nINSERT INTO `revoked_x509_certs` VALUES (0x3831,0x7B7D);\n")
	f.Fuzz(func(t *testing.T, body string) {
		s, err := taken(t, file(t, body), "")
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%v", err)
		}
		if s.Size() > 0 {
			t.Fatal("a certificate of nobody")
		}
	})
}
